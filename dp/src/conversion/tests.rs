//! The conversions against 50-digit references, against each other and there and back.

use proptest::prelude::*;

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

#[test]
fn our_evaluation_and_the_library_agree_to_nine_digits() {
    for rho in ["1e-12", "3e-9", "1e-6", "0.0005", "0.0025", "0.02", "1/3", "1.25", "7", "60", "1000"] {
        for delta in ["1e-30", "1e-12", "1e-9", "1e-6", "1e-3", "0.05"] {
            let (ours, theirs) = both(&rho.parse().unwrap(), &delta.parse().unwrap());
            let apart = (ours - theirs).abs();
            assert!(apart <= 1e-9 * ours.max(1e-9), "{rho} {delta}: {ours} {theirs}");
        }
    }
}

#[test]
fn there_is_no_epsilon_for_impossible_deltas() {
    for delta in ["0", "1", "2"] {
        let (rho, delta) = ("0.1".parse().unwrap(), delta.parse().unwrap());
        assert_eq!(epsilon_of_zcdp(&rho, &delta), Err(NoFiniteEpsilon));
    }
}

#[test]
fn the_limit_for_an_epsilon_is_the_largest_that_implies_it() {
    // From the planner's reference table: a histogram's rho for epsilon at delta 1e-6.
    for (epsilon, rho) in
        [("0.1", 0.000_321), ("0.5", 0.006_642), ("1", 0.024_356), ("2", 0.088_153), ("4", 0.311_065)]
    {
        let (epsilon, delta): (Rational, Rational) = (epsilon.parse().unwrap(), "1e-6".parse().unwrap());
        let units = rho_units_of_approx(&epsilon, &delta).unwrap();
        assert!((units_to_rational(units).approximate() - rho).abs() <= 5.1e-7, "{epsilon}: {units}");
        let implied = |units| epsilon_of_zcdp(&units_to_rational(units), &delta).unwrap();
        assert!(implied(units) <= epsilon.approximate());
        assert!(implied(units + 1_000) > epsilon.approximate(), "{epsilon}: {units} is too small");
    }
    // Where delta is large, the loss may be more than the epsilon that it implies.
    for (epsilon, delta) in [("0.1", "0.5"), ("1", "0.9")] {
        let (epsilon, delta): (Rational, Rational) = (epsilon.parse().unwrap(), delta.parse().unwrap());
        let units = rho_units_of_approx(&epsilon, &delta).unwrap();
        assert!(units_to_rational(units) > epsilon, "{units}");
        let implied = |units| epsilon_of_zcdp(&units_to_rational(units), &delta).unwrap();
        assert!(implied(units) <= epsilon.approximate());
        assert!(implied(units + units / 100_000_000) > epsilon.approximate(), "{units} is too small");
    }
    let tiny = "1e-20".parse().unwrap();
    assert_eq!(rho_units_of_approx(&tiny, &"1e-30".parse().unwrap()), None);
    assert_eq!(rho_units_of_approx(&"1".parse().unwrap(), &"0".parse().unwrap()), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_round_trip_from_epsilon_to_rho_never_ends_above(
        millis in 1u32..20_000,
        exponent in 2i32..15,
    ) {
        let epsilon = Rational::fraction(millis, 1000u32).unwrap();
        let delta = Rational::fraction(1u8, 10u64.pow(exponent.unsigned_abs())).unwrap();
        let Some(units) = rho_units_of_approx(&epsilon, &delta) else { return Ok(()) };
        let back = epsilon_of_zcdp(&units_to_rational(units), &delta).unwrap();
        prop_assert!(back <= epsilon.approximate());
        // One part in a million more would be too much, but for the resolution of a unit.
        let more = epsilon_of_zcdp(&units_to_rational(units + units / 1_000_000 + 10), &delta).unwrap();
        prop_assert!(more > epsilon.approximate().next_down());
    }

    #[test]
    fn a_round_trip_from_rho_to_epsilon_never_ends_below(
        units in 1i64..5_000_000_000_000,
        exponent in 2i32..15,
    ) {
        let delta = Rational::fraction(1u8, 10u64.pow(exponent.unsigned_abs())).unwrap();
        let epsilon = epsilon_of_zcdp(&units_to_rational(units), &delta).unwrap();
        prop_assume!(epsilon > 0.0);
        // An epsilon that is written down with twelve digits, rounded up, allows at least what was spent.
        let written = format!("{:.15}", epsilon * (1.0 + 1e-12) + 1e-15).parse().unwrap();
        prop_assert!(rho_units_of_approx(&written, &delta).unwrap() >= units - 1);
    }

    #[test]
    fn epsilon_is_monotone_in_both(
        units in 1i64..5_000_000_000_000,
        more in 1_000_000i64..1_000_000_000_000,
        exponent in 2i32..15,
    ) {
        let delta = |exponent: i32| Rational::fraction(1u8, 10u64.pow(exponent.unsigned_abs())).unwrap();
        let of = |units, exponent| epsilon_of_zcdp(&units_to_rational(units), &delta(exponent)).unwrap();
        prop_assert!(of(units + more, exponent) >= of(units, exponent));
        prop_assert!(of(units, exponent + 1) >= of(units, exponent));
    }
}

#[test]
fn the_smaller_of_the_valid_bounds_is_reported() {
    let delta: Rational = "1e-6".parse().unwrap();
    let one = crate::units::UNITS_PER_ONE;
    // Ten releases of epsilon 1/2: the sum is 5, the conversion of rho 1.25 is 8.85.
    let few = reported_epsilon(one / 4 * 5, Some(5 * one), Some(&delta)).unwrap();
    assert!((few - 5.0).abs() < 1e-9 && few >= 5.0, "{few}");
    assert!(reported_epsilon(one / 4 * 5, None, Some(&delta)).unwrap() > 8.84);
    // With 365 releases of epsilon 1/10, the conversion is smaller than the sum.
    let many = reported_epsilon(one / 200 * 365, Some(one / 10 * 365), Some(&delta)).unwrap();
    assert!((many - 11.1).abs() < 0.05, "{many}");
    assert_eq!(reported_epsilon(one, None, None), Err(NoFiniteEpsilon));
    assert!(reported_epsilon(one, Some(one), None).unwrap() >= 1.0);
}
