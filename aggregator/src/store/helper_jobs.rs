//! Helper: aggregation jobs as the leader sees them. The same bytes are the same job, also after it is deleted: then
//! only the digest is left of it, and the request is not begun again.

use std::str::FromStr;

use mica_dap::id::AggregationJobId;
use mica_service::store::{Fields, StoreError, Tx, signed};
use sqlx::any::AnyRow;

use super::columns::{self, found};

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelperJobState {
    /// Its latest step is to be worked on.
    Waiting,
    /// Its latest step is answered.
    Ready,
    /// It failed as a whole.
    Failed,
    /// The leader has no more use for it.
    Deleted,
}

/// A stored job.
#[derive(Clone)]
pub struct HelperJobRow {
    /// The identifier in the job's path.
    pub id: AggregationJobId,
    /// The task.
    pub task: i64,
    /// SHA-256 of the request that began it.
    pub request_digest: [u8; 32],
    /// How far it is.
    pub state: HelperJobState,
    /// The latest step that was begun.
    pub step: u16,
    /// SHA-256 of the continuation that began it; none at step 0.
    pub step_digest: Option<[u8; 32]>,
    /// The answer to that step, encoded; empty until it is ready.
    pub response: Vec<u8>,
    /// The problem document of a job that failed.
    pub problem: Option<String>,
    /// When it was begun.
    pub created_at: u64,
}

impl HelperJobRow {
    /// A job at step 0 that is answered already, or waits where the answer is empty.
    pub fn new(
        task: i64,
        id: AggregationJobId,
        request_digest: [u8; 32],
        response: Vec<u8>,
        created_at: u64,
    ) -> Self {
        let state = if response.is_empty() { HelperJobState::Waiting } else { HelperJobState::Ready };
        Self {
            id,
            task,
            request_digest,
            state,
            step: 0,
            step_digest: None,
            response,
            problem: None,
            created_at,
        }
    }
}

/// Stores a job at step 0. False when the request is a job already (or the identifier is taken): then the caller
/// rolls back and answers what is stored. Waits for an open transaction that inserts the same request.
pub async fn insert(tx: &mut Tx, job: &HelperJobRow) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- insert_helper_job
         INSERT INTO helper_jobs (id, task, request_digest, response, created_at, state)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT DO NOTHING",
    )
    .bind(job.id.as_bytes().as_slice())
    .bind(job.task)
    .bind(job.request_digest.as_slice())
    .bind(job.response.as_slice())
    .bind(signed(job.created_at)?)
    .bind(job.state.as_str())
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// The job that the request of that digest began.
pub async fn by_digest(
    tx: &mut Tx,
    task: i64,
    digest: &[u8; 32],
) -> Result<Option<HelperJobRow>, StoreError> {
    let row = sqlx::query(
        "-- helper_job_by_digest
         SELECT * FROM helper_jobs WHERE task = $1 AND request_digest = $2",
    )
    .bind(task)
    .bind(digest.as_slice())
    .fetch_optional(tx.connection())
    .await?;
    row.as_ref().map(read).transpose()
}

/// The job under that path of the task.
pub async fn by_id(
    tx: &mut Tx,
    task: i64,
    id: &AggregationJobId,
) -> Result<Option<HelperJobRow>, StoreError> {
    let row = sqlx::query(
        "-- helper_job_by_id
         SELECT * FROM helper_jobs WHERE id = $1 AND task = $2",
    )
    .bind(id.as_bytes().as_slice())
    .bind(task)
    .fetch_optional(tx.connection())
    .await?;
    row.as_ref().map(read).transpose()
}

/// Begins the step after `step`, which must be answered; `response` is empty when the new one is worked on later. False
/// when the job is not there any more.
pub async fn advance(
    tx: &mut Tx,
    id: &AggregationJobId,
    step: u16,
    digest: &[u8; 32],
    response: &[u8],
) -> Result<bool, StoreError> {
    let state = if response.is_empty() { HelperJobState::Waiting } else { HelperJobState::Ready };
    let done = sqlx::query(
        "-- advance_helper_job
         UPDATE helper_jobs SET step = $2 + 1, step_digest = $3, response = $4, state = $5
         WHERE id = $1 AND step = $2 AND state = 'ready'",
    )
    .bind(id.as_bytes().as_slice())
    .bind(i64::from(step))
    .bind(digest.as_slice())
    .bind(response)
    .bind(state.as_str())
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Answers the step that a job waits for. False when it does not wait any more.
pub async fn set_ready(tx: &mut Tx, id: &AggregationJobId, response: &[u8]) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- set_helper_job_ready
         UPDATE helper_jobs SET state = 'ready', response = $2 WHERE id = $1 AND state = 'waiting'",
    )
    .bind(id.as_bytes().as_slice())
    .bind(response)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Notes why a job that waits has failed as a whole. False when it does not wait any more.
pub async fn set_failed(tx: &mut Tx, id: &[u8; 16], problem: &str) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- set_helper_job_failed
         UPDATE helper_jobs SET state = 'failed', problem = $2 WHERE id = $1 AND state = 'waiting'",
    )
    .bind(id.as_slice())
    .bind(problem)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Forgets a job that the leader has no more use for, all but its digest. False when there is no such job, or not any
/// more.
pub async fn delete(tx: &mut Tx, task: i64, id: &AggregationJobId) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- delete_helper_job
         UPDATE helper_jobs SET state = 'deleted', response = $3, problem = NULL, step_digest = NULL
         WHERE id = $1 AND task = $2 AND state <> 'deleted'",
    )
    .bind(id.as_bytes().as_slice())
    .bind(task)
    .bind([].as_slice())
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

fn read(row: &AnyRow) -> Result<HelperJobRow, StoreError> {
    let fields = Fields::of("helper_jobs", row);
    Ok(HelperJobRow {
        id: AggregationJobId::new(fields.array("id")?),
        task: fields.integer("task")?,
        request_digest: fields.array("request_digest")?,
        state: fields.parsed("state")?,
        step: u16::try_from(fields.unsigned("step")?).map_err(|_| fields.corrupt("step"))?,
        step_digest: columns::optional_array(&fields, "step_digest")?,
        response: fields.bytes("response")?,
        problem: fields.column("problem")?,
        created_at: fields.unsigned("created_at")?,
    })
}

impl HelperJobState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Deleted => "deleted",
        }
    }
}

impl FromStr for HelperJobState {
    type Err = columns::UnknownState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let states = [Self::Waiting, Self::Ready, Self::Failed, Self::Deleted];
        columns::state(text, &states, Self::as_str)
    }
}
