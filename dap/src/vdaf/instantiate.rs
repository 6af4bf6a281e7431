//! From the parameters of a task to the VDAF that serves them.
//!
//! Beware of the order of arguments: it is not the order on the wire (DAP Appendix B).

use std::sync::Arc;

use prio::vdaf::poplar1::Poplar1;
use prio::vdaf::prio3::Prio3;

use super::limits::{check, index};
use super::pair::Pair;
use super::{Vdaf, VdafError};
use crate::vdaf_config::VdafConfig;

const AGGREGATORS: u8 = 2;

impl VdafConfig {
    /// The VDAF of these parameters, or why they are refused.
    pub fn instantiate(&self) -> Result<Arc<dyn Vdaf>, VdafError> {
        check(self)?;
        Ok(match *self {
            Self::Count => Arc::new(Pair::new(self, Prio3::new_count(AGGREGATORS).map_err(refused)?)),
            Self::Sum { max_measurement } => {
                let vdaf = Prio3::new_sum(AGGREGATORS, max_measurement).map_err(refused)?;
                Arc::new(Pair::new(self, vdaf))
            }
            Self::SumVec { length, max_measurement, chunk_length } => {
                let (length, chunk) = (index(length)?, index(chunk_length)?);
                let vdaf = Prio3::new_sum_vec(AGGREGATORS, u128::from(max_measurement), length, chunk);
                Arc::new(Pair::new(self, vdaf.map_err(refused)?))
            }
            Self::Histogram { length, chunk_length } => {
                let vdaf = Prio3::new_histogram(AGGREGATORS, index(length)?, index(chunk_length)?);
                Arc::new(Pair::new(self, vdaf.map_err(refused)?))
            }
            Self::MultihotCountVec { length, chunk_length, max_weight } => {
                let (length, chunk) = (index(length)?, index(chunk_length)?);
                let weight = usize::try_from(max_weight).map_err(refused)?;
                let vdaf = Prio3::new_multihot_count_vec(AGGREGATORS, length, weight, chunk);
                Arc::new(Pair::new(self, vdaf.map_err(refused)?))
            }
            Self::Poplar1 { bits } => {
                Arc::new(Pair::new(self, Poplar1::new_turboshake128(usize::from(bits))))
            }
        })
    }
}

fn refused<E: std::error::Error>(why: E) -> VdafError {
    VdafError::Configuration(why.to_string())
}
