//! What the samplers draw against the exact distributions.
//!
//! Seeds are fixed, so a test passes always or never; with `cargo xtask test --long` they are fresh, there are ten times as
//! many draws, and every seed is printed. The bounds are set so that a right sampler would miss one with a probability
//! of about 10⁻⁹: proven for the signs and the counted parts, for the others as far as χ² and the normal distribution
//! describe this many draws. There are fewer than 200 of them, so a long run fails by chance less than once in a million
//! nights. The last tests show that the same statistics notice small faults.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of a test are far below 2^52"
)]

mod known_answers;
mod statistics;

use num_traits::ToPrimitive;
use rand::SeedableRng;
use rand::rngs::StdRng;

use self::statistics::{
    chi_square, chi_square_accepts, correlation, counts_are_right, large_chi_square_accepts, mean_is_right,
    signs_are_balanced, variance_is_right,
};
use super::*;

const SMALL: [&str; 6] = ["1/2", "1", "2", "5", "23.3903", "100"];
const LARGE: [&str; 2] = ["1e6", "3298534883329/3"]; // the second is 2⁴⁰ + 1/3
const DRAWS: usize = 40_000;

/// Set by `cargo xtask test --long`: fresh seeds and more draws.
const LONG: &str = "MICA_TEST_LONG";

fn laplace(scale: &str) -> Mechanism {
    Mechanism::DiscreteLaplace { scale: scale.parse().unwrap() }
}

fn gaussian(sigma: &str) -> Mechanism {
    Mechanism::DiscreteGaussian { sigma: sigma.parse().unwrap() }
}

/// Draws from a fixed seed.
fn draw(mechanism: &Mechanism, count: usize, seed: u64) -> Vec<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    mechanism.sample(count, &mut rng).iter().map(|it| it.to_f64().unwrap()).collect()
}

/// Draws from a fixed seed, or from a fresh one in a long run.
fn fresh(mechanism: &Mechanism, count: usize, seed: u64) -> Vec<f64> {
    if std::env::var_os(LONG).is_none() {
        return draw(mechanism, count, seed);
    }
    let seed = rand::random();
    println!("{mechanism}: seed {seed}");
    draw(mechanism, 10 * count, seed)
}

fn small_mechanisms() -> impl Iterator<Item = Mechanism> {
    SMALL.into_iter().flat_map(|parameter| [laplace(parameter), gaussian(parameter)])
}

#[test]
fn draws_follow_the_exact_distribution() {
    for (mechanism, seed) in small_mechanisms().zip(1..) {
        let draws = fresh(&mechanism, DRAWS, seed);
        assert!(chi_square_accepts(&mechanism, &draws), "{mechanism}: {:?}", chi_square(&mechanism, &draws));
        assert!(signs_are_balanced(&draws), "{mechanism}");
        assert!(mean_is_right(&mechanism, &draws), "{mechanism}");
        assert!(variance_is_right(&mechanism, &draws), "{mechanism}");
        assert!(counts_are_right(&mechanism, &draws, |x| x == 0.0), "{mechanism}: zeros");
        let far = 4.0 * mechanism.variance(NoiseOf::OneAggregator).sqrt();
        assert!(counts_are_right(&mechanism, &draws, |x| x.abs() > far), "{mechanism}: tails");
    }
}

#[test]
fn large_noise_has_the_right_shape_and_no_direction() {
    for (parameter, seed) in LARGE.into_iter().zip(100..) {
        for mechanism in [laplace(parameter), gaussian(parameter)] {
            let draws = fresh(&mechanism, DRAWS / 2, seed);
            assert!(large_chi_square_accepts(&mechanism, &draws), "{mechanism}");
            assert!(signs_are_balanced(&draws), "{mechanism}");
            assert!(mean_is_right(&mechanism, &draws), "{mechanism}");
            assert!(variance_is_right(&mechanism, &draws), "{mechanism}");
        }
    }
}

#[test]
fn neighbouring_coordinates_are_independent() {
    for mechanism in [laplace("5"), gaussian("5")] {
        let draws = fresh(&mechanism, DRAWS, 7);
        let bound = 6.5 / (draws.len() as f64).sqrt();
        let (plain, squares) = correlation(draws.windows(2).map(|pair| (pair[0], pair[1])));
        assert!(plain.abs() <= bound, "{mechanism}: {plain}");
        // The product of two squares has heavier tails than the normal distribution that the bound is made for.
        assert!(squares.abs() <= 2.0 * bound, "{mechanism}: {squares}");
    }
}

#[test]
fn coordinates_of_one_vector_and_of_the_next_are_independent() {
    for mechanism in [laplace("3"), gaussian("3")] {
        let length = 8;
        let draws = fresh(&mechanism, DRAWS, 11);
        let vectors: Vec<&[f64]> = draws.chunks_exact(length).collect();
        let bound = 6.5 / (vectors.len() as f64).sqrt();
        for (i, j) in (0..length).flat_map(|i| (i + 1..length).map(move |j| (i, j))) {
            let (within, _) = correlation(vectors.iter().map(|vector| (vector[i], vector[j])));
            assert!(within.abs() <= bound, "{mechanism} {i} {j}: {within}");
        }
        let (across, _) = correlation(draws.iter().copied().zip(draws.iter().copied().skip(length)));
        assert!(across.abs() <= 6.5 / (draws.len() as f64).sqrt(), "{mechanism}: {across}");
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
    assert!(!counts_are_right(&two, &doubled, |x| x == 0.0));
    // Tails that are cut off, and noise that leans to one side.
    let cut: Vec<f64> = draws.iter().map(|x| x.clamp(-8.0, 8.0)).collect();
    assert!(!counts_are_right(&two, &cut, |x| x.abs() > 8.0));
    assert!(!mean_is_right(&two, &draws.iter().map(|x| x + 0.2).collect::<Vec<_>>()));
    // One draw used for two coordinates, with or without its sign.
    let twice = |sign: f64| correlation(draws.iter().map(|x| (*x, sign * x)));
    assert!(twice(1.0).0 > 0.5 && twice(-1.0).0 < -0.5 && twice(-1.0).1 > 0.5);
    // A large scale that is ten percent off.
    assert!(!large_chi_square_accepts(&laplace("1e6"), &draw(&laplace("9e5"), DRAWS / 2, 3)));
    assert!(!large_chi_square_accepts(&gaussian("1e6"), &draw(&gaussian("9e5"), DRAWS / 2, 3)));
    // The magnitude without its sign.
    assert!(!signs_are_balanced(&draws.iter().map(|x| x.abs()).collect::<Vec<_>>()));
}
