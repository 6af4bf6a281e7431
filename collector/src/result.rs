//! What a collection yields.

use mica_dap::time::Interval;
use mica_dp::{Mechanism, NoiseOf};

/// The total of one batch, noised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How many reports are in the batch: exact, and not protected by the noise.
    pub report_count: u64,
    /// The smallest interval around their times: exact, and not protected by the noise.
    pub interval: Interval,
    /// One signed value per coordinate. Noise can make a value negative; that is not an error.
    pub values: Vec<i128>,
}

/// How far a printed value is from the total without noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The total lies within this of the value ..
    pub half_width: u64,
    /// .. with this probability, for each value by itself.
    pub confidence: f64,
}

impl Estimate {
    /// The width of the noise of both aggregators together; exact values have none.
    #[must_use]
    pub fn of(mechanism: Option<&Mechanism>, confidence: f64) -> Self {
        let half_width =
            mechanism.map_or(0, |mechanism| mechanism.half_width(confidence, NoiseOf::BothAggregators));
        Self { half_width, confidence }
    }
}
