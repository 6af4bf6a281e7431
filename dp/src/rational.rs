//! Exact non-negative rationals: every parameter of a policy, from the file to the noise.
//!
//! A decimal in a policy file is taken digit by digit, so `0.1` is one tenth and not the binary number next to
//! it. Scales, variances and charges are computed from these and rounded once, in the direction that is safe.
//! Nothing here knows a report or a total.

use std::fmt;
use std::str::FromStr;

use num_bigint::BigUint;
use num_rational::Ratio;
use num_traits::float::FloatCore as _;
use num_traits::{ToPrimitive, Zero};

/// An exact number that is zero or more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rational(Ratio<BigUint>);

/// The text is not a number this crate can take exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotExact {
    /// Below zero, or a zero with a minus sign.
    #[error("negative")]
    Negative,
    /// Not a decimal and not a fraction of two whole numbers.
    #[error("not a number")]
    NotANumber,
    /// More digits or a larger exponent than any policy needs.
    #[error("too long")]
    TooLong,
}

/// No policy needs more digits than this; it also bounds the work a hostile file can cause.
const LONGEST: usize = 80;
const LARGEST_EXPONENT: i32 = 80;
/// The most places of a decimal that people read.
const LONGEST_DECIMAL: usize = 18;

impl Rational {
    /// `numerator / denominator`, or nothing when the denominator is zero.
    pub fn fraction(numerator: impl Into<BigUint>, denominator: impl Into<BigUint>) -> Option<Self> {
        let denominator = denominator.into();
        (!denominator.is_zero()).then(|| Self(Ratio::new(numerator.into(), denominator)))
    }

    /// `numerator / D`, for a denominator that is known when this is compiled.
    pub(crate) fn over<const D: u64>(numerator: impl Into<BigUint>) -> Self {
        const { assert!(D > 0, "a denominator is not zero") };
        Self(Ratio::new(numerator.into(), BigUint::from(D)))
    }

    /// A whole number.
    pub fn whole(number: impl Into<BigUint>) -> Self {
        Self(Ratio::from_integer(number.into()))
    }

    /// The numerator in lowest terms.
    pub fn numerator(&self) -> &BigUint {
        self.0.numer()
    }

    /// The denominator in lowest terms.
    pub fn denominator(&self) -> &BigUint {
        self.0.denom()
    }

    /// Whether this is zero.
    pub fn is_zero(&self) -> bool {
        self.0.is_zero()
    }

    /// The exact sum.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self(&self.0 + &other.0)
    }

    /// The exact product.
    #[must_use]
    pub fn times(&self, other: &Self) -> Self {
        Self(&self.0 * &other.0)
    }

    /// The exact quotient, or nothing when `other` is zero.
    pub fn divided_by(&self, other: &Self) -> Option<Self> {
        (!other.is_zero()).then(|| Self(&self.0 / &other.0))
    }

    /// The smallest whole number that is not below this one.
    pub fn ceiling(&self) -> BigUint {
        self.0.ceil().to_integer()
    }

    /// The largest whole number that is not above this one.
    pub fn floor(&self) -> BigUint {
        self.0.floor().to_integer()
    }

    /// The smallest multiple of `1/GRID` whose square is not below this number.
    #[must_use]
    pub fn square_root_up<const GRID: u32>(&self) -> Self {
        const { assert!(GRID > 0, "a grid has a width") };
        let grid = BigUint::from(GRID);
        let scaled = (&self.0 * (&grid * &grid)).ceil().to_integer();
        let mut root = scaled.sqrt();
        if &root * &root < scaled {
            root += 1u8;
        }
        Self(Ratio::new(root, grid))
    }

    /// The number as people write it: `0.0025`, `1e-8`, `12`; a fraction where no short decimal is exact.
    ///
    /// [`fmt::Display`] writes the one spelling that is hashed, and always a fraction.
    pub fn decimal(&self) -> String {
        let ten = BigUint::from(10u8);
        let mut scaled = self.0.clone();
        let mut places = 0usize;
        while !scaled.is_integer() {
            if places == LONGEST_DECIMAL {
                return self.to_string();
            }
            scaled *= &ten;
            places += 1;
        }
        let digits = scaled.to_integer().to_string();
        if places == 0 {
            return digits;
        }
        if digits.len() + 4 <= places {
            let (first, rest) = digits.split_at(1);
            let point = if rest.is_empty() { "" } else { "." };
            return format!("{first}{point}{rest}e-{}", places + 1 - digits.len());
        }
        let digits = format!("{digits:0>width$}", width = places + 1);
        let (whole, fraction) = digits.split_at(digits.len() - places);
        format!("{whole}.{fraction}")
    }

    /// The nearest floating-point number, for what people read; nothing is charged or sampled from it.
    pub fn approximate(&self) -> f64 {
        // Scaling keeps both parts within the range of f64 however long they are.
        let (numerator, denominator) = (self.0.numer(), self.0.denom());
        let excess = numerator.bits().max(denominator.bits()).saturating_sub(1000);
        let numerator = (numerator >> excess).to_f64().unwrap_or(f64::INFINITY);
        let denominator = (denominator >> excess).to_f64().unwrap_or(f64::INFINITY);
        numerator / denominator
    }

    /// The smallest floating-point number that is not below this one.
    pub fn approximate_up(&self) -> f64 {
        // Three roundings of half a unit each are covered by two steps.
        let mut near = self.approximate().next_down().next_down();
        while self.is_above(near) {
            near = near.next_up();
        }
        // The nought above the smallest number below it is a negative one.
        near + 0.0
    }

    fn is_above(&self, float: f64) -> bool {
        if !float.is_finite() || float < 0.0 {
            return float < 0.0;
        }
        let (mantissa, exponent, _) = float.integer_decode();
        let other = self.0.denom() * mantissa;
        let shift = u32::from(exponent.unsigned_abs());
        if exponent < 0 { self.0.numer() << shift > other } else { *self.0.numer() > other << shift }
    }
}

impl fmt::Display for Rational {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Rational {
    type Err = NotExact;

    /// Takes `12`, `0.25`, `1e-8`, `1_000.5` and `1/10`.
    fn from_str(text: &str) -> Result<Self, NotExact> {
        let text = text.trim();
        if text.len() > LONGEST {
            return Err(NotExact::TooLong);
        }
        if text.starts_with('-') {
            return Err(NotExact::Negative);
        }
        match text.split_once('/') {
            None => decimal(text),
            Some((numerator, denominator)) => {
                Self::fraction(digits(numerator.trim())?, digits(denominator.trim())?)
                    .ok_or(NotExact::NotANumber)
            }
        }
    }
}

fn decimal(text: &str) -> Result<Rational, NotExact> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| NotExact::NotANumber)?),
        None => (text, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction.replace('_', "")),
        Some(_) => return Err(NotExact::NotANumber),
        None => (mantissa, String::new()),
    };
    let places = i32::try_from(fraction.len()).map_err(|_| NotExact::TooLong)?;
    if exponent.unsigned_abs() > LARGEST_EXPONENT.unsigned_abs() {
        return Err(NotExact::TooLong);
    }
    if whole.is_empty() {
        return Err(NotExact::NotANumber);
    }
    let number = digits(&format!("{whole}{fraction}"))?;
    let shift = exponent - places;
    let power = BigUint::from(10u8).pow(shift.unsigned_abs());
    Ok(if shift < 0 {
        Rational(Ratio::new(number, power))
    } else {
        Rational(Ratio::from_integer(number * power))
    })
}

fn digits(text: &str) -> Result<BigUint, NotExact> {
    let text = text.replace('_', "");
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NotExact::NotANumber);
    }
    text.parse().map_err(|_| NotExact::NotANumber)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(text: &str) -> Rational {
        text.parse().unwrap()
    }

    #[test]
    fn decimals_are_taken_digit_by_digit() {
        assert_eq!(exact("0.1"), exact("1/10"));
        assert_eq!(exact("1e-8"), exact("1/100000000"));
        assert_eq!(exact("2.50E+1"), Rational::whole(25u8));
        assert_eq!(exact("1_000.5"), exact("2001/2"));
        assert_eq!(exact("0.1").to_string(), "1/10");
        assert_eq!(exact("4.0").to_string(), "4");
    }

    #[test]
    fn decimals_are_written_as_people_write_them() {
        for (exact_text, read) in [
            ("1/400", "0.0025"),
            ("1e-8", "1e-8"),
            ("0.000012", "1.2e-5"),
            ("0.0001", "0.0001"),
            ("12", "12"),
            ("12.50", "12.5"),
            ("1/3", "1/3"),
            ("0", "0"),
            ("1e-30", "1/1000000000000000000000000000000"),
        ] {
            assert_eq!(exact(exact_text).decimal(), read);
        }
    }

    #[test]
    fn what_is_no_exact_number_is_refused() {
        assert_eq!("-0.0".parse::<Rational>(), Err(NotExact::Negative));
        assert_eq!("-1/2".parse::<Rational>(), Err(NotExact::Negative));
        for text in ["nan", "inf", "+inf", "", "1/0", "1/", "/2", "0x10", "1.", ".5", "1e", "1/2/3", "1e+-2"]
        {
            assert_eq!(text.parse::<Rational>(), Err(NotExact::NotANumber), "{text:?}");
        }
        assert_eq!("1e999999999".parse::<Rational>(), Err(NotExact::TooLong));
        assert_eq!("1".repeat(100).parse::<Rational>(), Err(NotExact::TooLong));
    }

    #[test]
    fn square_roots_are_rounded_up_on_the_grid() {
        assert_eq!(exact("400").square_root_up::<1024>(), Rational::whole(20u8));
        let root = exact("2").square_root_up::<1024>();
        assert!(root.times(&root) >= exact("2"));
        assert_eq!(root, Rational::fraction(1449u32, 1024u32).unwrap());
        assert_eq!(exact("1e-12").square_root_up::<1024>(), Rational::fraction(1u8, 1024u32).unwrap());
    }

    #[test]
    fn the_next_number_of_the_machine_is_never_below_and_no_further_than_it_must_be() {
        let is = |text: &str, float: f64| exact(text).approximate_up().to_bits() == float.to_bits();
        assert!(is("0.5", 0.5) && is("0", 0.0) && is("3", 3.0));
        // The nearest to 0.1 is above it, the nearest to 0.3 is below.
        assert!(is("0.1", 0.1) && is("0.3", 0.3_f64.next_up()));
        assert!(is("18446744073709551617", 18_446_744_073_709_551_616.0_f64.next_up()));
    }

    #[test]
    fn approximations_do_not_overflow() {
        let huge = Rational::fraction(BigUint::from(3u8) << 4000, BigUint::from(1u8) << 4000).unwrap();
        assert!((huge.approximate() - 3.0).abs() < 1e-12);
        let long =
            Rational::fraction((BigUint::from(1u8) << 2000u32) + 1u8, (BigUint::from(1u8) << 2001u32) + 1u8);
        assert!((long.unwrap().approximate() - 0.5).abs() < 1e-12);
        assert!(exact("0.3").approximate_up() > 0.3);
    }
}
