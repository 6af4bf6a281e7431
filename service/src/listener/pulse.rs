//! Signs of life of one connection, so that a silent one can be told from a busy one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// What is known about a connection: whether it ever asked, how much it asks now, when it was last answered.
#[derive(Debug)]
pub(super) struct Pulse {
    since: Instant,
    asked: AtomicBool,
    in_flight: AtomicUsize,
    answered_ms: AtomicU64,
}

impl Pulse {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            since: Instant::now(),
            asked: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            answered_ms: AtomicU64::new(0),
        })
    }

    /// A request begins; it ends when the returned value is dropped.
    pub(super) fn request(self: &Arc<Self>) -> InFlight {
        self.asked.store(true, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    pub(super) fn has_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Nothing is being worked on, and the last answer was ready `time` ago. Pings do not count, and neither
    /// does an answer that the peer does not care to read.
    pub(super) fn is_idle_for(&self, time: Duration) -> bool {
        let last = Duration::from_millis(self.answered_ms.load(Ordering::Relaxed));
        self.in_flight.load(Ordering::Relaxed) == 0 && self.since.elapsed().saturating_sub(last) >= time
    }

    fn answered(&self) {
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.answered_ms.store(now, Ordering::Relaxed);
    }
}

/// One request being worked on.
pub(super) struct InFlight(Arc<Pulse>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.answered();
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
