//! Which VDAF a task runs and with which parameters, and how that is written (DAP appendix B).
//!
//! Part of the task configuration, so every party knows it. Whether the parameters are sensible is decided
//! when the VDAF is instantiated; here only the bytes are read.

use prio::vdaf::prio3::optimal_chunk_length;

use crate::codec::{Malformed, Reader};

/// A VDAF and its public parameters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum VdafConfig {
    /// How many clients said yes.
    Count,
    /// The sum of one number per client.
    Sum {
        /// The largest number a client may send.
        max_measurement: u64,
    },
    /// The sum of one vector per client.
    SumVec {
        /// The number of coordinates.
        length: u32,
        /// The largest number in each coordinate.
        max_measurement: u64,
        /// How the proof is cut; every party must use the same.
        chunk_length: u32,
    },
    /// How many clients chose each bucket.
    Histogram {
        /// The number of buckets.
        length: u32,
        /// How the proof is cut; every party must use the same.
        chunk_length: u32,
    },
    /// How many clients chose each bucket, several choices each.
    MultihotCountVec {
        /// The number of buckets.
        length: u32,
        /// How the proof is cut; every party must use the same.
        chunk_length: u32,
        /// The largest number of buckets one client may choose.
        max_weight: u64,
    },
    /// How many clients hold a string that begins with each of the prefixes that the collector asks for.
    Poplar1 {
        /// The number of bits of every client's string.
        bits: u16,
    },
}

/// The bytes do not name a VDAF that this program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VdafConfigError {
    /// A code point that this program does not know.
    #[error("unknown VDAF type {0:#010x}")]
    UnknownType(u32),
    /// The parameters are not those of the type.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl VdafConfig {
    /// A vector sum whose chunk length makes the proof shortest.
    pub fn sum_vec(length: u32, max_measurement: u64) -> Self {
        let flattened = u64::from(length) * bits(max_measurement);
        Self::SumVec { length, max_measurement, chunk_length: best_chunk(flattened) }
    }

    /// A histogram whose chunk length makes the proof shortest.
    pub fn histogram(length: u32) -> Self {
        Self::Histogram { length, chunk_length: best_chunk(u64::from(length)) }
    }

    /// A multi-hot count whose chunk length makes the proof shortest.
    pub fn multihot(length: u32, max_weight: u64) -> Self {
        let flattened = u64::from(length) + bits(max_weight);
        Self::MultihotCountVec { length, chunk_length: best_chunk(flattened), max_weight }
    }

    /// The code point of the type.
    pub const fn vdaf_type(&self) -> u32 {
        match self {
            Self::Count => 1,
            Self::Sum { .. } => 2,
            Self::SumVec { .. } => 3,
            Self::Histogram { .. } => 4,
            Self::MultihotCountVec { .. } => 5,
            Self::Poplar1 { .. } => 6,
        }
    }

    /// The name used in configuration files and on screen.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Count => "prio3-count",
            Self::Sum { .. } => "prio3-sum",
            Self::SumVec { .. } => "prio3-sum-vec",
            Self::Histogram { .. } => "prio3-histogram",
            Self::MultihotCountVec { .. } => "prio3-multihot-count-vec",
            Self::Poplar1 { .. } => "poplar1",
        }
    }

    /// The number of integers in a result; 0 for Poplar1, where it is the number of prefixes asked for.
    pub fn length(&self) -> usize {
        match *self {
            Self::Count | Self::Sum { .. } => 1,
            Self::SumVec { length, .. }
            | Self::Histogram { length, .. }
            | Self::MultihotCountVec { length, .. } => usize::try_from(length).unwrap_or(usize::MAX),
            Self::Poplar1 { .. } => 0,
        }
    }

    /// The parameters as `vdaf_configuration` holds them.
    pub fn encode_config(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match *self {
            Self::Count => {}
            Self::Sum { max_measurement } => out.extend_from_slice(&max_measurement.to_be_bytes()),
            Self::SumVec { length, max_measurement, chunk_length } => {
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(&max_measurement.to_be_bytes());
                out.extend_from_slice(&chunk_length.to_be_bytes());
            }
            Self::Histogram { length, chunk_length } => {
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(&chunk_length.to_be_bytes());
            }
            Self::MultihotCountVec { length, chunk_length, max_weight } => {
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(&chunk_length.to_be_bytes());
                out.extend_from_slice(&max_weight.to_be_bytes());
            }
            Self::Poplar1 { bits } => out.extend_from_slice(&bits.to_be_bytes()),
        }
        out
    }

    /// Reads the parameters of a type; all of `bytes` must be used.
    pub fn decode_config(vdaf_type: u32, bytes: &[u8]) -> Result<Self, VdafConfigError> {
        let mut reader = Reader::new(bytes);
        let config = match vdaf_type {
            1 => Self::Count,
            2 => Self::Sum { max_measurement: reader.u64()? },
            3 => Self::SumVec {
                length: reader.u32()?,
                max_measurement: reader.u64()?,
                chunk_length: reader.u32()?,
            },
            4 => Self::Histogram { length: reader.u32()?, chunk_length: reader.u32()? },
            5 => Self::MultihotCountVec {
                length: reader.u32()?,
                chunk_length: reader.u32()?,
                max_weight: reader.u64()?,
            },
            6 => Self::Poplar1 { bits: reader.u16()? },
            unknown => return Err(VdafConfigError::UnknownType(unknown)),
        };
        reader.finish()?;
        Ok(config)
    }
}

/// How many bits a number up to `max` takes.
fn bits(max: u64) -> u64 {
    u64::from(u64::BITS - max.leading_zeros())
}

fn best_chunk(flattened: u64) -> u32 {
    let flattened = usize::try_from(flattened).unwrap_or(usize::MAX);
    u32::try_from(optimal_chunk_length(flattened)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_reads_what_it_writes() {
        let cases = [
            (VdafConfig::Count, ""),
            (VdafConfig::Sum { max_measurement: 1337 }, "0000000000000539"),
            (
                VdafConfig::SumVec { length: 10, max_measurement: 255, chunk_length: 9 },
                "0000000a00000000000000ff00000009",
            ),
            (VdafConfig::Histogram { length: 10, chunk_length: 3 }, "0000000a00000003"),
            (
                VdafConfig::MultihotCountVec { length: 10, chunk_length: 3, max_weight: 4 },
                "0000000a000000030000000000000004",
            ),
            (VdafConfig::Poplar1 { bits: 256 }, "0100"),
        ];
        for (config, hex) in cases {
            let bytes = config.encode_config();
            assert_eq!(hex::encode(&bytes), hex);
            assert_eq!(VdafConfig::decode_config(config.vdaf_type(), &bytes), Ok(config.clone()));
            let mut longer = bytes.clone();
            longer.push(0);
            assert!(VdafConfig::decode_config(config.vdaf_type(), &longer).is_err());
            for cut in 0..bytes.len() {
                assert!(VdafConfig::decode_config(config.vdaf_type(), &bytes[..cut]).is_err());
            }
        }
    }

    #[test]
    fn an_unknown_type_is_named() {
        assert_eq!(VdafConfig::decode_config(7, &[1, 0]), Err(VdafConfigError::UnknownType(7)));
    }

    #[test]
    fn chunk_lengths_are_chosen_by_the_library() {
        assert!(matches!(VdafConfig::histogram(10), VdafConfig::Histogram { chunk_length: 2..=4, .. }));
        assert!(matches!(VdafConfig::sum_vec(10, 255), VdafConfig::SumVec { chunk_length: 5..=12, .. }));
        assert!(matches!(
            VdafConfig::multihot(10, 4),
            VdafConfig::MultihotCountVec { chunk_length: 2..=5, .. }
        ));
        let huge = VdafConfig::sum_vec(u32::MAX, u64::MAX);
        assert_eq!(huge.length(), 4_294_967_295);
    }
}
