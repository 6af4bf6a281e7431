//! The time of day, in one place, so that a test can decide what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time in seconds since 1970. Clones of a manual clock show the same time.
#[derive(Debug, Clone)]
pub struct Clock {
    manual: Option<Arc<AtomicU64>>,
}

impl Clock {
    /// The clock of the machine.
    pub fn system() -> Self {
        Self { manual: None }
    }

    /// A clock that stands still until it is set.
    pub fn manual(unix_secs: u64) -> Self {
        Self { manual: Some(Arc::new(AtomicU64::new(unix_secs))) }
    }

    /// Seconds since 1970. A machine whose clock is before that shows 0.
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everyone else asks")]
    pub fn now(&self) -> u64 {
        match &self.manual {
            Some(time) => time.load(Ordering::SeqCst),
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        }
    }

    /// Sets a manual clock.
    ///
    /// # Panics
    /// The clock of the machine is not ours to set.
    pub fn set(&self, unix_secs: u64) {
        self.manual_time().store(unix_secs, Ordering::SeqCst);
    }

    /// Moves a manual clock on.
    ///
    /// # Panics
    /// The clock of the machine is not ours to move.
    pub fn advance(&self, secs: u64) {
        self.manual_time().fetch_add(secs, Ordering::SeqCst);
    }

    fn manual_time(&self) -> &AtomicU64 {
        self.manual.as_ref().expect("only a manual clock is ever set")
    }
}

#[cfg(test)]
mod tests {
    use super::Clock;

    #[test]
    fn clones_of_a_manual_clock_show_the_same_time() {
        let clock = Clock::manual(1_000);
        let other = clock.clone();
        clock.advance(5);
        assert_eq!(other.now(), 1_005);
        other.set(7);
        assert_eq!(clock.now(), 7);
    }

    #[test]
    fn the_clock_of_the_machine_is_past_2020() {
        assert!(Clock::system().now() > 1_577_836_800);
    }
}
