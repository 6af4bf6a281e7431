//! Integers with a sign, and the field elements that stand for them.

use num_bigint::BigInt;
use num_traits::{Euclid as _, ToPrimitive as _};
use prio::field::FieldElementWithInteger;

use super::VdafError;

/// An integer of any sign and size as an element of the field.
pub(super) fn in_field<F: FieldElementWithInteger<Integer: TryFrom<u128>>>(
    value: &BigInt,
    modulus: &BigInt,
) -> F {
    let residue = value.rem_euclid(modulus).to_u128();
    let Some(integer) = residue.and_then(|residue| F::Integer::try_from(residue).ok()) else {
        unreachable!("a residue is below the modulus, which fits the integers of the field");
    };
    F::from(integer)
}

/// The integer that an element stands for, when without noise it would be in `0..=largest_sum`.
///
/// Elements in the half of the field around the middle of that range are that integer, the others are
/// negative. What does not fit an `i128` cannot be the sum of any batch.
pub(super) fn signed<F: FieldElementWithInteger<Integer: Into<u128>>>(
    element: F,
    largest_sum: u128,
) -> Result<i128, VdafError> {
    let modulus: u128 = F::modulus().into();
    let value: u128 = F::Integer::from(element).into();
    // Both summands are at most half the field, hence no overflow.
    let last_positive = (modulus - 1) / 2 + largest_sum.min(modulus - 1) / 2;
    let (magnitude, sign) = if value > last_positive { (modulus - value, -1) } else { (value, 1) };
    i128::try_from(magnitude).map(|magnitude| sign * magnitude).map_err(|_| VdafError::AggregateShare)
}
