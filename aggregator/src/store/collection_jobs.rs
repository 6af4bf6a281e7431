//! Leader: what collectors asked for, and how far it is.
//!
//! pending -> closing (takes no more reports) -> reserved (charged, the helper is being asked) -> released, or failed.
//! Whoever works on a job holds its lease. A collector may delete it at any time: then the lease is lost, but for a
//! reserved job, which is abandoned, that is hidden from the collector and driven to its end.

use std::str::FromStr;

use mica_dap::id::{BatchId, CollectionJobId};
use mica_service::store::{Fields, StoreError, Tx, signed};
use sha2::{Digest as _, Sha256};
use sqlx::any::AnyRow;

use super::columns::{self, found};
use super::lease::{LeaseRequest, LeaseToken};

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollectionState {
    /// Waits for its batch.
    Pending,
    /// Takes no more reports, and waits for those under way.
    Closing,
    /// Charged; the helper is being asked.
    Reserved,
    /// Reserved, and deleted by the collector since.
    Abandoned,
    /// Answered.
    Released,
    /// Refused; nothing was charged.
    Failed,
    /// Forgotten at the collector's wish.
    Deleted,
}

/// A job as a collector asks for it.
#[derive(Clone)]
pub struct NewCollectionJob {
    /// The identifier in the job's path.
    pub id: CollectionJobId,
    /// The task.
    pub task: i64,
    /// The request, encoded.
    pub request: Vec<u8>,
    /// The newest segment of the task by then.
    pub fence: i64,
    /// When it was made.
    pub created_at: u64,
}

/// A stored job.
#[derive(Clone)]
pub struct CollectionJobRow {
    /// The identifier in the job's path.
    pub id: CollectionJobId,
    /// The task.
    pub task: i64,
    /// The request, encoded.
    pub request: Vec<u8>,
    /// How far it is.
    pub state: CollectionState,
    /// The newest segment that its batch waits for.
    pub fence: i64,
    /// The batch that was picked for it, where the leader selects it.
    pub batch: Option<BatchId>,
    /// The path at which the helper keeps its share, once it said so.
    pub helper_location: Option<String>,
    /// The release, once reserved.
    pub release: Option<i64>,
    /// The answer, encoded, once released.
    pub response: Option<Vec<u8>>,
    /// The problem document, JSON, once failed.
    pub problem: Option<String>,
    /// How often it was taken up, this time included.
    pub attempts: u64,
    /// Why the last attempt did not settle it, in one word.
    pub reason: Option<String>,
    /// Nobody else takes it up before.
    pub lease_until: u64,
    /// It is not worth looking at before.
    pub next_try_at: u64,
    /// When it was asked for.
    pub created_at: u64,
}

impl CollectionJobRow {
    /// Where it stands among those that are due.
    #[must_use]
    pub fn place(&self) -> Place {
        (self.next_try_at, self.created_at, self.id.as_bytes().to_vec())
    }
}

/// Stores a job that anybody may take up at once. False when a live job of the task has the same request (or the
/// identifier is taken).
pub async fn insert(tx: &mut Tx, job: &NewCollectionJob) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- insert_collection_job
         INSERT INTO collection_jobs
             (id, task, request, request_digest, state, fence, attempts, lease_until, next_try_at, created_at)
         VALUES ($1, $2, $3, $4, 'pending', $6, 0, 0, $5, $5)
         ON CONFLICT DO NOTHING",
    )
    .bind(job.id.as_bytes().as_slice())
    .bind(job.task)
    .bind(job.request.as_slice())
    .bind(Sha256::digest(&job.request).as_slice())
    .bind(signed(job.created_at)?)
    .bind(job.fence)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// The job under that path of the task, in whatever state.
pub async fn by_id(
    tx: &mut Tx,
    task: i64,
    id: &CollectionJobId,
) -> Result<Option<CollectionJobRow>, StoreError> {
    let row = sqlx::query(
        "-- collection_job_by_id
         SELECT * FROM collection_jobs WHERE id = $1 AND task = $2",
    )
    .bind(id.as_bytes().as_slice())
    .bind(task)
    .fetch_optional(tx.connection())
    .await?;
    row.as_ref().map(read).transpose()
}

/// The job of the same request that is pending, reserved or released.
pub async fn live_by_request(
    tx: &mut Tx,
    task: i64,
    request: &[u8],
) -> Result<Option<CollectionJobRow>, StoreError> {
    let row = sqlx::query(
        "-- live_collection_job_by_request
         SELECT * FROM collection_jobs
         WHERE task = $1 AND request_digest = $2 AND state IN ('pending', 'closing', 'reserved', 'released')",
    )
    .bind(task)
    .bind(Sha256::digest(request).as_slice())
    .fetch_optional(tx.connection())
    .await?;
    row.as_ref().map(read).transpose()
}

/// How many jobs of the task are not at their end yet, of those that their collector has not deleted.
pub async fn open_jobs(tx: &mut Tx, task: i64) -> Result<u64, StoreError> {
    let row = sqlx::query(
        "-- open_collection_jobs
         SELECT COUNT(*) AS jobs FROM collection_jobs
         WHERE task = $1 AND state IN ('pending', 'closing', 'reserved')",
    )
    .bind(task)
    .fetch_one(tx.connection())
    .await?;
    Fields::of("collection_jobs", &row).unsigned("jobs")
}

/// The tasks that have a job which is due, and when the newest of them became so.
pub async fn tasks_with_work(tx: &mut Tx, now: u64) -> Result<Vec<(i64, u64)>, StoreError> {
    let rows = sqlx::query(
        "-- tasks_with_collection_work
         SELECT task, MAX(next_try_at) AS newest FROM collection_jobs
         WHERE state IN ('pending', 'closing', 'reserved', 'abandoned') AND lease_until <= $1 AND next_try_at <= $1
         GROUP BY task",
    )
    .bind(signed(now)?)
    .fetch_all(tx.connection())
    .await?;
    let read = |row| {
        let fields = Fields::of("collection_jobs", row);
        Ok((fields.integer("task")?, fields.unsigned("newest")?))
    };
    rows.iter().map(read).collect()
}

/// Where a job stands among those that are due: when it became so, when it was asked for, its identifier.
pub type Place = (u64, u64, Vec<u8>);

/// The jobs of the task that are due, those that wait longest first: those that come after the place `after`, at most
/// `limit`. Looking at them takes none of them up, and writes nothing.
pub async fn due(
    tx: &mut Tx,
    task: i64,
    now: u64,
    after: Option<&Place>,
    limit: u64,
) -> Result<Vec<CollectionJobRow>, StoreError> {
    let (next_try_at, created_at, id) = match after {
        Some((next_try_at, created_at, id)) => (signed(*next_try_at)?, signed(*created_at)?, id.as_slice()),
        None => (-1, -1, [].as_slice()),
    };
    let rows = sqlx::query(
        "-- due_collection_jobs
         SELECT * FROM collection_jobs
         WHERE task = $1 AND state IN ('pending', 'closing', 'reserved', 'abandoned')
           AND lease_until <= $2 AND next_try_at <= $2
           AND (next_try_at, created_at, id) > ($4, $5, $6)
         ORDER BY next_try_at, created_at, id LIMIT $3",
    )
    .bind(task)
    .bind(signed(now)?)
    .bind(signed(limit)?)
    .bind(next_try_at)
    .bind(created_at)
    .bind(id)
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(read).collect()
}

/// Takes up a job that is due. None when it is not, or somebody else has it.
pub async fn lease(
    tx: &mut Tx,
    id: &CollectionJobId,
    request: LeaseRequest,
) -> Result<Option<CollectionJobRow>, StoreError> {
    let query = columns::for_update_skip_locked(
        tx,
        "-- lease_collection_job
         UPDATE collection_jobs SET attempts = attempts + 1, lease_until = $1, lease_token = $2
         WHERE id = (SELECT id FROM collection_jobs
                     WHERE id = $4 AND state IN ('pending', 'closing', 'reserved', 'abandoned')
                       AND lease_until <= $3 AND next_try_at <= $3",
        ")
         RETURNING *",
    );
    let row = sqlx::query(query)
        .bind(request.until()?)
        .bind(request.token.as_bytes().as_slice())
        .bind(signed(request.now)?)
        .bind(id.as_bytes().as_slice())
        .fetch_optional(tx.connection())
        .await?;
    row.as_ref().map(read).transpose()
}

/// Notes what a job still waits for, and whether it has closed its interval. False when the lease is lost or the job
/// is past that.
pub async fn set_fence(
    tx: &mut Tx,
    id: &CollectionJobId,
    token: LeaseToken,
    (state, fence): (CollectionState, i64),
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- set_collection_job_fence
         UPDATE collection_jobs SET state = $3, fence = $4
         WHERE id = $1 AND lease_token = $2 AND state IN ('pending', 'closing')",
    )
    .bind(id.as_bytes().as_slice())
    .bind(token.as_bytes().as_slice())
    .bind(state.as_str())
    .bind(fence)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Notes the batch that was picked for a job, which waits for what is under way for it from now on. False when the lease
/// is lost or the job has a batch.
pub async fn set_batch(
    tx: &mut Tx,
    id: &CollectionJobId,
    token: LeaseToken,
    batch: &BatchId,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- set_collection_job_batch
         UPDATE collection_jobs SET state = 'closing', batch_id = $3
         WHERE id = $1 AND lease_token = $2 AND state = 'pending' AND batch_id IS NULL",
    )
    .bind(id.as_bytes().as_slice())
    .bind(token.as_bytes().as_slice())
    .bind(batch.as_bytes().as_slice())
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Notes where the helper keeps its share. False when the lease is lost or the helper is not being asked.
pub async fn set_location(
    tx: &mut Tx,
    id: &CollectionJobId,
    token: LeaseToken,
    location: Option<&str>,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- set_collection_job_location
         UPDATE collection_jobs SET helper_location = $3
         WHERE id = $1 AND lease_token = $2 AND state IN ('reserved', 'abandoned')",
    )
    .bind(id.as_bytes().as_slice())
    .bind(token.as_bytes().as_slice())
    .bind(location)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Notes the release of a job that waits. False when the lease is lost or the job is past that.
pub async fn set_reserved(
    tx: &mut Tx,
    id: &CollectionJobId,
    token: LeaseToken,
    release: i64,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- set_collection_job_reserved
         UPDATE collection_jobs SET state = 'reserved', release_id = $3
         WHERE id = $1 AND lease_token = $2 AND state IN ('pending', 'closing')",
    )
    .bind(id.as_bytes().as_slice())
    .bind(token.as_bytes().as_slice())
    .bind(release)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Lets the jobs of a task that wait for segments wait for those up to `fence`, for what they waited for moved there.
pub async fn raise_fences(tx: &mut Tx, task: i64, fence: i64) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "-- raise_fences
         UPDATE collection_jobs SET fence = $2 WHERE task = $1 AND fence < $2 AND state IN ('pending', 'closing')",
    )
    .bind(task)
    .bind(fence)
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected())
}

/// Answers a reserved job; one that was deleted since ends without its answer. False when the lease is lost or the job
/// is not reserved.
pub async fn set_released(
    tx: &mut Tx,
    id: &CollectionJobId,
    token: LeaseToken,
    response: &[u8],
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- set_collection_job_released
         UPDATE collection_jobs
         SET response = CASE state WHEN 'reserved' THEN $3 END,
             state = CASE state WHEN 'reserved' THEN 'released' ELSE 'deleted' END, lease_token = NULL
         WHERE id = $1 AND lease_token = $2 AND state IN ('reserved', 'abandoned')",
    )
    .bind(id.as_bytes().as_slice())
    .bind(token.as_bytes().as_slice())
    .bind(response)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Refuses a job that is under way; one that was deleted since just ends. False when the lease is lost or the job is over.
pub async fn set_failed(
    tx: &mut Tx,
    id: &CollectionJobId,
    token: LeaseToken,
    problem: &str,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- set_collection_job_failed
         UPDATE collection_jobs
         SET problem = CASE state WHEN 'abandoned' THEN NULL ELSE $3 END,
             state = CASE state WHEN 'abandoned' THEN 'deleted' ELSE 'failed' END, lease_token = NULL
         WHERE id = $1 AND lease_token = $2 AND state IN ('pending', 'closing', 'reserved', 'abandoned')",
    )
    .bind(id.as_bytes().as_slice())
    .bind(token.as_bytes().as_slice())
    .bind(problem)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Forgets a job and its answer at the collector's wish; its release and its charge stay. A job that is reserved is
/// hidden at once and driven to its end, for the helper may have answered already. False when there is none.
pub async fn delete(tx: &mut Tx, task: i64, id: &CollectionJobId) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- delete_collection_job
         UPDATE collection_jobs
         SET lease_token = CASE state WHEN 'reserved' THEN lease_token END,
             state = CASE state WHEN 'reserved' THEN 'abandoned' ELSE 'deleted' END, response = NULL, problem = NULL
         WHERE id = $1 AND task = $2 AND state NOT IN ('deleted', 'abandoned')",
    )
    .bind(id.as_bytes().as_slice())
    .bind(task)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Holds the job longer. False when the lease is lost.
pub async fn renew(tx: &mut Tx, id: &CollectionJobId, request: LeaseRequest) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- renew_collection_job_lease
         UPDATE collection_jobs SET lease_until = $3
         WHERE id = $1 AND lease_token = $2 AND state IN ('pending', 'closing', 'reserved', 'abandoned')",
    )
    .bind(id.as_bytes().as_slice())
    .bind(request.token.as_bytes().as_slice())
    .bind(request.until()?)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Gives a job back until `next_try_at`. False when the lease is lost.
pub async fn retry_at(
    tx: &mut Tx,
    id: &CollectionJobId,
    token: LeaseToken,
    next_try_at: u64,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- retry_collection_job
         UPDATE collection_jobs SET next_try_at = $3, lease_until = 0, lease_token = NULL
         WHERE id = $1 AND lease_token = $2 AND state IN ('pending', 'closing', 'reserved', 'abandoned')",
    )
    .bind(id.as_bytes().as_slice())
    .bind(token.as_bytes().as_slice())
    .bind(signed(next_try_at)?)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Gives a job back whose batch is not complete; others have their turn before it. Nothing failed, so that nothing
/// counts as an attempt, however often it is looked at, and what failed before is over. False when the lease is lost.
pub async fn give_back(
    tx: &mut Tx,
    id: &CollectionJobId,
    token: LeaseToken,
    now: u64,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- give_back_collection_job
         UPDATE collection_jobs SET attempts = 0, next_try_at = $3, lease_until = 0, lease_token = NULL,
             reason = NULL, last_error = NULL, waits_since = NULL
         WHERE id = $1 AND lease_token = $2 AND state IN ('pending', 'closing', 'reserved', 'abandoned')",
    )
    .bind(id.as_bytes().as_slice())
    .bind(token.as_bytes().as_slice())
    .bind(signed(now)?)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Ends every lease, for a process that knows that it is the only one.
pub async fn release_all_leases(tx: &mut Tx) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "-- release_all_collection_job_leases
         UPDATE collection_jobs SET lease_until = 0, lease_token = NULL, next_try_at = 0
         WHERE state IN ('pending', 'closing', 'reserved', 'abandoned') AND (lease_until > 0 OR next_try_at > 0)",
    )
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected())
}

fn read(row: &AnyRow) -> Result<CollectionJobRow, StoreError> {
    let fields = Fields::of("collection_jobs", row);
    Ok(CollectionJobRow {
        id: CollectionJobId::new(fields.array("id")?),
        task: fields.integer("task")?,
        request: fields.bytes("request")?,
        state: fields.parsed("state")?,
        fence: fields.integer("fence")?,
        batch: columns::optional_array(&fields, "batch_id")?.map(BatchId::new),
        helper_location: fields.column("helper_location")?,
        release: fields.column("release_id")?,
        response: fields.optional_bytes("response")?,
        problem: fields.column("problem")?,
        attempts: fields.unsigned("attempts")?,
        reason: fields.column("reason")?,
        lease_until: fields.unsigned("lease_until")?,
        next_try_at: fields.unsigned("next_try_at")?,
        created_at: fields.unsigned("created_at")?,
    })
}

impl CollectionState {
    const ALL: [Self; 7] = [
        Self::Pending,
        Self::Closing,
        Self::Reserved,
        Self::Abandoned,
        Self::Released,
        Self::Failed,
        Self::Deleted,
    ];

    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Closing => "closing",
            Self::Reserved => "reserved",
            Self::Abandoned => "abandoned",
            Self::Released => "released",
            Self::Failed => "failed",
            Self::Deleted => "deleted",
        }
    }
}

impl FromStr for CollectionState {
    type Err = columns::UnknownState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        columns::state(text, &Self::ALL, Self::as_str)
    }
}
