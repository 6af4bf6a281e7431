//! Which noise, and how much of it.
//!
//! A mechanism is calibrated from a sensitivity and a privacy loss in exact arithmetic. What it promises, what it
//! draws and the interval printed beside a result all come from the one number it holds.

mod accuracy;
mod sampler;
#[cfg(test)]
mod sampler_tests;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use num_bigint::BigUint;

use crate::rational::Rational;
use crate::sensitivity::Sensitivity;

/// Whose noise is in a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoiseOf {
    /// One aggregator's: what the guarantee rests on when the other one is dishonest.
    OneAggregator,
    /// Both aggregators': what is in the result when both are honest, so what an interval must cover.
    BothAggregators,
}

/// The noise one aggregator adds to every coordinate of its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// `P(x) ∝ exp(-|x| / scale)` on the integers.
    DiscreteLaplace {
        /// Exactly `Δ₁ / ε`.
        scale: Rational,
    },
    /// `P(x) ∝ exp(-x² / 2σ²)` on the integers.
    DiscreteGaussian {
        /// `√(Δ₂² / 2ρ)`, rounded up to a multiple of 1/1024.
        sigma: Rational,
    },
}

/// The noise asked for cannot be drawn safely.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalibrationError {
    /// The privacy loss is zero.
    #[error("a privacy loss of zero needs infinite noise")]
    ZeroLoss,
    /// So little noise that an integer total would mostly be printed exactly.
    #[error("{parameter} {value} is below the floor 1/2")]
    BelowFloor {
        /// `scale` or `sigma`.
        parameter: &'static str,
        /// The value calibrated.
        value: Rational,
    },
    /// The parameter has more digits than the sampler takes.
    #[error("the {0} needs more than 128 bits")]
    TooLarge(&'static str),
}

/// σ is a multiple of one part in this many.
const SIGMA_GRID: u32 = 1024;

impl Mechanism {
    /// Discrete Laplace noise of scale `Δ₁ / ε`.
    ///
    /// # Privacy
    /// ε-differential privacy for the relation the sensitivity was derived for, with the noise of one aggregator.
    ///
    /// # Reference
    /// The ratio of the densities of one coordinate is at most `exp(|Δᵢ| / scale)`; coordinates are independent.
    pub fn discrete_laplace(sensitivity: &Sensitivity, epsilon: &Rational) -> Result<Self, CalibrationError> {
        let scale =
            Rational::whole(sensitivity.l1.clone()).divided_by(epsilon).ok_or(CalibrationError::ZeroLoss)?;
        check("scale", &scale)?;
        Ok(Self::DiscreteLaplace { scale })
    }

    /// Discrete Gaussian noise with `σ² ≥ Δ₂² / 2ρ`.
    ///
    /// # Privacy
    /// ρ-zero-concentrated differential privacy for the relation the sensitivity was derived for, with the noise of
    /// one aggregator. The formula for the continuous Gaussian is not used: it understates the loss.
    ///
    /// # Reference
    /// Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy" (2020), Theorem 4.
    pub fn discrete_gaussian(sensitivity: &Sensitivity, rho: &Rational) -> Result<Self, CalibrationError> {
        let variance = Rational::whole(sensitivity.l2_squared.clone())
            .divided_by(&rho.times(&Rational::whole(2u8)))
            .ok_or(CalibrationError::ZeroLoss)?;
        let sigma = variance.square_root_up::<SIGMA_GRID>();
        check("sigma", &sigma)?;
        Ok(Self::DiscreteGaussian { sigma })
    }

    /// The name policy files and statements use.
    pub fn name(&self) -> &'static str {
        match self {
            Self::DiscreteLaplace { .. } => "discrete_laplace",
            Self::DiscreteGaussian { .. } => "discrete_gaussian",
        }
    }

    /// `scale` or `sigma`, and its exact value.
    pub fn parameter(&self) -> (&'static str, &Rational) {
        match self {
            Self::DiscreteLaplace { scale } => ("scale", scale),
            Self::DiscreteGaussian { sigma } => ("sigma", sigma),
        }
    }

    /// One line for people: `discrete Laplace, scale 2, each aggregator`.
    pub fn describe(&self) -> String {
        let name =
            self.name().replace("laplace", "Laplace").replace("gaussian", "Gaussian").replace('_', " ");
        let (parameter, value) = self.parameter();
        format!("{name}, {parameter} {value}, each aggregator")
    }

    /// A bound that the noise of both aggregators in any of `length` coordinates passes with a probability of at
    /// most 2⁻⁴⁰.
    ///
    /// # Reference
    /// Laplace: `P(|X| ≥ x) ≤ 2 exp(-x / scale)` for each of the two draws. Gaussian: each draw is subgaussian with
    /// variance σ² (Canonne, Kamath, Steinke 2020), so their sum is with 2σ². A union bound over draws or coordinates; `ln 2` is
    /// taken as 0.6932 and logarithms of counts are rounded up to whole bits.
    pub fn noise_bound(&self, length: usize) -> BigUint {
        let bits_of_length = length.checked_ilog2().unwrap_or(0) + 1;
        let ln2 = Rational::over::<10_000>(6932u32);
        match self {
            Self::DiscreteLaplace { scale } => {
                // 2 · length draws, each with probability 2 exp(-x / scale).
                let nats = ln2.times(&Rational::whole(TAIL_BITS + bits_of_length + 2));
                scale.times(&nats).ceiling() * 2u8
            }
            Self::DiscreteGaussian { sigma } => {
                // length sums, each with probability 2 exp(-x² / 4σ²).
                let nats = ln2.times(&Rational::whole(TAIL_BITS + bits_of_length + 1));
                let square = sigma.times(sigma).times(&nats).times(&Rational::whole(4u8));
                square.square_root_up::<1>().ceiling()
            }
        }
    }
}

const TAIL_BITS: u32 = 40;

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parameter, value) = self.parameter();
        write!(f, "{}({parameter}={value})", self.name())
    }
}

impl FromStr for Mechanism {
    type Err = UnknownMechanism;

    /// Takes what `Display` writes, so that a mechanism can be named in a ledger or a statement.
    fn from_str(text: &str) -> Result<Self, UnknownMechanism> {
        let value = |start: &str| -> Option<Rational> {
            let value = text.strip_prefix(start)?.strip_suffix(')')?.parse().ok()?;
            check("parameter", &value).ok()?;
            Some(value)
        };
        if let Some(scale) = value("discrete_laplace(scale=") {
            return Ok(Self::DiscreteLaplace { scale });
        }
        value("discrete_gaussian(sigma=")
            .map(|sigma| Self::DiscreteGaussian { sigma })
            .ok_or(UnknownMechanism)
    }
}

/// The text names no mechanism of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a mechanism of this version")]
pub struct UnknownMechanism;

fn check(parameter: &'static str, value: &Rational) -> Result<(), CalibrationError> {
    let half = Rational::over::<2>(1u8);
    if *value < half {
        return Err(CalibrationError::BelowFloor { parameter, value: value.clone() });
    }
    if value.numerator().bits() > 128 || value.denominator().bits() > 128 {
        return Err(CalibrationError::TooLarge(parameter));
    }
    Ok(())
}
