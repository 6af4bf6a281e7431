//! The VDAFs, told apart by their measurements, their fields and their aggregation parameters.

use num_bigint::{BigInt, BigUint};
use prio::codec::{Decode as _, Encode, ParameterizedDecode};
use prio::field::{Field64, Field128, FieldElementWithInteger};
use prio::vdaf::prio3::{Prio3Count, Prio3Histogram, Prio3MultihotCountVec, Prio3Sum, Prio3SumVec};
use prio::vdaf::{AggregateShare, Aggregator, Client, OutputShare};

use super::residue::{in_field, signed};
use super::state::VerifyKey;
use super::{Measurement, VdafError};
use crate::id::ReportId;
use crate::vdaf_config::VdafConfig;

// The supertraits below take only literals: their constants are those of our types.
const _: () = assert!(VerifyKey::LENGTH == 32 && ReportId::LENGTH == 16);

/// What [`Pair`](super::pair::Pair) asks of a VDAF of the library, in the sizes that DAP fixes.
pub(super) trait Scheme:
    Client<16>
    + Aggregator<
        32,
        16,
        OutputShare: Send + Sync + 'static,
        VerifyState: Encode + for<'a> ParameterizedDecode<(&'a Self, usize)> + Send + Sync + 'static,
    > + Send
    + Sync
{
    /// The library's form of a measurement, unless it is one of another VDAF.
    fn measurement(measurement: &Measurement) -> Option<Self::Measurement>;

    /// The library's form of an aggregation parameter of tasks with this configuration.
    fn parameter(config: &VdafConfig, bytes: &[u8]) -> Result<Self::AggregationParam, VdafError>;

    /// Integers as something that can be added to an aggregate share.
    fn noise(values: &[BigInt]) -> Result<Self::AggregateShare, VdafError>;

    /// The integers that a sum of both shares stands for: see [`signed`].
    fn signed(sum: &Self::AggregateShare, largest_sum: u128) -> Result<Vec<i128>, VdafError>;

    /// The number of coordinates under a parameter.
    fn result_length(config: &VdafConfig, parameter: &Self::AggregationParam) -> usize;

    /// The size of the smallest field that aggregate shares live in.
    fn field_modulus() -> BigUint;
}

/// The VDAFs of the Prio3 family: no aggregation parameter, and shares that are vectors over one field.
pub(super) trait Prio3:
    Client<16>
    + Aggregator<
        32,
        16,
        OutputShare = OutputShare<Self::Element>,
        AggregateShare = AggregateShare<Self::Element>,
        AggregationParam = (),
        VerifyState: Encode + for<'a> ParameterizedDecode<(&'a Self, usize)> + Send + Sync + 'static,
    > + Send
    + Sync
{
    /// The elements of the field, which all have 128 bits at most.
    type Element: FieldElementWithInteger<Integer: Into<u128> + TryFrom<u128>> + Send + Sync;

    /// See [`Scheme::measurement`].
    fn measurement(measurement: &Measurement) -> Option<Self::Measurement>;
}

impl<T: Prio3> Scheme for T {
    fn measurement(measurement: &Measurement) -> Option<Self::Measurement> {
        <T as Prio3>::measurement(measurement)
    }

    fn parameter(_: &VdafConfig, bytes: &[u8]) -> Result<(), VdafError> {
        <()>::get_decoded(bytes).map_err(|_| VdafError::AggregationParameter)
    }

    fn noise(values: &[BigInt]) -> Result<AggregateShare<T::Element>, VdafError> {
        let modulus = BigInt::from(Self::field_modulus());
        let elements: Vec<T::Element> = values.iter().map(|value| in_field(value, &modulus)).collect();
        Ok(AggregateShare::from(elements))
    }

    fn signed(sum: &AggregateShare<T::Element>, largest_sum: u128) -> Result<Vec<i128>, VdafError> {
        sum.as_ref().iter().map(|element| signed(*element, largest_sum)).collect()
    }

    fn result_length(config: &VdafConfig, (): &()) -> usize {
        config.length()
    }

    fn field_modulus() -> BigUint {
        let modulus: u128 = T::Element::modulus().into();
        BigUint::from(modulus)
    }
}

impl Prio3 for Prio3Count {
    type Element = Field64;

    fn measurement(measurement: &Measurement) -> Option<bool> {
        match *measurement {
            Measurement::Bool(value) => Some(value),
            _ => None,
        }
    }
}

impl Prio3 for Prio3Sum {
    type Element = Field64;

    fn measurement(measurement: &Measurement) -> Option<u64> {
        match *measurement {
            Measurement::Integer(value) => Some(value),
            _ => None,
        }
    }
}

impl Prio3 for Prio3SumVec {
    type Element = Field128;

    fn measurement(measurement: &Measurement) -> Option<Vec<u128>> {
        match measurement {
            Measurement::Vector(values) => Some(values.iter().map(|value| u128::from(*value)).collect()),
            _ => None,
        }
    }
}

impl Prio3 for Prio3Histogram {
    type Element = Field128;

    fn measurement(measurement: &Measurement) -> Option<usize> {
        match *measurement {
            Measurement::Bucket(bucket) => usize::try_from(bucket).ok(),
            _ => None,
        }
    }
}

impl Prio3 for Prio3MultihotCountVec {
    type Element = Field128;

    fn measurement(measurement: &Measurement) -> Option<Vec<bool>> {
        match measurement {
            Measurement::Set(members) => Some(members.clone()),
            _ => None,
        }
    }
}
