//! The helper's worker: what was taken in and not answered yet is worked on here, by whoever holds its lease.
//!
//! A worker that dies loses its lease, and another begins again with the same bytes; the transaction that stores the
//! answer takes the request away, so that it happens once. A request that is refused as a whole is answered with its
//! problem from then on; what fails through a fault of ours is tried again, but not for ever: a request that a worker
//! panics over, or dies of, would take its time from all others.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mica_dap::id::{AggregateShareId, AggregationJobId};
use mica_service::shutdown::Shutdown;
use mica_service::store::StoreError;
use mica_service::telemetry;

use super::commit::Origin;
use super::init::{self, Parsed};
use super::proceed;
use super::share;
use crate::config::Answers;
use crate::error::{Abort, Fault, ServerError};
use crate::jobs::{self, Crew, HELPER_WORK, Heartbeat, LEASE_SECONDS, Lease};
use crate::shared::Shared;
use crate::store::helper_work::{self, WorkKind, WorkRow};
use crate::store::lease::{LeaseRequest, LeaseToken};
use crate::store::{helper_jobs, helper_shares, helper_states};
use crate::task::Task;

/// Works until `shutdown`; what is under way is finished.
pub(crate) async fn drive(shared: Arc<Shared>, shutdown: Shutdown) {
    let mut sleeper = shared.wake().sleeper(HELPER_WORK);
    let mut crew = Crew::new(shared.limits.workers);
    // A replica may take requests in that this process works on. Where all are answered at once, there is only what an
    // earlier process has left.
    let poll = if shared.limits.answers == Answers::Deferred { POLL } else { SELDOM };
    let (mut wanted, mut look) = (BTreeSet::new(), true);
    while !shutdown.is_triggered() {
        if look {
            match tasks_with_work(&shared).await {
                Ok(tasks) => wanted.extend(tasks),
                Err(error) => tracing::error!(%error, kind = HELPER_WORK, "could not look for work"),
            }
        }
        if wanted.iter().any(|task| shared.tasks.by_key(*task).is_none()) {
            forget_expired(&shared).await;
        }
        wanted.retain(|task| {
            let known = shared.tasks.by_key(*task).is_some();
            let room = known && crew.has_room(*task);
            if room {
                crew.spawn(*task, work(Arc::clone(&shared), *task, shutdown.clone()));
            }
            known && !room
        });
        look = tokio::select! {
            _ = sleeper.sleep(poll) => true,
            achieved = crew.next_done(!wanted.is_empty()) => achieved,
            () = shutdown.wait() => false,
        };
    }
    crew.all_done().await;
}

/// Works on one request of each task that has one which is due. Whether there was any.
#[cfg(feature = "testing")]
pub(crate) async fn by_hand(shared: &Arc<Shared>) -> Result<bool, StoreError> {
    let mut worked = false;
    for task in tasks_with_work(shared).await? {
        if let Some(task) = shared.tasks.by_key(task) {
            worked |= step(shared, &task).await?;
        }
    }
    Ok(worked)
}

async fn tasks_with_work(shared: &Shared) -> Result<Vec<i64>, StoreError> {
    let now = shared.clock.now();
    let tasks = shared.store.read("tasks_with_helper_work", move |mut tx| async move {
        let tasks = helper_work::tasks_with_work(&mut tx, now).await?;
        Ok((tx, tasks))
    });
    tasks.await
}

/// Work of tasks whose time is long over is of no use to anybody: they are not among the tasks any more.
async fn forget_expired(shared: &Shared) {
    let now = shared.clock.now();
    let forgotten = shared.store.tx("forget_expired_helper_work", move |mut tx| async move {
        let forgotten = helper_work::forget_expired(&mut tx, now).await?;
        Ok((tx, forgotten))
    });
    match forgotten.await {
        Ok(0) => {}
        Ok(requests) => tracing::info!(requests, "requests of tasks that are over were dropped"),
        Err(error) => tracing::error!(%error, "could not drop the requests of tasks that are over"),
    }
}

/// Works for one task until nothing is due. Whether it achieved something.
async fn work(shared: Arc<Shared>, task: i64, shutdown: Shutdown) -> bool {
    let mut worked = false;
    while !shutdown.is_triggered() {
        let Some(task) = shared.tasks.by_key(task) else { break };
        match step(&shared, &task).await {
            Ok(true) => worked = true,
            Ok(false) => break,
            Err(error) => {
                tracing::error!(%error, "work on what the leader asked for failed");
                return false;
            }
        }
    }
    worked
}

/// Takes up the request that has waited longest and settles it, whichever way. False when there is none.
async fn step(shared: &Arc<Shared>, task: &Arc<Task>) -> Result<bool, StoreError> {
    let request = LeaseRequest {
        now: shared.clock.now(),
        seconds: LEASE_SECONDS,
        token: LeaseToken::random(&mut rand::rng()),
    };
    let key = task.key;
    let leased = shared.store.tx("lease_helper_work", move |mut tx| async move {
        let row = helper_work::lease(&mut tx, key, request).await?;
        Ok((tx, row))
    });
    let Some(row) = leased.await? else { return Ok(false) };
    let (kind, id, attempts) = (row.kind, row.id, row.attempts);
    let alive = Heartbeat::of(shared, Lease::HelperWork(id), request.token);
    let done = if attempts > MOST_ATTEMPTS {
        // Whoever took it up the last time was not there any more to say so.
        Err(Trouble::Fault(Fault::new(anyhow::anyhow!("every attempt was cut short"))))
    } else {
        guarded(shared, task, row, request.token).await
    };
    drop(alive);
    match done {
        Ok(()) => {}
        Err(Trouble::Fault(fault)) if attempts >= MOST_ATTEMPTS && !fault.may_pass() => {
            tracing::error!(attempts, why = %fault, "what the leader asked for is given up");
            let given_up = Abort::given_up(attempts.min(MOST_ATTEMPTS)).in_task(&task.id);
            if let Err(fault) = refuse(shared, kind, id, request.token, &given_up).await {
                tracing::error!(why = %fault, "it could not be given up");
            }
        }
        Err(trouble) => {
            tracing::warn!(attempts, why = %trouble, "what the leader asked for is tried again later");
            put_off(shared, id, request.token, (attempts, trouble.counts())).await?;
        }
    }
    Ok(true)
}

/// Why a request was not settled.
enum Trouble {
    /// There is too much else to do.
    NoRoom,
    /// A fault of ours.
    Fault(Fault),
}

impl Trouble {
    /// Whether it says anything about the request.
    fn counts(&self) -> bool {
        matches!(self, Self::Fault(fault) if !fault.may_pass())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoom => f.write_str("there is no room right now"),
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}

/// Settles a request in a task of its own, so that a panic is a fault like any other.
async fn guarded(
    shared: &Arc<Shared>,
    task: &Arc<Task>,
    row: WorkRow,
    token: LeaseToken,
) -> Result<(), Trouble> {
    let (shared, task) = (Arc::clone(shared), Arc::clone(task));
    let settled = telemetry::spawn(async move { settle(&shared, &task, row, token).await });
    // What it says may quote anything; the hook for panics has written it already.
    settled.await.unwrap_or_else(|_| Err(Trouble::Fault(Fault::new(anyhow::anyhow!("a panic")))))
}

async fn settle(
    shared: &Arc<Shared>,
    task: &Arc<Task>,
    row: WorkRow,
    token: LeaseToken,
) -> Result<(), Trouble> {
    let (kind, id) = (row.kind, row.id);
    // What requests take of the memory is bounded, whether they are answered at once or later.
    let _taken = shared.room.take(row.request.len()).ok_or(Trouble::NoRoom)?;
    let started = Instant::now();
    let (pace, done) = match kind {
        WorkKind::Init => (&shared.paces.jobs, init(shared, task, row, token).await),
        WorkKind::Continue => (&shared.paces.jobs, proceed(shared, task, row, token).await),
        WorkKind::Share => (&shared.paces.shares, share::work(shared, task, &row, token).await),
    };
    match done {
        Ok(()) => {
            pace.measure(1, started.elapsed());
            Ok(())
        }
        Err(ServerError::Abort(abort)) => {
            refuse(shared, kind, id, token, &abort).await.map_err(Trouble::Fault)
        }
        Err(ServerError::Fault(fault)) => Err(Trouble::Fault(fault)),
    }
}

async fn init(
    shared: &Arc<Shared>,
    task: &Arc<Task>,
    row: WorkRow,
    token: LeaseToken,
) -> Result<(), ServerError> {
    let request = init::read(shared, task, &row.request)?;
    let origin = Origin::Leased(AggregationJobId::new(row.id), 0, token);
    drop(row);
    let parsed = Parsed::judge(Arc::clone(shared), Arc::clone(task), request, origin)?;
    // Nothing: the job was deleted, or another has done the work.
    parsed.verify().await.commit().await?;
    Ok(())
}

async fn proceed(
    shared: &Arc<Shared>,
    task: &Arc<Task>,
    row: WorkRow,
    token: LeaseToken,
) -> Result<(), ServerError> {
    let id = AggregationJobId::new(row.id);
    let kept = shared.store.read("helper_states", move |mut tx| async move {
        let kept = helper_states::of_job(&mut tx, &id).await?;
        Ok((tx, kept))
    });
    // Deleted meanwhile, and with it this work.
    let Some(kept) = kept.await? else { return Ok(()) };
    let request = proceed::read(shared, task, &row.request)?;
    let origin = Origin::Leased(id, request.step, token);
    let joined = proceed::join(task, &kept, request)?;
    let verified = proceed::verify(Arc::clone(shared), Arc::clone(task), kept, joined, origin).await;
    verified.commit().await?;
    Ok(())
}

/// The request is refused for good; whoever asks is told why.
async fn refuse(
    shared: &Shared,
    kind: WorkKind,
    id: [u8; 16],
    token: LeaseToken,
    abort: &Abort,
) -> Result<(), Fault> {
    let problem = &abort.to_json();
    let refused = shared.store.tx("refuse_helper_work", move |mut tx| async move {
        if helper_work::finish(&mut tx, &id, token).await? {
            match kind {
                WorkKind::Init | WorkKind::Continue => {
                    helper_states::delete(&mut tx, &AggregationJobId::new(id)).await?;
                    helper_jobs::set_failed(&mut tx, &id, problem).await?;
                }
                WorkKind::Share => {
                    helper_shares::set_failed(&mut tx, &AggregateShareId::new(id), problem).await?;
                }
            }
        }
        Ok((tx, ()))
    });
    refused.await.map_err(Fault::new)
}

async fn put_off(
    shared: &Shared,
    id: [u8; 16],
    token: LeaseToken,
    (attempts, counts): (u64, bool),
) -> Result<(), StoreError> {
    let retry_at = shared.clock.now() + jobs::pause(attempts, &shared.clock);
    let put_off = shared.store.tx("put_off_helper_work", move |mut tx| async move {
        helper_work::fail_attempt(&mut tx, &id, token, (retry_at, counts)).await?;
        Ok((tx, ()))
    });
    put_off.await
}

/// How often a request is tried that fails through a fault of ours. With the pauses between them some ten minutes go by.
const MOST_ATTEMPTS: u64 = 15;

/// How often this process looks by itself for what another has taken in.
const POLL: Duration = Duration::from_millis(500);
/// The same where nothing is expected.
const SELDOM: Duration = Duration::from_secs(10);
