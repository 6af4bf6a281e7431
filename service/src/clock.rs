//! The time of day, in one place, so that a test can decide what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rand::RngExt as _;

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

    /// Some seconds, at most `most`, so that not all who wait come back at once. None on a manual clock: a test that
    /// decides what time it is decides who comes when.
    pub fn jitter(&self, most: u64) -> u64 {
        if self.manual.is_some() { 0 } else { rand::rng().random_range(0..=most) }
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
    fn only_the_clock_of_the_machine_jitters() {
        let (machine, manual) = (Clock::system(), Clock::manual(1));
        assert!((0..100).all(|_| manual.jitter(1_000_000) == 0));
        assert!((0..100).any(|_| machine.jitter(1_000_000) > 0));
        assert!((0..100).all(|_| machine.jitter(3) <= 3));
    }

    #[test]
    fn the_clock_of_the_machine_is_past_2020() {
        assert!(Clock::system().now() > 1_577_836_800);
    }
}
