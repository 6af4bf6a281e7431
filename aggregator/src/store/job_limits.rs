//! Leader: how large the jobs of a task may be, learnt from a helper that refused larger ones.

use mica_service::store::{Fields, StoreError, Tx, signed};

/// Notes that the helper refused a request of more than `bytes`; what was learnt before counts if it is smaller and as
/// fresh.
pub async fn learn(tx: &mut Tx, task: i64, bytes: u64, now: u64) -> Result<(), StoreError> {
    sqlx::query(
        "-- learn_job_limit
         INSERT INTO job_limits (task, bytes, learnt_at) VALUES ($1, $2, $3)
         ON CONFLICT (task) DO UPDATE SET
             bytes = CASE WHEN job_limits.bytes < excluded.bytes AND job_limits.learnt_at > $4
                          THEN job_limits.bytes ELSE excluded.bytes END,
             learnt_at = excluded.learnt_at",
    )
    .bind(task)
    .bind(signed(bytes)?)
    .bind(signed(now)?)
    .bind(signed(forgotten(now))?)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// The most bytes of one request of the task, where that was learnt within a day.
pub async fn of_task(tx: &mut Tx, task: i64, now: u64) -> Result<Option<u64>, StoreError> {
    let row = sqlx::query(
        "-- job_limit_of_task
         SELECT bytes FROM job_limits WHERE task = $1 AND learnt_at > $2",
    )
    .bind(task)
    .bind(signed(forgotten(now))?)
    .fetch_optional(tx.connection())
    .await?;
    row.as_ref().map(|row| Fields::of("job_limits", row).unsigned("bytes")).transpose()
}

/// What was learnt before that is tried again.
fn forgotten(now: u64) -> u64 {
    now.saturating_sub(REMEMBERED_SECONDS)
}

const REMEMBERED_SECONDS: u64 = 86_400;
