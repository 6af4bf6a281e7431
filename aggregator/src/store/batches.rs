//! Leader: the batches of leader-selected tasks: which of them take reports, and which collection has which.
//!
//! open -> full (has its target size) -> collecting (belongs to a collection) -> collected, or failed. A collection that
//! ends without a release gives its batch back: then it is open again. How many reports a batch holds is not written
//! here: it is what its buckets sum and what its jobs under way may add, so that reports which are refused make room for
//! others by themselves. Who forms jobs or picks batches holds [`lock_batches`].

use std::str::FromStr;

use mica_dap::id::{BatchId, CollectionJobId};
use mica_service::store::{Fields, StoreError, Tx, signed};
use sqlx::any::AnyRow;

use super::columns::{self, found};
use super::locks::{self, Lock};

/// How far a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchState {
    /// Takes reports.
    Open,
    /// Has as many reports as it was to have.
    Full,
    /// Belongs to a collection; takes no more reports.
    Collecting,
    /// Released.
    Collected,
    /// The helper can never release it.
    Failed,
}

/// A batch that takes reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The batch.
    pub batch: BatchId,
    /// How many more it takes; at least one.
    pub reports: u64,
}

/// A stored batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRow {
    /// The name that the helper is told.
    pub batch: BatchId,
    /// How far it is.
    pub state: BatchState,
    /// The collection it belongs to.
    pub collection: Option<CollectionJobId>,
    /// The fewest reports to ask for it with.
    pub needs: u64,
    /// How often a release of it was refused.
    pub refusals: u64,
    /// The type of the problem it was last refused with.
    pub last_problem: Option<String>,
}

/// Waits until nobody else puts reports in batches of the task or picks one of them, and keeps it so until the
/// transaction ends. Whoever needs the lock of the task as well takes that first.
pub async fn lock_batches(tx: &mut Tx, task: i64) -> Result<(), StoreError> {
    locks::exclusive(tx, Lock::Batches(task)).await
}

/// Begins a batch. False when the name is taken.
pub async fn begin(tx: &mut Tx, task: i64, batch: &BatchId, created_at: u64) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- begin_batch
         INSERT INTO batches (task, batch_id, state, needs, refusals, created_at) VALUES ($1, $2, 'open', 0, 0, $3)
         ON CONFLICT (task, batch_id) DO NOTHING",
    )
    .bind(task)
    .bind(batch.as_bytes().as_slice())
    .bind(signed(created_at)?)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// The open batches that hold fewer reports than `target`, verified and under way together, the oldest first; at most
/// `limit`. One statement, so that a report which is verified meanwhile is counted once.
pub async fn with_room(tx: &mut Tx, task: i64, target: u64, limit: u64) -> Result<Vec<Room>, StoreError> {
    let rows = sqlx::query(
        "-- batches_with_room
         SELECT batch_id, wanted - held AS room FROM (
             SELECT id, batch_id, CASE WHEN needs > $2 THEN needs ELSE $2 END AS wanted,
                 CAST(COALESCE((SELECT SUM(report_count) FROM buckets
                                WHERE task = batches.task AND batch_id = batches.batch_id AND time = 0), 0)
                    + COALESCE((SELECT SUM(report_count) FROM aggregation_jobs
                                WHERE task = batches.task AND batch_id = batches.batch_id AND state = 'active'), 0)
                 AS BIGINT) AS held
             FROM batches WHERE task = $1 AND state = 'open') AS filling
         WHERE held < wanted ORDER BY id LIMIT $3",
    )
    .bind(task)
    .bind(clamp(target))
    .bind(signed(limit)?)
    .fetch_all(tx.connection())
    .await?;
    rows.iter()
        .map(|row| {
            let fields = Fields::of("batches", row);
            Ok(Room { batch: BatchId::new(fields.array("batch_id")?), reports: fields.unsigned("room")? })
        })
        .collect()
}

/// Closes the open batches that have `target` verified reports and nothing under way: nobody needs to look at them again
/// when reports arrive. Returns how many.
pub async fn close_full(tx: &mut Tx, task: i64, target: u64) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "-- close_full_batches
         UPDATE batches SET state = 'full'
         WHERE task = $1 AND state = 'open'
           AND COALESCE((SELECT SUM(report_count) FROM buckets
                         WHERE task = batches.task AND batch_id = batches.batch_id AND time = 0), 0)
               >= CASE WHEN needs > $2 THEN needs ELSE $2 END
           AND NOT EXISTS (SELECT 1 FROM aggregation_jobs
                           WHERE task = batches.task AND batch_id = batches.batch_id AND state = 'active')",
    )
    .bind(task)
    .bind(clamp(target))
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected())
}

/// The batch to be collected next: with at least `least` verified reports, belonging to no collection; one for which
/// nothing is under way, so that no job that is stuck keeps the others from being collected; refused least often, the
/// oldest of those.
pub async fn next_ready(tx: &mut Tx, task: i64, least: u64) -> Result<Option<BatchId>, StoreError> {
    let row = sqlx::query(
        "-- next_ready_batch
         SELECT batch_id FROM batches
         WHERE task = $1 AND state IN ('open', 'full')
           AND COALESCE((SELECT SUM(report_count) FROM buckets
                         WHERE task = batches.task AND batch_id = batches.batch_id AND time = 0), 0)
               >= CASE WHEN needs > $2 THEN needs ELSE $2 END
         ORDER BY CASE WHEN EXISTS (SELECT 1 FROM aggregation_jobs
                                    WHERE task = batches.task AND batch_id = batches.batch_id AND state = 'active')
                       THEN 1 ELSE 0 END, refusals, id LIMIT 1",
    )
    .bind(task)
    .bind(clamp(least))
    .fetch_optional(tx.connection())
    .await?;
    row.map(|row| Fields::of("batches", &row).array("batch_id").map(BatchId::new)).transpose()
}

/// Gives the batch to a collection. False when it has one, or is over.
pub async fn associate(
    tx: &mut Tx,
    task: i64,
    batch: &BatchId,
    collection: &CollectionJobId,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- associate_batch
         UPDATE batches SET state = 'collecting', collection = $3
         WHERE task = $1 AND batch_id = $2 AND state IN ('open', 'full') AND collection IS NULL",
    )
    .bind(task)
    .bind(batch.as_bytes().as_slice())
    .bind(collection.as_bytes().as_slice())
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// The collection of a batch ends without a release: another may have the batch. False when it belongs to none.
pub async fn give_back(tx: &mut Tx, task: i64, batch: &BatchId) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- give_back_batch
         UPDATE batches SET state = 'open', collection = NULL
         WHERE task = $1 AND batch_id = $2 AND state = 'collecting'",
    )
    .bind(task)
    .bind(batch.as_bytes().as_slice())
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Whether a batch belongs to a collection that is over without a release.
pub async fn any_orphaned(tx: &mut Tx, task: i64) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "-- any_orphaned_batch
         SELECT batch_id FROM batches
         WHERE task = $1 AND state = 'collecting'
           AND collection IN (SELECT id FROM collection_jobs WHERE task = $1 AND state IN ('deleted', 'failed'))
         LIMIT 1",
    )
    .bind(task)
    .fetch_optional(tx.connection())
    .await?;
    Ok(row.is_some())
}

/// Gives the batches back whose collection is over without a release; returns how many. The transaction that ends a
/// collection does that itself: this is for what was left behind. The caller holds the lock of the task.
pub async fn give_back_orphans(tx: &mut Tx, task: i64) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "-- give_back_orphaned_batches
         UPDATE batches SET state = 'open', collection = NULL
         WHERE task = $1 AND state = 'collecting'
           AND collection IN (SELECT id FROM collection_jobs WHERE task = $1 AND state IN ('deleted', 'failed'))",
    )
    .bind(task)
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected())
}

/// As [`give_back`], after a refusal: others go before it, and it is not asked for again with fewer than `needs` reports.
pub async fn give_back_refused(
    tx: &mut Tx,
    task: i64,
    batch: &BatchId,
    needs: u64,
    problem: &str,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- give_back_refused_batch
         UPDATE batches SET state = 'open', collection = NULL, refusals = refusals + 1, last_problem = $4,
             needs = CASE WHEN needs > $3 THEN needs ELSE $3 END
         WHERE task = $1 AND batch_id = $2 AND state = 'collecting'",
    )
    .bind(task)
    .bind(batch.as_bytes().as_slice())
    .bind(clamp(needs))
    .bind(problem)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// The batch can never be released: nobody is given it again. False when it belongs to no collection.
pub async fn fail(tx: &mut Tx, task: i64, batch: &BatchId, problem: &str) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- fail_batch
         UPDATE batches SET state = 'failed', refusals = refusals + 1, last_problem = $3
         WHERE task = $1 AND batch_id = $2 AND state = 'collecting'",
    )
    .bind(task)
    .bind(batch.as_bytes().as_slice())
    .bind(problem)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// The batch is released. False when it belongs to no collection.
pub async fn set_collected(tx: &mut Tx, task: i64, batch: &BatchId) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- set_batch_collected
         UPDATE batches SET state = 'collected' WHERE task = $1 AND batch_id = $2 AND state = 'collecting'",
    )
    .bind(task)
    .bind(batch.as_bytes().as_slice())
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// The batches of a task, the oldest first, at most `limit`.
pub async fn of_task(tx: &mut Tx, task: i64, limit: u64) -> Result<Vec<BatchRow>, StoreError> {
    let rows = sqlx::query(
        "-- batches_of_task
         SELECT * FROM batches WHERE task = $1 ORDER BY id LIMIT $2",
    )
    .bind(task)
    .bind(signed(limit)?)
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(read).collect()
}

fn read(row: &AnyRow) -> Result<BatchRow, StoreError> {
    let fields = Fields::of("batches", row);
    Ok(BatchRow {
        batch: BatchId::new(fields.array("batch_id")?),
        state: fields.parsed("state")?,
        collection: columns::optional_array(&fields, "collection")?.map(CollectionJobId::new),
        needs: fields.unsigned("needs")?,
        refusals: fields.unsigned("refusals")?,
        last_problem: fields.column("last_problem")?,
    })
}

/// A count as a column holds it: no batch ever has more reports than that.
fn clamp(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl FromStr for BatchState {
    type Err = columns::UnknownState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const ALL: [BatchState; 5] = [
            BatchState::Open,
            BatchState::Full,
            BatchState::Collecting,
            BatchState::Collected,
            BatchState::Failed,
        ];
        columns::state(text, &ALL, |state| match state {
            Self::Open => "open",
            Self::Full => "full",
            Self::Collecting => "collecting",
            Self::Collected => "collected",
            Self::Failed => "failed",
        })
    }
}
