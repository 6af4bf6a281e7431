//! Leader: what collectors asked for, and how far it is.
//!
//! pending -> closing (takes no more reports) -> reserved (charged, the helper is being asked) -> released, or failed.
//! Whoever works on a job holds its lease. A collector may delete it at any time: then the lease is lost, but for a
//! reserved job, which is abandoned, that is hidden from the collector and driven to its end.

mod progress;
mod queue;

use std::str::FromStr;

use mica_dap::id::{BatchId, CollectionJobId};
use mica_service::store::{Fields, StoreError, Tx, signed};
use sha2::{Digest as _, Sha256};
use sqlx::any::AnyRow;

use super::columns::{self, found};

pub use progress::{
    delete, raise_fences, set_batch, set_failed, set_fence, set_location, set_released, set_reserved,
};
pub use queue::{Place, due, give_back, lease, release_all_leases, renew, retry_at, tasks_with_work};

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
