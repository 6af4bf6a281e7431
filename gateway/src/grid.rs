//! The moments at which sealed answers leave.
//!
//! An accepted report is written to a disk and a refused one is not, so the time that an answer takes tells the relay
//! which of them it was. On a grid each answer takes a multiple of one step, counted from the arrival of its request:
//! whatever needs less than a step takes exactly one, and nobody gains by choosing when to ask.

use std::time::Duration;

use tokio::time::Instant;

/// How long answers take: multiples of one step; as long as they need when the step is zero.
#[derive(Clone, Copy)]
pub(crate) struct Grid {
    step: Duration,
}

impl Grid {
    /// A grid with this step.
    pub(crate) fn new(step: Duration) -> Self {
        Self { step }
    }

    /// Waits until the answer to a request that arrived at `arrived` may leave.
    pub(crate) async fn wait(self, arrived: Instant) {
        if let Some(leaves) = self.leaves(arrived, Instant::now()) {
            tokio::time::sleep_until(leaves).await;
        }
    }

    /// The next moment on the grid, for an answer that is ready now.
    fn leaves(self, arrived: Instant, ready: Instant) -> Option<Instant> {
        let elapsed = ready.saturating_duration_since(arrived);
        let over = elapsed.as_nanos().checked_rem(self.step.as_nanos())?;
        let over = Duration::from_nanos(u64::try_from(over).unwrap_or_default());
        Some(ready + self.step.saturating_sub(over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_takes_a_multiple_of_the_step() {
        let (grid, arrived) = (Grid::new(Duration::from_millis(50)), Instant::now());
        let after = |micros| {
            let leaves = grid.leaves(arrived, arrived + Duration::from_micros(micros));
            leaves.map(|leaves| (leaves - arrived).as_micros())
        };
        let taken = [0, 1, 49_999, 50_000, 50_001, 1_120_000].map(after);
        assert_eq!(taken, [50_000, 50_000, 50_000, 100_000, 100_000, 1_150_000].map(Some));
    }

    #[test]
    fn without_a_step_nobody_waits() {
        let arrived = Instant::now();
        assert_eq!(Grid::new(Duration::ZERO).leaves(arrived, arrived + Duration::from_millis(7)), None);
    }
}
