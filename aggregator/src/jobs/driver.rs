//! The drivers: woken when there is work, looking by themselves now and then, quiet otherwise.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use mica_service::shutdown::Shutdown;
use mica_service::store::StoreError;
use mica_service::telemetry;

use super::crew::Crew;
use super::heartbeat::{Heartbeat, Lease};
use super::{
    AGGREGATION, COLLECTION, Doubt, Held, JobError, LEASE_SECONDS, LEFTOVERS, Outcome, backoff, collections,
    forgotten, leftovers,
};
use crate::leader::{aggregate, form_jobs};
use crate::shared::Shared;
use crate::store;
use crate::store::aggregation_jobs::{Failure, JobRow};
use crate::store::lease::{LeaseRequest, LeaseToken};
use crate::task::Task;

/// Drives the leader's jobs until `shutdown`; what is under way is finished.
pub(crate) async fn drive(shared: Arc<Shared>, shutdown: Shutdown) {
    let drivers = [
        telemetry::spawn(drive_kind(Kind::Aggregation, Arc::clone(&shared), shutdown.clone())),
        telemetry::spawn(drive_kind(Kind::Collection, Arc::clone(&shared), shutdown.clone())),
        telemetry::spawn(drive_kind(Kind::Leftovers, shared, shutdown)),
    ];
    for driver in drivers {
        if let Err(error) = driver.await {
            tracing::error!(%error, "a driver failed");
        }
    }
}

/// What is driven.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Aggregation,
    Collection,
    Leftovers,
}

/// Puts somebody to work for every task that has work, whenever there may be some.
async fn drive_kind(kind: Kind, shared: Arc<Shared>, shutdown: Shutdown) {
    let (name, most_per_task) = match kind {
        Kind::Aggregation => (AGGREGATION, shared.limits.workers),
        Kind::Collection => (COLLECTION, 1),
        Kind::Leftovers => (LEFTOVERS, 1),
    };
    let mut sleeper = shared.wake().sleeper(name);
    let mut crew = Crew::new(most_per_task);
    // The tasks that nobody has looked at since there was a reason to.
    let mut wanted = BTreeSet::new();
    let mut look = true;
    while !shutdown.is_triggered() {
        if look {
            match tasks_with_work(&shared, kind).await {
                Ok(tasks) => wanted.extend(tasks),
                Err(error) => tracing::error!(%error, kind = name, "could not look for work"),
            }
        }
        for task in wanted.iter().filter(|task| shared.tasks.by_key(**task).is_none()) {
            forgotten::give_up(&shared, *task).await;
        }
        wanted.retain(|task| {
            let Some(peer) = shared.tasks.by_key(*task).map(|task| peer_of(&task)) else { return false };
            let room = crew.has_room_with(*task, peer);
            if room {
                crew.spawn_with(*task, peer, work(kind, Arc::clone(&shared), *task, shutdown.clone()));
            }
            !room
        });
        look = tokio::select! {
            _ = sleeper.sleep(POLL) => true,
            achieved = crew.next_done(!wanted.is_empty()) => achieved,
            () = shutdown.wait() => false,
        };
    }
    crew.all_done().await;
}

/// A number for the helper of a task: tasks of the same origin have the same.
fn peer_of(task: &Task) -> u64 {
    let url = task.configuration.helper_url();
    let end = url.match_indices('/').nth(2).map_or(url.len(), |(at, _)| at);
    let mut hasher = DefaultHasher::new();
    url.get(..end).hash(&mut hasher);
    hasher.finish()
}

pub(super) async fn tasks_with_work(shared: &Shared, kind: Kind) -> Result<Vec<i64>, StoreError> {
    let now = shared.clock.now();
    shared
        .store
        .read("tasks_with_work", move |mut tx| async move {
            let tasks = match kind {
                Kind::Aggregation => store::aggregation_jobs::tasks_with_work(&mut tx, now).await?,
                Kind::Collection => {
                    let tasks = store::collection_jobs::tasks_with_work(&mut tx, now).await?;
                    shared.looks.worth_a_pass(&tasks)
                }
                Kind::Leftovers => store::leftovers::tasks_with_work(&mut tx, now).await?,
            };
            Ok((tx, tasks))
        })
        .await
}

/// Works for one task until it has no more work that is due. Whether it achieved something.
async fn work(kind: Kind, shared: Arc<Shared>, task: i64, shutdown: Shutdown) -> bool {
    let worked = match kind {
        Kind::Aggregation => step_aggregations(&shared, task, &shutdown).await,
        Kind::Collection => collections::step_all(&shared, task, &shutdown).await,
        Kind::Leftovers => leftovers::clear(&shared, task, &shutdown).await,
    };
    worked.unwrap_or_else(|error| {
        tracing::error!(%error, "work on the jobs of a task failed");
        false
    })
}

async fn step_aggregations(shared: &Arc<Shared>, task: i64, shutdown: &Shutdown) -> Result<bool, StoreError> {
    let mut worked = false;
    while !shutdown.is_triggered() && step_aggregation(shared, task).await? == Outcome::Worked {
        worked = true;
    }
    Ok(worked)
}

/// Takes up the task's oldest job and takes it as far as it goes. Only when there is none, segments become one: what
/// gathers while jobs are being driven shares the next.
pub(super) async fn step_aggregation(shared: &Arc<Shared>, task: i64) -> Result<Outcome, StoreError> {
    let request = lease_request(shared);
    let mut leased = lease_aggregation(shared, task, request).await?;
    if leased.is_none() {
        form_jobs::form(shared, task).await?;
        leased = lease_aggregation(shared, task, request).await?;
    }
    let Some(row) = leased else { return Ok(Outcome::Idle) };
    let job = Held { row, token: request.token };
    let alive = Heartbeat::of(shared, Lease::Aggregation(job.row.id), job.token);
    let doubt = Doubt::left_by(job.row.in_doubt);
    let done = aggregate::run(shared, &job, &doubt).await;
    drop(alive);
    settle_aggregation(shared, &job, done, doubt.get()).await?;
    Ok(Outcome::Worked)
}

async fn lease_aggregation(
    shared: &Shared,
    task: i64,
    request: LeaseRequest,
) -> Result<Option<JobRow>, StoreError> {
    shared
        .store
        .tx("lease_aggregation_job", move |mut tx| async move {
            let job = store::aggregation_jobs::lease(&mut tx, task, request).await?;
            Ok((tx, job))
        })
        .await
}

async fn settle_aggregation(
    shared: &Shared,
    job: &Held<JobRow>,
    done: Result<(), JobError>,
    in_doubt: bool,
) -> Result<(), StoreError> {
    let why = match done {
        Ok(()) | Err(JobError::LeaseLost) => return Ok(()),
        Err(error) => error,
    };
    let now = shared.clock.now();
    let retry_at = now + wait(shared, &why, job.row.attempts);
    let (id, attempts) = (job.row.id, job.row.attempts);
    if matches!(why, JobError::Deferred(_)) {
        // Nothing is wrong: the helper answers later.
        tracing::debug!(job = id, attempts, %why, "an aggregation job waits for the helper");
    } else {
        tracing::warn!(job = id, attempts, %why, "an aggregation job is tried again later");
    }
    let text = why.to_string();
    let failure = Failure { reason: why.reason().as_str(), why: &text, now, retry_at, in_doubt };
    shared
        .store
        .tx("fail_aggregation_job", move |mut tx| async move {
            store::aggregation_jobs::fail_attempt(&mut tx, job.row.id, job.token, failure).await?;
            Ok((tx, ()))
        })
        .await
}

pub(super) fn lease_request(shared: &Shared) -> LeaseRequest {
    LeaseRequest {
        now: shared.clock.now(),
        seconds: LEASE_SECONDS,
        token: LeaseToken::random(&mut rand::rng()),
    }
}

/// Seconds until the next try: what the peer asked for, or longer each time.
pub(super) fn wait(shared: &Shared, why: &JobError, attempts: u64) -> u64 {
    match why {
        JobError::Deferred(Some(seconds)) => whole(*seconds),
        JobError::Retry { reason, .. } if reason.needs_a_person() => {
            backoff::patient_seconds(attempts, &shared.clock)
        }
        JobError::Retry { seconds: Some(seconds), .. } => {
            backoff::seconds(attempts, &shared.clock).max(whole(*seconds))
        }
        _ => backoff::seconds(attempts, &shared.clock),
    }
}

/// The clock counts whole seconds, and the one that runs has begun already: whoever is to be left alone for one is asked
/// in the second after the next.
fn whole(seconds: u64) -> u64 {
    seconds.saturating_add(1)
}

/// How often drivers look by themselves. Wake-ups make this the exception.
const POLL: Duration = Duration::from_millis(500);
