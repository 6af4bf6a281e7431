//! Leader: the windows of budgets for which the helper refused a release, and when it is asked about them again.
//!
//! Whoever collects chooses among very many intervals, and all of a window are refused alike: what is remembered of one
//! batch alone is in [`super::refused_releases`]. Times here are seconds of data time.

use mica_service::store::{Fields, StoreError, Tx, signed};

/// Which budget was exhausted, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowKey {
    /// The helper's budget; empty where many refusals are remembered as one.
    pub budget: String,
    /// The first second of its window.
    pub from: i64,
    /// The first second after it.
    pub to: i64,
}

/// What is remembered of one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedWindow {
    /// Of which.
    pub key: WindowKey,
    /// The helper's problem document, as JSON.
    pub problem: String,
    /// How often in a row it refused batches there.
    pub refusals: u64,
    /// SHA-256 of the text of the leader's policy then.
    pub policy_sha256: [u8; 32],
    /// The helper is not asked before.
    pub ask_again_at: u64,
}

/// Of the windows that meet the data from `from` up to `to`, and about which the helper is not asked at `now` under this
/// policy, the one that waits longest, but not beyond `at_most`: whoever wrote that had another clock.
pub async fn meeting(
    tx: &mut Tx,
    task: i64,
    (from, to): (i64, i64),
    policy_sha256: &[u8; 32],
    (now, at_most): (u64, u64),
) -> Result<Option<RefusedWindow>, StoreError> {
    let row = sqlx::query(
        "-- refused_window_meeting
         SELECT * FROM refused_windows
         WHERE task = $1 AND window_from < $3 AND window_to > $2 AND policy_sha256 = $4 AND ask_again_at > $5
             AND ask_again_at <= $6
         ORDER BY ask_again_at DESC, budget, window_from, window_to LIMIT 1",
    )
    .bind(task)
    .bind(from)
    .bind(to)
    .bind(policy_sha256.as_slice())
    .bind(signed(now)?)
    .bind(signed(at_most)?)
    .fetch_optional(tx.connection())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let fields = Fields::of("refused_windows", &row);
    Ok(Some(RefusedWindow {
        key: WindowKey {
            budget: fields.text("budget")?,
            from: fields.integer("window_from")?,
            to: fields.integer("window_to")?,
        },
        problem: fields.text("problem")?,
        refusals: fields.unsigned("refusals")?,
        policy_sha256: fields.array("policy_sha256")?,
        ask_again_at: fields.unsigned("ask_again_at")?,
    }))
}

/// How often in a row batches of that window were refused; nothing where it is not remembered.
pub async fn refusals(tx: &mut Tx, task: i64, key: &WindowKey) -> Result<Option<u64>, StoreError> {
    let row = sqlx::query(
        "-- refusals_in_window
         SELECT refusals FROM refused_windows
         WHERE task = $1 AND budget = $2 AND window_from = $3 AND window_to = $4",
    )
    .bind(task)
    .bind(key.budget.as_str())
    .bind(key.from)
    .bind(key.to)
    .fetch_optional(tx.connection())
    .await?;
    row.map(|row| Fields::of("refused_windows", &row).unsigned("refusals")).transpose()
}

/// How many windows are remembered of the task.
pub async fn count(tx: &mut Tx, task: i64) -> Result<u64, StoreError> {
    let row = sqlx::query(
        "-- count_refused_windows
         SELECT COUNT(*) AS windows FROM refused_windows WHERE task = $1",
    )
    .bind(task)
    .fetch_one(tx.connection())
    .await?;
    Fields::of("refused_windows", &row).unsigned("windows")
}

/// Remembers a refusal in the place of the one before.
pub async fn put(tx: &mut Tx, task: i64, refused: &RefusedWindow) -> Result<(), StoreError> {
    sqlx::query(
        "-- put_refused_window
         INSERT INTO refused_windows
             (task, budget, window_from, window_to, problem, refusals, policy_sha256, ask_again_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (task, budget, window_from, window_to) DO UPDATE SET problem = excluded.problem,
             refusals = excluded.refusals, policy_sha256 = excluded.policy_sha256,
             ask_again_at = excluded.ask_again_at",
    )
    .bind(task)
    .bind(refused.key.budget.as_str())
    .bind(refused.key.from)
    .bind(refused.key.to)
    .bind(refused.problem.as_str())
    .bind(signed(refused.refusals)?)
    .bind(refused.policy_sha256.as_slice())
    .bind(signed(refused.ask_again_at)?)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Forgets the windows of the task that meet the data from `from` up to `to`: the helper has released a batch of them.
pub async fn forget_meeting(tx: &mut Tx, task: i64, (from, to): (i64, i64)) -> Result<(), StoreError> {
    sqlx::query(
        "-- forget_refused_windows_meeting
         DELETE FROM refused_windows WHERE task = $1 AND window_from < $3 AND window_to > $2",
    )
    .bind(task)
    .bind(from)
    .bind(to)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Forgets the windows of the task about which the helper might have been asked since before `before`, and those that
/// would wait until after `after`, which a clock wrote that was wrong.
pub async fn forget_aged(tx: &mut Tx, task: i64, (before, after): (u64, u64)) -> Result<(), StoreError> {
    sqlx::query(
        "-- forget_aged_refused_windows
         DELETE FROM refused_windows WHERE task = $1 AND (ask_again_at < $2 OR ask_again_at > $3)",
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
        "-- forget_all_aged_refused_windows
         DELETE FROM refused_windows WHERE ask_again_at < $1 OR ask_again_at > $2",
    )
    .bind(signed(before)?)
    .bind(signed(after)?)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Forgets all windows of a task that is over.
pub async fn delete_of_task(tx: &mut Tx, task: i64) -> Result<(), StoreError> {
    sqlx::query(
        "-- delete_refused_windows_of_task
         DELETE FROM refused_windows WHERE task = $1",
    )
    .bind(task)
    .execute(tx.connection())
    .await?;
    Ok(())
}
