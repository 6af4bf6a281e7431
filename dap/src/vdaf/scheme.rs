//! The five VDAFs, told apart only by their measurements and their fields.

use prio::field::{Field64, Field128, FieldElementWithInteger};
use prio::vdaf::prio3::{Prio3Count, Prio3Histogram, Prio3MultihotCountVec, Prio3Sum, Prio3SumVec};
use prio::vdaf::{AggregateShare, Aggregator, Client, OutputShare};

use super::Measurement;
use super::state::VerifyKey;
use crate::id::ReportId;

// The supertraits below take only literals: their constants are those of our types.
const _: () = assert!(VerifyKey::LENGTH == 32 && ReportId::LENGTH == 16);

/// What [`Pair`](super::pair::Pair) asks of a VDAF of the library: the sizes that DAP fixes, and shares
/// that are vectors over one field.
pub(super) trait Scheme:
    Client<16>
    + Aggregator<
        32,
        16,
        OutputShare = OutputShare<Self::Element>,
        AggregateShare = AggregateShare<Self::Element>,
        AggregationParam = (),
        VerifyState: Send + Sync + 'static,
    > + Send
    + Sync
{
    /// The elements of the field, which all have 128 bits at most.
    type Element: FieldElementWithInteger<Integer: Into<u128> + TryFrom<u128>> + Send + Sync;

    /// The library's form of a measurement, unless it is one of another VDAF.
    fn measurement(measurement: &Measurement) -> Option<Self::Measurement>;
}

impl Scheme for Prio3Count {
    type Element = Field64;

    fn measurement(measurement: &Measurement) -> Option<bool> {
        match *measurement {
            Measurement::Bool(value) => Some(value),
            _ => None,
        }
    }
}

impl Scheme for Prio3Sum {
    type Element = Field64;

    fn measurement(measurement: &Measurement) -> Option<u64> {
        match *measurement {
            Measurement::Integer(value) => Some(value),
            _ => None,
        }
    }
}

impl Scheme for Prio3SumVec {
    type Element = Field128;

    fn measurement(measurement: &Measurement) -> Option<Vec<u128>> {
        match measurement {
            Measurement::Vector(values) => Some(values.iter().map(|value| u128::from(*value)).collect()),
            _ => None,
        }
    }
}

impl Scheme for Prio3Histogram {
    type Element = Field128;

    fn measurement(measurement: &Measurement) -> Option<usize> {
        match *measurement {
            Measurement::Bucket(bucket) => usize::try_from(bucket).ok(),
            _ => None,
        }
    }
}

impl Scheme for Prio3MultihotCountVec {
    type Element = Field128;

    fn measurement(measurement: &Measurement) -> Option<Vec<bool>> {
        match measurement {
            Measurement::Set(members) => Some(members.clone()),
            _ => None,
        }
    }
}
