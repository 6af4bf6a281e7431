//! How long work takes here, measured, so that a peer that must wait is told an honest time (DAP 3.1).
//!
//! Everything that says `Retry-After` asks one of these meters: uploads and aggregation jobs that find no room, jobs and
//! shares that the helper works on later, collections that are not ready. It counts time and must never learn what the
//! work was about.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::task::Role;

/// The meters of one process.
#[derive(Debug, Default)]
pub struct Paces {
    /// Per report: from the group that is written to its commit.
    pub uploads: Pace,
    /// Per aggregation job at the helper: from its first byte of work to the commit.
    pub jobs: Pace,
    /// Per aggregate share at the helper, the same.
    pub shares: Pace,
    /// Per collection at the leader: from the moment somebody takes it up to the moment it can be answered.
    pub collections: Pace,
}

impl Paces {
    /// How long somebody should stay away whose large request found no room, when so much may be waiting.
    pub(crate) fn when_full(&self, role: Role, waiting: usize) -> u64 {
        match role {
            Role::Leader => self.uploads.seconds_for(waiting),
            Role::Helper => self.jobs.seconds_for(waiting),
        }
    }
}

/// A moving average of the time that one unit of work takes. Before anything was measured it takes no time.
#[derive(Debug, Default)]
pub struct Pace {
    /// In microseconds; 0 until something was measured.
    each: AtomicU64,
}

impl Pace {
    /// Takes note that `units` of work took so long together. An eighth of it counts.
    pub fn measure(&self, units: usize, took: Duration) {
        let each = micros(took) / (units.max(1) as u64);
        // Two that measure at once: either may win, both are right.
        let before = self.each.load(Ordering::Relaxed);
        self.each.store(next(before, each), Ordering::Relaxed);
    }

    /// How long one unit takes, in microseconds; 0 before anything was measured.
    #[must_use]
    pub fn microseconds(&self) -> u64 {
        self.each.load(Ordering::Relaxed)
    }

    /// How long `units` of work take one after the other, as a `Retry-After` says it: in whole seconds, rounded up, no
    /// less than one and no more than sixty.
    pub fn seconds_for(&self, units: usize) -> u64 {
        seconds(self.each.load(Ordering::Relaxed), units as u64)
    }
}

/// The average after another measurement. The first one counts wholly; none is forgotten, however short.
fn next(before: u64, each: u64) -> u64 {
    let each = each.clamp(1, LONGEST);
    if before == 0 { each } else { before - before / 8 + each.div_ceil(8) }
}

fn seconds(each: u64, units: u64) -> u64 {
    each.saturating_mul(units).div_ceil(1_000_000).clamp(LEAST, MOST)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Longer than anything takes, in microseconds: an hour.
const LONGEST: u64 = 3_600_000_000;
/// Less cannot be said in a header.
const LEAST: u64 = 1;
/// Who stays away longer may miss that the work was done meanwhile.
const MOST: u64 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_retry_follows_what_was_measured() {
        let pace = Pace::default();
        assert_eq!(pace.seconds_for(10_000), 1, "nothing is known yet");
        pace.measure(10, Duration::from_millis(10));
        assert_eq!(pace.seconds_for(5_000), 5);
        assert_eq!(pace.seconds_for(5_001), 6, "rounded up");
        for _ in 0..100 {
            pace.measure(1, Duration::from_millis(2));
        }
        assert!((9..=11).contains(&pace.seconds_for(5_000)), "{}", pace.seconds_for(5_000));
    }

    #[test]
    fn one_slow_unit_moves_the_average_by_an_eighth() {
        let pace = Pace::default();
        pace.measure(1, Duration::from_secs(2));
        pace.measure(1, Duration::from_secs(10));
        assert_eq!(pace.seconds_for(1), 3);
    }

    #[test]
    fn the_time_stays_between_a_second_and_a_minute_whatever_happens() {
        for took in [Duration::ZERO, Duration::from_nanos(1), Duration::from_hours(9), Duration::MAX] {
            for units in [0, 1, usize::MAX] {
                let pace = Pace::default();
                for _ in 0..3 {
                    pace.measure(units, took);
                }
                for waiting in [0, 1, 1_000, usize::MAX] {
                    assert!((1..=60).contains(&pace.seconds_for(waiting)));
                }
            }
        }
    }

    #[test]
    fn fast_work_is_not_forgotten_and_slow_work_is() {
        let mut average = next(0, 0);
        assert_eq!(average, 1);
        average = next(average, 80_000_000);
        for _ in 0..200 {
            average = next(average, 8);
        }
        assert!(average <= 16, "{average}");
    }
}
