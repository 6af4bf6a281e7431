//! Which of the two mechanisms needs less noise for the same guarantee.

use crate::conversion::rho_units_of_approx;
use crate::mechanism::{Mechanism, NoiseOf};
use crate::rational::Rational;
use crate::sensitivity::Sensitivity;
use crate::units::{UNITS_PER_ONE, units_to_rational};

/// A mechanism and how far off its results are.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The noise of each aggregator.
    pub mechanism: Mechanism,
    /// What one release costs: ε for Laplace, ρ for Gaussian.
    pub loss: Rational,
    /// Results are within ± this of the truth with probability 0.95, with the noise of both aggregators.
    pub half_width: u64,
    /// The standard deviation of a result, with the noise of both aggregators.
    pub deviation: f64,
}

/// Both mechanisms, for as many releases with the same reports in them, at the same (ε, δ) for all together.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Releases that one unit's reports are in.
    pub releases: u64,
    /// ε of all of them together.
    pub epsilon: Rational,
    /// Nothing when the noise would be below the floor.
    pub laplace: Option<Choice>,
    /// Nothing when the noise would be below the floor, or without a δ.
    pub gaussian: Option<Choice>,
}

impl Choice {
    /// What `mechanism` does to results.
    pub fn new(mechanism: Mechanism, loss: Rational) -> Self {
        let half_width = mechanism.half_width(0.95, NoiseOf::BothAggregators);
        let deviation = mechanism.variance(NoiseOf::BothAggregators).sqrt();
        Self { mechanism, loss, half_width, deviation }
    }
}

impl Comparison {
    /// `releases` releases that lose (`epsilon`, `delta`) together, by either mechanism.
    ///
    /// Laplace noise may be composed either way: by adding up ε, or by adding up ρ = ε²/2 and converting the sum.
    pub fn new(
        sensitivity: &Sensitivity,
        epsilon: &Rational,
        delta: Option<&Rational>,
        releases: u64,
    ) -> Self {
        let releases = releases.max(1);
        let count = Rational::whole(releases);
        let rho_units = delta.and_then(|delta| rho_units_of_approx(epsilon, delta)).unwrap_or(0)
            / i64::try_from(releases).unwrap_or(i64::MAX);
        let share = epsilon.divided_by(&count).unwrap_or_else(|| epsilon.clone());
        let pure = share.max(square_root_down(&units_to_rational(rho_units).times(&Rational::whole(2u8))));
        let laplace = Mechanism::discrete_laplace(sensitivity, &pure).ok();
        let rho = units_to_rational(rho_units);
        let gaussian = Mechanism::discrete_gaussian(sensitivity, &rho).ok();
        Self {
            releases,
            epsilon: epsilon.clone(),
            laplace: laplace.map(|mechanism| Choice::new(mechanism, pure)),
            gaussian: gaussian.map(|mechanism| Choice::new(mechanism, rho)),
        }
    }

    /// The one whose results are closer to the truth.
    pub fn better(&self) -> Option<&Choice> {
        match (&self.laplace, &self.gaussian) {
            (Some(laplace), Some(gaussian)) => {
                let key = |choice: &Choice| (choice.half_width, choice.deviation);
                Some(if key(gaussian) < key(laplace) { gaussian } else { laplace })
            }
            (laplace, gaussian) => laplace.as_ref().or(gaussian.as_ref()),
        }
    }
}

/// The largest whole number of units whose square is not above `square`.
fn square_root_down(square: &Rational) -> Rational {
    let one = num_bigint::BigUint::from(UNITS_PER_ONE.unsigned_abs());
    let root = square.times(&Rational::whole(&one * &one)).floor().sqrt();
    Rational::fraction(root, one).unwrap_or_else(|| Rational::whole(0u8))
}
