//! From zero-concentrated loss to the (ε, δ) that people compare, and back.
//!
//! Everything is synchronous and returns plain numbers. A reported ε is never below the true value of the bound: ρ is
//! rounded up on the way in and the result on the way out, by our own evaluation and by `opendp`'s, which only this
//! file names; both are true, so the smaller is reported. Limits are rounded down.

mod cks20;
#[cfg(test)]
mod tests;

use opendp::combinators::ConcentratedMeasure;
use opendp::measures::ZeroConcentratedDivergence;

use crate::rational::Rational;
use crate::units::units_to_rational;

/// The conversion has no finite answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no finite epsilon is implied at this delta")]
pub struct NoFiniteEpsilon;

/// The ε at `delta` that a loss of `rho` implies, rounded up.
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
    let (ours, theirs) = both(rho, delta);
    match ours.min(theirs) {
        epsilon if epsilon.is_finite() => Ok(epsilon),
        _ => Err(NoFiniteEpsilon),
    }
}

/// The bound as evaluated here and by `opendp`; infinite where there is none.
fn both(rho: &Rational, delta: &Rational) -> (f64, f64) {
    let Some(nats) = nats(delta) else { return (f64::INFINITY, f64::INFINITY) };
    let rho = rho.approximate_up();
    let ours = cks20::epsilon(rho, nats);
    let theirs =
        ZeroConcentratedDivergence::convert(rho).and_then(|profile| profile.epsilon(lower_end(delta)));
    let finite = |epsilon: f64| if epsilon.is_nan() { f64::INFINITY } else { epsilon };
    (finite(ours), theirs.map_or(f64::INFINITY, finite))
}

/// `ln(1/δ)` of a δ that is one.
fn nats(delta: &Rational) -> Option<f64> {
    let delta = lower_end(delta);
    (delta > 0.0 && delta < 1.0_f64.next_down().next_down()).then(|| -delta.ln())
}

/// A smaller δ asks for more.
fn lower_end(delta: &Rational) -> f64 {
    delta.approximate().next_down().next_down()
}

/// The largest ρ, in whole units of 10⁻¹², of which (`epsilon`, `delta`) follows; nothing when there is none.
///
/// # Privacy
/// A budget that stays within this ρ stays within (`epsilon`, `delta`): ε is rounded down before and ρ after.
///
/// # Reference
/// Canonne, Kamath, Steinke (2020), Corollary 13, read backwards.
pub fn rho_units_of_approx(epsilon: &Rational, delta: &Rational) -> Option<i64> {
    let allowed = epsilon.approximate().next_down().next_down();
    let nats = nats(delta)?;
    // One valid evaluation is enough here, and ours is the faster by far.
    let fits = |units: i64| cks20::epsilon(units_to_rational(units).approximate_up(), nats) <= allowed;
    let (mut fitting, mut beyond) = (0, i64::MAX);
    while fitting + 1 < beyond {
        let middle = fitting + (beyond - fitting) / 2;
        if fits(middle) {
            fitting = middle;
        } else {
            beyond = middle;
        }
    }
    (fitting > 0).then_some(fitting)
}

/// The ε to report for a loss of `rho_units` that is also, where that is known, pure of `pure_units` units: the smaller
/// of the two valid bounds.
///
/// # Privacy
/// Pure and zero-concentrated losses both add up under adaptive choice, so each bound holds for the whole, and so
/// does the smaller. For a few Laplace releases the sum of ε is smaller; for many, the conversion.
pub fn reported_epsilon(
    rho_units: i64,
    pure_units: Option<i64>,
    delta: Option<&Rational>,
) -> Result<f64, NoFiniteEpsilon> {
    let pure = pure_units.map_or(f64::INFINITY, |units| units_to_rational(units).approximate_up());
    let converted = delta.map_or(f64::INFINITY, |delta| {
        epsilon_of_zcdp(&units_to_rational(rho_units), delta).unwrap_or(f64::INFINITY)
    });
    match pure.min(converted) {
        epsilon if epsilon.is_finite() => Ok(epsilon),
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
