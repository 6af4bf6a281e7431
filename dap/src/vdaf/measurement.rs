//! What one client contributes: the only place where the value itself is in the clear.
//!
//! It exists in the client alone. It does not print itself, and no error here repeats it.

use std::fmt;

use super::VdafError;
use crate::vdaf_config::VdafConfig;

/// One client's value.
#[derive(Clone, PartialEq, Eq)]
pub enum Measurement {
    /// Of a count.
    Bool(bool),
    /// Of a sum.
    Integer(u64),
    /// Of a sum of vectors.
    Vector(Vec<u64>),
    /// Of a histogram: the number of the bucket, from 0.
    Bucket(u32),
    /// Of a multihot count: for each bucket whether it is in.
    Set(Vec<bool>),
    /// Of Poplar1: the bits of the string, the first one first.
    Bits(Vec<bool>),
}

impl Measurement {
    /// What adds nothing, or to the first bucket where something has to be added.
    pub(super) fn nothing(config: &VdafConfig) -> Self {
        match config {
            VdafConfig::Count => Self::Bool(false),
            VdafConfig::Sum { .. } => Self::Integer(0),
            VdafConfig::SumVec { .. } => Self::Vector(vec![0; config.length()]),
            VdafConfig::Histogram { .. } => Self::Bucket(0),
            VdafConfig::MultihotCountVec { .. } => Self::Set(vec![false; config.length()]),
            VdafConfig::Poplar1 { bits } => Self::Bits(vec![false; usize::from(*bits)]),
        }
    }

    /// Reads what a user types, and checks it.
    ///
    /// | VDAF | text |
    /// |---|---|
    /// | count | `true`, `false`, `1` or `0` |
    /// | sum | a number: `42` |
    /// | sum of vectors | one number per coordinate: `1,2,3` |
    /// | histogram | the number of the bucket, from 0: `3` |
    /// | multihot count | `0` or `1` for each bucket: `0,1,1` |
    /// | Poplar1 | the bits of the string: `0110` |
    ///
    /// Blanks around numbers are allowed.
    pub fn parse(config: &VdafConfig, text: &str) -> Result<Self, VdafError> {
        let text = text.trim();
        let measurement = match config {
            VdafConfig::Count => {
                Self::Bool(flag(text).ok_or_else(|| refused("a count takes true, false, 1 or 0"))?)
            }
            VdafConfig::Sum { .. } => {
                Self::Integer(text.parse().map_err(|_| refused("a sum takes one number"))?)
            }
            VdafConfig::SumVec { .. } => Self::Vector(list(text, |item| item.parse().ok(), "a number")?),
            VdafConfig::Histogram { .. } => {
                Self::Bucket(text.parse().map_err(|_| refused("a histogram takes the number of one bucket"))?)
            }
            VdafConfig::MultihotCountVec { .. } => Self::Set(list(text, flag, "0 or 1")?),
            VdafConfig::Poplar1 { .. } => Self::Bits(
                bits(text).ok_or_else(|| refused("Poplar1 takes the bits of a string, such as 0110"))?,
            ),
        };
        measurement.check(config)?;
        Ok(measurement)
    }

    /// Whether this is a measurement of the VDAF.
    pub fn check(&self, config: &VdafConfig) -> Result<(), VdafError> {
        match (self, config) {
            (Self::Bool(_), VdafConfig::Count) => Ok(()),
            (Self::Integer(value), VdafConfig::Sum { max_measurement }) => within(*value, *max_measurement),
            (Self::Vector(values), VdafConfig::SumVec { max_measurement, .. }) => {
                as_long_as(values.len(), config.length())?;
                values.iter().try_for_each(|value| within(*value, *max_measurement))
            }
            (Self::Bucket(bucket), VdafConfig::Histogram { length, .. }) => {
                if bucket < length {
                    return Ok(());
                }
                Err(refused(&format!("there are {length} buckets, numbered from 0")))
            }
            (Self::Set(members), VdafConfig::MultihotCountVec { max_weight, .. }) => {
                as_long_as(members.len(), config.length())?;
                let weight = members.iter().filter(|member| **member).count();
                if u64::try_from(weight).is_ok_and(|weight| weight <= *max_weight) {
                    return Ok(());
                }
                Err(refused(&format!("at most {max_weight} buckets may be in")))
            }
            (Self::Bits(string), VdafConfig::Poplar1 { bits }) => {
                if string.len() == usize::from(*bits) {
                    return Ok(());
                }
                Err(refused(&format!("{} bits were given for strings of {bits}", string.len())))
            }
            _ => Err(refused(&format!("not one of {}", config.name()))),
        }
    }
}

impl fmt::Debug for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Measurement(..)")
    }
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// The bits that a text of zeros and ones spells.
pub(super) fn bits(text: &str) -> Option<Vec<bool>> {
    text.chars()
        .map(|digit| match digit {
            '0' => Some(false),
            '1' => Some(true),
            _ => None,
        })
        .collect()
}

fn list<T>(text: &str, read: impl Fn(&str) -> Option<T>, expected: &str) -> Result<Vec<T>, VdafError> {
    text.split(',')
        .enumerate()
        .map(|(index, item)| {
            read(item.trim())
                .ok_or_else(|| refused(&format!("item {} is not {expected}; write them as 1,0,1", index + 1)))
        })
        .collect()
}

fn within(value: u64, max_measurement: u64) -> Result<(), VdafError> {
    if value <= max_measurement {
        return Ok(());
    }
    Err(refused(&format!("a number is above max_measurement, which is {max_measurement}")))
}

fn as_long_as(given: usize, length: usize) -> Result<(), VdafError> {
    if given == length {
        return Ok(());
    }
    Err(refused(&format!("{given} values were given for a vector of {length}")))
}

fn refused(why: &str) -> VdafError {
    VdafError::Measurement(why.to_owned())
}
