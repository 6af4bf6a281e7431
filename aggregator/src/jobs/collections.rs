//! The collections of a task, stepped. Most of them wait for reports, some for days: one that waits is looked at when
//! something has happened and seldom otherwise, and looking writes nothing.

use std::sync::Arc;
use std::time::Instant;

use mica_dap::id::CollectionJobId;
use mica_service::shutdown::Shutdown;
use mica_service::store::StoreError;

use super::driver::{lease_request, wait};
use super::heartbeat::{Heartbeat, Lease};
use super::{Held, JobError};
use crate::leader::collection::{self, Progress};
use crate::shared::Shared;
use crate::store::collection_jobs::{self, CollectionJobRow, Place};
use crate::store::stuck;

/// Steps every collection of the task that is due and has something to do, each once. Whether one came to its end.
pub(super) async fn step_all(
    shared: &Arc<Shared>,
    task: i64,
    shutdown: &Shutdown,
) -> Result<bool, StoreError> {
    let began = shared.clock.now();
    let pass = shared.looks.begin(task, began);
    let (mut settled, mut after) = (false, pass.since.map(|since| (since, 0, Vec::new())));
    // Those that wait are due all the same: only what comes after the last of them is new.
    loop {
        let page = due(shared, task, began, after.as_ref()).await?;
        for row in &page {
            if shutdown.is_triggered() {
                return Ok(settled);
            }
            settled |= look(shared, row).await?;
        }
        if (page.len() as u64) < PAGE {
            shared.looks.end(task, &pass);
            return Ok(settled);
        }
        after = page.last().map(CollectionJobRow::place);
    }
}

/// Steps a collection that has something to do. Whether it came to its end.
async fn look(shared: &Arc<Shared>, row: &CollectionJobRow) -> Result<bool, StoreError> {
    // Before the look, so that what happens during it makes the next look worth while.
    let Some(now) = shared.looks.worth_while(row.task, &row.id) else { return Ok(false) };
    if collection::worth_a_step(shared, row).await? {
        return step(shared, &row.id).await;
    }
    if row.reason.is_some() {
        forget_trouble(shared, row).await?;
    }
    shared.looks.looked_at(row.task, row.id, now);
    Ok(false)
}

/// What went wrong with a collection that only waits is over: nobody needs to see it any more.
async fn forget_trouble(shared: &Shared, row: &CollectionJobRow) -> Result<(), StoreError> {
    let now = shared.clock.now();
    shared
        .store
        .tx("forget_trouble_of_collection", move |mut tx| async move {
            stuck::forget_collection(&mut tx, &row.id, now).await?;
            Ok((tx, ()))
        })
        .await
}

async fn due(
    shared: &Shared,
    task: i64,
    now: u64,
    after: Option<&Place>,
) -> Result<Vec<CollectionJobRow>, StoreError> {
    shared
        .store
        .read("due_collection_jobs", move |mut tx| async move {
            let due = collection_jobs::due(&mut tx, task, now, after, PAGE).await?;
            Ok((tx, due))
        })
        .await
}

/// Takes a collection as far as it goes, unless somebody else has it. Whether it came to its end.
async fn step(shared: &Arc<Shared>, id: &CollectionJobId) -> Result<bool, StoreError> {
    let request = lease_request(shared);
    let leased = shared
        .store
        .tx("lease_collection_job", move |mut tx| async move {
            let job = collection_jobs::lease(&mut tx, id, request).await?;
            Ok((tx, job))
        })
        .await?;
    let Some(row) = leased else { return Ok(false) };
    let (job, began) = (Held { row, token: request.token }, Instant::now());
    let alive = Heartbeat::of(shared, Lease::Collection(job.row.id), job.token);
    let done = collection::step(shared, &job).await;
    drop(alive);
    let settled = matches!(done, Ok(Progress::Settled));
    if settled {
        shared.paces.collections.measure(1, began.elapsed());
    }
    settle(shared, &job, done).await?;
    if settled {
        // Another collection may have the batch now, or never.
        shared.looks.changed(job.row.task);
    }
    Ok(settled)
}

async fn settle(
    shared: &Shared,
    job: &Held<CollectionJobRow>,
    done: Result<Progress, JobError>,
) -> Result<(), StoreError> {
    let now = shared.clock.now();
    let retry_at = match done {
        Ok(Progress::Settled) | Err(JobError::LeaseLost) => return Ok(()),
        Ok(Progress::Waiting) => None,
        Err(error) => {
            let attempts = job.row.attempts;
            if matches!(error, JobError::Deferred(_)) {
                tracing::debug!(attempts, why = %error, "a collection waits for the helper");
            } else {
                tracing::warn!(attempts, why = %error, "a collection is tried again later");
            }
            Some((now + wait(shared, &error, job.row.attempts), error.reason().as_str(), error.to_string()))
        }
    };
    let (id, token, retry_at) = (&job.row.id, job.token, &retry_at);
    shared
        .store
        .tx("retry_collection_job", move |mut tx| async move {
            match retry_at {
                Some((time, reason, why)) => {
                    stuck::note_collection(&mut tx, id, token, (*reason, why, now)).await?;
                    collection_jobs::retry_at(&mut tx, id, token, *time).await?
                }
                None => collection_jobs::give_back(&mut tx, id, token, now).await?,
            };
            Ok((tx, ()))
        })
        .await
}

/// How many collections of a task are read at a time.
const PAGE: u64 = 1_000;
