//! How far a printed result can be from the true total: variance and half-width of the interval.
//!
//! For people who read results and choose parameters. Floating point is fine here, since nothing is charged or
//! sampled from these numbers; intervals are rounded outwards to whole numbers.

use super::{Mechanism, NoiseOf};

/// From this σ on, the distribution is tabulated on a coarser grid; it then changes by less than 2⁻¹⁰ of σ.
const FINE_ENOUGH: f64 = 4096.0;

impl Mechanism {
    /// The variance of the noise in one coordinate of a result.
    pub fn variance(&self, noise: NoiseOf) -> f64 {
        let one = match self {
            Self::DiscreteLaplace { scale } => {
                let decay = (-1.0 / scale.approximate()).exp();
                let rest = -(-1.0 / scale.approximate()).exp_m1();
                2.0 * decay / (rest * rest)
            }
            Self::DiscreteGaussian { sigma } => gaussian_variance(sigma.approximate()),
        };
        match noise {
            NoiseOf::OneAggregator => one,
            NoiseOf::BothAggregators => 2.0 * one,
        }
    }

    /// The smallest whole number `w` such that the noise of a coordinate is within `±w` with a probability of at
    /// least `confidence`. A confidence outside 0 to 1 − 10⁻¹² is taken as the nearer end.
    ///
    /// # Reference
    /// The sum of two discrete Laplace variables has the closed form used here. The sum of two discrete Gaussians
    /// is convolved below σ = 2; above, it is a discrete Gaussian of twice the variance to within 10⁻¹⁵ (Kairouz,
    /// Liu, Steinke 2021).
    pub fn half_width(&self, confidence: f64, noise: NoiseOf) -> u64 {
        let confidence = if confidence.is_nan() { 0.95 } else { confidence.clamp(0.0, 1.0 - 1e-12) };
        let outside = 1.0 - confidence;
        match self {
            Self::DiscreteLaplace { scale } => {
                let scale = scale.approximate();
                smallest(|w| laplace_outside(scale, w, noise) <= outside)
            }
            Self::DiscreteGaussian { sigma } => gaussian_half_width(sigma.approximate(), outside, noise),
        }
    }

    /// The same for all coordinates of a result at once: each is within `±w`, with a probability of at least `confidence`
    /// that none is outside. What is outside is divided among them, which needs no independence.
    pub fn half_width_of_all(&self, confidence: f64, noise: NoiseOf, length: usize) -> u64 {
        let values = u32::try_from(length.max(1)).map_or(f64::from(u32::MAX), f64::from);
        self.half_width(1.0 - (1.0 - confidence) / values, noise)
    }
}

/// The smallest `w` that is enough, for a condition that stays true once it is true.
fn smallest(enough: impl Fn(f64) -> bool) -> u64 {
    let mut high: u64 = 1;
    while !enough(as_float(high)) {
        let Some(doubled) = high.checked_mul(2) else { return u64::MAX };
        high = doubled;
    }
    let mut low: u64 = 0;
    while low < high {
        let middle = low + (high - low) / 2;
        if enough(as_float(middle)) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// The probability that discrete Laplace noise is outside `±w`.
fn laplace_outside(scale: f64, w: f64, noise: NoiseOf) -> f64 {
    let decay = (-1.0 / scale).exp();
    let rest = -(-1.0 / scale).exp_m1();
    let beyond = (-(w + 1.0) / scale).exp();
    match noise {
        NoiseOf::OneAggregator => 2.0 * beyond / (1.0 + decay),
        NoiseOf::BothAggregators => {
            // P(X + Y = k) = ((1-a)/(1+a))² a^|k| (|k| + (1+a²)/(1-a²)), summed over |k| > w.
            let weight = rest / (1.0 + decay);
            let constant = (1.0 + decay * decay) / (rest * (1.0 + decay));
            2.0 * weight * weight * beyond * ((w + 1.0 + constant) / rest + decay / (rest * rest))
        }
    }
}

/// `exp(-x²/2σ²)` for x = 0, 1, … until nothing is left.
fn half_bell(sigma: f64) -> Vec<f64> {
    let mut bell = Vec::new();
    let mut x = 0.0;
    while x <= 40.0 * sigma.max(0.5) {
        bell.push((-x * x / (2.0 * sigma * sigma)).exp());
        x += 1.0;
    }
    bell
}

fn gaussian_variance(sigma: f64) -> f64 {
    if sigma > FINE_ENOUGH {
        // From σ = 2 on, the variance of the discrete Gaussian is σ² to more digits than a float has.
        return sigma * sigma;
    }
    let (mut mass, mut second) = (0.0, 0.0);
    let mut x = 0.0;
    for weight in half_bell(sigma) {
        let both = if x > 0.0 { 2.0 * weight } else { weight };
        mass += both;
        second += both * x * x;
        x += 1.0;
    }
    second / mass
}

fn gaussian_half_width(sigma: f64, outside: f64, noise: NoiseOf) -> u64 {
    if noise == NoiseOf::BothAggregators && sigma < 2.0 {
        return narrowest(&convolved(sigma), outside);
    }
    let sigma = if noise == NoiseOf::BothAggregators { sigma * std::f64::consts::SQRT_2 } else { sigma };
    if sigma <= FINE_ENOUGH {
        return narrowest(&half_bell(sigma), outside);
    }
    // A discrete Gaussian on every g-th integer, and one step of g outwards.
    let step = (sigma / (FINE_ENOUGH / 4.0)).floor();
    let steps = narrowest(&half_bell(sigma / step), outside).saturating_add(1);
    smallest(|w| w >= as_float(steps) * step)
}

/// The smallest `w` with no more than `outside` of the mass beyond `±w`; `half` is one side with the middle first.
fn narrowest(half: &[f64], outside: f64) -> u64 {
    let total = 2.0 * half.iter().sum::<f64>() - half.first().copied().unwrap_or(0.0);
    let mut beyond = 0.0;
    // From the far end inwards, so that small numbers are added first.
    for (w, weight) in half.iter().enumerate().rev() {
        beyond += 2.0 * weight;
        if beyond > outside * total {
            return u64::try_from(w).unwrap_or(u64::MAX);
        }
    }
    0
}

/// One side of the distribution of the sum of two discrete Gaussians of a small σ.
fn convolved(sigma: f64) -> Vec<f64> {
    let half = half_bell(sigma);
    let whole: Vec<f64> = half.iter().skip(1).rev().chain(&half).copied().collect();
    let middle = whole.len() - 1;
    (0..whole.len())
        .map(|shift| {
            let at = middle + shift;
            (at + 1 - whole.len()..whole.len()).filter_map(|i| Some(whole.get(i)? * whole.get(at - i)?)).sum()
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "an interval is read to a few digits")]
fn as_float(number: u64) -> f64 {
    number as f64
}
