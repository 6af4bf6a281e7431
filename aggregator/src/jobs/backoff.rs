//! How long to wait before the next try: longer each time, never the same for two drivers.

use mica_service::clock::Clock;

/// Seconds until the next try after `attempts` that failed: 1, 2, 4 .. 60, and up to half of it again.
pub(super) fn seconds(attempts: u64, clock: &Clock) -> u64 {
    let base = 1_u64 << attempts.saturating_sub(1).min(6);
    let base = base.min(LONGEST);
    base + clock.jitter(base / 2)
}

const LONGEST: u64 = 60;

#[cfg(test)]
mod tests {
    use mica_service::clock::Clock;

    fn seconds(attempts: u64) -> u64 {
        super::seconds(attempts, &Clock::system())
    }

    #[test]
    fn waits_grow_and_stay_bounded() {
        assert!((1..=1).contains(&seconds(0)));
        assert!((4..=6).contains(&seconds(3)));
        for attempts in 7..100 {
            assert!((60..=90).contains(&seconds(attempts)), "{attempts}");
        }
    }
}
