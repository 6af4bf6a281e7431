//! What is looked at in draws, and how far it may be off.

use num_traits::ToPrimitive;

use super::super::{Mechanism, NoiseOf};

/// −ln 10⁻⁹.
const NATS: f64 = 20.72;

fn weight(mechanism: &Mechanism, x: f64) -> f64 {
    match mechanism {
        Mechanism::DiscreteLaplace { scale } => (-x.abs() / scale.approximate()).exp(),
        Mechanism::DiscreteGaussian { sigma } => (-(x / sigma.approximate()).powi(2) / 2.0).exp(),
    }
}

/// χ² of the draws over bins that expect 20 draws or more, and its degrees of freedom.
pub(super) fn chi_square(mechanism: &Mechanism, draws: &[f64]) -> (f64, f64) {
    let reach = 40 * mechanism.parameter().1.ceiling().to_i32().unwrap();
    let total: f64 = (-reach..=reach).map(|x| weight(mechanism, f64::from(x))).sum();
    let mut observed = vec![0.0; usize::try_from(2 * reach + 1).unwrap()];
    for x in draws {
        observed[(x + f64::from(reach)) as usize] += 1.0;
    }
    let expected = (-reach..=reach).map(|x| weight(mechanism, f64::from(x)) / total * draws.len() as f64);
    pooled(observed.into_iter().zip(expected))
}

/// χ² of what was seen and expected, in bins pooled until each expects 20 or more, and its degrees of freedom.
fn pooled(cells: impl Iterator<Item = (f64, f64)>) -> (f64, f64) {
    let (mut bins, mut seen, mut expected) = (Vec::new(), 0.0, 0.0);
    for (count, mass) in cells {
        seen += count;
        expected += mass;
        if expected >= 20.0 {
            bins.push((seen, expected));
            (seen, expected) = (0.0, 0.0);
        }
    }
    if let Some(last) = bins.last_mut() {
        last.0 += seen;
        last.1 += expected;
    }
    let statistic = bins.iter().map(|(seen, expected)| (seen - expected).powi(2) / expected).sum();
    (statistic, bins.len() as f64 - 1.0)
}

/// Laurent and Massart (2000), Lemma 1: χ² of k degrees passes k + 2√(kx) + 2x with probability e^−x at most.
pub(super) fn chi_square_accepts(mechanism: &Mechanism, draws: &[f64]) -> bool {
    let (statistic, degrees) = chi_square(mechanism, draws);
    statistic <= degrees + 2.0 * (degrees * NATS).sqrt() + 2.0 * NATS
}

/// Hoeffding's bound on how far signs can be out of balance.
pub(super) fn signs_are_balanced(draws: &[f64]) -> bool {
    let balance: f64 = draws.iter().filter(|x| **x != 0.0).map(|x| x.signum()).sum();
    balance.abs() <= (2.0 * draws.len() as f64 * (NATS + 1.0)).sqrt()
}

/// The mean square is within 6.5 of its own standard deviations of the variance.
pub(super) fn variance_is_right(mechanism: &Mechanism, draws: &[f64]) -> bool {
    let variance = mechanism.variance(NoiseOf::OneAggregator);
    let kurtosis = match mechanism {
        // Exact for the discrete Laplace; for the discrete Gaussian a little more than its 3.
        Mechanism::DiscreteLaplace { .. } => 6.0 + 1.0 / variance,
        Mechanism::DiscreteGaussian { .. } => 3.0 + 1.0 / variance,
    };
    let mean_square = draws.iter().map(|x| x * x).sum::<f64>() / draws.len() as f64;
    (mean_square / variance - 1.0).abs() <= 6.5 * ((kurtosis - 1.0) / draws.len() as f64).sqrt()
}

/// The mean is within 6.5 of its standard deviations of zero.
pub(super) fn mean_is_right(mechanism: &Mechanism, draws: &[f64]) -> bool {
    let mean = draws.iter().sum::<f64>() / draws.len() as f64;
    let variance = mechanism.variance(NoiseOf::OneAggregator);
    mean.abs() <= 6.5 * (variance / draws.len() as f64).sqrt()
}

/// Bernstein's bound on how far the number of draws that are `counted` may be from what the exact distribution says.
pub(super) fn counts_are_right(mechanism: &Mechanism, draws: &[f64], counted: impl Fn(f64) -> bool) -> bool {
    let reach = 60 * mechanism.parameter().1.ceiling().to_i32().unwrap();
    let sum = |counted: &dyn Fn(f64) -> bool| -> f64 {
        (-reach..=reach).map(f64::from).filter(|x| counted(*x)).map(|x| weight(mechanism, x)).sum()
    };
    let probability = sum(&counted) / sum(&|_| true);
    let seen = draws.iter().filter(|x| counted(**x)).count() as f64;
    let spread = draws.len() as f64 * probability * (1.0 - probability);
    let nats = NATS + 1.0;
    (seen - draws.len() as f64 * probability).abs() <= (2.0 * spread * nats).sqrt() + 2.0 * nats / 3.0 + 1.0
}

/// χ² for a parameter so large that whole numbers are as good as a continuum: bins of a quarter of it.
pub(super) fn large_chi_square_accepts(mechanism: &Mechanism, draws: &[f64]) -> bool {
    let parameter = mechanism.parameter().1.approximate();
    let density = |x: f64| weight(mechanism, x * parameter);
    // Simpson's rule on each of the bins from -20 to 20 times the parameter.
    let masses: Vec<f64> = (-80..80)
        .map(|bin| {
            let at = |eighth: i32| density(f64::from(bin) / 4.0 + f64::from(eighth) / 32.0);
            (0..4).map(|part| at(2 * part) + 4.0 * at(2 * part + 1) + at(2 * part + 2)).sum()
        })
        .collect();
    let total: f64 = masses.iter().sum();
    let mut seen = vec![0.0; masses.len()];
    for x in draws {
        let bin = (x / parameter * 4.0).floor().clamp(-80.0, 79.0) + 80.0;
        seen[bin as usize] += 1.0;
    }
    let expected = masses.iter().map(|mass| mass / total * draws.len() as f64);
    let (statistic, degrees) = pooled(seen.into_iter().zip(expected));
    statistic <= degrees + 2.0 * (degrees * NATS).sqrt() + 2.0 * NATS
}

/// The correlation of pairs, and that of their squares.
pub(super) fn correlation(pairs: impl Iterator<Item = (f64, f64)>) -> (f64, f64) {
    let pairs: Vec<(f64, f64)> = pairs.collect();
    let of = |value: fn(f64) -> f64| {
        let mean = |it: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(it).sum::<f64>() / pairs.len() as f64;
        let (a, b) = (mean(&|pair| value(pair.0)), mean(&|pair| value(pair.1)));
        let product = mean(&|pair| (value(pair.0) - a) * (value(pair.1) - b));
        let squares = mean(&|pair| (value(pair.0) - a).powi(2)) * mean(&|pair| (value(pair.1) - b).powi(2));
        product / squares.sqrt()
    };
    (of(|x| x), of(|x| x * x))
}
