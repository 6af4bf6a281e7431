//! Reports, as a client uploads them and the leader takes them (DAP 4.4.2).
//!
//! A report is a measurement cut in two, each half sealed to one aggregator. What is here sees ciphertext,
//! except [`PlaintextInputShare`], which exists where a share is sealed or opened and is wiped after.

use zeroize::Zeroize;

use crate::codec::{Decode, Encode, Malformed, Reader, hide_from_debug, put_list16, put_opaque32};
use crate::draft::Draft;
use crate::extension::{Extension, decode_extensions, strictly_increasing};
use crate::hpke_config::HpkeCiphertext;
use crate::id::ReportId;
use crate::report_error::ReportError;
use crate::time::Time;

/// What both aggregators see of a report in clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportMetadata {
    /// Names the report.
    pub report_id: ReportId,
    /// When it was made, rounded down to the task's precision.
    pub time: Time,
    /// Extensions that everybody sees.
    pub public_extensions: Vec<Extension>,
}

impl Encode for ReportMetadata {
    fn encode(&self, out: &mut Vec<u8>) {
        self.report_id.encode(out);
        self.time.encode(out);
        put_list16(out, &self.public_extensions);
    }
}

impl Decode for ReportMetadata {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            report_id: ReportId::decode(reader)?,
            time: Time::decode(reader)?,
            public_extensions: decode_extensions(reader)?,
        })
    }
}

/// One measurement, cut and sealed. Its `Debug` hides it: it belongs into no log.
#[derive(Clone, PartialEq, Eq)]
pub struct Report {
    /// What both aggregators see in clear.
    pub metadata: ReportMetadata,
    /// The part of the sharing that both aggregators see.
    pub public_share: Vec<u8>,
    /// The share that only the leader can open.
    pub leader_encrypted_input_share: HpkeCiphertext,
    /// The share that only the helper can open.
    pub helper_encrypted_input_share: HpkeCiphertext,
}

impl Encode for Report {
    fn encode(&self, out: &mut Vec<u8>) {
        self.metadata.encode(out);
        put_opaque32(out, &self.public_share);
        self.leader_encrypted_input_share.encode(out);
        self.helper_encrypted_input_share.encode(out);
    }
}

impl Decode for Report {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            metadata: ReportMetadata::decode(reader)?,
            public_share: reader.opaque32(0)?.to_vec(),
            leader_encrypted_input_share: HpkeCiphertext::decode(reader)?,
            helper_encrypted_input_share: HpkeCiphertext::decode(reader)?,
        })
    }
}

/// A decoded report together with the very bytes it came in, which are what the leader stores.
#[derive(Clone, PartialEq, Eq)]
pub struct ReportRef<'a> {
    /// The fields.
    pub report: Report,
    /// The encoding, as received.
    pub bytes: &'a [u8],
}

/// Reports on their way to the leader; they run to the end of the body.
#[derive(Clone, PartialEq, Eq)]
pub struct UploadRequest {
    /// The reports; at least one.
    pub reports: Vec<Report>,
}

impl UploadRequest {
    /// Reads the reports of a body, at least one and at most `max_reports`.
    ///
    /// The same reads back what the leader stored: report after report, as received.
    pub fn decode_reports(body: &[u8], max_reports: usize) -> Result<Vec<ReportRef<'_>>, Malformed> {
        let mut reader = Reader::new(body);
        let mut reports = Vec::new();
        while !reader.is_empty() {
            if reports.len() >= max_reports {
                return Err(Malformed::TOO_MANY);
            }
            let (report, bytes) = reader.with_bytes()?;
            reports.push(ReportRef { report, bytes });
        }
        if reports.is_empty() {
            return Err(Malformed("an upload of no report"));
        }
        Ok(reports)
    }
}

impl Encode for UploadRequest {
    fn encode(&self, out: &mut Vec<u8>) {
        self.reports.iter().for_each(|report| report.encode(out));
    }
}

/// What became of one report that was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportUploadStatus {
    /// The report.
    pub report_id: ReportId,
    /// The code of the error; [`ReportError::from_code`] reads it.
    pub error: u8,
}

impl ReportUploadStatus {
    /// The status of a report that was refused for this reason.
    pub fn new(report_id: ReportId, error: ReportError, draft: Draft) -> Self {
        Self { report_id, error: error.code(draft) }
    }
}

impl Encode for ReportUploadStatus {
    fn encode(&self, out: &mut Vec<u8>) {
        self.report_id.encode(out);
        out.push(self.error);
    }
}

impl Decode for ReportUploadStatus {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { report_id: ReportId::decode(reader)?, error: reader.u8()? })
    }
}

/// The reports of an upload that were not taken, in the order of the request; none when all were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadErrors {
    /// One status for each report that was refused.
    pub statuses: Vec<ReportUploadStatus>,
}

impl Encode for UploadErrors {
    fn encode(&self, out: &mut Vec<u8>) {
        self.statuses.iter().for_each(|status| status.encode(out));
    }
}

impl Decode for UploadErrors {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { statuses: reader.list(usize::MAX)? })
    }
}

/// One aggregator's half of a measurement, in clear: never printed, never stored, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct PlaintextInputShare {
    /// Extensions that only this aggregator sees.
    pub private_extensions: Vec<Extension>,
    /// The encoded input share; at least one byte.
    pub payload: Vec<u8>,
}

impl Encode for PlaintextInputShare {
    fn encode(&self, out: &mut Vec<u8>) {
        put_list16(out, &self.private_extensions);
        put_opaque32(out, &self.payload);
    }
}

impl Decode for PlaintextInputShare {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { private_extensions: decode_extensions(reader)?, payload: reader.opaque32(1)?.to_vec() })
    }
}

hide_from_debug!(Report, UploadRequest, PlaintextInputShare);

impl std::fmt::Debug for ReportRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReportRef(..)")
    }
}

impl Drop for PlaintextInputShare {
    fn drop(&mut self) {
        self.payload.zeroize();
        self.private_extensions.iter_mut().for_each(|extension| extension.data.zeroize());
    }
}

/// Checks the extensions of a report, those everybody sees together with those in one's own share
/// (DAP 4.5.3.4). No report extension is known yet, so a list that is in order is refused as well.
pub fn check_extensions(
    public: &[Extension],
    private: &[Extension],
    draft: Draft,
) -> Result<(), ReportError> {
    if public.is_empty() && private.is_empty() {
        return Ok(());
    }
    let in_order = strictly_increasing(public) && strictly_increasing(private);
    if !in_order || share_a_type(public, private) {
        return Err(ReportError::InvalidMessage);
    }
    Err(draft.unsupported_extension())
}

/// Whether two lists in order have a type in common: one walk along both, for a client may send thousands.
fn share_a_type(one: &[Extension], other: &[Extension]) -> bool {
    let mut rest = other.iter().peekable();
    one.iter().any(|extension| {
        let wanted = extension.extension_type;
        while rest.next_if(|next| next.extension_type < wanted).is_some() {}
        rest.peek().is_some_and(|next| next.extension_type == wanted)
    })
}
