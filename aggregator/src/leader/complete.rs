//! When a batch is complete: what was accepted before the collector asked is in it, and nobody can keep it waiting.
//!
//! Reports arrive all the time, and anyone may send some for any interval, so "nothing is under way" may never be true.
//! A collection therefore waits for the segments up to a fence, which is finite. If others have come since and the batch
//! is large enough by then, the interval closes: it takes no more reports, and the collection waits for what was
//! accepted until that moment, which is finite again.

use mica_dap::time::Interval;
use mica_service::store::{StoreError, Tx};

use crate::jobs::{Held, JobError};
use crate::release::{Refused, ReleaseError};
use crate::shared::Shared;
use crate::store::closed_intervals::{self, CLOSING};
use crate::store::collection_jobs::{self, CollectionJobRow, CollectionState};
use crate::store::{buckets, segments};
use crate::task::Task;

/// Whether it is worth taking the lock of the task to look closer. Locks nothing and reads no share.
pub(super) async fn at_a_glance(
    shared: &Shared,
    task: &Task,
    job: &Held<CollectionJobRow>,
    query: Interval,
) -> Result<bool, JobError> {
    let fence = job.row.fence;
    let worth = shared
        .store
        .read("batch_at_a_glance", move |mut tx| async move {
            let worth = if segments::unsettled_until(&mut tx, task.key, query, fence).await? {
                false
            } else {
                // Below the minimum there is something to do only if the fence can move.
                large_enough(&mut tx, task, query).await?
                    || segments::unsettled(&mut tx, task.key, query).await?
            };
            Ok((tx, worth))
        })
        .await?;
    Ok(worth)
}

/// Whether the batch can be released now. If not, what it waits for next is written down. The caller holds the lock of
/// the task.
pub(super) async fn under_lock(
    tx: &mut Tx,
    task: &Task,
    job: &Held<CollectionJobRow>,
    query: Interval,
) -> Result<bool, ReleaseError> {
    // Read again: a job that became two may have raised it since the lease.
    let row = collection_jobs::by_id(tx, task.key, &job.row.id).await?;
    let fence = row.map_or(job.row.fence, |row| row.fence);
    if segments::unsettled_until(tx, task.key, query, fence).await? {
        return Ok(false);
    }
    if job.row.state == CollectionState::Closing {
        // The release closes the interval itself, in this transaction.
        closed_intervals::withdraw(tx, task.key, query).await?;
    }
    if closed_intervals::overlapping(tx, task.key, query).await? {
        return Err(Refused::Collected.into());
    }
    let enough = large_enough(tx, task, query).await?;
    let more = segments::unsettled(tx, task.key, query).await?;
    if job.row.state == CollectionState::Closing || !more {
        return Ok(enough);
    }
    let next = if enough {
        closed_intervals::close(tx, task.key, query, CLOSING).await?;
        CollectionState::Closing
    } else {
        CollectionState::Pending
    };
    let fence = segments::newest(tx, task.key).await?;
    if !collection_jobs::set_fence(tx, &job.row.id, job.token, (next, fence)).await? {
        tx.abandon();
    }
    Ok(false)
}

async fn large_enough(tx: &mut Tx, task: &Task, query: Interval) -> Result<bool, StoreError> {
    Ok(buckets::report_count(tx, task.key, query).await? >= task.configuration.min_batch_size())
}
