//! Whether connections are being accepted, and how many there are.
//!
//! A server that is out of file descriptors, or full of connections, looks alive to everybody who is connected and dead to
//! everybody else. Here it says so itself: to whoever asks whether it is ready, and to the connections on which nothing
//! happens, which then make room.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Watches one listener. Clones watch the same one.
#[derive(Debug, Clone)]
pub struct Gauge(Arc<State>);

#[derive(Debug)]
struct State {
    stalled_since: Mutex<Option<Instant>>,
    stalled: watch::Sender<bool>,
    open: AtomicUsize,
}

impl Default for Gauge {
    fn default() -> Self {
        let stalled = watch::Sender::new(false);
        Self(Arc::new(State { stalled_since: Mutex::new(None), stalled, open: AtomicUsize::new(0) }))
    }
}

impl Gauge {
    /// How long nobody could be accepted who wanted to connect.
    pub fn stalled_for(&self) -> Option<Duration> {
        self.since().map(|since| since.elapsed())
    }

    /// Whether that is longer than a moment.
    pub fn is_stalled(&self) -> bool {
        self.stalled_for().is_some_and(|time| time >= A_MOMENT)
    }

    /// Connections at this moment.
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// Nobody can be accepted now.
    pub(super) fn stall(&self) {
        let mut since = self.0.stalled_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.get_or_insert_with(Instant::now);
        self.0.stalled.send_if_modified(|stalled| !std::mem::replace(stalled, true));
    }

    /// Whoever wants to connect can.
    pub(super) fn go(&self) {
        let mut since = self.0.stalled_since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.take().is_some() {
            self.0.stalled.send_if_modified(|stalled| std::mem::replace(stalled, false));
        }
    }

    /// Returns when nobody can be accepted, at once if it is so.
    pub(super) async fn until_stalled(&self) {
        // The sender is borrowed here, so it is still there.
        let _ = self.0.stalled.subscribe().wait_for(|stalled| *stalled).await;
    }

    /// One more connection, until the returned value is dropped.
    pub(super) fn enter(&self) -> Entered {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        Entered(Arc::clone(&self.0))
    }

    fn since(&self) -> Option<Instant> {
        *self.0.stalled_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection.
pub(super) struct Entered(Arc<State>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A listener that is busy for a shorter time is only busy.
const A_MOMENT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::Gauge;

    #[tokio::test]
    async fn a_stall_lasts_until_somebody_can_connect() {
        let gauge = Gauge::default();
        assert_eq!(gauge.stalled_for(), None);
        gauge.stall();
        let first = gauge.stalled_for().expect("it stalls");
        gauge.stall();
        assert!(gauge.stalled_for().expect("it still does") >= first && !gauge.is_stalled());
        gauge.until_stalled().await;
        gauge.go();
        assert_eq!(gauge.stalled_for(), None);
        let entered = gauge.enter();
        assert_eq!(gauge.open(), 1);
        drop(entered);
        assert_eq!(gauge.open(), 0);
    }
}
