//! The draw itself: exact samplers on the integers, no floating point anywhere in this file.
//!
//! The algorithms of Canonne, Kamath and Steinke (2020) are those of `prio::dp::distributions`. The caller brings
//! the random numbers, so that a test can repeat a draw; a server seeds them from the operating system. A draw is
//! used once and never kept or logged: an aggregator that remembers its noise has none.

#![deny(clippy::float_arithmetic, clippy::lossy_float_literal, clippy::float_cmp)]

use num_bigint::BigInt;
use num_traits::ToPrimitive;
use prio::dp::Rational as SamplerRational;
use prio::dp::distributions::{DiscreteGaussian, DiscreteLaplace};
use rand::CryptoRng;
use rand::distr::Distribution;

use super::Mechanism;
use crate::rational::Rational;

impl Mechanism {
    /// One independent draw per coordinate.
    pub(crate) fn sample<R: CryptoRng + ?Sized>(&self, length: usize, rng: &mut R) -> Vec<BigInt> {
        match self {
            Self::DiscreteLaplace { scale } => {
                let noise =
                    DiscreteLaplace::new(parameter(scale)).expect("calibration refuses a scale of zero");
                (0..length).map(|_| noise.sample(rng)).collect()
            }
            Self::DiscreteGaussian { sigma } => {
                let noise = DiscreteGaussian::new(parameter(sigma)).expect("a denominator is never zero");
                (0..length).map(|_| noise.sample(rng)).collect()
            }
        }
    }
}

fn parameter(value: &Rational) -> SamplerRational {
    let part = |part: &num_bigint::BigUint| part.to_u128().expect("calibration refuses more than 128 bits");
    SamplerRational::from_unsigned(part(value.numerator()), part(value.denominator()))
        .expect("a denominator is never zero")
}
