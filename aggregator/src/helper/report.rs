//! One report of a job between verification and commit, and what is kept of it between two steps.

use mica_dap::batch::BucketId;
use mica_dap::codec::{Malformed, Reader};
use mica_dap::id::{BatchId, ReportId};
use mica_dap::report_error::ReportError;
use mica_dap::time::Time;
use mica_dap::vdaf::{EncodedState, OutputShare};
use zeroize::Zeroizing;

/// One report, and how far it got.
pub(super) struct Report {
    pub(super) id: ReportId,
    pub(super) time: Time,
    pub(super) outcome: Result<Valid, ReportError>,
}

impl Report {
    /// Whether it is verified.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.outcome, Ok(Valid::Done { .. }))
    }

    /// Whether the leader has the next word.
    pub(super) fn waits(&self) -> bool {
        self.state().is_some()
    }

    /// What is to be kept of it.
    pub(super) fn state(&self) -> Option<&EncodedState> {
        match &self.outcome {
            Ok(Valid::Waits { state, .. }) => Some(state),
            _ => None,
        }
    }

    /// Where it is counted: in the batch of the leader's choice, or by its time.
    pub(super) fn bucket(&self, batch: Option<BatchId>) -> BucketId {
        batch.map_or(BucketId::TimeInterval(self.time), BucketId::LeaderSelected)
    }
}

/// What became of a report that nothing is wrong with.
pub(super) enum Valid {
    /// It is verified: it may be counted.
    Done {
        /// What it adds to its bucket.
        output: OutputShare,
        /// What the leader needs to see that it is valid; nothing where the leader knows.
        message: Option<Vec<u8>>,
    },
    /// The leader has the next word.
    Waits {
        /// To be kept until then.
        state: EncodedState,
        /// What the leader needs for it.
        message: Vec<u8>,
    },
}

/// A report that waits, as it is kept.
pub(super) struct Kept {
    pub(super) id: ReportId,
    pub(super) time: Time,
    pub(super) state: Zeroizing<Vec<u8>>,
}

/// The reports that wait, as one value.
pub(super) fn pack(reports: &[(&Report, &EncodedState)]) -> Zeroizing<Vec<u8>> {
    let length = reports.iter().map(|(_, state)| ReportId::LENGTH + 8 + 4 + state.as_bytes().len()).sum();
    // Never grown: a vector that moves leaves a copy behind.
    let mut packed = Zeroizing::new(Vec::with_capacity(length));
    for (report, state) in reports {
        packed.extend_from_slice(report.id.as_bytes());
        packed.extend_from_slice(&report.time.0.to_be_bytes());
        let length =
            u32::try_from(state.as_bytes().len()).expect("a state is shorter than the share it is made of");
        packed.extend_from_slice(&length.to_be_bytes());
        packed.extend_from_slice(state.as_bytes());
    }
    packed
}

/// What [`pack`] made one value of.
pub(super) fn unpack(packed: &[u8]) -> Result<Vec<Kept>, Malformed> {
    let mut reader = Reader::new(packed);
    let mut kept = Vec::new();
    while !reader.is_empty() {
        let (id, time) = (ReportId::new(reader.array()?), Time(reader.u64()?));
        kept.push(Kept { id, time, state: Zeroizing::new(reader.opaque32(0)?.to_vec()) });
    }
    Ok(kept)
}
