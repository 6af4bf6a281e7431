//! The moments at which sealed answers leave.
//!
//! An accepted report is written to a disk and a refused one is not, so the time that an answer takes tells the relay
//! which of them it was. On a grid each answer takes a multiple of one step, counted from the arrival of its request:
//! whatever needs less than a step takes exactly one, and nobody gains by choosing when to ask.

use std::time::{Duration, Instant};

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
        if let Some(rest) = self.rest(arrived.elapsed()) {
            tokio::time::sleep(rest).await;
        }
    }

    /// How long it is until the next multiple of the step.
    fn rest(self, elapsed: Duration) -> Option<Duration> {
        let over = elapsed.as_nanos().checked_rem(self.step.as_nanos())?;
        let over = Duration::from_nanos(u64::try_from(over).unwrap_or_default());
        Some(self.step.saturating_sub(over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_takes_a_multiple_of_the_step() {
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
