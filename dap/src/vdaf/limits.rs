//! Which VDAF parameters are refused, before the library underneath sees them.
//!
//! The library accepts parameters that no honest task has: a weight above the vector's length, a chunk
//! that makes both aggregators spend seconds on one report. A task's parameters come from outside, so
//! these are attacks as much as slips.

use prio::vdaf::prio3::optimal_chunk_length;

use super::VdafError;
use crate::vdaf_config::VdafConfig;

/// The most field elements that one encoded measurement may take: vector length times bits per element,
/// plus the bits of a multihot weight. With the recommended chunk length it bounds an input
/// share to 1.6 MB, with the longest chunk to 4.8 MB.
pub const MAX_ENCODED_LENGTH: usize = 100_000;

/// The most gadget calls, `encoded length / chunk length` rounded up, that are served for any chunk length.
///
/// Verification costs the square of the number of calls: at length 10,000 these take 1.5 ms, 5,000 calls
/// 2.7 s, at each aggregator and for every report. More calls are served only where the chunk length is no
/// shorter than the one prio recommends, which never exceeds 255 calls within [`MAX_ENCODED_LENGTH`].
pub const MAX_GADGET_CALLS: usize = 127;

/// The longest string that Poplar1 is served for, in bits. A share of it takes 16 bytes per bit and a public share 33.
pub const MAX_POPLAR1_BITS: u16 = 1024;

/// The most prefixes of `length` bits that one aggregation of Poplar1 may ask for: 362 of 64 bits, 181 of 256.
///
/// Verification looks for every beginning of every prefix in a list as long as there are prefixes, so it costs up to
/// 10 ns times the length times the square of the number. At this limit that is 80 ms, at each aggregator and for
/// every report; where prefixes share their beginnings it is a hundredth of it.
pub fn max_prefixes(length: u16) -> usize {
    const LOOK_UPS: usize = 1 << 23;
    (LOOK_UPS / usize::from(length.max(1))).isqrt()
}

/// Refuses parameters that are meaningless, dangerous, or beyond what the field can hold.
pub(super) fn check(config: &VdafConfig) -> Result<(), VdafError> {
    match *config {
        VdafConfig::Count | VdafConfig::Poplar1 { bits: 1..=MAX_POPLAR1_BITS } => Ok(()),
        VdafConfig::Sum { max_measurement } => check_maximum(max_measurement),
        VdafConfig::SumVec { length, max_measurement, chunk_length } => {
            check_maximum(max_measurement)?;
            let encoded = index(length)?.saturating_mul(bits(max_measurement));
            check_chunks(index(length)?, encoded, index(chunk_length)?)
        }
        VdafConfig::Histogram { length, chunk_length } => {
            check_chunks(index(length)?, index(length)?, index(chunk_length)?)
        }
        VdafConfig::MultihotCountVec { length, chunk_length, max_weight } => {
            if max_weight == 0 {
                return refuse("max_weight is 0");
            }
            if max_weight > u64::from(length) {
                return refuse("max_weight is above the length of the vector");
            }
            let encoded = index(length)?.saturating_add(bits(max_weight));
            check_chunks(index(length)?, encoded, index(chunk_length)?)
        }
        VdafConfig::Poplar1 { bits: 0 } => refuse("bits is 0"),
        VdafConfig::Poplar1 { bits } => {
            refuse(&format!("strings of {bits} bits, at most {MAX_POPLAR1_BITS} are served"))
        }
    }
}

/// A checked width: these are `u32` on the wire and `usize` in the library.
pub(super) fn index(value: u32) -> Result<usize, VdafError> {
    usize::try_from(value).or_else(|_| refuse("a length does not fit this machine"))
}

fn check_maximum(max_measurement: u64) -> Result<(), VdafError> {
    if max_measurement == 0 { refuse("max_measurement is 0") } else { Ok(()) }
}

fn check_chunks(length: usize, encoded: usize, chunk_length: usize) -> Result<(), VdafError> {
    if length == 0 {
        return refuse("the length is 0");
    }
    if encoded > MAX_ENCODED_LENGTH {
        return refuse(&format!(
            "{encoded} field elements per measurement, at most {MAX_ENCODED_LENGTH} are served"
        ));
    }
    if chunk_length == 0 {
        return refuse("chunk_length is 0");
    }
    if chunk_length > encoded {
        return refuse(&format!("chunk_length is above the {encoded} field elements of a measurement"));
    }
    let calls = encoded.div_ceil(chunk_length);
    let recommended = optimal_chunk_length(encoded);
    if calls > MAX_GADGET_CALLS && chunk_length < recommended {
        return refuse(&format!(
            "chunk_length {chunk_length} makes every verification take {calls} calls at quadratic cost; use {recommended}"
        ));
    }
    Ok(())
}

/// The number of bits of a value that is not zero.
fn bits(value: u64) -> usize {
    value.checked_ilog2().map_or(0, |log| log as usize + 1)
}

fn refuse<T>(why: &str) -> Result<T, VdafError> {
    Err(VdafError::Configuration(why.to_owned()))
}
