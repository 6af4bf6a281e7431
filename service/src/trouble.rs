//! Something that goes wrong again and again, told in few lines.
//!
//! Wherever peers or strangers decide how often something fails, a line for each time would let them fill a disk, and would
//! keep the moment of each. So there is one when it begins, one a minute with how often, and one when it is over. It must
//! never learn what failed for whom.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One kind of trouble.
#[derive(Debug, Default)]
pub struct Trouble(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    told: Option<Instant>,
    untold: u64,
    /// Whether its beginning was told and its end was not.
    goes_on: bool,
}

impl Trouble {
    /// It happened. How often since it was told last, if it is time to tell.
    pub fn occurs(&self) -> Option<u64> {
        self.occurs_at(Instant::now())
    }

    /// It did not happen where it could have. Whether that is news.
    pub fn ends(&self) -> bool {
        std::mem::take(&mut self.lock().goes_on)
    }

    fn occurs_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.lock();
        state.untold = state.untold.saturating_add(1);
        if state.told.is_some_and(|told| now.saturating_duration_since(told) < A_MINUTE) {
            return None;
        }
        (state.told, state.goes_on) = (Some(now), true);
        Some(std::mem::take(&mut state.untold))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const A_MINUTE: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_all_the_time_is_told_once_a_minute_with_how_often() {
        let (trouble, start) = (Trouble::default(), Instant::now());
        let at = |millis| trouble.occurs_at(start + Duration::from_millis(millis));
        assert_eq!(at(0), Some(1));
        assert!((1..60).all(|second| at(second * 1_000).is_none()));
        assert_eq!(at(60_000), Some(60));
        assert_eq!(at(119_999), None);
        assert_eq!(at(300_000), Some(2));
        assert!(trouble.ends() && !trouble.ends(), "the end is told once");
    }

    #[test]
    fn what_comes_and_goes_is_told_no_more_often() {
        let (trouble, start) = (Trouble::default(), Instant::now());
        assert!(!trouble.ends(), "it never began");
        let mut told = Vec::new();
        for step in 0..10_000 {
            told.extend(trouble.occurs_at(start + Duration::from_millis(step * 10)));
            told.extend(trouble.ends().then_some(0));
        }
        assert_eq!(told, [1, 0, 6_000, 0], "in a hundred seconds");
    }
}
