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
    .bind(signed(stale(now))?)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// The most bytes of one request of the task, where the helper is known to have refused larger ones: twice as many each
/// time that a while has passed, so that a helper that refused for a moment is asked for all that it takes soon.
pub async fn of_task(tx: &mut Tx, task: i64, now: u64) -> Result<Option<u64>, StoreError> {
    let row = sqlx::query(
        "-- job_limit_of_task
         SELECT bytes, learnt_at FROM job_limits WHERE task = $1",
    )
    .bind(task)
    .fetch_optional(tx.connection())
    .await?;
    let Some(row) = &row else { return Ok(None) };
    let fields = Fields::of("job_limits", row);
    Ok(grown(fields.unsigned("bytes")?, now.saturating_sub(fields.unsigned("learnt_at")?)))
}

/// What a limit is worth so many seconds later; nothing once it is beyond all sizes.
fn grown(bytes: u64, seconds: u64) -> Option<u64> {
    let doublings = u32::try_from(seconds / DOUBLED_AFTER_SECONDS).unwrap_or(u32::MAX);
    (doublings < MOST_DOUBLINGS).then(|| bytes.saturating_mul(1 << doublings))
}

/// While a limit is this fresh, a larger one does not take its place.
fn stale(now: u64) -> u64 {
    now.saturating_sub(DOUBLED_AFTER_SECONDS)
}

/// How long a limit holds before twice as much is tried.
const DOUBLED_AFTER_SECONDS: u64 = 600;

/// From a single byte to more than any request has.
const MOST_DOUBLINGS: u32 = 40;
