//! The workers: woken when there is work, looking by themselves now and then, quiet otherwise.

use std::sync::Arc;
use std::time::Duration;

use mica_service::shutdown::Shutdown;
use mica_service::store::StoreError;
use mica_service::telemetry;

use super::heartbeat::{Heartbeat, Lease};
use super::{AGGREGATION, COLLECTION, Held, JobError, LEASE_SECONDS, Outcome, backoff};
use crate::leader::{aggregate, collection, form_jobs};
use crate::shared::Shared;
use crate::store;
use crate::store::aggregation_jobs::JobRow;
use crate::store::collection_jobs::CollectionJobRow;
use crate::store::lease::{LeaseRequest, LeaseToken};

/// Runs the leader's workers until `shutdown`; each finishes the step it is in.
pub(crate) async fn drive(shared: Arc<Shared>, shutdown: Shutdown) {
    let mut workers = Vec::new();
    for _ in 0..shared.limits.workers.max(1) {
        workers.push(telemetry::spawn(aggregation_worker(Arc::clone(&shared), shutdown.clone())));
    }
    workers.push(telemetry::spawn(collection_worker(Arc::clone(&shared), shutdown)));
    for worker in workers {
        if let Err(error) = worker.await {
            tracing::error!(%error, "a worker failed");
        }
    }
}

async fn aggregation_worker(shared: Arc<Shared>, shutdown: Shutdown) {
    let mut sleeper = shared.wake().sleeper(AGGREGATION);
    while !shutdown.is_triggered() {
        let step = Arc::clone(&shared);
        // In a task of its own: a step that panics costs its own lease, not the worker.
        match telemetry::spawn(async move { step_aggregation(&step).await }).await {
            Ok(Ok(Outcome::Worked)) => continue,
            Ok(Ok(Outcome::Idle)) => {}
            Ok(Err(error)) => tracing::error!(%error, "aggregation could not look for work"),
            Err(error) => tracing::error!(%error, "a step of an aggregation job failed"),
        }
        tokio::select! {
            _ = sleeper.sleep(POLL) => {}
            () = shutdown.wait() => {}
        }
    }
}

async fn collection_worker(shared: Arc<Shared>, shutdown: Shutdown) {
    let mut sleeper = shared.wake().sleeper(COLLECTION);
    while !shutdown.is_triggered() {
        let step = Arc::clone(&shared);
        match telemetry::spawn(async move { step_collections(&step).await }).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "collection could not look for work"),
            Err(error) => tracing::error!(%error, "a step of a collection failed"),
        }
        tokio::select! {
            _ = sleeper.sleep(POLL) => {}
            () = shutdown.wait() => {}
        }
    }
}

/// Takes up the oldest job and takes it as far as it goes. Only when there is none, segments become one: what gathers
/// while jobs are being driven shares the next.
pub(crate) async fn step_aggregation(shared: &Arc<Shared>) -> Result<Outcome, StoreError> {
    let request = lease_request(shared);
    let mut leased = lease_aggregation(shared, request).await?;
    if leased.is_none() {
        form_jobs::form(shared).await?;
        leased = lease_aggregation(shared, request).await?;
    }
    let Some(row) = leased else { return Ok(Outcome::Idle) };
    let job = Held { row, token: request.token };
    let alive = Heartbeat::of(shared, Lease::Aggregation(job.row.id), job.token);
    let done = aggregate::run(shared, &job).await;
    drop(alive);
    settle_aggregation(shared, &job, done).await?;
    Ok(Outcome::Worked)
}

async fn lease_aggregation(shared: &Shared, request: LeaseRequest) -> Result<Option<JobRow>, StoreError> {
    shared
        .store
        .tx("lease_aggregation_job", move |mut tx| async move {
            let job = store::aggregation_jobs::lease(&mut tx, request).await?;
            Ok((tx, job))
        })
        .await
}

async fn settle_aggregation(
    shared: &Shared,
    job: &Held<JobRow>,
    done: Result<(), JobError>,
) -> Result<(), StoreError> {
    let why = match done {
        Ok(()) | Err(JobError::LeaseLost) => return Ok(()),
        Err(error) => error,
    };
    let retry_at = shared.clock.now() + wait(&why, job.row.attempts);
    tracing::warn!(job = job.row.id, attempts = job.row.attempts, %why, "an aggregation job is tried again later");
    let why = why.to_string();
    let why = &why;
    shared
        .store
        .tx("fail_aggregation_job", move |mut tx| async move {
            store::aggregation_jobs::fail_attempt(&mut tx, job.row.id, job.token, why, retry_at).await?;
            Ok((tx, ()))
        })
        .await
}

/// Steps every collection that is due, each once.
pub(crate) async fn step_collections(shared: &Arc<Shared>) -> Result<(), StoreError> {
    let mut stepped = Vec::new();
    loop {
        let request = lease_request(shared);
        let leased = shared
            .store
            .tx("lease_collection_job", move |mut tx| async move {
                let job = store::collection_jobs::lease(&mut tx, request).await?;
                Ok((tx, job))
            })
            .await?;
        let Some(row) = leased else { return Ok(()) };
        let job = Held { row, token: request.token };
        let again = stepped.contains(&job.row.id);
        stepped.push(job.row.id);
        let alive = Heartbeat::of(shared, Lease::Collection(job.row.id), job.token);
        let done = collection::step(shared, &job).await;
        drop(alive);
        settle_collection(shared, &job, done).await?;
        if again {
            return Ok(());
        }
    }
}

async fn settle_collection(
    shared: &Shared,
    job: &Held<CollectionJobRow>,
    done: Result<collection::Progress, JobError>,
) -> Result<(), StoreError> {
    let now = shared.clock.now();
    let retry_at = match done {
        Ok(collection::Progress::Settled) | Err(JobError::LeaseLost) => return Ok(()),
        Ok(collection::Progress::Waiting) => None,
        Err(error) => {
            tracing::warn!(attempts = job.row.attempts, why = %error, "a collection is tried again later");
            Some(now + wait(&error, job.row.attempts))
        }
    };
    let (id, token) = (&job.row.id, job.token);
    shared
        .store
        .tx("retry_collection_job", move |mut tx| async move {
            match retry_at {
                Some(time) => store::collection_jobs::retry_at(&mut tx, id, token, time).await?,
                None => store::collection_jobs::give_back(&mut tx, id, token, now).await?,
            };
            Ok((tx, ()))
        })
        .await
}

fn lease_request(shared: &Shared) -> LeaseRequest {
    LeaseRequest {
        now: shared.clock.now(),
        seconds: LEASE_SECONDS,
        token: LeaseToken::random(&mut rand::rng()),
    }
}

/// Seconds until the next try: what the peer asked for, or longer each time.
fn wait(why: &JobError, attempts: u64) -> u64 {
    match why {
        JobError::Deferred(seconds) => *seconds,
        JobError::RetryAfter(_, seconds) => backoff::seconds(attempts).max(*seconds),
        _ => backoff::seconds(attempts),
    }
}

/// How often workers look by themselves. Wake-ups make this the exception.
const POLL: Duration = Duration::from_millis(500);
