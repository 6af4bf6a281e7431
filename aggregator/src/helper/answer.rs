//! What the leader is told about an aggregation job (DAP 3.1, 4.5.3.2): its latest answer, that it is not ready, or why
//! it failed. Always read from the row, so that everybody who asks is told the same.

use axum::response::Response;
use http::StatusCode;
use mica_dap::id::AggregationJobId;
use mica_dap::media::Media;
use mica_dap::problem::Problem;
use mica_dap::resource::Resource;
use mica_service::store::{StoreError, Tx};

use crate::error::{Abort, ServerError};
use crate::extract;
use crate::shared::Shared;
use crate::store::helper_jobs::{HelperJobRow, HelperJobState};
use crate::store::helper_work;
use crate::task::Task;

/// A job as the leader sees it.
pub(super) struct Answer {
    /// Where the job is found.
    pub(super) id: AggregationJobId,
    /// Its latest step.
    pub(super) step: u16,
    pub(super) state: State,
}

/// How far the latest step is.
pub(super) enum State {
    /// The encoded `AggregationJobResp`.
    Ready(Vec<u8>),
    /// So many requests wait, this one among them.
    Waiting(u64),
    /// The problem document.
    Failed(String),
    /// The leader has deleted the job.
    Deleted,
}

impl Answer {
    /// What a row says.
    pub(super) async fn of(tx: &mut Tx, row: HelperJobRow) -> Result<Self, StoreError> {
        let state = match row.state {
            HelperJobState::Ready => State::Ready(row.response),
            HelperJobState::Waiting => State::Waiting(helper_work::waiting(tx, row.task).await?),
            HelperJobState::Failed => {
                State::Failed(row.problem.ok_or_else(|| StoreError::corrupt("helper_jobs", "problem"))?)
            }
            HelperJobState::Deleted => State::Deleted,
        };
        Ok(Self { id: row.id, step: row.step, state })
    }

    /// As HTTP.
    ///
    /// # Errors
    /// The problem with which the job failed, the same each time; that there is no such job once it is deleted.
    pub(super) fn response(self, shared: &Shared, task: &Task) -> Result<Response, ServerError> {
        match self.state {
            State::Ready(body) => {
                let resource = Resource::AggregationJob(task.id, self.id, None);
                Ok(extract::located(extract::message(Media::AggregationJobResp, body), task, &resource))
            }
            State::Waiting(waiting) => {
                let resource = Resource::AggregationJob(task.id, self.id, Some(self.step));
                let seconds = shared.paces.jobs.seconds_for(ahead(shared, waiting));
                Ok(extract::located(extract::not_ready(seconds), task, &resource))
            }
            State::Failed(problem) => Err(failed(&problem, "helper_jobs")),
            State::Deleted => Err(unknown_job(task).into()),
        }
    }
}

/// How many rounds of work lie before the end of a queue.
pub(super) fn ahead(shared: &Shared, waiting: u64) -> usize {
    usize::try_from(waiting).unwrap_or(usize::MAX).div_ceil(shared.limits.workers.max(1)).max(1)
}

/// No more is taken in than is worked off in a while, and than there is room for.
pub(super) async fn check_queue(
    tx: &mut Tx,
    shared: &Shared,
    (task, request): (i64, &[u8]),
) -> Result<Option<Abort>, StoreError> {
    let (waiting, bytes) = helper_work::load(tx, task).await?;
    let too_much = bytes.saturating_add(request.len() as u64) > shared.limits.waiting_bytes as u64;
    let full = waiting >= shared.limits.waiting_jobs as u64 || (waiting > 0 && too_much);
    Ok(full.then(|| Abort::overloaded(shared.paces.jobs.seconds_for(ahead(shared, waiting)))))
}

/// The problem that was kept with what failed.
pub(super) fn failed(problem: &str, table: &'static str) -> ServerError {
    Abort::kept(problem).map_or_else(|| StoreError::corrupt(table, "problem").into(), ServerError::from)
}

/// A job with more reports than are taken here may be right elsewhere; the leader can cut it in two.
pub(super) fn unreadable(task: &Task, wrong: mica_dap::codec::Malformed) -> Abort {
    if wrong == mica_dap::codec::Malformed::TOO_MANY {
        let detail = "the job has more reports than this server takes";
        return Abort::plain(StatusCode::PAYLOAD_TOO_LARGE, detail).in_task(&task.id);
    }
    invalid(task, wrong.to_string())
}

pub(super) fn invalid(task: &Task, detail: impl Into<std::borrow::Cow<'static, str>>) -> Abort {
    Abort::new(Problem::InvalidMessage, detail).in_task(&task.id)
}

pub(super) fn step_mismatch(task: &Task, step: u16) -> Abort {
    Abort::new(Problem::StepMismatch, format!("the job is at step {step}")).in_task(&task.id)
}

pub(super) fn unknown_job(task: &Task) -> Abort {
    Abort::new(Problem::UnrecognizedAggregationJob, "there is no such job").in_task(&task.id)
}
