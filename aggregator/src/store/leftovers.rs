//! Leader: jobs and shares that the helper keeps and nobody here needs any more (DAP 4.5.5, 4.6.5).
//!
//! Noted in the transaction that makes them needless, so that the helper is never asked to forget what may have to be
//! asked for again. Nobody holds a lease on them: to be asked twice does the helper no harm.

use mica_service::store::{Fields, StoreError, Tx, signed};
use sqlx::any::AnyRow;

/// Something that the helper keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Its number here.
    pub id: i64,
    /// Where the helper keeps it.
    pub url: String,
    /// How often the helper was asked and did not do it.
    pub attempts: u64,
}

/// Notes that what the helper keeps there is not needed any more.
pub async fn insert(tx: &mut Tx, task: i64, url: &str, now: u64) -> Result<(), StoreError> {
    sqlx::query(
        "-- insert_leftover
         INSERT INTO leftovers (task, url, attempts, next_try_at) VALUES ($1, $2, 0, $3)",
    )
    .bind(task)
    .bind(url)
    .bind(signed(now)?)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// The tasks that have some which are due.
pub async fn tasks_with_work(tx: &mut Tx, now: u64) -> Result<Vec<i64>, StoreError> {
    let rows = sqlx::query(
        "-- tasks_with_leftovers
         SELECT DISTINCT task FROM leftovers WHERE next_try_at <= $1",
    )
    .bind(signed(now)?)
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(|row| Fields::of("leftovers", row).integer("task")).collect()
}

/// Those of the task that are due, the oldest first, at most `limit`.
pub async fn due(tx: &mut Tx, task: i64, now: u64, limit: u64) -> Result<Vec<Leftover>, StoreError> {
    let rows = sqlx::query(
        "-- due_leftovers
         SELECT id, url, attempts FROM leftovers WHERE task = $1 AND next_try_at <= $2 ORDER BY id LIMIT $3",
    )
    .bind(task)
    .bind(signed(now)?)
    .bind(signed(limit)?)
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(read).collect()
}

/// Lets one of them rest until `next_try_at`, after another attempt that came to nothing.
pub async fn put_off(tx: &mut Tx, id: i64, next_try_at: u64) -> Result<(), StoreError> {
    sqlx::query(
        "-- put_off_leftover
         UPDATE leftovers SET attempts = attempts + 1, next_try_at = $2 WHERE id = $1",
    )
    .bind(id)
    .bind(signed(next_try_at)?)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Forgets all of a task: the helper is not asked any more.
pub async fn delete_of_task(tx: &mut Tx, task: i64) -> Result<(), StoreError> {
    sqlx::query(
        "-- delete_leftovers_of_task
         DELETE FROM leftovers WHERE task = $1",
    )
    .bind(task)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Forgets one of them: the helper has, or is not asked any more.
pub async fn delete(tx: &mut Tx, id: i64) -> Result<(), StoreError> {
    sqlx::query(
        "-- delete_leftover
         DELETE FROM leftovers WHERE id = $1",
    )
    .bind(id)
    .execute(tx.connection())
    .await?;
    Ok(())
}

fn read(row: &AnyRow) -> Result<Leftover, StoreError> {
    let fields = Fields::of("leftovers", row);
    Ok(Leftover {
        id: fields.integer("id")?,
        url: fields.text("url")?,
        attempts: fields.unsigned("attempts")?,
    })
}
