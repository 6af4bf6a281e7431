//! A time that is safe to act upon where an act cannot be undone: a key that is destroyed, a memory that is emptied.
//!
//! The clock of a machine may step: set by hand, by a battery that is empty, by whoever serves the time. What it shows is
//! believed when it has gone on evenly for [`CLOCKS_DIFFER`] seconds of time that no step can hurry, and from then on for
//! as long as it does not run ahead of that time. Where a database has a clock of its own the two must agree as well.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

use crate::clock::Clock;
use crate::key_life::{CLOCKS_DIFFER, Moment};
use crate::store::{Store, StoreError};

/// A clock that is believed at the second look. Clones share what they have seen.
#[derive(Clone)]
pub struct Steady {
    clock: Clock,
    seen: Arc<Mutex<Seen>>,
    is_alone: Arc<AtomicBool>,
}

/// What the clock showed when so much time had passed.
#[derive(Clone, Copy)]
struct Look {
    wall: u64,
    passed: Duration,
}

#[derive(Default)]
struct Seen {
    believed: Option<Look>,
    /// The first of the looks that agree with each other, and not with what is believed.
    doubted: Option<Look>,
    /// How much time had passed at the first look, and when what is believed was last another time.
    first: Option<Duration>,
    was_set: Option<Duration>,
}

impl Steady {
    /// Has seen nothing yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, seen: Arc::default(), is_alone: Arc::default() }
    }

    /// Looks at the clock. Whether its time may be acted upon is part of what is said.
    pub fn look(&self) -> Moment {
        let look = Look { wall: self.clock.now(), passed: self.clock.passed() };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let believed = seen.look(look);
        let (even_for, was_set) = (seen.even_for(look.passed), seen.was_set.is_some());
        drop(seen);
        let is_sure = believed.is_some() && !self.is_wrong();
        Moment { now: believed.unwrap_or(look.wall), is_sure, even_for, was_set }
    }

    /// The clock, as it is.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whether the clock of the database showed another time.
    pub fn is_wrong(&self) -> bool {
        self.is_alone.load(Ordering::SeqCst)
    }

    /// Compares the clock with that of the database, if it has one of its own.
    ///
    /// # Errors
    /// When the database fails; what was known stays.
    pub async fn compare(&self, store: &Store) -> Result<(), StoreError> {
        if !self.clock.has_neighbours() {
            return Ok(());
        }
        let before = self.clock.now();
        let Some(there) = store.time().await? else { return Ok(()) };
        let after = self.clock.now();
        let differs =
            there.saturating_add(CLOCKS_DIFFER) < before || there > after.saturating_add(CLOCKS_DIFFER);
        if self.is_alone.swap(differs, Ordering::SeqCst) != differs {
            if differs {
                tracing::error!(here = after, there, "{DIFFERS}");
            } else {
                tracing::info!("the clocks of this machine and of the database agree again");
            }
        }
        Ok(())
    }
}

impl Seen {
    fn look(&mut self, look: Look) -> Option<u64> {
        let expected = self.believed.map(|believed| believed.at(look.passed));
        // Two clocks that count whole seconds differ by one.
        if expected.is_some_and(|expected| look.wall <= expected.saturating_add(1)) {
            return Some(self.believe(look, expected));
        }
        match self.doubted {
            Some(first) if first.at(look.passed).abs_diff(look.wall) <= 1 => {
                if look.passed.saturating_sub(first.passed).as_secs() >= CLOCKS_DIFFER {
                    return Some(self.believe(look, expected));
                }
            }
            _ => self.doubted = Some(look),
        }
        expected
    }

    fn believe(&mut self, look: Look, expected: Option<u64>) -> u64 {
        if expected.is_some_and(|expected| expected.abs_diff(look.wall) > CLOCKS_DIFFER) {
            self.was_set = Some(look.passed);
        }
        (self.believed, self.doubted) = (Some(look), None);
        look.wall
    }

    fn even_for(&mut self, passed: Duration) -> u64 {
        let first = *self.first.get_or_insert(passed);
        passed.saturating_sub(self.was_set.unwrap_or(first)).as_secs()
    }
}

impl Look {
    /// What the clock shows at another moment if it goes on evenly.
    fn at(&self, passed: Duration) -> u64 {
        self.wall.saturating_add(passed.saturating_sub(self.passed).as_secs())
    }
}

/// What is wrong when clocks differ, and what to do.
pub const DIFFERS: &str = "the clocks of this machine and of the database differ by more than a minute: no key is replaced or \
                           destroyed, and no answer forgotten, until they agree; set the clock that is wrong";

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn sure(steady: &Steady) -> Option<u64> {
        let moment = steady.look();
        moment.is_sure.then_some(moment.now)
    }

    #[test]
    fn a_time_is_believed_at_the_second_look_a_minute_later() {
        let clock = Clock::manual(NOW);
        let steady = Steady::new(clock.clone());
        assert_eq!(sure(&steady), None);
        clock.advance(CLOCKS_DIFFER - 1);
        assert_eq!(sure(&steady), None);
        clock.advance(1);
        assert_eq!(sure(&steady), Some(NOW + 60));
        clock.advance(86_400);
        assert_eq!(sure(&steady), Some(NOW + 86_460), "nobody need look often");
    }

    #[test]
    fn a_clock_that_steps_ahead_is_believed_only_when_it_stays_there() {
        let clock = Clock::manual(NOW);
        let steady = Steady::new(clock.clone());
        sure(&steady);
        clock.advance(CLOCKS_DIFFER);
        assert_eq!(sure(&steady), Some(NOW + 60));
        clock.step_to(NOW + 86_400);
        assert_eq!(sure(&steady), Some(NOW + 60), "time passes as before");
        clock.advance(59);
        assert_eq!(sure(&steady), Some(NOW + 119));
        clock.step_to(NOW + 120);
        assert_eq!(sure(&steady), Some(NOW + 120), "a second ahead is not far");
        clock.step_to(NOW + 200_000);
        sure(&steady);
        clock.advance(30);
        clock.step_to(NOW + 300_000);
        sure(&steady);
        clock.advance(30);
        assert_eq!(sure(&steady), Some(NOW + 180), "sixty seconds of two times that do not agree");
        clock.advance(30);
        assert_eq!(sure(&steady), Some(NOW + 300_060));
    }

    #[test]
    fn what_a_clock_jumped_over_has_not_passed() {
        let clock = Clock::manual(NOW);
        let steady = Steady::new(clock.clone());
        steady.look();
        clock.advance(CLOCKS_DIFFER);
        let before = steady.look();
        assert_eq!((before.age_of(NOW - 500), before.even_for, before.was_set), (560, 60, false));
        clock.step_to(NOW + 86_400);
        steady.look();
        clock.advance(CLOCKS_DIFFER);
        let ahead = steady.look();
        assert!(ahead.is_sure && ahead.now == NOW + 86_460);
        assert_eq!(ahead.age_of(NOW), 0, "it is believed, and nothing has aged by it");
        assert_eq!(
            (before.end_of(NOW, NOW + 100), ahead.end_of(NOW, NOW + 100)),
            (NOW + 100, ahead.now + 100)
        );
        assert!(!ahead.is_over(NOW, NOW + 100) && ahead.is_over(NOW, NOW));
        clock.advance(100);
        assert_eq!(steady.look().age_of(NOW), 100);
        assert!(steady.look().is_over(NOW, NOW + 100) && !steady.look().is_over(NOW, NOW + 101));
        clock.step_to(NOW + 220);
        let right = steady.look();
        assert!(right.is_sure && right.is_before(NOW + 86_460) && !right.is_before(NOW + 280));
        assert_eq!((right.age_of(NOW), right.even_for), (0, 0));
        clock.advance(30);
        assert_eq!((steady.look().age_of(NOW), steady.look().age_of(NOW + 240)), (30, 10));
    }

    #[test]
    fn a_clock_that_steps_back_is_believed_at_once_and_makes_nothing_due() {
        let clock = Clock::manual(NOW);
        let steady = Steady::new(clock.clone());
        sure(&steady);
        clock.advance(CLOCKS_DIFFER);
        sure(&steady);
        clock.step_to(NOW - 86_400);
        assert_eq!(sure(&steady), Some(NOW - 86_400));
        clock.step_to(NOW + 60);
        assert_eq!(sure(&steady), Some(NOW - 86_400), "forward it takes its time again");
    }
}
