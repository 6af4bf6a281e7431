//! Leader: collections that wait for an aggregation job that is stuck, and for which one.
//!
//! For operators, as [`super::stuck`]. What is looked for is what the leader waits for: where batches are of time,
//! the segments of the query up to the fence; where the leader selects them, the jobs of the batch. A collection that
//! waits for reports that nobody has sent yet is held up by no job, and neither is one that has no batch yet.

use mica_dap::codec::Decode as _;
use mica_dap::collection::{CollectionJobReq, QueriedBatch};
use mica_dap::id::{BatchId, CollectionJobId};
use mica_dap::task::BatchMode;
use mica_dap::time::Interval;
use mica_service::store::{Fields, StoreError, Tx};
use sqlx::any::AnyRow;

use super::columns;
use super::scope::clamp;
use super::stuck::{MOST, StuckWork, Work, read};

/// A collection that is not asked for yet.
struct Waiting {
    id: CollectionJobId,
    task: i64,
    request: Vec<u8>,
    batch: Option<BatchId>,
    fence: i64,
    created_at: u64,
}

/// Which collections of these tasks wait for which stuck job, the oldest first; no more than there is room for.
pub(super) async fn by_jobs(tx: &mut Tx, first: i64, last: i64) -> Result<Vec<StuckWork>, StoreError> {
    let mut held = Vec::new();
    for waiting in waiting(tx, first, last).await? {
        let jobs = match (waiting.batch, interval(&waiting)?) {
            (Some(batch), _) => of_batch(tx, waiting.task, &batch).await?,
            (None, Some(interval)) => of_interval(tx, waiting.task, interval, waiting.fence).await?,
            (None, None) => Vec::new(),
        };
        for (job, in_doubt) in jobs {
            let Work::Aggregation(number, reports) = job.work else { continue };
            let work = Work::Waiting { collection: waiting.id, job: number, reports, in_doubt };
            held.push(StuckWork { work, since: job.since.max(waiting.created_at), ..job });
        }
    }
    held.truncate(usize::try_from(MOST).unwrap_or(usize::MAX));
    Ok(held)
}

/// What the collector asked for, where batches are of time; checked when it came.
fn interval(waiting: &Waiting) -> Result<Option<Interval>, StoreError> {
    let request = CollectionJobReq::decoded(&waiting.request)
        .map_err(|_| StoreError::corrupt("collection_jobs", "request"))?;
    Ok(match request.query().queried(BatchMode::TimeInterval) {
        Ok(QueriedBatch::TimeInterval(interval)) => Some(interval),
        _ => None,
    })
}

async fn waiting(tx: &mut Tx, first: i64, last: i64) -> Result<Vec<Waiting>, StoreError> {
    let rows = sqlx::query(
        "-- collections_beside_stuck_jobs
         SELECT id, task, request, batch_id, fence, created_at FROM collection_jobs
         WHERE state IN ('pending', 'closing') AND task BETWEEN $1 AND $2
           AND EXISTS (SELECT 1 FROM aggregation_jobs
                       WHERE task = collection_jobs.task AND state = 'active' AND reason IS NOT NULL)
         ORDER BY created_at, id LIMIT $3",
    )
    .bind(first)
    .bind(last)
    .bind(MOST)
    .fetch_all(tx.connection())
    .await?;
    rows.iter()
        .map(|row| {
            let fields = Fields::of("collection_jobs", row);
            Ok(Waiting {
                id: CollectionJobId::new(fields.array("id")?),
                task: fields.integer("task")?,
                request: fields.bytes("request")?,
                batch: columns::optional_array(&fields, "batch_id")?.map(BatchId::new),
                fence: fields.integer("fence")?,
                created_at: fields.unsigned("created_at")?,
            })
        })
        .collect()
}

async fn of_batch(tx: &mut Tx, task: i64, batch: &BatchId) -> Result<Vec<(StuckWork, bool)>, StoreError> {
    let rows = sqlx::query(
        "-- stuck_jobs_of_batch
         SELECT id, task, report_count, in_doubt, attempts, reason, last_error, waits_since FROM aggregation_jobs
         WHERE task = $1 AND batch_id = $2 AND state = 'active' AND reason IS NOT NULL
         ORDER BY waits_since, id LIMIT $3",
    )
    .bind(task)
    .bind(batch.as_bytes().as_slice())
    .bind(MOST)
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(read_job).collect()
}

async fn of_interval(
    tx: &mut Tx,
    task: i64,
    interval: Interval,
    fence: i64,
) -> Result<Vec<(StuckWork, bool)>, StoreError> {
    let rows = sqlx::query(
        "-- stuck_jobs_of_interval
         SELECT id, task, report_count, in_doubt, attempts, reason, last_error, waits_since FROM aggregation_jobs
         WHERE task = $1 AND state = 'active' AND reason IS NOT NULL
           AND EXISTS (SELECT 1 FROM segments
                       WHERE job = aggregation_jobs.id AND min_time < $3 AND max_time >= $2 AND segments.id <= $4)
         ORDER BY waits_since, id LIMIT $5",
    )
    .bind(task)
    .bind(clamp(interval.start()))
    .bind(clamp(interval.end()))
    .bind(fence)
    .bind(MOST)
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(read_job).collect()
}

/// A job, and whether the helper may have counted its reports.
fn read_job(row: &AnyRow) -> Result<(StuckWork, bool), StoreError> {
    let fields = Fields::of("aggregation_jobs", row);
    let work = Work::Aggregation(fields.integer("id")?, fields.unsigned("report_count")?);
    Ok((read(row, "aggregation_jobs", work)?, fields.integer("in_doubt")? != 0))
}
