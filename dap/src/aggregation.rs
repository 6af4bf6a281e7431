//! Aggregation jobs: the leader sends the helper its shares, and both verify them together (DAP 4.5).
//!
//! The helper's shares travel sealed; the verification messages reveal nothing about a valid measurement.

use std::collections::HashSet;

use crate::codec::{Decode, Encode, Malformed, Reader, hide_from_debug, put_list16, put_opaque32};
use crate::extension::{Extension, decode_extensions, strictly_increasing};
use crate::hpke_config::HpkeCiphertext;
use crate::id::{BatchId, ReportId};
use crate::problem::Problem;
use crate::report::ReportMetadata;
use crate::task::BatchMode;

/// What the helper gets of a report.
#[derive(Clone, PartialEq, Eq)]
pub struct ReportShare {
    /// What both aggregators see in clear.
    pub metadata: ReportMetadata,
    /// The part of the sharing that both aggregators see.
    pub public_share: Vec<u8>,
    /// The helper's sealed share.
    pub encrypted_input_share: HpkeCiphertext,
}

impl Encode for ReportShare {
    fn encode(&self, out: &mut Vec<u8>) {
        self.metadata.encode(out);
        put_opaque32(out, &self.public_share);
        self.encrypted_input_share.encode(out);
    }
}

impl Decode for ReportShare {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            metadata: ReportMetadata::decode(reader)?,
            public_share: reader.opaque32(0)?.to_vec(),
            encrypted_input_share: HpkeCiphertext::decode(reader)?,
        })
    }
}

/// The helper's share of a report and the leader's first verification message.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyInit {
    /// The helper's share.
    pub report_share: ReportShare,
    /// The leader's message; at least one byte.
    pub payload: Vec<u8>,
}

impl Encode for VerifyInit {
    fn encode(&self, out: &mut Vec<u8>) {
        self.report_share.encode(out);
        put_opaque32(out, &self.payload);
    }
}

impl Decode for VerifyInit {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { report_share: ReportShare::decode(reader)?, payload: reader.opaque32(1)?.to_vec() })
    }
}

/// Starts an aggregation job.
#[derive(Clone, PartialEq, Eq)]
pub struct AggregationJobInitReq {
    /// Which of the prearranged verification keys is used.
    pub verification_key_id: u8,
    /// The VDAF's aggregation parameter.
    pub agg_param: Vec<u8>,
    /// The extensions of the job; see [`Self::batch_id`].
    pub extensions: Vec<AggregationJobExtension>,
    /// The reports; at least one.
    pub verify_inits: Vec<VerifyInit>,
}

/// An extension of an aggregation job (DAP 4.5.1).
pub type AggregationJobExtension = Extension;

impl AggregationJobInitReq {
    /// The extensions of a job: the batch it adds to, in a leader-selected task.
    pub fn extensions_for(batch: Option<BatchId>) -> Vec<AggregationJobExtension> {
        batch
            .map(|id| Extension { extension_type: LEADER_SELECTED_BATCH_ID, data: id.encoded() })
            .into_iter()
            .collect()
    }

    /// Reads a request of at least one and at most `max_reports` reports.
    pub fn decode_limited(body: &[u8], max_reports: usize) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        Ok(Self {
            verification_key_id: reader.u8()?,
            agg_param: reader.opaque32(0)?.to_vec(),
            extensions: decode_extensions(&mut reader)?,
            // An empty answer means "later", so a job of no report could not be answered.
            verify_inits: at_least_one(reader.list(max_reports)?)?,
        })
    }

    /// Checks the extensions for a task of this mode and gives the batch, if the leader selects it.
    pub fn batch_id(&self, mode: BatchMode) -> Result<Option<BatchId>, Problem> {
        if !strictly_increasing(&self.extensions) {
            return Err(Problem::InvalidMessage);
        }
        let mut batch = None;
        for extension in &self.extensions {
            if extension.extension_type != LEADER_SELECTED_BATCH_ID {
                return Err(Problem::UnsupportedExtension);
            }
            batch = Some(BatchId::from_slice(&extension.data).ok_or(Problem::InvalidMessage)?);
        }
        match (mode, batch) {
            (BatchMode::TimeInterval, None) | (BatchMode::LeaderSelected, Some(_)) => Ok(batch),
            (BatchMode::TimeInterval, Some(_)) | (BatchMode::LeaderSelected, None) => {
                Err(Problem::InvalidMessage)
            }
        }
    }

    /// Whether a report is named twice, which spoils the whole job.
    pub fn repeats_a_report(&self) -> bool {
        repeats(self.verify_inits.iter().map(|init| init.report_share.metadata.report_id))
    }
}

impl Encode for AggregationJobInitReq {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.verification_key_id);
        put_opaque32(out, &self.agg_param);
        put_list16(out, &self.extensions);
        self.verify_inits.iter().for_each(|init| init.encode(out));
    }
}

/// What the helper made of one report.
#[derive(Clone, PartialEq, Eq)]
pub enum VerifyResult {
    /// Go on with this message; for a VDAF of one round, the helper has counted the report.
    Continue(Vec<u8>),
    /// The helper has counted the report and has nothing more to say.
    Finish,
    /// The report is refused; [`crate::report_error::ReportError::from_code`] reads the code.
    Reject(u8),
}

/// What the helper made of one report, and which.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyResp {
    /// The report.
    pub report_id: ReportId,
    /// What became of it.
    pub result: VerifyResult,
}

impl Encode for VerifyResp {
    fn encode(&self, out: &mut Vec<u8>) {
        self.report_id.encode(out);
        match &self.result {
            VerifyResult::Continue(payload) => {
                out.push(0);
                put_opaque32(out, payload);
            }
            VerifyResult::Finish => out.push(1),
            VerifyResult::Reject(code) => out.extend_from_slice(&[2, *code]),
        }
    }
}

impl Decode for VerifyResp {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let report_id = ReportId::decode(reader)?;
        let result = match reader.u8()? {
            0 => VerifyResult::Continue(reader.opaque32(1)?.to_vec()),
            1 => VerifyResult::Finish,
            2 => VerifyResult::Reject(reader.u8()?),
            _ => return Err(Malformed("an unknown kind of verification answer")),
        };
        Ok(Self { report_id, result })
    }
}

/// The helper's answer to a step of a job: one entry for each report, in the order of the request.
#[derive(Clone, PartialEq, Eq)]
pub struct AggregationJobResp {
    /// The entries; at least one, because an empty body means "later".
    pub verify_resps: Vec<VerifyResp>,
}

impl AggregationJobResp {
    /// Reads an answer of at least one and at most `max_reports` entries.
    pub fn decode_limited(body: &[u8], max_reports: usize) -> Result<Self, Malformed> {
        Ok(Self { verify_resps: at_least_one(Reader::new(body).list(max_reports)?)? })
    }

    /// Whether the answer names exactly these reports in this order; if not, the job is abandoned.
    pub fn answers(&self, report_ids: impl IntoIterator<Item = ReportId>) -> bool {
        self.verify_resps.iter().map(|resp| resp.report_id).eq(report_ids)
    }
}

impl Encode for AggregationJobResp {
    fn encode(&self, out: &mut Vec<u8>) {
        self.verify_resps.iter().for_each(|resp| resp.encode(out));
    }
}

/// The leader's next verification message for one report.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyContinue {
    /// The report.
    pub report_id: ReportId,
    /// The message; at least one byte.
    pub payload: Vec<u8>,
}

impl Encode for VerifyContinue {
    fn encode(&self, out: &mut Vec<u8>) {
        self.report_id.encode(out);
        put_opaque32(out, &self.payload);
    }
}

impl Decode for VerifyContinue {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { report_id: ReportId::decode(reader)?, payload: reader.opaque32(1)?.to_vec() })
    }
}

/// Takes an aggregation job one step further.
#[derive(Clone, PartialEq, Eq)]
pub struct AggregationJobContinueReq {
    /// The step this begins; the first is 1, so 0 is refused.
    pub step: u16,
    /// The reports that go on; at least one.
    pub verify_continues: Vec<VerifyContinue>,
}

impl AggregationJobContinueReq {
    /// Reads a request of at least one and at most `max_reports` reports.
    pub fn decode_limited(body: &[u8], max_reports: usize) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let step = reader.u16()?;
        if step == 0 {
            return Err(Malformed("a continuation at step 0"));
        }
        Ok(Self { step, verify_continues: at_least_one(reader.list(max_reports)?)? })
    }

    /// Whether a report is named twice, which spoils the whole request.
    pub fn repeats_a_report(&self) -> bool {
        repeats(self.verify_continues.iter().map(|next| next.report_id))
    }
}

impl Encode for AggregationJobContinueReq {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.step.to_be_bytes());
        self.verify_continues.iter().for_each(|next| next.encode(out));
    }
}

hide_from_debug!(
    ReportShare,
    VerifyInit,
    AggregationJobInitReq,
    VerifyResult,
    VerifyResp,
    AggregationJobResp,
    VerifyContinue,
    AggregationJobContinueReq,
);

fn at_least_one<T>(values: Vec<T>) -> Result<Vec<T>, Malformed> {
    if values.is_empty() { Err(Malformed("a job step of no report")) } else { Ok(values) }
}

fn repeats(ids: impl Iterator<Item = ReportId>) -> bool {
    let mut seen = HashSet::new();
    let mut ids = ids;
    ids.any(|id| !seen.insert(id))
}

/// The extension that names the batch of a leader-selected job (DAP 5.2.2).
const LEADER_SELECTED_BATCH_ID: u16 = 1;
