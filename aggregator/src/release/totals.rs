//! What one aggregator holds of a batch.

use std::sync::Arc;

use mica_dap::batch::Checksum;
use mica_dap::time::{Interval, Time};
use mica_service::compute::ComputePool;
use mica_service::store::{StoreError, Tx};
use zeroize::Zeroizing;

use super::{Refused, ReleaseError};
use crate::store::Scope;
use crate::store::buckets::{self, BucketRow};
use crate::task::Task;

/// The exact sum of this aggregator's shares, which nobody else may read, and what both must agree on.
pub(crate) struct BatchTotals {
    pub(super) share: Zeroizing<Vec<u8>>,
    /// How many reports are in the sum.
    pub(crate) report_count: u64,
    /// Over their identifiers.
    pub(crate) checksum: Checksum,
    /// The smallest interval around their times.
    pub(crate) interval: Interval,
}

/// The totals of what is in `scope`, where all shares were made under `parameter`; nothing when no report is there.
pub(crate) async fn totals(
    tx: &mut Tx,
    compute: &ComputePool,
    task: &Arc<Task>,
    scope: impl Into<Scope>,
    parameter: &[u8],
) -> Result<Option<BatchTotals>, ReleaseError> {
    let rows = buckets::totals(tx, task.key, scope).await?;
    let (task, parameter) = (Arc::clone(task), parameter.to_vec());
    compute.run(move || sum(&task, &parameter, rows)).await
}

fn sum(task: &Task, parameter: &[u8], rows: Vec<BucketRow>) -> Result<Option<BatchTotals>, ReleaseError> {
    let mut total: Option<BatchTotals> = None;
    for row in rows {
        let next = part(row)?;
        total = Some(match total {
            None => next,
            Some(total) => plus(task, parameter, &total, &next)?,
        });
    }
    Ok(total)
}

fn part(row: BucketRow) -> Result<BatchTotals, ReleaseError> {
    let BucketRow { share, report_count, checksum, min_time, max_time, .. } = row;
    let end = Time(max_time.0.saturating_add(1));
    Ok(BatchTotals {
        share: Zeroizing::new(share.ok_or(Refused::Collected)?),
        report_count,
        checksum,
        interval: Interval::between(min_time, end).map_err(|_| StoreError::corrupt("buckets", "max_time"))?,
    })
}

fn plus(
    task: &Task,
    parameter: &[u8],
    one: &BatchTotals,
    other: &BatchTotals,
) -> Result<BatchTotals, StoreError> {
    let share = task
        .vdaf
        .merge(parameter, &one.share, &other.share)
        .map_err(|_| StoreError::corrupt("buckets", "share"))?;
    Ok(BatchTotals {
        share: Zeroizing::new(share),
        report_count: one.report_count.checked_add(other.report_count).ok_or(StoreError::OutOfRange)?,
        checksum: one.checksum.combine(other.checksum),
        interval: one.interval.merge(&other.interval),
    })
}
