//! Leader: reports as they were received, many to a row, from the upload until their output shares are in the
//! buckets.

use std::fmt::Write as _;

use mica_dap::time::{Interval, Time};
use mica_service::store::{Fields, StoreError, Tx, signed};
use sqlx::any::AnyRow;

use super::columns::found;
use super::scope::clamp;

/// Reports that were accepted together.
#[derive(Clone)]
pub struct NewSegment {
    /// The task.
    pub task: i64,
    /// How many reports are inside.
    pub report_count: u64,
    /// The time of the earliest.
    pub min_time: Time,
    /// The time of the latest.
    pub max_time: Time,
    /// The reports, encoded, one after the other.
    pub reports: Vec<u8>,
    /// When they were accepted.
    pub created_at: u64,
}

impl NewSegment {
    /// A segment of these encoded reports, each with its time; nothing when there are none.
    pub fn of(task: i64, reports: &[(Time, &[u8])], created_at: u64) -> Option<Self> {
        let times = || reports.iter().map(|(time, _)| *time);
        Some(Self {
            task,
            report_count: reports.len() as u64,
            min_time: times().min()?,
            max_time: times().max()?,
            reports: reports.iter().map(|(_, bytes)| *bytes).collect::<Vec<_>>().concat(),
            created_at,
        })
    }
}

/// What there is to know about a segment without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHead {
    /// The segment; grows with time.
    pub id: i64,
    /// How many reports are inside.
    pub report_count: u64,
    /// How many bytes they take.
    pub bytes: u64,
    /// The time of the earliest.
    pub min_time: Time,
    /// The time of the latest.
    pub max_time: Time,
    /// When they were accepted.
    pub created_at: u64,
    /// Whether they were in a job before.
    pub again: bool,
}

/// A segment of a job.
#[derive(Clone)]
pub struct Segment {
    /// The segment.
    pub id: i64,
    /// How many reports are inside.
    pub report_count: u64,
    /// The reports, encoded, one after the other.
    pub reports: Vec<u8>,
    /// Before this they were not to be sent; 0 unless they were in a job before.
    pub not_before: u64,
    /// When they were accepted.
    pub created_at: u64,
}

/// Stores a segment and returns its identifier.
pub async fn insert_segment(tx: &mut Tx, segment: &NewSegment) -> Result<i64, StoreError> {
    let row = sqlx::query(
        "-- insert_segment
         INSERT INTO segments (task, report_count, min_time, max_time, reports, created_at)
         VALUES ($1, $2, $3, $4, $5, $6)
         RETURNING id",
    )
    .bind(segment.task)
    .bind(signed(segment.report_count)?)
    .bind(signed(segment.min_time.0)?)
    .bind(signed(segment.max_time.0)?)
    .bind(segment.reports.as_slice())
    .bind(signed(segment.created_at)?)
    .fetch_one(tx.connection())
    .await?;
    Fields::of("segments", &row).integer("id")
}

/// Keeps a segment from being sent before `not_before`.
pub async fn postpone(tx: &mut Tx, segment: i64, not_before: u64) -> Result<(), StoreError> {
    sqlx::query(
        "-- postpone_segment
         UPDATE segments SET not_before = $2 WHERE id = $1",
    )
    .bind(segment)
    .bind(signed(not_before)?)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// The oldest segments of a task that belong to no job and may be sent, at most `limit`.
pub async fn unassigned(
    tx: &mut Tx,
    task: i64,
    now: u64,
    limit: u64,
) -> Result<Vec<SegmentHead>, StoreError> {
    let rows = sqlx::query(
        "-- unassigned_segments
         SELECT id, report_count, CAST(length(reports) AS BIGINT) AS bytes, min_time, max_time, created_at, not_before
         FROM segments WHERE task = $1 AND job IS NULL AND not_before <= $3 ORDER BY id LIMIT $2",
    )
    .bind(task)
    .bind(signed(limit)?)
    .bind(signed(now)?)
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(read_head).collect()
}

/// The tasks that have segments without a job.
pub async fn tasks_with_unassigned(tx: &mut Tx) -> Result<Vec<i64>, StoreError> {
    let rows = sqlx::query(
        "-- tasks_with_unassigned_segments
         SELECT DISTINCT task FROM segments WHERE job IS NULL ORDER BY task",
    )
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(|row| Fields::of("segments", row).integer("task")).collect()
}

/// Gives segments to a job and returns how many it got: fewer than asked for when somebody else was faster,
/// and then the caller must roll back.
pub async fn assign(tx: &mut Tx, job: i64, segments: &[i64]) -> Result<u64, StoreError> {
    let mut sorted = segments.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut rows = 0;
    for chunk in sorted.chunks(CHUNK) {
        rows += sqlx::query(
            "-- assign_segments
             WITH RECURSIVE position (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM position WHERE n + 1 < $3)
             UPDATE segments SET job = $1
             WHERE job IS NULL
               AND id IN (SELECT CAST(substr($2, n * 20 + 1, 20) AS BIGINT) FROM position WHERE n < $3)",
        )
        .bind(job)
        .bind(list(chunk).as_str())
        .bind(signed(chunk.len() as u64)?)
        .execute(tx.connection())
        .await?
        .rows_affected();
    }
    Ok(rows)
}

/// The segments of a job with their reports, in the order they were accepted: always the same.
pub async fn of_job(tx: &mut Tx, job: i64) -> Result<Vec<Segment>, StoreError> {
    let rows = sqlx::query(
        "-- segments_of_job
         SELECT id, report_count, reports, not_before, created_at FROM segments WHERE job = $1 ORDER BY id",
    )
    .bind(job)
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(read).collect()
}

/// The segment of that number with its reports, if it belongs to no job.
pub async fn waiting(tx: &mut Tx, segment: i64) -> Result<Option<Segment>, StoreError> {
    let row = sqlx::query(
        "-- waiting_segment
         SELECT id, report_count, reports, not_before, created_at FROM segments WHERE id = $1 AND job IS NULL",
    )
    .bind(segment)
    .fetch_optional(tx.connection())
    .await?;
    row.as_ref().map(read).transpose()
}

/// Leaves in a segment that belongs to no job what `rest` says, in its old place in the order. False when it belongs to a
/// job.
pub async fn cut(tx: &mut Tx, segment: i64, rest: &NewSegment) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- cut_segment
         UPDATE segments SET report_count = $2, min_time = $3, max_time = $4, reports = $5
         WHERE id = $1 AND job IS NULL",
    )
    .bind(segment)
    .bind(signed(rest.report_count)?)
    .bind(signed(rest.min_time.0)?)
    .bind(signed(rest.max_time.0)?)
    .bind(rest.reports.as_slice())
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Drops a segment that belongs to no job and whose reports are all in others by now. False when it belongs to a job.
pub async fn drop_waiting(tx: &mut Tx, segment: i64) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- drop_waiting_segment
         DELETE FROM segments WHERE id = $1 AND job IS NULL",
    )
    .bind(segment)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Forgets the reports of a job that is settled; returns how many segments there were.
pub async fn delete_of_job(tx: &mut Tx, job: i64) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "-- delete_segments_of_job
         DELETE FROM segments WHERE job = $1",
    )
    .bind(job)
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected())
}

/// Whether any report that may lie in `interval` is not in the buckets yet.
pub async fn unsettled(tx: &mut Tx, task: i64, interval: Interval) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "-- unsettled_segments
         SELECT id FROM segments WHERE task = $1 AND min_time < $3 AND max_time >= $2 LIMIT 1",
    )
    .bind(task)
    .bind(clamp(interval.start()))
    .bind(clamp(interval.end()))
    .fetch_optional(tx.connection())
    .await?;
    Ok(row.is_some())
}

/// As [`unsettled`], counting no segment newer than `fence`.
pub async fn unsettled_until(
    tx: &mut Tx,
    task: i64,
    interval: Interval,
    fence: i64,
) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "-- unsettled_segments_until
         SELECT id FROM segments WHERE task = $1 AND min_time < $3 AND max_time >= $2 AND id <= $4 LIMIT 1",
    )
    .bind(task)
    .bind(clamp(interval.start()))
    .bind(clamp(interval.end()))
    .bind(fence)
    .fetch_optional(tx.connection())
    .await?;
    Ok(row.is_some())
}

/// The newest segment of the task; 0 when none waits or is under way.
pub async fn newest(tx: &mut Tx, task: i64) -> Result<i64, StoreError> {
    let row = sqlx::query(
        "-- newest_segment
         SELECT CAST(COALESCE(MAX(id), 0) AS BIGINT) AS newest FROM segments WHERE task = $1",
    )
    .bind(task)
    .fetch_one(tx.connection())
    .await?;
    Fields::of("segments", &row).integer("newest")
}

fn read_head(row: &AnyRow) -> Result<SegmentHead, StoreError> {
    let fields = Fields::of("segments", row);
    Ok(SegmentHead {
        id: fields.integer("id")?,
        report_count: fields.unsigned("report_count")?,
        bytes: fields.unsigned("bytes")?,
        min_time: Time(fields.unsigned("min_time")?),
        max_time: Time(fields.unsigned("max_time")?),
        created_at: fields.unsigned("created_at")?,
        again: fields.unsigned("not_before")? > 0,
    })
}

fn read(row: &AnyRow) -> Result<Segment, StoreError> {
    let fields = Fields::of("segments", row);
    Ok(Segment {
        id: fields.integer("id")?,
        report_count: fields.unsigned("report_count")?,
        reports: fields.bytes("reports")?,
        not_before: fields.unsigned("not_before")?,
        created_at: fields.unsigned("created_at")?,
    })
}

/// Numbers of equal length, one after the other: a statement of many values that is always the same text.
fn list(ids: &[i64]) -> String {
    ids.iter().fold(String::with_capacity(ids.len() * 20), |mut list, id| {
        write!(list, "{id:020}").expect("a string can always be written to");
        list
    })
}

/// Bounds the size of one statement's value.
const CHUNK: usize = 8_192;
