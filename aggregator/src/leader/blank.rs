//! A report that nobody can open, for jobs whose reports come again.
//!
//! The same bytes are the same job (DAP 3.2): a helper that found a lone report to be too early would give its old answer
//! for ever. A blank beside it makes the job another one. It is a function of the job, so that a retry sends the same; it
//! is refused by every helper, counted by nobody, and tells nothing.

use mica_dap::aggregation::{ReportShare, VerifyInit};
use mica_dap::hpke_config::HpkeCiphertext;
use mica_dap::id::ReportId;
use mica_dap::report::{Report, ReportMetadata};
use sha2::{Digest as _, Sha256};

use crate::task::Task;

/// What stands beside `other`, a report of the job.
pub(super) fn beside(task: &Task, job: i64, other: &VerifyInit) -> (VerifyInit, Report) {
    let bytes = |what: u8| -> [u8; 32] {
        let of = Sha256::new_with_prefix(b"mica blank report").chain_update([what]);
        of.chain_update(task.id.as_bytes()).chain_update(job.to_be_bytes()).finalize().into()
    };
    let mut id = [0; 16];
    id.iter_mut().zip(bytes(0)).for_each(|(to, from)| *to = from);
    let share = &other.report_share;
    let metadata = ReportMetadata {
        report_id: ReportId::new(id),
        time: share.metadata.time,
        public_extensions: Vec::new(),
    };
    let sealed = HpkeCiphertext {
        config_id: share.encrypted_input_share.config_id,
        enc: bytes(1).to_vec(),
        payload: bytes(2).to_vec(),
    };
    let report = Report {
        metadata: metadata.clone(),
        public_share: share.public_share.clone(),
        leader_encrypted_input_share: sealed.clone(),
        helper_encrypted_input_share: sealed.clone(),
    };
    let share =
        ReportShare { metadata, public_share: share.public_share.clone(), encrypted_input_share: sealed };
    (VerifyInit { report_share: share, payload: other.payload.clone() }, report)
}
