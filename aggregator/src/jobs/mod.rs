//! Work that outlives a request: aggregation jobs and collections, driven at the leader.
//!
//! A job is a row. Whoever drives it holds a lease on the row, does one step and settles it in a transaction that is
//! guarded by the lease; a step that dies is taken up again by the next driver, with the same bytes towards the
//! helper. A job that the helper may have committed is never given up, because the two aggregators could not agree on
//! the batch any more.

mod backoff;
#[cfg(feature = "testing")]
pub(crate) mod by_hand;
mod collections;
mod crew;
mod driver;
mod forgotten;
mod heartbeat;
mod leftovers;
mod looks;
mod reason;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use mica_service::clock::Clock;
use mica_service::store::StoreError;

use crate::shared::Shared;
use crate::store::LeaseToken;

pub(crate) use crew::Crew;
pub(crate) use driver::drive;
pub(crate) use heartbeat::{Heartbeat, Lease};
pub(crate) use looks::Looks;
pub use reason::Reason;

/// Sleepers under this name form and run aggregation jobs.
pub(crate) const AGGREGATION: &str = "aggregation";
/// Sleepers under this name step collections.
pub(crate) const COLLECTION: &str = "collection";

/// Sleepers under this name tell the helper what it may forget.
pub(crate) const LEFTOVERS: &str = "leftovers";

/// Sleepers under this name work on what the helper has taken in.
pub(crate) const HELPER_WORK: &str = "helper-work";

/// How long a driver may hold a job without a sign of life, in seconds.
pub(crate) const LEASE_SECONDS: u64 = 15;

/// Seconds until the next try after `attempts` that failed.
pub(crate) fn pause(attempts: u64, clock: &Clock) -> u64 {
    backoff::seconds(attempts, clock)
}

/// What is in a batch of the task has changed, in a transaction that is committed: its collections may have something to
/// do now.
pub(crate) fn batch_changed(shared: &Shared, task: i64) {
    shared.looks.changed(task);
    shared.wake().notify(COLLECTION);
}

/// A row and the lease that this process holds on it.
pub(crate) struct Held<R> {
    pub(crate) row: R,
    pub(crate) token: LeaseToken,
}

/// Whether the helper may have counted reports of a job, as far as one attempt knows.
///
/// The row is in doubt from the moment before the first request, so that a crash at any later point leaves it so. An attempt
/// that ends in this process knows better: what was never sent, or turned away unread, is noted as untouched.
pub(crate) struct Doubt(AtomicBool);

impl Doubt {
    /// What earlier attempts have left.
    pub(crate) fn left_by(earlier: bool) -> Self {
        Self(AtomicBool::new(earlier))
    }

    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self, doubt: bool) {
        self.0.store(doubt, Ordering::SeqCst);
    }
}

/// What came of one look for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Something was done; there may be more.
    Worked,
    /// Nothing to do right now.
    Idle,
}

/// Why a step did not settle its job; it stays as it is and is tried again.
#[derive(Debug)]
pub(crate) enum JobError {
    /// The peer or the network, or something missing here; the text is kept with the job, so that it can be seen why it
    /// is stuck. Perhaps the peer said for how many seconds it does not want to be asked. `untouched` where it is certain that the
    /// request changed nothing there.
    Retry { reason: Reason, why: String, seconds: Option<u64>, untouched: bool },
    /// The peer works on it, and perhaps said for how many more seconds.
    Deferred(Option<u64>),
    /// Our database.
    Store(StoreError),
    /// Another driver holds the job by now: nothing was done, and nothing needs to be.
    LeaseLost,
}

impl JobError {
    /// Something that the peer said makes no sense.
    pub(crate) fn retry(why: impl Into<String>) -> Self {
        Self::because(Reason::Confused, why)
    }

    /// A reason to try again later.
    pub(crate) fn because(reason: Reason, why: impl Into<String>) -> Self {
        Self::Retry { reason, why: why.into(), seconds: None, untouched: reason.left_untouched() }
    }

    /// Whether the request that ended so has changed nothing at the peer.
    pub(crate) fn left_untouched(&self) -> bool {
        matches!(self, Self::Retry { untouched: true, .. })
    }

    /// The reason in one word.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Retry { reason, .. } => *reason,
            Self::Deferred(_) => Reason::Deferred,
            Self::Store(_) | Self::LeaseLost => Reason::Local,
        }
    }
}

impl From<StoreError> for JobError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry { why, .. } => f.write_str(why),
            Self::Deferred(Some(seconds)) => write!(f, "the helper asks to come back in {seconds} s"),
            Self::Deferred(None) => f.write_str("the helper has not got that far"),
            Self::Store(error) => write!(f, "{error}"),
            Self::LeaseLost => f.write_str("another driver holds the job"),
        }
    }
}
