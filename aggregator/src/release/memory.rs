//! The leader's memory of a helper that refused a release for good.
//!
//! A release is charged before the helper is asked, and given back when it refuses. The first refusal may be doubted at
//! once: a limit, a clock or a task at the helper may have been put right. From the second in a row on, whoever asks again
//! is told what the helper said, at the cost of nothing, until a while has passed that doubles with each refusal.
//!
//! What is remembered is the batch; and for an exhausted budget the window that has no room, which holds for every batch of
//! the task whose data meet it. Of either kind a task has only so many: beyond, one refusal holds for all batches of the
//! task, so that no choice of intervals makes the ledger longer without end.

use mica_dap::problem::Problem;
use mica_dp::accountant::{Span, parse_second};
use mica_service::store::{StoreError, Tx};

use super::gate::{Batch, data_of, policy_of};
use super::{Refused, ReleaseError};
use crate::error::{Abort, BUDGET_EXHAUSTED};
use crate::store::refused_releases::{self, RefusedRelease};
use crate::store::refused_windows::{self, RefusedWindow, WindowKey};
use crate::store::releases;
use crate::task::Task;

/// Says no to a batch that the helper refused a moment ago, by itself or with all of its time, under the policy of now.
pub(super) async fn check(tx: &mut Tx, batch: &Batch<'_>) -> Result<(), ReleaseError> {
    let said = match of_the_batch(tx, batch).await? {
        None => of_its_time(tx, batch).await?,
        said => said,
    };
    said.map_or(Ok(()), |abort| Err(Refused::ByHelper(Box::new(abort)).into()))
}

async fn of_the_batch(tx: &mut Tx, batch: &Batch<'_>) -> Result<Option<Abort>, StoreError> {
    let known = refused_releases::by_batch_key(tx, batch.task.key, &batch.batch_key()).await?;
    let holds = |until: u64| batch.now < until && until <= longest(batch.now);
    let Some(known) = known.filter(|known| holds(known.ask_again_at)) else { return Ok(None) };
    if known.policy_sha256 != policy_of(&batch.task.decision).sha256 {
        return Ok(None);
    }
    let Some(abort) = Abort::from_json(&known.problem) else { return Ok(None) };
    let too_small = Problem::from_urn(abort.problem_type()) == Some(Problem::InvalidBatchSize);
    if too_small && known.report_count != batch.totals.report_count {
        return Ok(None);
    }
    Ok(Some(abort.said_before("this batch", known.refusals, known.ask_again_at)))
}

async fn of_its_time(tx: &mut Tx, batch: &Batch<'_>) -> Result<Option<Abort>, StoreError> {
    let (data, policy) = (batch.data(), policy_of(&batch.task.decision));
    let data = (data.from(), data.to());
    let times = (batch.now, longest(batch.now));
    let known = refused_windows::meeting(tx, batch.task.key, data, &policy.sha256, times).await?;
    let Some(known) = known else { return Ok(None) };
    let all_time = known.key.from <= Span::ALL.from() && known.key.to >= Span::ALL.to();
    let what = if all_time { "batches of this task" } else { "batches of the same window" };
    let abort = Abort::from_json(&known.problem);
    Ok(abort.map(|abort| abort.said_before(what, known.refusals, known.ask_again_at)))
}

/// Remembers that the helper refused a release that was charged and given back.
pub(crate) async fn remember(
    tx: &mut Tx,
    task: &Task,
    release: i64,
    abort: &Abort,
    now: u64,
) -> Result<(), StoreError> {
    refused_releases::forget_aged(tx, task.key, kept(now)).await?;
    refused_windows::forget_aged(tx, task.key, kept(now)).await?;
    let row = releases::by_id(tx, release).await?;
    let row = row.ok_or_else(|| StoreError::corrupt("releases", "id"))?;
    let data = data_of(task, &row)?;
    let (release, problem) = (row.release, abort.to_json());
    let policy_sha256 = release.policy_sha256;
    if abort.problem_type() != BUDGET_EXHAUSTED {
        let known = refused_releases::by_batch_key(tx, task.key, &release.batch_key).await?;
        if known.is_some() || refused_releases::count(tx, task.key).await? < MOST {
            let refusals = known.map_or(0, |known| known.refusals).saturating_add(1);
            let ask_again_at = now.saturating_add(pause(refusals));
            let report_count = release.report_count;
            let refused = RefusedRelease { problem, refusals, report_count, policy_sha256, ask_again_at };
            return refused_releases::put(tx, task.key, &release.batch_key, &refused).await;
        }
    }
    let mut key = if abort.problem_type() == BUDGET_EXHAUSTED { exhausted(abort, data) } else { any() };
    let mut known = refused_windows::refusals(tx, task.key, &key).await?;
    if known.is_none() && refused_windows::count(tx, task.key).await? >= MOST {
        key = any();
        known = refused_windows::refusals(tx, task.key, &key).await?;
    }
    let refusals = known.unwrap_or(0).saturating_add(1);
    let ask_again_at = now.saturating_add(pause(refusals));
    let refused = RefusedWindow { key, problem, refusals, policy_sha256, ask_again_at };
    refused_windows::put(tx, task.key, &refused).await
}

/// Forgets what aged, of all tasks.
pub(crate) async fn forget_aged(tx: &mut Tx, now: u64) -> Result<(), StoreError> {
    refused_releases::forget_all_aged(tx, kept(now)).await?;
    refused_windows::forget_all_aged(tx, kept(now)).await
}

/// The last second until which anything that was remembered at `now` or before can hold, also by the clock of another
/// replica. What claims more was remembered by a clock that was far ahead, and holds no more than if nobody had refused.
fn longest(now: u64) -> u64 {
    now.saturating_add(2 * LONGEST_PAUSE)
}

/// From when to when the helper may be asked again about what is kept.
fn kept(now: u64) -> (u64, u64) {
    (now.saturating_sub(KEPT), longest(now))
}

/// The window that a helper says has no room. One that does not renew has none; and of one that is not the batch's, or that
/// nobody can read, nothing is known, so that it holds for all time.
fn exhausted(abort: &Abort, data: Span) -> WindowKey {
    let second = |name| parse_second(abort.member(name)?);
    let window = second("window_from").zip(second("window_to"));
    let window = window.and_then(|(from, to)| Span::new(from, to).ok()).filter(|window| window.meets(data));
    let (window, budget) = (window.unwrap_or(Span::ALL), abort.member("budget").unwrap_or_default());
    WindowKey { budget: budget.to_owned(), from: window.from(), to: window.to() }
}

/// All batches of a task, whatever was refused.
fn any() -> WindowKey {
    WindowKey { budget: String::new(), from: Span::ALL.from(), to: Span::ALL.to() }
}

/// For how many seconds the helper is not asked after so many refusals in a row.
fn pause(refusals: u64) -> u64 {
    match refusals {
        0 | 1 => 0,
        more => (FIRST_PAUSE << (more - 2).min(8)).min(LONGEST_PAUSE),
    }
}

/// Seconds without a question after the second refusal in a row.
const FIRST_PAUSE: u64 = 300;

/// The most seconds without a question.
const LONGEST_PAUSE: u64 = 3_600;

/// For so many seconds after the helper may be asked again it is known how often it refused.
const KEPT: u64 = 86_400;

/// The most batches, and the most windows, that are remembered of a task one by one.
const MOST: u64 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_refusal_may_be_doubted_and_the_others_hold_longer_and_longer() {
        assert_eq!(
            [1, 2, 3, 4, 5, 6, 7, u64::MAX].map(pause),
            [0, 300, 600, 1_200, 2_400, 3_600, 3_600, 3_600]
        );
    }
}
