//! Calibration, intervals and bounds against published values and brute force.

#![expect(clippy::cast_precision_loss, reason = "counts of a test are far below 2^52")]

use num_bigint::BigUint;

use super::*;
use crate::sensitivity::NeighboringRelation::ReplaceOne;
use crate::shape::Shape;

fn exact(text: &str) -> Rational {
    text.parse().unwrap()
}

fn laplace(scale: &str) -> Mechanism {
    Mechanism::DiscreteLaplace { scale: exact(scale) }
}

fn gaussian(sigma: &str) -> Mechanism {
    Mechanism::DiscreteGaussian { sigma: exact(sigma) }
}

/// The probability of every integer from `-reach` to `reach`.
fn exact_distribution(mechanism: &Mechanism, reach: i32) -> Vec<f64> {
    let weight = |x: i32| match mechanism {
        Mechanism::DiscreteLaplace { scale } => (-f64::from(x.abs()) / scale.approximate()).exp(),
        Mechanism::DiscreteGaussian { sigma } => (-(f64::from(x) / sigma.approximate()).powi(2) / 2.0).exp(),
    };
    let weights: Vec<f64> = (-reach..=reach).map(weight).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

/// The half-width found by adding up every pair of draws.
fn half_width_by_brute_force(mechanism: &Mechanism, confidence: f64, noise: NoiseOf) -> u64 {
    let one = exact_distribution(mechanism, 300);
    let mut outside = vec![0.0; 601];
    for (i, p) in one.iter().enumerate() {
        match noise {
            NoiseOf::OneAggregator => outside[i.abs_diff(300)] += p,
            NoiseOf::BothAggregators => {
                for (j, q) in one.iter().enumerate() {
                    outside[(i + j).abs_diff(600)] += p * q;
                }
            }
        }
    }
    let mut inside = 0.0;
    outside
        .iter()
        .position(|p| {
            inside += p;
            inside >= confidence
        })
        .unwrap() as u64
}

#[test]
fn laplace_scale_is_exactly_sensitivity_over_epsilon() {
    let histogram = Sensitivity::derive(&Shape::Histogram { length: 8 }, ReplaceOne, 1);
    let at = |epsilon: &str| Mechanism::discrete_laplace(&histogram, &exact(epsilon)).unwrap();
    assert_eq!(at("1"), laplace("2"));
    assert_eq!(at("0.3"), laplace("20/3"));
    let three = Sensitivity::derive(&Shape::Histogram { length: 8 }, ReplaceOne, 3);
    assert_eq!(Mechanism::discrete_laplace(&three, &exact("1")), Ok(laplace("6")));
}

#[test]
fn gaussian_sigma_is_never_below_what_rho_asks_for() {
    let histogram = Sensitivity::derive(&Shape::Histogram { length: 8 }, ReplaceOne, 1);
    let at = |rho: &str| Mechanism::discrete_gaussian(&histogram, &exact(rho)).unwrap();
    assert_eq!(at("0.0025"), gaussian("20"));
    for rho in ["0.024356", "0.3", "1/7", "2e-9"] {
        let mechanism = at(rho);
        let (_, sigma) = mechanism.parameter();
        let wanted = Rational::whole(1u8).divided_by(&exact(rho)).unwrap();
        assert!(sigma.times(sigma) >= wanted, "{rho}");
        assert!(sigma.approximate() - wanted.approximate().sqrt() <= 1.0 / 1024.0, "{rho}");
    }
    assert!((at("0.024356").parameter().1.approximate() - 6.41).abs() < 0.01);
}

#[test]
fn too_little_or_too_long_noise_is_refused() {
    let count = Sensitivity::derive(&Shape::Count, ReplaceOne, 1);
    assert!(Mechanism::discrete_laplace(&count, &exact("2")).is_ok());
    let below = Mechanism::discrete_laplace(&count, &exact("2.001")).unwrap_err();
    assert_eq!(below.to_string(), "scale 1000/2001 is below the floor 1/2");
    assert!(Mechanism::discrete_gaussian(&count, &exact("2")).is_ok());
    assert!(Mechanism::discrete_gaussian(&count, &exact("2.1")).is_err());
    assert_eq!(Mechanism::discrete_laplace(&count, &exact("0")), Err(CalibrationError::ZeroLoss));
    assert_eq!(
        Mechanism::discrete_laplace(&count, &exact("1e-50")),
        Err(CalibrationError::TooLarge("scale"))
    );
}

#[test]
fn published_half_widths_are_met() {
    let both = NoiseOf::BothAggregators;
    for (scale, width) in [("1/2", 2), ("1", 4), ("2", 8), ("4", 16), ("8", 33), ("20", 82)] {
        assert_eq!(laplace(scale).half_width(0.95, both), width, "scale {scale}");
    }
    assert_eq!(laplace("2").half_width(0.95, NoiseOf::OneAggregator), 6);
    // The continuous values are 5.0, 9.3, 17.8, 34.0, 55.4 and 154.7.
    for (sigma, width) in [("1.79", 5), ("3.37", 9), ("6.41", 18), ("12.27", 34), ("20", 55), ("55.81", 155)]
    {
        assert_eq!(gaussian(sigma).half_width(0.95, both), width, "sigma {sigma}");
    }
}

#[test]
fn half_widths_agree_with_brute_force() {
    let mechanisms = ["1/2", "3/4", "1", "1.7", "2.5", "7", "11"].map(|it| [laplace(it), gaussian(it)]);
    for mechanism in mechanisms.iter().flatten() {
        for noise in [NoiseOf::OneAggregator, NoiseOf::BothAggregators] {
            for confidence in [0.0, 0.5, 0.9, 0.95, 0.99, 0.999_9] {
                assert_eq!(
                    mechanism.half_width(confidence, noise),
                    half_width_by_brute_force(mechanism, confidence, noise),
                    "{mechanism} {noise:?} {confidence}"
                );
            }
        }
    }
}

#[test]
fn half_widths_of_large_noise_are_those_of_the_continuous_distribution() {
    for sigma in ["3000", "5000", "1e6", "1e12", "1e17"] {
        let width = gaussian(sigma).half_width(0.95, NoiseOf::OneAggregator) as f64;
        let continuous = 1.959_963_985 * exact(sigma).approximate();
        assert!(width >= continuous - 1.0 && width <= continuous * 1.002, "{sigma}: {width}");
    }
    let width = laplace("1e12").half_width(0.95, NoiseOf::OneAggregator) as f64;
    assert!((width / (20f64.ln() * 1e12) - 1.0).abs() < 1e-9, "{width}");
    for strange in [-1.0, 0.0, 1.0, 2.0, f64::NAN, f64::INFINITY] {
        laplace("1e30").half_width(strange, NoiseOf::BothAggregators);
        gaussian("1e30").half_width(strange, NoiseOf::BothAggregators);
    }
}

#[test]
fn variances_are_those_of_the_exact_distribution() {
    for mechanism in
        [laplace("1/2"), laplace("2"), laplace("7"), gaussian("1/2"), gaussian("1"), gaussian("6")]
    {
        let exact: f64 =
            exact_distribution(&mechanism, 300).iter().zip(-300..).map(|(p, x)| p * f64::from(x * x)).sum();
        let ours = mechanism.variance(NoiseOf::OneAggregator);
        assert!((ours / exact - 1.0).abs() < 1e-9, "{mechanism}: {ours} {exact}");
        assert!((mechanism.variance(NoiseOf::BothAggregators) / exact - 2.0).abs() < 1e-9);
    }
    assert!((gaussian("1/2").variance(NoiseOf::OneAggregator) - 0.2150).abs() < 1e-4);
    assert!((laplace("2").variance(NoiseOf::OneAggregator).sqrt() - 2.80).abs() < 0.01);
}

#[test]
fn noise_bounds_cover_the_tail_of_all_coordinates() {
    // Laplace: 2 · scale · ln(2) · bits, with 40 bits of tail, 2 of slack and those of the length.
    for (mechanism, length) in
        [(laplace("10"), 1), (laplace("10"), 1000), (gaussian("10"), 1), (gaussian("10"), 1000)]
    {
        let bound = u64::try_from(mechanism.noise_bound(length)).unwrap();
        let needed = mechanism.half_width(1.0 - 2f64.powi(-39) / length as f64, NoiseOf::BothAggregators);
        assert!(bound >= needed, "{mechanism} {length}: {bound} {needed}");
        assert!(bound <= 3 * needed, "{mechanism} {length}: {bound} {needed}");
    }
    let grows = |length| laplace("1e6").noise_bound(length);
    assert!(grows(1) < grows(10) && grows(10) < grows(1_000_000));
    // Scale 2e17 over a million coordinates wraps in Field64; the bound says so.
    assert!(laplace("2e17").noise_bound(1_000_000) > BigUint::from(1u64 << 61));
}

#[test]
fn a_mechanism_survives_being_written_down() {
    for mechanism in [laplace("20/3"), gaussian("20"), gaussian("1449/1024")] {
        assert_eq!(mechanism.to_string().parse(), Ok(mechanism));
    }
    for strange in ["", "discrete_laplace(scale=0)", "discrete_laplace(scale=1", "laplace(scale=1)"] {
        assert_eq!(strange.parse::<Mechanism>(), Err(UnknownMechanism), "{strange}");
    }
    assert_eq!(laplace("2").describe(), "discrete Laplace, scale 2, each aggregator");
}
