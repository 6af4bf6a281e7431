//! The moments at which sealed answers leave.
//!
//! An accepted report is written to a disk and a refused one is not, so the time that an answer takes tells the relay
//! which of them it was. On a grid, all that differ by less than one step leave together.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Multiples of one step since the gateway began; at any moment when the step is zero.
pub(crate) struct Grid {
    begun: Instant,
    step: Duration,
}

impl Grid {
    /// A grid with this step.
    pub(crate) fn new(step: Duration) -> Self {
        Self { begun: Instant::now(), step }
    }

    /// Waits for the next moment.
    pub(crate) async fn wait(&self) {
        if let Some(rest) = self.rest(self.begun.elapsed()) {
            sleep_until(Instant::now() + rest).await;
        }
    }

    /// How long it is until the next multiple of the step.
    fn rest(&self, elapsed: Duration) -> Option<Duration> {
        let over = elapsed.as_nanos().checked_rem(self.step.as_nanos())?;
        let over = Duration::from_nanos(u64::try_from(over).unwrap_or_default());
        Some(self.step.saturating_sub(over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_leaves_at_the_next_multiple_of_the_step() {
        let grid = Grid::new(Duration::from_millis(50));
        let rest = |ms| grid.rest(Duration::from_millis(ms));
        assert_eq!(rest(1), Some(Duration::from_millis(49)));
        assert_eq!(rest(49), Some(Duration::from_millis(1)));
        assert_eq!(rest(50), Some(Duration::from_millis(50)));
        assert_eq!(rest(1_120), Some(Duration::from_millis(30)));
    }

    #[test]
    fn without_a_step_nobody_waits() {
        assert_eq!(Grid::new(Duration::ZERO).rest(Duration::from_millis(7)), None);
    }
}
