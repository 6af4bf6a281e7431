//! Sums of verified reports, not noised yet. What is in here is summed over at least one job, but it is not safe to
//! show: it leaves only through a release, which scrubs it.
//!
//! A bucket is one row on SQLite, where writers are never concurrent. On PostgreSQL it is spread over up to
//! [`SHARDS`] rows, so that jobs of the same bucket seldom wait for each other.

use std::collections::BTreeMap;

use mica_dap::batch::{BucketId, Checksum};
use mica_dap::id::BatchId;
use mica_dap::time::Time;
use mica_service::store::{Dialect, Fields, StoreError, Tx, signed};
use sqlx::any::AnyRow;

use super::Scope;
use super::columns::{self, found};

/// How many rows a bucket is spread over at most.
pub(crate) const SHARDS: i64 = 8;

/// What one job adds to one bucket.
#[derive(Clone)]
pub(crate) struct BucketDelta {
    /// The bucket.
    pub(crate) bucket: BucketId,
    /// The sum of the job's output shares there, encoded.
    pub(crate) share: Vec<u8>,
    /// How many reports are summed.
    pub(crate) report_count: u64,
    /// The checksum over their identifiers.
    pub(crate) checksum: Checksum,
    /// The time of the earliest.
    pub(crate) min_time: Time,
    /// The time of the latest.
    pub(crate) max_time: Time,
}

/// A stored part of a bucket.
#[derive(Clone)]
pub(crate) struct BucketRow {
    /// The bucket.
    pub(crate) bucket: BucketId,
    /// The share of the sum, encoded; None once it is scrubbed.
    pub(crate) share: Option<Vec<u8>>,
    /// How many reports are summed.
    pub(crate) report_count: u64,
    /// The checksum over their identifiers.
    pub(crate) checksum: Checksum,
    /// The time of the earliest.
    pub(crate) min_time: Time,
    /// The time of the latest.
    pub(crate) max_time: Time,
}

/// Adds what a job found to the buckets of its task: one update per bucket, in ascending order. `merge` adds two
/// encoded shares. The caller holds [`super::tasks::share_task`] and has left out what is closed; a bucket that
/// was scrubbed all the same is a `Conflict`.
pub(crate) async fn add<E>(
    tx: &mut Tx,
    task: i64,
    deltas: &[BucketDelta],
    merge: impl Fn(&[u8], &[u8]) -> Result<Vec<u8>, E> + Send + Sync,
) -> Result<(), StoreError> {
    let shard = match tx.dialect() {
        Dialect::Sqlite => 0,
        Dialect::Postgres => rand::random_range(0..SHARDS),
    };
    let mut sums: BTreeMap<BucketId, BucketDelta> = BTreeMap::new();
    for delta in deltas {
        let sum = match sums.remove(&delta.bucket) {
            Some(sum) => sum.plus(delta, &merge)?,
            None => delta.clone(),
        };
        sums.insert(delta.bucket, sum);
    }
    for delta in sums.into_values() {
        add_one(tx, task, shard, &delta, &merge).await?;
    }
    Ok(())
}

/// Every stored part of the buckets of `scope`.
pub(crate) async fn totals(
    tx: &mut Tx,
    task: i64,
    scope: impl Into<Scope>,
) -> Result<Vec<BucketRow>, StoreError> {
    let (batch, start, end) = scope.into().columns();
    let rows = sqlx::query(
        "-- bucket_totals
         SELECT * FROM buckets WHERE task = $1 AND batch_id = $2 AND time >= $3 AND time < $4
         ORDER BY time, shard",
    )
    .bind(task)
    .bind(batch.as_slice())
    .bind(start)
    .bind(end)
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(read).collect()
}

/// How many reports the buckets of `scope` sum.
pub async fn report_count(tx: &mut Tx, task: i64, scope: impl Into<Scope>) -> Result<u64, StoreError> {
    let (batch, start, end) = scope.into().columns();
    let row = sqlx::query(
        "-- bucket_report_count
         SELECT CAST(COALESCE(SUM(report_count), 0) AS BIGINT) AS report_count
         FROM buckets WHERE task = $1 AND batch_id = $2 AND time >= $3 AND time < $4",
    )
    .bind(task)
    .bind(batch.as_slice())
    .bind(start)
    .bind(end)
    .fetch_one(tx.connection())
    .await?;
    Fields::of("buckets", &row).unsigned("report_count")
}

/// Forgets the shares of `scope`; counts and checksums stay. Returns how many parts there were.
pub(crate) async fn scrub(tx: &mut Tx, task: i64, scope: impl Into<Scope>) -> Result<u64, StoreError> {
    let (batch, start, end) = scope.into().columns();
    let done = sqlx::query(
        "-- scrub_buckets
         UPDATE buckets SET share = NULL
         WHERE task = $1 AND batch_id = $2 AND time >= $3 AND time < $4 AND share IS NOT NULL",
    )
    .bind(task)
    .bind(batch.as_slice())
    .bind(start)
    .bind(end)
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected())
}

async fn add_one<E>(
    tx: &mut Tx,
    task: i64,
    shard: i64,
    delta: &BucketDelta,
    merge: impl Fn(&[u8], &[u8]) -> Result<Vec<u8>, E> + Send + Sync,
) -> Result<(), StoreError> {
    for _ in 0..ATTEMPTS {
        match locked(tx, task, delta.bucket, shard).await? {
            Some(stored) => return update(tx, task, shard, &stored.unscrubbed()?.plus(delta, &merge)?).await,
            None if insert(tx, task, shard, delta).await? => return Ok(()),
            // Somebody else inserted it a moment ago and has committed by now, or another shard is scrubbed.
            None => {}
        }
    }
    Err(scrubbed())
}

async fn locked(
    tx: &mut Tx,
    task: i64,
    bucket: BucketId,
    shard: i64,
) -> Result<Option<BucketRow>, StoreError> {
    let query = columns::for_update(
        tx,
        "-- lock_bucket
         SELECT * FROM buckets WHERE task = $1 AND batch_id = $2 AND time = $3 AND shard = $4",
    );
    let (batch, time) = key(&bucket)?;
    let row = sqlx::query(query)
        .bind(task)
        .bind(batch)
        .bind(time)
        .bind(shard)
        .fetch_optional(tx.connection())
        .await?;
    row.as_ref().map(read).transpose()
}

async fn insert(tx: &mut Tx, task: i64, shard: i64, sum: &BucketDelta) -> Result<bool, StoreError> {
    let (batch, time) = key(&sum.bucket)?;
    let done = sqlx::query(
        "-- insert_bucket
         INSERT INTO buckets (task, batch_id, time, shard, share, report_count, checksum, min_time, max_time)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9
         WHERE NOT EXISTS (SELECT 1 FROM buckets
                           WHERE task = $1 AND batch_id = $2 AND time = $3 AND share IS NULL)
         ON CONFLICT (task, batch_id, time, shard) DO NOTHING",
    )
    .bind(task)
    .bind(batch)
    .bind(time)
    .bind(shard)
    .bind(sum.share.as_slice())
    .bind(signed(sum.report_count)?)
    .bind(sum.checksum.as_bytes().as_slice())
    .bind(signed(sum.min_time.0)?)
    .bind(signed(sum.max_time.0)?)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

async fn update(tx: &mut Tx, task: i64, shard: i64, sum: &BucketDelta) -> Result<(), StoreError> {
    let (batch, time) = key(&sum.bucket)?;
    let done = sqlx::query(
        "-- update_bucket
         UPDATE buckets SET share = $5, report_count = $6, checksum = $7, min_time = $8, max_time = $9
         WHERE task = $1 AND batch_id = $2 AND time = $3 AND shard = $4 AND share IS NOT NULL",
    )
    .bind(task)
    .bind(batch)
    .bind(time)
    .bind(shard)
    .bind(sum.share.as_slice())
    .bind(signed(sum.report_count)?)
    .bind(sum.checksum.as_bytes().as_slice())
    .bind(signed(sum.min_time.0)?)
    .bind(signed(sum.max_time.0)?)
    .execute(tx.connection())
    .await?;
    if found(done.rows_affected()) { Ok(()) } else { Err(scrubbed()) }
}

impl BucketDelta {
    fn plus<E>(
        &self,
        other: &Self,
        merge: impl Fn(&[u8], &[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            bucket: self.bucket,
            share: merge(&self.share, &other.share).map_err(|_| StoreError::corrupt("buckets", "share"))?,
            report_count: self.report_count.checked_add(other.report_count).ok_or(StoreError::OutOfRange)?,
            checksum: self.checksum.combine(other.checksum),
            min_time: self.min_time.min(other.min_time),
            max_time: self.max_time.max(other.max_time),
        })
    }
}

impl BucketRow {
    fn unscrubbed(self) -> Result<BucketDelta, StoreError> {
        let Self { bucket, share, report_count, checksum, min_time, max_time } = self;
        let share = share.ok_or_else(scrubbed)?;
        Ok(BucketDelta { bucket, share, report_count, checksum, min_time, max_time })
    }
}

fn key(bucket: &BucketId) -> Result<(&[u8], i64), StoreError> {
    match bucket {
        BucketId::TimeInterval(time) => Ok((&[], signed(time.0)?)),
        BucketId::LeaderSelected(batch) => Ok((batch.as_bytes(), 0)),
    }
}

fn read(row: &AnyRow) -> Result<BucketRow, StoreError> {
    let fields = Fields::of("buckets", row);
    let batch = fields.bytes("batch_id")?;
    let bucket = if batch.is_empty() {
        BucketId::TimeInterval(Time(fields.unsigned("time")?))
    } else {
        BucketId::LeaderSelected(BatchId::from_slice(&batch).ok_or_else(|| fields.corrupt("batch_id"))?)
    };
    Ok(BucketRow {
        bucket,
        share: fields.optional_bytes("share")?,
        report_count: fields.unsigned("report_count")?,
        checksum: Checksum::new(fields.array("checksum")?),
        min_time: Time(fields.unsigned("min_time")?),
        max_time: Time(fields.unsigned("max_time")?),
    })
}

fn scrubbed() -> StoreError {
    StoreError::Conflict { constraint: "a bucket that has been collected takes no more reports".to_owned() }
}

const ATTEMPTS: usize = 3;
