//! When a batch is complete: what was accepted before the collector asked is in it, and nobody can keep it waiting.
//!
//! Reports arrive all the time, and anyone may send some for any interval, so "nothing is under way" may never be true.
//! A collection therefore waits for the segments up to a fence, which is finite. If others have come since and the batch
//! is large enough by then, the interval closes: it takes no more reports, and the collection waits for what was
//! accepted until that moment, which is finite again. Where the leader selects the batches it picks one that is large
//! enough, which takes no more reports from then on, and waits for the jobs that are under way for it.

use mica_dap::collection::QueriedBatch;
use mica_dap::id::BatchId;
use mica_dap::time::Interval;
use mica_service::store::{StoreError, Tx};

use crate::jobs::{Held, JobError};
use crate::release::{Refused, ReleaseError};
use crate::shared::Shared;
use crate::store::closed_intervals::{self, CLOSING};
use crate::store::collection_jobs::{self, CollectionJobRow, CollectionState};
use crate::store::{Scope, aggregation_jobs, batches, buckets, segments, tasks};
use crate::task::Task;

/// Whether it is worth taking the job up to look closer. Locks nothing and reads no share.
pub(super) async fn at_a_glance(
    shared: &Shared,
    task: &Task,
    job: &CollectionJobRow,
    queried: QueriedBatch,
) -> Result<bool, StoreError> {
    shared
        .store
        .read("batch_at_a_glance", move |mut tx| async move {
            let worth = match (queried, &job.batch) {
                (QueriedBatch::TimeInterval(query), _) => interval_moves(&mut tx, task, job, query).await?,
                (QueriedBatch::LeaderSelected, Some(batch)) => {
                    !aggregation_jobs::under_way(&mut tx, task.key, batch).await?
                }
                (QueriedBatch::LeaderSelected, None) => {
                    next_ready(&mut tx, task).await?.is_some()
                        || batches::any_orphaned(&mut tx, task.key).await?
                }
            };
            Ok((tx, worth))
        })
        .await
}

async fn interval_moves(
    tx: &mut Tx,
    task: &Task,
    job: &CollectionJobRow,
    query: Interval,
) -> Result<bool, StoreError> {
    if segments::unsettled_until(tx, task.key, query, job.fence).await? {
        return Ok(false);
    }
    // Below the minimum there is something to do only if the fence can move.
    Ok(large_enough(tx, task, query).await? || segments::unsettled(tx, task.key, query).await?)
}

/// Picks the batch of a job that has none, and associates the two, in one transaction (DAP 5.2). Nothing: none is ready.
pub(super) async fn pick(
    shared: &Shared,
    task: &Task,
    job: &Held<CollectionJobRow>,
) -> Result<Option<BatchId>, JobError> {
    shared
        .store
        .tx("pick_batch", move |mut tx| async move {
            // In this order everywhere. Whoever deletes the job holds the lock of the task, and must see the batch.
            tasks::lock_task(&mut tx, task.key).await?;
            batches::lock_batches(&mut tx, task.key).await?;
            batches::give_back_orphans(&mut tx, task.key).await?;
            let Some(batch) = next_ready(&mut tx, task).await? else { return Ok((tx, Ok(None))) };
            let mine = batches::associate(&mut tx, task.key, &batch, &job.row.id).await?
                && collection_jobs::set_batch(&mut tx, &job.row.id, job.token, &batch).await?;
            if mine {
                return Ok((tx, Ok(Some(batch))));
            }
            tx.abandon();
            Ok((tx, Err(JobError::LeaseLost)))
        })
        .await?
}

async fn next_ready(tx: &mut Tx, task: &Task) -> Result<Option<BatchId>, StoreError> {
    batches::next_ready(tx, task.key, task.configuration.min_batch_size()).await
}

/// What can be released now. If nothing, what the job waits for next is written down. The caller holds the lock of the
/// task.
pub(super) async fn under_lock(
    tx: &mut Tx,
    task: &Task,
    job: &Held<CollectionJobRow>,
    queried: QueriedBatch,
) -> Result<Option<Scope>, ReleaseError> {
    match (queried, job.row.batch) {
        (QueriedBatch::TimeInterval(query), _) => {
            Ok(interval(tx, task, job, query).await?.then_some(Scope::Interval(query)))
        }
        // Nobody forms a job for it any more, so that those under way are the last.
        (QueriedBatch::LeaderSelected, Some(batch)) => {
            let under_way = aggregation_jobs::under_way(tx, task.key, &batch).await?;
            Ok((!under_way).then_some(Scope::Batch(batch)))
        }
        (QueriedBatch::LeaderSelected, None) => Ok(None),
    }
}

async fn interval(
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
