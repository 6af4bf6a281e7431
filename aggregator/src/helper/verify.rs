//! Opening and verifying the reports of one job, one by one, on the compute pool (DAP 4.5.3.3).
//!
//! A bad report is refused with its code and hurts no other. Shares live in memory only and are never printed.

use std::sync::Arc;

use mica_dap::aggregation::{AggregationJobInitReq, VerifyInit};
use mica_dap::id::BatchId;
use mica_dap::report_error::{ReportError, Stage};
use mica_dap::vdaf::{HelperStep, InputShareRef, VdafError};
use mica_service::key_life::Moment;

use super::commit::Origin;
use super::init::Parsed;
use super::report::{Report, Valid};
use crate::hpke_keys::KeyRing;
use crate::open;
use crate::shared::Shared;
use crate::task::Task;

/// A job whose reports were looked at, in the leader's order.
pub(super) struct Verified {
    pub(super) shared: Arc<Shared>,
    pub(super) task: Arc<Task>,
    pub(super) origin: Origin,
    pub(super) batch: Option<BatchId>,
    pub(super) parameter: Arc<[u8]>,
    pub(super) reports: Arc<Vec<Report>>,
}

impl Parsed {
    /// Looks at every report.
    pub(super) async fn verify(self) -> Verified {
        let Self { shared, task, batch, request, origin } = self;
        let AggregationJobInitReq { verification_key_id, agg_param, verify_inits, .. } = request;
        let parameter: Arc<[u8]> = agg_param.into();
        let key_ids = verify_inits.iter().map(|init| init.report_share.encrypted_input_share.config_id);
        // Without a database nothing will be committed, whatever the keys say.
        let keys = shared.keys.ring_for(key_ids).await.unwrap_or_else(|_| shared.keys.ring());
        let job = Job {
            now: shared.clock.now(),
            moment: shared.keys.moment(),
            keys,
            task: Arc::clone(&task),
            verification_key_id,
            parameter: Arc::clone(&parameter),
        };
        let reports = shared.compute.map(verify_inits, CHUNK, move |init| job.report(&init)).await;
        Verified { shared, task, origin, batch, parameter, reports: Arc::new(reports) }
    }
}

/// What the reports of a job have in common.
struct Job {
    keys: Arc<KeyRing>,
    task: Arc<Task>,
    now: u64,
    /// The time by which keys are accepted.
    moment: Moment,
    verification_key_id: u8,
    parameter: Arc<[u8]>,
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
            self.keys.at(self.moment),
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
            task.vdaf.helper_init(&task.verify_key, &task.context, &self.parameter, &input, &init.payload);
        match step {
            Ok(HelperStep::Finished { output, message }) => {
                Ok(Valid::Done { output, message: Some(message) })
            }
            Ok(HelperStep::Continued { state, message }) => {
                let state = task.vdaf.encode_state(&state).map_err(|_| ReportError::ReportDropped)?;
                Ok(Valid::Waits { state, message })
            }
            Err(VdafError::InputShare) => Err(ReportError::InvalidMessage),
            Err(_) => Err(ReportError::VdafVerifyError),
        }
    }
}

/// Reports per task on the pool: tens of milliseconds of work, so that other jobs get their turn.
pub(super) const CHUNK: usize = 32;
