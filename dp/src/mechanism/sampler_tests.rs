//! What the samplers draw against the exact distributions.
//!
//! Seeds are fixed, so a test passes always or never. The bounds are set so that a right sampler would miss one with
//! a probability of about 10⁻⁹ under another seed: proven for the signs, for the others as far as χ² and the normal
//! distribution describe this many draws. The last tests show that the same statistics notice small faults.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of a test are far below 2^52"
)]

use num_traits::ToPrimitive;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

const SMALL: [&str; 6] = ["1/2", "1", "2", "5", "23.3903", "100"];
const LARGE: [&str; 2] = ["1e6", "3298534883329/3"]; // the second is 2⁴⁰ + 1/3
const DRAWS: usize = 40_000;
/// −ln 10⁻⁹.
const NATS: f64 = 20.72;

fn laplace(scale: &str) -> Mechanism {
    Mechanism::DiscreteLaplace { scale: scale.parse().unwrap() }
}

fn gaussian(sigma: &str) -> Mechanism {
    Mechanism::DiscreteGaussian { sigma: sigma.parse().unwrap() }
}

fn draw(mechanism: &Mechanism, count: usize, seed: u64) -> Vec<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    mechanism.sample(count, &mut rng).iter().map(|it| it.to_f64().unwrap()).collect()
}

fn weight(mechanism: &Mechanism, x: f64) -> f64 {
    match mechanism {
        Mechanism::DiscreteLaplace { scale } => (-x.abs() / scale.approximate()).exp(),
        Mechanism::DiscreteGaussian { sigma } => (-(x / sigma.approximate()).powi(2) / 2.0).exp(),
    }
}

/// χ² of the draws over bins that expect 20 draws or more, and its degrees of freedom.
fn chi_square(mechanism: &Mechanism, draws: &[f64]) -> (f64, f64) {
    let reach = 40 * mechanism.parameter().1.ceiling().to_i32().unwrap();
    let total: f64 = (-reach..=reach).map(|x| weight(mechanism, f64::from(x))).sum();
    let mut observed = vec![0.0; usize::try_from(2 * reach + 1).unwrap()];
    for x in draws {
        observed[(x + f64::from(reach)) as usize] += 1.0;
    }
    let (mut bins, mut seen, mut expected) = (Vec::new(), 0.0, 0.0);
    for (x, count) in (-reach..=reach).zip(observed) {
        seen += count;
        expected += weight(mechanism, f64::from(x)) / total * draws.len() as f64;
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
fn chi_square_accepts(mechanism: &Mechanism, draws: &[f64]) -> bool {
    let (statistic, degrees) = chi_square(mechanism, draws);
    statistic <= degrees + 2.0 * (degrees * NATS).sqrt() + 2.0 * NATS
}

/// Hoeffding's bound on how far signs can be out of balance.
fn signs_are_balanced(draws: &[f64]) -> bool {
    let balance: f64 = draws.iter().filter(|x| **x != 0.0).map(|x| x.signum()).sum();
    balance.abs() <= (2.0 * draws.len() as f64 * (NATS + 1.0)).sqrt()
}

/// The mean square is within 6.5 of its own standard deviations of the variance.
fn variance_is_right(mechanism: &Mechanism, draws: &[f64]) -> bool {
    let variance = mechanism.variance(NoiseOf::OneAggregator);
    let kurtosis = match mechanism {
        // Exact for the discrete Laplace; for the discrete Gaussian a little more than its 3.
        Mechanism::DiscreteLaplace { .. } => 6.0 + 1.0 / variance,
        Mechanism::DiscreteGaussian { .. } => 3.0 + 1.0 / variance,
    };
    let mean_square = draws.iter().map(|x| x * x).sum::<f64>() / draws.len() as f64;
    (mean_square / variance - 1.0).abs() <= 6.5 * ((kurtosis - 1.0) / draws.len() as f64).sqrt()
}

fn small_mechanisms() -> impl Iterator<Item = Mechanism> {
    SMALL.into_iter().flat_map(|parameter| [laplace(parameter), gaussian(parameter)])
}

#[test]
fn draws_follow_the_exact_distribution() {
    for (mechanism, seed) in small_mechanisms().zip(1..) {
        let draws = draw(&mechanism, DRAWS, seed);
        assert!(chi_square_accepts(&mechanism, &draws), "{mechanism}: {:?}", chi_square(&mechanism, &draws));
        assert!(signs_are_balanced(&draws), "{mechanism}");
        assert!(variance_is_right(&mechanism, &draws), "{mechanism}");
    }
}

#[test]
fn large_noise_has_the_right_spread_and_no_direction() {
    for (parameter, seed) in LARGE.into_iter().zip(100..) {
        for mechanism in [laplace(parameter), gaussian(parameter)] {
            let draws = draw(&mechanism, DRAWS / 4, seed);
            assert!(signs_are_balanced(&draws), "{mechanism}");
            assert!(variance_is_right(&mechanism, &draws), "{mechanism}");
        }
    }
}

#[test]
fn neighbouring_coordinates_are_independent() {
    for mechanism in [laplace("5"), gaussian("5")] {
        let draws = draw(&mechanism, DRAWS, 7);
        let variance = mechanism.variance(NoiseOf::OneAggregator);
        let products: f64 = draws.windows(2).map(|pair| pair[0] * pair[1]).sum();
        let correlation = products / variance / draws.len() as f64;
        assert!(correlation.abs() <= 6.5 / (draws.len() as f64).sqrt(), "{mechanism}: {correlation}");
    }
}

#[test]
fn a_seed_repeats_a_draw_and_another_does_not() {
    for mechanism in [laplace("20/3"), gaussian("20")] {
        assert_eq!(draw(&mechanism, 100, 1), draw(&mechanism, 100, 1));
        assert_ne!(draw(&mechanism, 100, 1), draw(&mechanism, 100, 2));
    }
}

#[test]
fn a_scale_that_is_ten_percent_off_is_noticed() {
    assert!(!chi_square_accepts(&laplace("5"), &draw(&laplace("4.5"), DRAWS, 1)));
    assert!(!chi_square_accepts(&gaussian("5"), &draw(&gaussian("4.5"), DRAWS, 1)));
    assert!(!variance_is_right(&laplace("5"), &draw(&laplace("4.5"), DRAWS, 1)));
    assert!(!variance_is_right(&gaussian("5"), &draw(&gaussian("4.5"), DRAWS, 1)));
}

#[test]
fn the_faults_that_samplers_are_known_for_are_noticed() {
    let two = laplace("2");
    let draws = draw(&two, DRAWS, 3);
    // A negative zero that is not drawn again: zero comes twice as often as it should.
    let doubled: Vec<f64> = draws
        .iter()
        .flat_map(|x| [*x, *x])
        .enumerate()
        .filter(|(index, x)| *x == 0.0 || index % 2 == 0)
        .map(|(_, x)| x)
        .collect();
    assert!(!chi_square_accepts(&two, &doubled));
    // One draw for all coordinates.
    let first = vec![draws[0]; DRAWS];
    assert!(!chi_square_accepts(&two, &first));
    // σ where σ² belongs, and the other mechanism.
    assert!(!chi_square_accepts(&gaussian("5"), &draw(&gaussian("2.236"), DRAWS, 3)));
    assert!(!chi_square_accepts(&gaussian("5"), &draw(&laplace("3.5"), DRAWS, 3)));
    // The magnitude without its sign.
    assert!(!signs_are_balanced(&draws.iter().map(|x| x.abs()).collect::<Vec<_>>()));
}
