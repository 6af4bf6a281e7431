//! What has been collected of a task: nothing may be added there, and nothing there is collected again.
//!
//! Writers hold [`super::tasks::lock_task`], those who look before they add hold [`super::tasks::share_task`]:
//! with neither, an answer is out of date at once.

use mica_dap::time::{Interval, Time};
use mica_service::store::{Fields, StoreError, Tx};

use super::Scope;
use super::scope::{between, clamp};

/// Closes what a query covers, empty buckets and all, for the release that collects it.
pub async fn close(tx: &mut Tx, task: i64, scope: impl Into<Scope>, release: i64) -> Result<(), StoreError> {
    let (batch, start, end) = scope.into().columns();
    sqlx::query(
        "-- close_interval
         INSERT INTO closed_intervals (task, batch_id, start_time, end_time, release_id)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(task)
    .bind(batch.as_slice())
    .bind(start)
    .bind(end)
    .bind(release)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Withdraws a closing that no release has followed; returns whether there was one.
pub async fn withdraw(tx: &mut Tx, task: i64, scope: impl Into<Scope>) -> Result<bool, StoreError> {
    let (batch, start, end) = scope.into().columns();
    let done = sqlx::query(
        "-- withdraw_closing
         DELETE FROM closed_intervals
         WHERE task = $1 AND batch_id = $2 AND start_time = $3 AND end_time = $4 AND release_id = $5",
    )
    .bind(task)
    .bind(batch.as_slice())
    .bind(start)
    .bind(end)
    .bind(CLOSING)
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Opens again what a release that is given up had closed; returns how many intervals that were.
pub async fn reopen(tx: &mut Tx, release: i64) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "-- reopen_interval
         DELETE FROM closed_intervals WHERE release_id = $1",
    )
    .bind(release)
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected())
}

/// Whether any part of `scope` is closed.
pub async fn overlapping(tx: &mut Tx, task: i64, scope: impl Into<Scope>) -> Result<bool, StoreError> {
    let (batch, start, end) = scope.into().columns();
    let row = sqlx::query(
        "-- overlapping_closed_interval
         SELECT release_id FROM closed_intervals
         WHERE task = $1 AND batch_id = $2 AND start_time < $4 AND end_time > $3 LIMIT 1",
    )
    .bind(task)
    .bind(batch.as_slice())
    .bind(start)
    .bind(end)
    .fetch_optional(tx.connection())
    .await?;
    Ok(row.is_some())
}

/// The closed intervals that hold any time from `first` through `last`, in order.
pub async fn closed_times(
    tx: &mut Tx,
    task: i64,
    first: Time,
    last: Time,
) -> Result<Vec<Interval>, StoreError> {
    times(tx, task, (first, last), CLOSING).await
}

/// As [`closed_times`], without those that still wait for what was accepted before they closed.
pub async fn released_times(
    tx: &mut Tx,
    task: i64,
    first: Time,
    last: Time,
) -> Result<Vec<Interval>, StoreError> {
    times(tx, task, (first, last), CLOSING + 1).await
}

async fn times(
    tx: &mut Tx,
    task: i64,
    (first, last): (Time, Time),
    least_release: i64,
) -> Result<Vec<Interval>, StoreError> {
    let rows = sqlx::query(
        "-- closed_times
         SELECT start_time, end_time FROM closed_intervals
         WHERE task = $1 AND batch_id = $2 AND start_time <= $4 AND end_time > $3 AND release_id >= $5
         ORDER BY start_time",
    )
    .bind(task)
    .bind([].as_slice())
    .bind(clamp(first))
    .bind(clamp(last))
    .bind(least_release)
    .fetch_all(tx.connection())
    .await?;
    rows.iter()
        .map(|row| {
            let fields = Fields::of("closed_intervals", row);
            between(fields.unsigned("start_time")?, fields.unsigned("end_time")?)
                .ok_or_else(|| fields.corrupt("end_time"))
        })
        .collect()
}

/// Stands for the release of an interval that takes no more reports while those under way are finished; the numbers of
/// releases are greater.
pub const CLOSING: i64 = 0;
