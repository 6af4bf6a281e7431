//! The time of day, in one place, so that a test can decide what time it is.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicU64, Ordering},
};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::RngExt as _;

/// Tells the time in seconds since 1970. Clones of a manual clock show the same time.
#[derive(Debug, Clone)]
pub struct Clock {
    manual: Option<Arc<Manual>>,
}

#[derive(Debug, Default)]
struct Manual {
    time: AtomicU64,
    passed: AtomicU64,
    has_neighbours: bool,
}

impl Clock {
    /// The clock of the machine.
    pub fn system() -> Self {
        Self { manual: None }
    }

    /// A clock that stands still until it is set.
    pub fn manual(unix_secs: u64) -> Self {
        Self::manual_among(unix_secs, false)
    }

    /// The same, but it is compared with the clocks of other machines as that of this machine is.
    pub fn manual_with_neighbours(unix_secs: u64) -> Self {
        Self::manual_among(unix_secs, true)
    }

    fn manual_among(unix_secs: u64, has_neighbours: bool) -> Self {
        let manual = Manual { time: AtomicU64::new(unix_secs), has_neighbours, ..Manual::default() };
        Self { manual: Some(Arc::new(manual)) }
    }

    /// Seconds since 1970. A machine whose clock is before that shows 0.
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everyone else asks")]
    pub fn now(&self) -> u64 {
        match &self.manual {
            Some(manual) => manual.time.load(Ordering::SeqCst),
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        }
    }

    /// Time that has passed since some moment that stays the same, whatever anybody does to the time of day.
    pub fn passed(&self) -> Duration {
        match &self.manual {
            Some(manual) => Duration::from_secs(manual.passed.load(Ordering::SeqCst)),
            None => START.elapsed(),
        }
    }

    /// Whether the clocks of other machines ought to show the same.
    pub fn has_neighbours(&self) -> bool {
        self.manual.as_ref().is_none_or(|manual| manual.has_neighbours)
    }

    /// Some seconds, at most `most`, so that not all who wait come back at once. None on a manual clock: a test that
    /// decides what time it is decides who comes when.
    pub fn jitter(&self, most: u64) -> u64 {
        if self.manual.is_some() { 0 } else { rand::rng().random_range(0..=most) }
    }

    /// Sets a manual clock: the time until then passes, if it is ahead.
    ///
    /// # Panics
    /// The clock of the machine is not ours to set.
    pub fn set(&self, unix_secs: u64) {
        let before = self.manual_clock().time.swap(unix_secs, Ordering::SeqCst);
        self.manual_clock().passed.fetch_add(unix_secs.saturating_sub(before), Ordering::SeqCst);
    }

    /// Moves a manual clock on: so much time passes.
    ///
    /// # Panics
    /// The clock of the machine is not ours to move.
    pub fn advance(&self, secs: u64) {
        self.manual_clock().time.fetch_add(secs, Ordering::SeqCst);
        self.manual_clock().passed.fetch_add(secs, Ordering::SeqCst);
    }

    /// Has a manual clock show another time although none has passed, as when somebody sets the clock of a machine.
    ///
    /// # Panics
    /// The clock of the machine is not ours to set.
    pub fn step_to(&self, unix_secs: u64) {
        self.manual_clock().time.store(unix_secs, Ordering::SeqCst);
    }

    fn manual_clock(&self) -> &Manual {
        self.manual.as_ref().expect("only a manual clock is ever set")
    }
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

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
        assert_eq!(clock.passed().as_secs(), 5, "time does not go back");
        clock.set(17);
        clock.step_to(1_000_000);
        assert_eq!((other.now(), other.passed().as_secs()), (1_000_000, 15));
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
