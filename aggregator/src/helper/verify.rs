//! Opening and verifying the reports of one job, one by one, on the compute pool (DAP 4.5.3.3).
//!
//! A bad report is refused with its code and hurts no other. Shares live in memory only and are never printed.

use std::sync::Arc;

use mica_dap::aggregation::{AggregationJobInitReq, VerifyInit};
use mica_dap::id::{BatchId, ReportId};
use mica_dap::report_error::{ReportError, Stage};
use mica_dap::time::Time;
use mica_dap::vdaf::{HelperStep, InputShareRef, OutputShare, VdafError};

use super::aggregate::Parsed;
use crate::open;
use crate::shared::Shared;
use crate::task::Task;

/// A job whose reports were looked at, in the leader's order.
pub(super) struct Verified {
    pub(super) shared: Arc<Shared>,
    pub(super) task: Arc<Task>,
    pub(super) digest: [u8; 32],
    pub(super) batch: Option<BatchId>,
    pub(super) reports: Arc<Vec<Report>>,
}

/// One report, and how far it got.
pub(super) struct Report {
    pub(super) id: ReportId,
    pub(super) time: Time,
    pub(super) outcome: Result<Valid, ReportError>,
}

/// What a valid report adds to its bucket, and what the leader needs to see that it is valid.
pub(super) struct Valid {
    pub(super) output: OutputShare,
    pub(super) message: Vec<u8>,
}

impl Parsed {
    /// Looks at every report.
    pub(super) async fn verify(self) -> Verified {
        let Self { shared, task, digest, batch, request } = self;
        let AggregationJobInitReq { verification_key_id, agg_param, verify_inits, .. } = request;
        let job = Job {
            now: shared.clock.now(),
            shared: Arc::clone(&shared),
            task: Arc::clone(&task),
            verification_key_id,
            agg_param,
        };
        let reports = shared.compute.map(verify_inits, CHUNK, move |init| job.report(&init)).await;
        Verified { shared, task, digest, batch, reports: Arc::new(reports) }
    }
}

/// What the reports of a job have in common.
struct Job {
    shared: Arc<Shared>,
    task: Arc<Task>,
    now: u64,
    verification_key_id: u8,
    agg_param: Vec<u8>,
}

impl Job {
    fn report(&self, init: &VerifyInit) -> Report {
        let metadata = &init.report_share.metadata;
        Report { id: metadata.report_id, time: metadata.time, outcome: self.verify(init) }
    }

    fn verify(&self, init: &VerifyInit) -> Result<Valid, ReportError> {
        let task = &*self.task;
        if self.verification_key_id != task.verification_key_id {
            return Err(task.draft.unknown_verification_key().unwrap_or(ReportError::InvalidMessage));
        }
        let share = &init.report_share;
        let metadata = &share.metadata;
        // Before anything that costs: a report of another time may be sent as often as one likes.
        open::check_time(task, Stage::Aggregation, metadata.time, self.now)?;
        let opened = open::open_share(
            task,
            &self.shared.keys,
            metadata,
            &share.public_share,
            &share.encrypted_input_share,
        )?;
        let input = InputShareRef {
            nonce: &metadata.report_id,
            public_share: &share.public_share,
            input_share: &opened.input_share,
        };
        let step =
            task.vdaf.helper_init(&task.verify_key, &task.context, &self.agg_param, &input, &init.payload);
        match step {
            Ok(HelperStep::Finished { output, message }) => Ok(Valid { output, message }),
            // No VDAF of ours takes a second round; one that does has state to be kept, which nobody keeps here.
            Ok(HelperStep::Continued { .. }) => Err(ReportError::ReportDropped),
            Err(VdafError::InputShare) => Err(ReportError::InvalidMessage),
            Err(_) => Err(ReportError::VdafVerifyError),
        }
    }
}

/// Reports per task on the pool: tens of milliseconds of work, so that other jobs get their turn.
const CHUNK: usize = 32;
