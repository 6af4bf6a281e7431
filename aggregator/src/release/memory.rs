//! The leader's memory of a helper that refused a release for good.
//!
//! A release is charged before the helper is asked, and given back when it refuses. The first refusal of a batch may be
//! doubted at once: a limit, a clock or a task at the helper may have been put right. From the second in a row on, whoever
//! asks again is told what the helper said, at the cost of nothing, until a while has passed that doubles with each refusal.

use mica_dap::problem::Problem;
use mica_service::store::{StoreError, Tx};

use super::gate::{Batch, policy_of};
use super::{Refused, ReleaseError};
use crate::error::Abort;
use crate::store::refused_releases::{self, RefusedRelease};
use crate::store::releases;
use crate::task::Task;

/// Says no to a batch that the helper refused a moment ago, under the policy of now.
pub(super) async fn check(tx: &mut Tx, batch: &Batch<'_>) -> Result<(), ReleaseError> {
    let known = refused_releases::by_batch_key(tx, batch.task.key, &batch.batch_key()).await?;
    let Some(known) = known.filter(|known| batch.now < known.ask_again_at) else { return Ok(()) };
    if known.policy_sha256 != policy_of(&batch.task.decision).sha256 {
        return Ok(());
    }
    let Some(abort) = Abort::from_json(&known.problem) else { return Ok(()) };
    let too_small = Problem::from_urn(abort.problem_type()) == Some(Problem::InvalidBatchSize);
    if too_small && known.report_count != batch.totals.report_count {
        return Ok(());
    }
    Err(Refused::ByHelper(Box::new(abort.said_before(known.refusals, known.ask_again_at))).into())
}

/// Remembers that the helper refused a release that was charged and given back.
pub(crate) async fn remember(
    tx: &mut Tx,
    task: &Task,
    release: i64,
    abort: &Abort,
    now: u64,
) -> Result<(), StoreError> {
    let row = releases::by_id(tx, release).await?;
    let release = row.ok_or_else(|| StoreError::corrupt("releases", "id"))?.release;
    let before = refused_releases::by_batch_key(tx, task.key, &release.batch_key).await?;
    let refusals = before.map_or(0, |before| before.refusals).saturating_add(1);
    let refused = RefusedRelease {
        problem: abort.to_json(),
        refusals,
        report_count: release.report_count,
        policy_sha256: release.policy_sha256,
        ask_again_at: now.saturating_add(pause(refusals)),
    };
    refused_releases::put(tx, task.key, &release.batch_key, &refused).await
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
