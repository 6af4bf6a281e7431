//! Noise as a faulty server would draw it, for the tests that must notice. Not in any server: a feature of its own.

use num_bigint::BigInt;
use rand::CryptoRng;

use crate::mechanism::Mechanism;
use crate::noise::Noise;
use crate::rational::Rational;

/// What is wrong with the noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is none.
    Lost,
    /// As if a replaced report changed the sum of a one-hot vector by one and not by two.
    SensitivityOfOne,
    /// The scale is a tenth too small.
    TenthLow,
    /// The scale is a fiftieth too small.
    FiftiethLow,
    /// Half of the variance.
    HalfVariance,
    /// One draw for all coordinates.
    OneForAll,
    /// Never below zero.
    OneSided,
}

impl Fault {
    /// What a server with this fault takes for noise of `mechanism`.
    pub fn draw<R: CryptoRng + ?Sized>(self, mechanism: &Mechanism, length: usize, rng: &mut R) -> Noise {
        let values = match self {
            Self::Lost => vec![BigInt::ZERO; length],
            Self::SensitivityOfOne => smaller(mechanism, &Rational::over::<2>(1u8)).sample(length, rng),
            Self::TenthLow => smaller(mechanism, &Rational::over::<10>(9u8)).sample(length, rng),
            Self::FiftiethLow => smaller(mechanism, &Rational::over::<50>(49u8)).sample(length, rng),
            // 1/√2
            Self::HalfVariance => smaller(mechanism, &Rational::over::<1000>(707u32)).sample(length, rng),
            Self::OneForAll => vec![mechanism.sample(1, rng).swap_remove(0); length],
            Self::OneSided => {
                mechanism.sample(length, rng).into_iter().map(|it| it.magnitude().clone().into()).collect()
            }
        };
        Noise { mechanism: mechanism.clone(), values }
    }
}

fn smaller(mechanism: &Mechanism, factor: &Rational) -> Mechanism {
    match mechanism {
        Mechanism::DiscreteLaplace { scale } => Mechanism::DiscreteLaplace { scale: scale.times(factor) },
        Mechanism::DiscreteGaussian { sigma } => Mechanism::DiscreteGaussian { sigma: sigma.times(factor) },
    }
}
