//! What a measurement can be, as far as privacy is concerned.
//!
//! The shape comes from the task's VDAF and leaves out what does not change a total, such as the chunk length of
//! the proof. Sensitivity, the size of the noise vector and the wrap-around rules follow from it alone; nothing
//! here ever sees a measurement.

use std::fmt;

use mica_dap::vdaf_config::VdafConfig;
use num_bigint::BigUint;
use prio::field::{Field64, Field128, FieldElementWithInteger};

use crate::canonical::Canonical;

/// The measurements a task accepts and the vector they add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Zero or one.
    Count,
    /// A whole number from zero to `max_measurement`.
    Sum {
        /// The largest measurement.
        max_measurement: u64,
    },
    /// A vector of whole numbers.
    SumVec {
        /// Coordinates.
        length: u32,
        /// The largest value of a coordinate.
        max_measurement: u64,
    },
    /// One bucket out of many.
    Histogram {
        /// Buckets.
        length: u32,
    },
    /// A few choices out of many.
    Multihot {
        /// Choices.
        length: u32,
        /// The largest number of choices in one measurement.
        max_weight: u64,
    },
}

/// No sensitivity is derived for a VDAF, so nothing says how much noise would hide one report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no sensitivity is derived for {0}")]
pub struct NoSensitivity(pub &'static str);

impl TryFrom<&VdafConfig> for Shape {
    type Error = NoSensitivity;

    fn try_from(vdaf: &VdafConfig) -> Result<Self, NoSensitivity> {
        Ok(match *vdaf {
            VdafConfig::Count => Self::Count,
            VdafConfig::Sum { max_measurement } => Self::Sum { max_measurement },
            VdafConfig::SumVec { length, max_measurement, .. } => Self::SumVec { length, max_measurement },
            VdafConfig::Histogram { length, .. } => Self::Histogram { length },
            VdafConfig::MultihotCountVec { length, max_weight, .. } => Self::Multihot { length, max_weight },
            VdafConfig::Poplar1 { .. } => return Err(NoSensitivity(vdaf.name())),
        })
    }
}

impl Shape {
    /// The name policy files and statements use.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Count => "prio3-count",
            Self::Sum { .. } => "prio3-sum",
            Self::SumVec { .. } => "prio3-sum-vec",
            Self::Histogram { .. } => "prio3-histogram",
            Self::Multihot { .. } => "prio3-multihot-count-vec",
        }
    }

    /// Coordinates of the total, hence draws of noise per release.
    pub fn length(&self) -> usize {
        match *self {
            Self::Count | Self::Sum { .. } => 1,
            Self::SumVec { length, .. } | Self::Histogram { length } | Self::Multihot { length, .. } => {
                usize::try_from(length).unwrap_or(usize::MAX)
            }
        }
    }

    /// The most one report can add to one coordinate.
    pub fn largest_coordinate(&self) -> u64 {
        match *self {
            Self::Count | Self::Histogram { .. } | Self::Multihot { .. } => 1,
            Self::Sum { max_measurement } | Self::SumVec { max_measurement, .. } => max_measurement,
        }
    }

    /// The prime that totals are counted modulo.
    pub fn modulus(&self) -> BigUint {
        match self {
            Self::Count | Self::Sum { .. } => Field64::modulus().into(),
            Self::SumVec { .. } | Self::Histogram { .. } | Self::Multihot { .. } => {
                Field128::modulus().into()
            }
        }
    }

    /// The part of a statement that says what is measured. Parameters that can pass 2⁵³ are strings.
    pub(crate) fn canonical(&self) -> Canonical {
        let mut fields = vec![("type", Canonical::text(&self.name()))];
        match *self {
            Self::Count => {}
            Self::Sum { max_measurement } => {
                fields.push(("max_measurement", Canonical::text(&max_measurement)));
            }
            Self::SumVec { length, max_measurement } => {
                fields.push(("length", Canonical::Whole(length)));
                fields.push(("max_measurement", Canonical::text(&max_measurement)));
            }
            Self::Histogram { length } => fields.push(("length", Canonical::Whole(length))),
            Self::Multihot { length, max_weight } => {
                fields.push(("length", Canonical::Whole(length)));
                fields.push(("max_weight", Canonical::text(&max_weight)));
            }
        }
        Canonical::Object(fields)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Count => Ok(()),
            Self::Sum { max_measurement } => write!(f, "(max_measurement {max_measurement})"),
            Self::SumVec { length, max_measurement } => {
                write!(f, "(length {length}, max_measurement {max_measurement})")
            }
            Self::Histogram { length } => write!(f, "(length {length})"),
            Self::Multihot { length, max_weight } => {
                write!(f, "(length {length}, max_weight {max_weight})")
            }
        }
    }
}
