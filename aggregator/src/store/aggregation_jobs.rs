//! Leader: sets of reports that are verified with the helper in one exchange.
//!
//! A job is active until its output shares are in the buckets. Which reports take part is frozen before
//! anything is sent, so that every retry sends the same bytes.

use std::str::FromStr;

use mica_dap::id::BatchId;
use mica_service::store::{Fields, StoreError, Tx, signed};
use sqlx::any::AnyRow;

use super::columns::{self, found};
use super::lease::{LeaseRequest, LeaseToken};

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// To be worked on.
    Active,
    /// Its output shares are in the buckets.
    Finished,
}

/// A stored job.
#[derive(Clone)]
pub struct JobRow {
    /// The job.
    pub id: i64,
    /// The task.
    pub task: i64,
    /// The batch that all its reports are put in, where the leader selects it.
    pub batch: Option<BatchId>,
    /// How far it is.
    pub state: JobState,
    /// Bitmap over the reports of its segments: which were sent. None until frozen.
    pub included: Option<Vec<u8>>,
    /// How many reports its segments hold.
    pub report_count: u64,
    /// How often it was taken up, this time included.
    pub attempts: u64,
    /// Nobody else takes it up before.
    pub lease_until: u64,
    /// The path at which the helper keeps it.
    pub helper_location: Option<String>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// Whether the helper may have counted reports of it.
    pub in_doubt: bool,
    /// The helper's answers to the steps so far, for VDAFs of several rounds.
    pub answers: Option<Vec<u8>>,
    /// When it was formed.
    pub created_at: u64,
}

/// Why an attempt did not settle a job.
#[derive(Clone, Copy)]
pub struct Failure<'f> {
    /// In one word.
    pub reason: &'f str,
    /// For the operator.
    pub why: &'f str,
    /// When it ended.
    pub now: u64,
    /// Nobody takes the job up before.
    pub retry_at: u64,
    /// Whether the helper may have counted reports of the job.
    pub in_doubt: bool,
}

/// Forms a job that anybody may take up at once. Its batch, where the leader selects it, never changes.
pub async fn create(
    tx: &mut Tx,
    task: i64,
    batch: Option<&BatchId>,
    report_count: u64,
    created_at: u64,
) -> Result<i64, StoreError> {
    let row = sqlx::query(
        "-- create_aggregation_job
         INSERT INTO aggregation_jobs (task, state, batch_id, report_count, attempts, lease_until, created_at)
         VALUES ($1, 'active', $4, $2, 0, $3, $3)
         RETURNING id",
    )
    .bind(task)
    .bind(signed(report_count)?)
    .bind(signed(created_at)?)
    .bind(batch.map(|batch| batch.as_bytes().as_slice()))
    .fetch_one(tx.connection())
    .await?;
    Fields::of("aggregation_jobs", &row).integer("id")
}

/// Takes up the active job that has waited longest, if any may be taken up.
pub async fn lease(tx: &mut Tx, task: i64, request: LeaseRequest) -> Result<Option<JobRow>, StoreError> {
    let query = columns::for_update_skip_locked(
        tx,
        "-- lease_aggregation_job
         UPDATE aggregation_jobs SET attempts = attempts + 1, lease_until = $1, lease_token = $2
         WHERE id = (SELECT id FROM aggregation_jobs WHERE task = $4 AND state = 'active' AND lease_until <= $3
                     ORDER BY lease_until, id LIMIT 1",
        ")
         RETURNING *",
    );
    let row = sqlx::query(query)
        .bind(request.until()?)
        .bind(request.token.as_bytes().as_slice())
        .bind(signed(request.now)?)
        .bind(task)
        .fetch_optional(tx.connection())
        .await?;
    row.as_ref().map(read).transpose()
}

/// The tasks that have a job which is due, or segments without a job.
pub async fn tasks_with_work(tx: &mut Tx, now: u64) -> Result<Vec<i64>, StoreError> {
    let rows = sqlx::query(
        "-- tasks_with_aggregation_work
         SELECT task FROM aggregation_jobs WHERE state = 'active' AND lease_until <= $1
         UNION
         SELECT task FROM segments WHERE job IS NULL AND not_before <= $1",
    )
    .bind(signed(now)?)
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(|row| Fields::of("aggregation_jobs", row).integer("task")).collect()
}

/// The job of that identifier.
pub async fn by_id(tx: &mut Tx, job: i64) -> Result<Option<JobRow>, StoreError> {
    let row = sqlx::query(
        "-- aggregation_job_by_id
         SELECT * FROM aggregation_jobs WHERE id = $1",
    )
    .bind(job)
    .fetch_optional(tx.connection())
    .await?;
    row.as_ref().map(read).transpose()
}

/// Decides which reports take part, before the helper is asked. False when that was decided before, or the lease is lost.
pub async fn freeze(tx: &mut Tx, job: i64, token: LeaseToken, included: &[u8]) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- freeze_aggregation_job
         UPDATE aggregation_jobs SET included = $3
         WHERE id = $1 AND lease_token = $2 AND state = 'active' AND included IS NULL",
    )
    .bind(job)
    .bind(token.as_bytes().as_slice())
    .bind(included)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Decides the same for a job that is a part of another, whose reports were decided about already and may be sealed to
/// keys that are accepted no more.
pub async fn inherit(tx: &mut Tx, job: i64, included: &[u8]) -> Result<(), StoreError> {
    sqlx::query(
        "-- inherit_aggregation_job
         UPDATE aggregation_jobs SET included = $2 WHERE id = $1 AND included IS NULL",
    )
    .bind(job)
    .bind(included)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Notes that the helper may count reports of the job from now on. False when the lease is lost.
pub async fn set_in_doubt(tx: &mut Tx, job: i64, token: LeaseToken) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- set_aggregation_job_in_doubt
         UPDATE aggregation_jobs SET in_doubt = 1 WHERE id = $1 AND lease_token = $2 AND state = 'active'",
    )
    .bind(job)
    .bind(token.as_bytes().as_slice())
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Notes where the helper keeps the job, and its answers to the steps so far. False when the lease is lost.
pub async fn remember(
    tx: &mut Tx,
    job: i64,
    token: LeaseToken,
    (location, answers): (Option<&str>, Option<&[u8]>),
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- remember_aggregation_job_exchange
         UPDATE aggregation_jobs SET helper_location = $3, answers = $4
         WHERE id = $1 AND lease_token = $2 AND state = 'active'",
    )
    .bind(job)
    .bind(token.as_bytes().as_slice())
    .bind(location)
    .bind(answers)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Holds the job longer. False when the lease is lost.
pub async fn renew(tx: &mut Tx, job: i64, request: LeaseRequest) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- renew_aggregation_job_lease
         UPDATE aggregation_jobs SET lease_until = $3 WHERE id = $1 AND lease_token = $2 AND state = 'active'",
    )
    .bind(job)
    .bind(request.token.as_bytes().as_slice())
    .bind(request.until()?)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Gives the job back until it is due again, and notes why. False when the lease is lost.
pub async fn fail_attempt(
    tx: &mut Tx,
    job: i64,
    token: LeaseToken,
    failure: Failure<'_>,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- fail_aggregation_job_attempt
         UPDATE aggregation_jobs
         SET lease_until = $3, lease_token = NULL, last_error = $4, reason = $5, in_doubt = $6,
             waits_since = COALESCE(waits_since, $7)
         WHERE id = $1 AND lease_token = $2 AND state = 'active'",
    )
    .bind(job)
    .bind(token.as_bytes().as_slice())
    .bind(signed(failure.retry_at)?)
    .bind(failure.why)
    .bind(failure.reason)
    .bind(i64::from(failure.in_doubt))
    .bind(signed(failure.now)?)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Marks the job as settled and forgets what is of no use any more. False when the lease is lost or the job is
/// finished already: then nothing of it may be added to the buckets.
pub async fn finish(tx: &mut Tx, job: i64, token: LeaseToken) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- finish_aggregation_job
         UPDATE aggregation_jobs SET state = 'finished', included = NULL, answers = NULL, lease_token = NULL, last_error = NULL
         WHERE id = $1 AND lease_token = $2 AND state = 'active'",
    )
    .bind(job)
    .bind(token.as_bytes().as_slice())
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// How many jobs of the task are not settled.
pub async fn active_count(tx: &mut Tx, task: i64) -> Result<u64, StoreError> {
    let row = sqlx::query(
        "-- active_aggregation_jobs
         SELECT CAST(COUNT(*) AS BIGINT) AS jobs FROM aggregation_jobs WHERE state = 'active' AND task = $1",
    )
    .bind(task)
    .fetch_one(tx.connection())
    .await?;
    Fields::of("aggregation_jobs", &row).unsigned("jobs")
}

/// Whether a job that puts reports in the batch is not settled.
pub async fn under_way(tx: &mut Tx, task: i64, batch: &BatchId) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "-- aggregation_jobs_of_batch
         SELECT id FROM aggregation_jobs WHERE task = $1 AND batch_id = $2 AND state = 'active' LIMIT 1",
    )
    .bind(task)
    .bind(batch.as_bytes().as_slice())
    .fetch_optional(tx.connection())
    .await?;
    Ok(row.is_some())
}

/// Ends every lease, for a process that knows that it is the only one: whoever held them is dead. Jobs that
/// wait for another attempt may be taken up at once.
pub async fn release_all_leases(tx: &mut Tx) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "-- release_all_aggregation_job_leases
         UPDATE aggregation_jobs SET lease_until = 0, lease_token = NULL
         WHERE state = 'active' AND lease_until > 0",
    )
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected())
}

/// Forgets jobs that are settled and were formed before `before`, at most `limit` of them; returns how many.
pub async fn sweep_finished(tx: &mut Tx, before: u64, limit: u64) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "-- sweep_finished_aggregation_jobs
         DELETE FROM aggregation_jobs
         WHERE id IN (SELECT id FROM aggregation_jobs WHERE state = 'finished' AND created_at < $1
                      ORDER BY id LIMIT $2)",
    )
    .bind(signed(before)?)
    .bind(signed(limit)?)
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected())
}

fn read(row: &AnyRow) -> Result<JobRow, StoreError> {
    let fields = Fields::of("aggregation_jobs", row);
    Ok(JobRow {
        id: fields.integer("id")?,
        task: fields.integer("task")?,
        batch: columns::optional_array(&fields, "batch_id")?.map(BatchId::new),
        state: fields.parsed("state")?,
        included: fields.optional_bytes("included")?,
        report_count: fields.unsigned("report_count")?,
        attempts: fields.unsigned("attempts")?,
        lease_until: fields.unsigned("lease_until")?,
        helper_location: fields.column("helper_location")?,
        last_error: fields.column("last_error")?,
        in_doubt: fields.integer("in_doubt")? != 0,
        answers: fields.optional_bytes("answers")?,
        created_at: fields.unsigned("created_at")?,
    })
}

impl FromStr for JobState {
    type Err = columns::UnknownState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        columns::state(text, &[Self::Active, Self::Finished], |state| match state {
            Self::Active => "active",
            Self::Finished => "finished",
        })
    }
}
