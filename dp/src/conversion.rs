//! From zero-concentrated loss to the (ε, δ) that people compare.
//!
//! The one file that names `opendp`; everything is synchronous and returns plain numbers. The reported ε is never
//! below the true value of the bound: ρ is rounded up on the way in and the library rounds up on the way out.
//! Budgets are enforced on ρ; this number is only reported.

use opendp::combinators::ConcentratedMeasure;
use opendp::measures::ZeroConcentratedDivergence;

use crate::rational::Rational;

/// The conversion has no finite answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no finite epsilon is implied at this delta")]
pub struct NoFiniteEpsilon;

/// The ε at `delta` that a loss of `rho` implies.
///
/// # Privacy
/// A release that is ρ-zCDP is (ε, δ)-differentially private for the same relation.
///
/// # Reference
/// Canonne, Kamath, Steinke (2020), Corollary 13.
pub fn epsilon_of_zcdp(rho: &Rational, delta: &Rational) -> Result<f64, NoFiniteEpsilon> {
    if rho.is_zero() {
        return Ok(0.0);
    }
    let profile = ZeroConcentratedDivergence::convert(rho.approximate_up()).map_err(|_| NoFiniteEpsilon)?;
    // A smaller delta asks for more.
    let delta = delta.approximate().next_down().next_down();
    match profile.epsilon(delta) {
        Ok(epsilon) if epsilon.is_finite() => Ok(epsilon),
        _ => Err(NoFiniteEpsilon),
    }
}

/// The ρ that pure ε-differential privacy implies: `ε² / 2`, exactly.
///
/// # Reference
/// Bun, Steinke (2016), Proposition 1.4.
pub fn rho_of_pure(epsilon: &Rational) -> Rational {
    epsilon.times(epsilon).times(&Rational::over::<2>(1u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epsilon(rho: &str, delta: &str) -> f64 {
        epsilon_of_zcdp(&rho.parse().unwrap(), &delta.parse().unwrap()).unwrap()
    }

    #[test]
    fn reference_values_are_met_to_nine_digits_and_never_from_below() {
        // 50-digit values of CKS20 Corollary 13, cut after the last digit given.
        for (rho, delta, reference) in [
            ("0.005", "1e-6", 0.429_941_469),
            ("0.02", "1e-6", 0.899_935_268),
            ("0.0025", "1e-6", 0.297_504_172_078_190_2),
            ("0.075", "1e-6", 1.832_135_652_762_176),
            ("0.5", "1e-5", 4.728_386_985),
            ("1.25", "1e-6", 8.845_889_348),
        ] {
            let ours = epsilon(rho, delta);
            // The shorter references are good to nine digits after the point.
            assert!(ours >= reference - 5e-10, "{rho} {delta}: {ours} is below {reference}");
            assert!((ours - reference).abs() <= 1e-9 * reference.max(1.0), "{rho} {delta}: {ours}");
        }
        assert!(epsilon("0.0025", "1e-6") >= 0.297_504_172_078_190_2);
        assert!(epsilon("0.075", "1e-6") >= 1.832_135_652_762_176);
    }

    #[test]
    fn epsilon_grows_with_rho_and_shrinks_with_delta() {
        let rhos = ["0.0001", "0.001", "0.01", "0.1", "1", "4"];
        let deltas = ["1e-12", "1e-9", "1e-6", "1e-3"];
        for delta in deltas {
            let row: Vec<f64> = rhos.iter().map(|rho| epsilon(rho, delta)).collect();
            assert!(row.is_sorted(), "{delta}: {row:?}");
        }
        for rho in rhos {
            let row: Vec<f64> = deltas.iter().rev().map(|delta| epsilon(rho, delta)).collect();
            assert!(row.is_sorted(), "{rho}: {row:?}");
        }
        assert!(epsilon("0", "1e-6").abs() < f64::EPSILON);
    }

    #[test]
    fn pure_loss_converts_exactly() {
        assert_eq!(rho_of_pure(&"1/10".parse().unwrap()), "0.005".parse().unwrap());
        assert_eq!(rho_of_pure(&"1".parse().unwrap()), "1/2".parse().unwrap());
    }
}
