//! The gate every aggregate share passes on its way out, at both aggregators: charge, draw, seal, record, close, in one
//! transaction of the caller.
//!
//! A batch is drawn for once. Whoever asks again is answered from the row; an aggregate share is sealed here and nowhere
//! else, and only when it is [`Noised`]. The exact total of a batch must never leave this file in any other form.

use mica_dap::batch::Checksum;
use mica_dap::time::Interval;
use mica_service::store::{StoreError, Tx};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::error::Abort;
use crate::task::Task;

/// What one aggregator holds of a batch: the exact sum of its shares, and what both must agree on.
pub(crate) struct BatchTotals {
    share: Vec<u8>,
    /// How many reports are in the sum.
    pub(crate) report_count: u64,
    /// Over their identifiers.
    pub(crate) checksum: Checksum,
    /// The smallest interval around their times.
    pub(crate) interval: Interval,
}

/// One batch at the gate.
pub(crate) struct Batch<'a> {
    /// The task.
    pub(crate) task: &'a Task,
    /// The interval of the collector's query: all of it is closed, also where there was no report.
    pub(crate) query: Interval,
    /// The collector's request, byte for byte: it is bound to the sealed share.
    pub(crate) request: &'a [u8],
    /// What is to be released.
    pub(crate) totals: &'a BatchTotals,
    /// The time, in seconds since the Unix epoch.
    pub(crate) now: u64,
}

/// Why a batch does not pass. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Refused {
    /// A budget has not enough left.
    #[error("the budget `{budget}` does not allow this release")]
    BudgetExhausted {
        /// Which budget.
        budget: String,
        /// What it is in all, in units of 10⁻¹².
        limit: i64,
        /// What is gone.
        spent: i64,
        /// What this release would take.
        requested: i64,
    },
    /// The sum of so many reports, with noise, may not fit the field.
    #[error("so many reports may overflow the field")]
    Overflow,
    /// The batch was released before.
    #[error("the batch was released before")]
    Collected,
}

/// Why a release did not happen.
#[derive(Debug, Error)]
pub(crate) enum ReleaseError {
    /// The gate said no, and nothing was written.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something of ours failed.
    #[error("the release failed: {0}")]
    Fault(anyhow::Error),
}

/// The totals of the batch in `interval`; nothing when no report is in it.
pub(crate) async fn totals(tx: &mut Tx, task: &Task, interval: Interval) -> Result<Option<BatchTotals>, ReleaseError> {
    let _ = (tx, task, interval);
    Ok(None)
}

/// The leader's half of a release: charged and drawn, but the buckets stay, for the helper may still refuse.
/// Returns the number of the release. A release that was refunded is taken up again, with the share drawn then, as
/// long as it is of the same reports.
pub(crate) async fn reserve(tx: &mut Tx, batch: &Batch<'_>) -> Result<i64, ReleaseError> {
    let _ = (tx, batch);
    Err(Refused::Collected.into())
}

/// The helper's release, all at once: charged, drawn, recorded under `digest` and `share_id`, buckets scrubbed.
/// Returns the encoded `HpkeCiphertext`.
pub(crate) async fn commit_now(
    tx: &mut Tx,
    batch: &Batch<'_>,
    digest: &[u8; 32],
    share_id: &[u8; 16],
) -> Result<Vec<u8>, ReleaseError> {
    let _ = (tx, batch, digest, share_id);
    Err(Refused::Collected.into())
}

/// The helper has answered: what `reserve` charged stays charged, the buckets are scrubbed.
pub(crate) async fn commit(tx: &mut Tx, task: &Task, release: i64, now: u64) -> Result<(), ReleaseError> {
    let _ = (tx, task, release, now);
    Ok(())
}

/// The helper has refused for good: what `reserve` charged is given back and the interval is open again. The drawn
/// share stays, so that the same reports are never drawn for twice.
pub(crate) async fn refund(tx: &mut Tx, task: &Task, release: i64, now: u64) -> Result<(), ReleaseError> {
    let _ = (tx, task, release, now);
    Ok(())
}

impl Refused {
    /// As the problem document that the collector gets.
    pub(crate) fn abort(&self, task: &Task) -> Abort {
        match self {
            Self::BudgetExhausted { budget, limit, spent, requested } => {
                let mut members = Map::new();
                members.insert("budget".to_owned(), Value::from(budget.as_str()));
                for (name, units) in [("limit", *limit), ("spent", *spent), ("requested", *requested), ("remaining", limit - spent)]
                {
                    members.insert(name.to_owned(), Value::from(mica_dp::units::format_units(units)));
                }
                Abort::budget_exhausted(self.to_string(), members)
            }
            Self::Overflow => Abort::plain(http::StatusCode::FORBIDDEN, self.to_string()),
            Self::Collected => Abort::new(mica_dap::problem::Problem::BatchOverlap, self.to_string()),
        }
        .in_task(&task.id)
    }
}
