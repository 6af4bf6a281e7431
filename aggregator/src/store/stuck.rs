//! Leader: work that is not settled, with the reason that was noted when it was last tried; and the way to give it up.
//!
//! For operators. It tells jobs apart by their numbers and never reads a report.

use std::fmt;

use mica_dap::id::{BatchId, CollectionJobId};
use mica_service::store::{Fields, StoreError, Tx, signed};
use sqlx::any::AnyRow;

use super::lease::LeaseToken;
use super::{held_up, leftovers, segments, tallies};

/// A job or a collection that was tried and is not settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StuckWork {
    /// The task.
    pub task: i64,
    /// What it is.
    pub work: Work,
    /// Why the last attempt did not settle it, in one word.
    pub reason: String,
    /// The same for people.
    pub why: String,
    /// How often it was tried.
    pub attempts: u64,
    /// Since when it waits, in seconds since the Unix epoch.
    pub since: u64,
}

/// A piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// An aggregation job, and how many reports it holds.
    Aggregation(i64, u64),
    /// A collection.
    Collection(CollectionJobId),
    /// A collection that waits for an aggregation job; what is noted is noted of the job.
    Waiting {
        /// The collection.
        collection: CollectionJobId,
        /// The job.
        job: i64,
        /// How many reports the job holds.
        reports: u64,
        /// Whether the helper may have counted them.
        in_doubt: bool,
    },
    /// A batch of the leader's choice that can never be released; its reports are lost.
    Batch(BatchId),
}

impl fmt::Display for StuckWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.work {
            Work::Aggregation(job, reports) => write!(f, "job {job} ({reports} reports)")?,
            Work::Collection(id) => write!(f, "collection {id}")?,
            Work::Waiting { collection, job, reports, .. } => {
                write!(f, "collection {collection} waits for job {job} ({reports} reports)")?;
            }
            Work::Batch(id) => write!(f, "batch {id}")?,
        }
        write!(f, " {}, tried {} times: {}", self.reason, self.attempts, self.why)
    }
}

/// What is stuck in the tasks from the first number to the last, longest first: jobs, collections,
/// collections that wait for one of the jobs, lost batches.
pub async fn between(tx: &mut Tx, first: i64, last: i64) -> Result<Vec<StuckWork>, StoreError> {
    let rows = sqlx::query(
        "-- stuck_aggregation_jobs
         SELECT id, task, report_count, attempts, reason, last_error, waits_since FROM aggregation_jobs
         WHERE state = 'active' AND reason IS NOT NULL AND task BETWEEN $1 AND $2 ORDER BY waits_since, id LIMIT $3",
    )
    .bind(first)
    .bind(last)
    .bind(MOST)
    .fetch_all(tx.connection())
    .await?;
    let jobs = rows.iter().map(|row| {
        let fields = Fields::of("aggregation_jobs", row);
        read(
            row,
            "aggregation_jobs",
            Work::Aggregation(fields.integer("id")?, fields.unsigned("report_count")?),
        )
    });
    let mut stuck = jobs.collect::<Result<Vec<_>, StoreError>>()?;
    let rows = sqlx::query(
        "-- stuck_collection_jobs
         SELECT id, task, attempts, reason, last_error, waits_since FROM collection_jobs
         WHERE state IN ('pending', 'closing', 'reserved', 'abandoned') AND reason IS NOT NULL
           AND task BETWEEN $1 AND $2
         ORDER BY waits_since LIMIT $3",
    )
    .bind(first)
    .bind(last)
    .bind(MOST)
    .fetch_all(tx.connection())
    .await?;
    for row in &rows {
        let id = CollectionJobId::new(Fields::of("collection_jobs", row).array("id")?);
        stuck.push(read(row, "collection_jobs", Work::Collection(id))?);
    }
    stuck.extend(held_up::by_jobs(tx, first, last).await?);
    stuck.extend(lost(tx, first, last).await?);
    Ok(stuck)
}

/// The batches that can never be released, the oldest first.
async fn lost(tx: &mut Tx, first: i64, last: i64) -> Result<Vec<StuckWork>, StoreError> {
    let rows = sqlx::query(
        "-- lost_batches
         SELECT task, batch_id, refusals, last_problem, created_at FROM batches
         WHERE state = 'failed' AND task BETWEEN $1 AND $2 ORDER BY id LIMIT $3",
    )
    .bind(first)
    .bind(last)
    .bind(MOST)
    .fetch_all(tx.connection())
    .await?;
    rows.iter()
        .map(|row| {
            let fields = Fields::of("batches", row);
            Ok(StuckWork {
                task: fields.integer("task")?,
                work: Work::Batch(BatchId::new(fields.array("batch_id")?)),
                reason: LOST.to_owned(),
                why: fields.column::<Option<String>>("last_problem")?.unwrap_or_default(),
                attempts: fields.unsigned("refusals")?,
                since: fields.unsigned("created_at")?,
            })
        })
        .collect()
}

/// Notes why a collection could not be settled. False when the lease is lost. Attempts are counted anew when the helper
/// begins not to know the task: how often it has said so in a row decides when it is believed.
pub async fn note_collection(
    tx: &mut Tx,
    id: &CollectionJobId,
    token: LeaseToken,
    (reason, why, now): (&str, &str, u64),
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- note_stuck_collection_job
         UPDATE collection_jobs SET reason = $3, last_error = $4, waits_since = COALESCE(waits_since, $5),
             attempts = CASE WHEN $3 = 'unknown_task' AND COALESCE(reason, '') <> 'unknown_task' THEN 1
                             ELSE attempts END
         WHERE id = $1 AND lease_token = $2",
    )
    .bind(id.as_bytes().as_slice())
    .bind(token.as_bytes().as_slice())
    .bind(reason)
    .bind(why)
    .bind(signed(now)?)
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Forgets what went wrong with a collection that only waits, and that nobody is working on. False when there is none.
pub async fn forget_collection(tx: &mut Tx, id: &CollectionJobId, now: u64) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- forget_trouble_of_collection
         UPDATE collection_jobs SET reason = NULL, last_error = NULL, waits_since = NULL, attempts = 0
         WHERE id = $1 AND state IN ('pending', 'closing') AND lease_until <= $2",
    )
    .bind(id.as_bytes().as_slice())
    .bind(signed(now)?)
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Makes an aggregation job that waits for its next try due at once. False when there is no such job.
pub async fn retry_job(tx: &mut Tx, job: i64) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- retry_aggregation_job_now
         UPDATE aggregation_jobs SET lease_until = 0 WHERE id = $1 AND state = 'active' AND lease_token IS NULL",
    )
    .bind(job)
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Makes all aggregation jobs due at once that wait for their next try. How many there are.
pub async fn retry_jobs(tx: &mut Tx, now: u64) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "-- retry_aggregation_jobs_now
         UPDATE aggregation_jobs SET lease_until = 0
         WHERE state = 'active' AND lease_token IS NULL AND lease_until > $1",
    )
    .bind(signed(now)?)
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected())
}

/// Makes collections due at once that wait for their next try: one, or all of them. How many there are.
pub async fn retry_collections(
    tx: &mut Tx,
    only: Option<&CollectionJobId>,
    now: u64,
) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "-- retry_collection_jobs_now
         UPDATE collection_jobs SET next_try_at = $1
         WHERE state IN ('pending', 'closing', 'reserved', 'abandoned') AND lease_token IS NULL
           AND next_try_at > $1 AND (id = $2 OR $3 = 1)",
    )
    .bind(signed(now)?)
    .bind(only.map_or([].as_slice(), |id| id.as_bytes().as_slice()))
    .bind(i64::from(only.is_none()))
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected())
}

/// Gives a job up that nobody is working on: its reports are dropped and counted as such. Nothing when there is no such
/// job, or somebody works on it.
///
/// The helper is told to forget the job, if it said where it keeps it (DAP 4.5.5). Where it has counted its reports, the two aggregators cannot agree on their batch any more. Only a person can
/// weigh that.
pub async fn abandon(tx: &mut Tx, job: i64) -> Result<Option<u64>, StoreError> {
    let row = sqlx::query(
        "-- abandon_aggregation_job
         UPDATE aggregation_jobs SET state = 'finished', answers = NULL, last_error = NULL
         WHERE id = $1 AND state = 'active' AND lease_token IS NULL
         RETURNING task, included, report_count, helper_location",
    )
    .bind(job)
    .fetch_optional(tx.connection())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let fields = Fields::of("aggregation_jobs", &row);
    // What was not included has met its end, and was counted, when the job was frozen.
    let included = fields.optional_bytes("included")?;
    let reports = match included {
        Some(bitmap) => bitmap.iter().map(|byte| u64::from(byte.count_ones())).sum(),
        None => fields.unsigned("report_count")?,
    };
    let task = fields.integer("task")?;
    tallies::add(tx, task, &[(ABANDONED, reports)]).await?;
    if let Some(url) = fields.column::<Option<String>>("helper_location")? {
        let place = url.split_once('?').map_or(url.as_str(), |(place, _)| place);
        leftovers::insert(tx, task, place, 0).await?;
    }
    segments::delete_of_job(tx, job).await?;
    Ok(Some(reports))
}

/// Forgets the jobs of a task that nobody is working on.
pub async fn drop_jobs(tx: &mut Tx, task: i64, now: u64) -> Result<(), StoreError> {
    sqlx::query(
        "-- drop_jobs_of_task
         DELETE FROM aggregation_jobs WHERE task = $1 AND lease_until <= $2",
    )
    .bind(task)
    .bind(signed(now)?)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Ends the collections of a task that nobody is working on. What was charged for them stays charged.
pub async fn drop_collections(tx: &mut Tx, task: i64, now: u64) -> Result<(), StoreError> {
    sqlx::query(
        "-- drop_collections_of_task
         UPDATE collection_jobs SET state = 'deleted', lease_token = NULL
         WHERE task = $1 AND state IN ('pending', 'closing', 'reserved', 'abandoned') AND lease_until <= $2",
    )
    .bind(task)
    .bind(signed(now)?)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Drops the reports of a task that are in no job, and returns how many they were.
pub async fn drop_reports(tx: &mut Tx, task: i64) -> Result<u64, StoreError> {
    let rows = sqlx::query(
        "-- drop_reports_of_task
         DELETE FROM segments
         WHERE task = $1 AND (job IS NULL OR job NOT IN (SELECT id FROM aggregation_jobs WHERE task = $1))
         RETURNING report_count",
    )
    .bind(task)
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(|row| Fields::of("segments", row).unsigned("report_count")).sum()
}

pub(super) fn read(row: &AnyRow, table: &'static str, work: Work) -> Result<StuckWork, StoreError> {
    let fields = Fields::of(table, row);
    Ok(StuckWork {
        task: fields.integer("task")?,
        work,
        reason: fields.text("reason")?,
        why: fields.column::<Option<String>>("last_error")?.unwrap_or_default(),
        attempts: fields.unsigned("attempts")?,
        since: fields.unsigned("waits_since")?,
    })
}

/// The tally of reports that an operator has given up.
pub const ABANDONED: &str = "abandoned";

/// The word for a batch that can never be released.
const LOST: &str = "lost";

/// The most of each kind that are listed.
pub(super) const MOST: i64 = 200;
