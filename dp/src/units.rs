//! What the ledger counts in: whole units of 10⁻¹² of ε or ρ.
//!
//! Charges are rounded up and limits down, so that rounding can only refuse a release, never grant one. Sums of
//! whole numbers do not drift, and a budget for exactly ten releases grants exactly ten.

use num_bigint::BigUint;
use num_traits::ToPrimitive;

use crate::rational::Rational;

/// Units in one whole ε or ρ.
pub const UNITS_PER_ONE: i64 = 1_000_000_000_000;

/// The charge for `amount`, rounded up; nothing when it is more than the ledger can hold.
pub fn charge_units(amount: &Rational) -> Option<i64> {
    amount.times(&scale()).ceiling().to_i64()
}

/// The limit for `amount`, rounded down; nothing when it is more than the ledger can hold.
pub fn limit_units(amount: &Rational) -> Option<i64> {
    amount.times(&scale()).floor().to_i64()
}

/// The exact amount behind a number of units; what is below zero counts as zero.
pub fn units_to_rational(units: i64) -> Rational {
    Rational::over::<{ UNITS_PER_ONE.unsigned_abs() }>(u64::try_from(units).unwrap_or(0))
}

/// Units as a decimal without trailing zeros, the way people read them: `0.25`.
pub fn format_units(units: i64) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let magnitude = units.unsigned_abs();
    let one = UNITS_PER_ONE.unsigned_abs();
    let (whole, rest) = (magnitude / one, magnitude % one);
    if rest == 0 {
        return format!("{sign}{whole}");
    }
    let rest = format!("{rest:012}");
    format!("{sign}{whole}.{}", rest.trim_end_matches('0'))
}

fn scale() -> Rational {
    Rational::whole(BigUint::from(UNITS_PER_ONE.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_round_up_and_limits_round_down() {
        let third: Rational = "1/3".parse().unwrap();
        assert_eq!(charge_units(&third), Some(333_333_333_334));
        assert_eq!(limit_units(&third), Some(333_333_333_333));
        let tenth: Rational = "0.1".parse().unwrap();
        assert_eq!(charge_units(&tenth), limit_units(&tenth));
        assert_eq!(charge_units(&"1e-30".parse().unwrap()), Some(1));
        assert_eq!(limit_units(&"1e-30".parse().unwrap()), Some(0));
    }

    #[test]
    fn what_does_not_fit_is_nothing() {
        assert_eq!(charge_units(&"1e9".parse().unwrap()), None);
        assert_eq!(limit_units(&"1e9".parse().unwrap()), None);
    }

    #[test]
    fn units_read_like_decimals() {
        assert_eq!(format_units(250_000_000_000), "0.25");
        assert_eq!(format_units(-UNITS_PER_ONE), "-1");
        assert_eq!(format_units(1), "0.000000000001");
        assert_eq!(format_units(i64::MIN), "-9223372.036854775808");
    }
}
