//! How long to wait before the next try: longer each time, never the same for two drivers.

use mica_service::clock::Clock;

/// Seconds until the next try after `attempts` that failed: 1, 2, 4 .. 60, and up to half of it again.
pub(super) fn seconds(attempts: u64, clock: &Clock) -> u64 {
    spread((1_u64 << attempts.saturating_sub(1).min(6)).min(LONGEST), clock)
}

/// The same where trying will not help by itself: 30 seconds, a minute .. an hour.
pub(super) fn patient_seconds(attempts: u64, clock: &Clock) -> u64 {
    spread((30_u64 << attempts.saturating_sub(1).min(7)).min(LONGEST_PATIENT), clock)
}

fn spread(base: u64, clock: &Clock) -> u64 {
    base + clock.jitter(base / 2)
}

const LONGEST: u64 = 60;
const LONGEST_PATIENT: u64 = 3_600;

#[cfg(test)]
mod tests {
    use mica_service::clock::Clock;

    fn seconds(attempts: u64) -> u64 {
        super::seconds(attempts, &Clock::system())
    }

    fn patient_seconds(attempts: u64) -> u64 {
        super::patient_seconds(attempts, &Clock::system())
    }

    #[test]
    fn waits_grow_and_stay_bounded() {
        assert!((1..=1).contains(&seconds(0)));
        assert!((4..=6).contains(&seconds(3)));
        for attempts in 7..100 {
            assert!((60..=90).contains(&seconds(attempts)), "{attempts}");
        }
        assert!((30..=45).contains(&patient_seconds(1)));
        for attempts in 8..100 {
            assert!((3_600..=5_400).contains(&patient_seconds(attempts)), "{attempts}");
        }
    }
}
