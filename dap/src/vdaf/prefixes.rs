//! Poplar1: its measurements are strings of bits, its aggregation parameter a list of prefixes to count.
//!
//! The parameter comes from the collector, and at the helper from the leader. The library overflows on some
//! of them: six bytes end the process. So [`decode_prefixes`] and everything else here looks at the length, the
//! level and the number of prefixes before the library does.

use num_bigint::{BigInt, BigUint};
use prio::codec::{Decode as _, Encode as _};
use prio::field::{Field64, Field255, FieldElementWithInteger as _};
use prio::idpf::IdpfInput;
use prio::vdaf::poplar1::{Poplar1, Poplar1AggregationParam, Poplar1FieldVec};
use prio::vdaf::xof::XofTurboShake128;

use super::limits::{MAX_POPLAR1_BITS, max_prefixes};
use super::measurement::bits as bits_of;
use super::residue::signed;
use super::scheme::Scheme;
use super::{Measurement, VdafError};
use crate::codec::Reader;
use crate::vdaf_config::VdafConfig;

impl Scheme for Poplar1<XofTurboShake128, 32> {
    fn measurement(measurement: &Measurement) -> Option<IdpfInput> {
        match measurement {
            Measurement::Bits(bits) => Some(IdpfInput::from_bools(bits)),
            _ => None,
        }
    }

    fn parameter(config: &VdafConfig, bytes: &[u8]) -> Result<Poplar1AggregationParam, VdafError> {
        match *config {
            VdafConfig::Poplar1 { bits } => decoded(bits, bytes),
            _ => Err(VdafError::AggregationParameter),
        }
    }

    fn noise(_: &[BigInt]) -> Result<Poplar1FieldVec, VdafError> {
        Err(VdafError::NoNoise)
    }

    fn signed(sum: &Poplar1FieldVec, largest_sum: u128) -> Result<Vec<i128>, VdafError> {
        match sum {
            Poplar1FieldVec::Inner(sums) => sums.iter().map(|sum| signed(*sum, largest_sum)).collect(),
            Poplar1FieldVec::Leaf(sums) => sums.iter().map(|sum| signed_leaf(*sum)).collect(),
        }
    }

    fn result_length(_: &VdafConfig, parameter: &Poplar1AggregationParam) -> usize {
        parameter.prefixes().len()
    }

    fn field_modulus() -> BigUint {
        BigUint::from(Field64::modulus())
    }
}

/// The parameter that counts these prefixes, each a text of zeros and ones, in strings of `bits` bits.
///
/// All have one length. They are counted in lexicographic order, whatever their order here:
/// [`decode_prefixes`] tells it.
pub fn encode_prefixes<T: AsRef<str>>(bits: u16, prefixes: &[T]) -> Result<Vec<u8>, VdafError> {
    let read = |text: &T| bits_of(text.as_ref()).ok_or(());
    let Ok(mut inputs) = prefixes.iter().map(read).collect::<Result<Vec<_>, ()>>() else {
        return refused("write each as zeros and ones, such as 0110");
    };
    if inputs.iter().any(|input| input.is_empty() || input.len() > usize::from(bits)) {
        return refused(&format!("a prefix has from 1 to {bits} bits"));
    }
    let length = inputs.first().and_then(|input| u16::try_from(input.len()).ok()).unwrap_or(1);
    if inputs.len() > max_prefixes(length) {
        return refused(&format!(
            "{} were given, at most {} of {length} bits are counted",
            inputs.len(),
            max_prefixes(length)
        ));
    }
    inputs.sort_unstable();
    let inputs = inputs.iter().map(|input| IdpfInput::from_bools(input)).collect();
    let made = Poplar1AggregationParam::try_from_prefixes(inputs)
        .map_err(|why| VdafError::Prefixes(why.to_string()))?;
    made.get_encoded().map_err(|why| VdafError::Prefixes(why.to_string()))
}

/// The prefixes that a parameter counts in strings of `bits` bits, in the order of the results.
pub fn decode_prefixes(bits: u16, parameter: &[u8]) -> Result<Vec<String>, VdafError> {
    let text = |prefix: &IdpfInput| prefix.iter().map(|bit| if bit { '1' } else { '0' }).collect();
    Ok(decoded(bits, parameter)?.prefixes().iter().map(text).collect())
}

/// The aggregation parameter of a task that counts these prefixes: the empty one for the Prio3 family, which counts none.
///
/// # Errors
/// When Poplar1 is given none, or none that can be counted, and when another VDAF is given any.
pub fn parameter_of<T: AsRef<str>>(config: &VdafConfig, prefixes: &[T]) -> Result<Vec<u8>, VdafError> {
    match (config, prefixes) {
        (VdafConfig::Poplar1 { .. }, []) => refused("none is given, and without one nothing can be counted"),
        (VdafConfig::Poplar1 { bits }, prefixes) => encode_prefixes(*bits, prefixes),
        (_, []) => Ok(Vec::new()),
        _ => refused(&format!("{} counts none; leave them out", config.name())),
    }
}

/// The prefixes that such a parameter counts, in the order of the results; none of a parameter that is none.
pub fn prefixes_of(config: &VdafConfig, parameter: &[u8]) -> Vec<String> {
    match config {
        VdafConfig::Poplar1 { bits } => decode_prefixes(*bits, parameter).unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn decoded(bits: u16, bytes: &[u8]) -> Result<Poplar1AggregationParam, VdafError> {
    let refuse = || VdafError::AggregationParameter;
    let mut reader = Reader::new(bytes);
    let level = reader.u16().map_err(|_| refuse())?;
    let count = reader.u32().map_err(|_| refuse())?;
    let count = usize::try_from(count).map_err(|_| refuse())?;
    // The level is below the number of bits, hence far from where the library overflows.
    if bits > MAX_POPLAR1_BITS || level >= bits || !(1..=max_prefixes(level + 1)).contains(&count) {
        return Err(refuse());
    }
    let each = (usize::from(level) + 1).div_ceil(8);
    if bytes.len() != 6 + count * each {
        return Err(refuse());
    }
    Poplar1AggregationParam::get_decoded(bytes).map_err(|_| refuse())
}

/// The integer that an element of the leaves' field stands for, positive or negative.
fn signed_leaf(element: Field255) -> Result<i128, VdafError> {
    u64::try_from(element)
        .map(i128::from)
        .or_else(|_| u64::try_from(-element).map(|magnitude| -i128::from(magnitude)))
        .map_err(|_| VdafError::AggregateShare)
}

fn refused<T>(why: &str) -> Result<T, VdafError> {
    Err(VdafError::Prefixes(why.to_owned()))
}
