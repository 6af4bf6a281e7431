//! Why a VDAF operation failed, sorted by who is to blame.

use crate::report_error::ReportError;

/// A VDAF operation failed. The texts never quote a share, a measurement or a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VdafError {
    /// The parameters of the VDAF cannot be served.
    #[error("VDAF parameters refused: {0}")]
    Configuration(String),
    /// The measurement does not fit the VDAF.
    #[error("measurement refused: {0}")]
    Measurement(String),
    /// The aggregation parameter does not fit the VDAF.
    #[error("aggregation parameter refused")]
    AggregationParameter,
    /// The prefixes cannot be asked for.
    #[error("prefixes refused: {0}")]
    Prefixes(String),
    /// Noise cannot be added to shares of this VDAF.
    #[error("no noise is defined for this VDAF")]
    NoNoise,
    /// This aggregator's own input share is not an encoding of one: `invalid_message` (DAP 4.5.3.3).
    #[error("the input share does not decode")]
    InputShare,
    /// The report is not valid, or the peer's message is not: `vdaf_verify_error` (DAP 4.5.3.3).
    #[error("verification failed at the {0}")]
    Verification(&'static str),
    /// A stored verification state is not one of this VDAF.
    #[error("the verification state does not decode")]
    State,
    /// An aggregate share is not one of this VDAF.
    #[error("the aggregate share does not decode")]
    AggregateShare,
    /// A verification state or an output share came from a VDAF with other parameters.
    #[error("the {0} belongs to another VDAF")]
    Foreign(&'static str),
    /// Not one noise value per coordinate.
    #[error("{given} noise values for a result of {expected} coordinates")]
    NoiseLength {
        /// The number of coordinates of a result.
        expected: usize,
        /// The number of noise values that were given.
        given: usize,
    },
}

impl VdafError {
    /// What the peer is told of a report that failed so, in any step of its verification.
    pub const fn report_error(&self) -> ReportError {
        match self {
            Self::InputShare => ReportError::InvalidMessage,
            _ => ReportError::VdafVerifyError,
        }
    }
}
