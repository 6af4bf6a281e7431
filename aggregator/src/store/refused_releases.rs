//! Leader: what the helper said when it refused a release for good, and when it is asked again.
//!
//! Every request that goes to the helper is charged first, and given back when it refuses: without a memory of that,
//! whoever may collect could make the ledger longer without end. A batch that is released is forgotten here.

use mica_service::store::{Fields, StoreError, Tx, signed};

/// What is remembered of one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRelease {
    /// The helper's problem document, as JSON.
    pub problem: String,
    /// How often in a row it was refused.
    pub refusals: u64,
    /// How many reports the batch had.
    pub report_count: u64,
    /// SHA-256 of the text of the leader's policy then.
    pub policy_sha256: [u8; 32],
    /// The helper is not asked before.
    pub ask_again_at: u64,
}

/// What the helper said of that batch last, if it refused it.
pub async fn by_batch_key(
    tx: &mut Tx,
    task: i64,
    batch_key: &[u8],
) -> Result<Option<RefusedRelease>, StoreError> {
    let row = sqlx::query(
        "-- refused_release
         SELECT * FROM refused_releases WHERE task = $1 AND batch_key = $2",
    )
    .bind(task)
    .bind(batch_key)
    .fetch_optional(tx.connection())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let fields = Fields::of("refused_releases", &row);
    Ok(Some(RefusedRelease {
        problem: fields.text("problem")?,
        refusals: fields.unsigned("refusals")?,
        report_count: fields.unsigned("report_count")?,
        policy_sha256: fields.array("policy_sha256")?,
        ask_again_at: fields.unsigned("ask_again_at")?,
    }))
}

/// Remembers a refusal in the place of the one before.
pub async fn put(
    tx: &mut Tx,
    task: i64,
    batch_key: &[u8],
    refused: &RefusedRelease,
) -> Result<(), StoreError> {
    sqlx::query(
        "-- put_refused_release
         INSERT INTO refused_releases (task, batch_key, problem, refusals, report_count, policy_sha256, ask_again_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (task, batch_key) DO UPDATE SET problem = excluded.problem, refusals = excluded.refusals,
             report_count = excluded.report_count, policy_sha256 = excluded.policy_sha256,
             ask_again_at = excluded.ask_again_at",
    )
    .bind(task)
    .bind(batch_key)
    .bind(refused.problem.as_str())
    .bind(signed(refused.refusals)?)
    .bind(signed(refused.report_count)?)
    .bind(refused.policy_sha256.as_slice())
    .bind(signed(refused.ask_again_at)?)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Forgets what was said of a batch, which is released.
pub async fn forget(tx: &mut Tx, task: i64, batch_key: &[u8]) -> Result<(), StoreError> {
    sqlx::query(
        "-- forget_refused_release
         DELETE FROM refused_releases WHERE task = $1 AND batch_key = $2",
    )
    .bind(task)
    .bind(batch_key)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// How many batches of the task are remembered.
pub async fn count(tx: &mut Tx, task: i64) -> Result<u64, StoreError> {
    let row = sqlx::query(
        "-- count_refused_releases
         SELECT COUNT(*) AS batches FROM refused_releases WHERE task = $1",
    )
    .bind(task)
    .fetch_one(tx.connection())
    .await?;
    Fields::of("refused_releases", &row).unsigned("batches")
}

/// Forgets the batches of the task about which the helper might have been asked since before `before`, and those that
/// would wait until after `after`, which a clock wrote that was wrong.
pub async fn forget_aged(tx: &mut Tx, task: i64, (before, after): (u64, u64)) -> Result<(), StoreError> {
    sqlx::query(
        "-- forget_aged_refused_releases
         DELETE FROM refused_releases WHERE task = $1 AND (ask_again_at < $2 OR ask_again_at > $3)",
    )
    .bind(task)
    .bind(signed(before)?)
    .bind(signed(after)?)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// The same for all tasks.
pub async fn forget_all_aged(tx: &mut Tx, (before, after): (u64, u64)) -> Result<(), StoreError> {
    sqlx::query(
        "-- forget_all_aged_refused_releases
         DELETE FROM refused_releases WHERE ask_again_at < $1 OR ask_again_at > $2",
    )
    .bind(signed(before)?)
    .bind(signed(after)?)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Forgets all batches of a task that is over.
pub async fn delete_of_task(tx: &mut Tx, task: i64) -> Result<(), StoreError> {
    sqlx::query(
        "-- delete_refused_releases_of_task
         DELETE FROM refused_releases WHERE task = $1",
    )
    .bind(task)
    .execute(tx.connection())
    .await?;
    Ok(())
}
