//! Why a batch does not pass the gate.

use http::StatusCode;
use mica_dap::problem::Problem;
use mica_dp::{ChargeError, Exhausted, Expired};
use mica_service::store::StoreError;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::error::{self, Abort, Fault, ServerError};
use crate::task::Task;

/// The gate says no. Nothing was charged and nothing drawn.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Refused {
    /// A budget has not enough left.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    /// The policy lets no batch as small as this one go.
    #[error("the batch has fewer reports than the policy asks for")]
    TooSmall,
    /// The sum of so many reports, with noise, may not fit the field.
    #[error("the total of so many reports may not fit the field")]
    Overflow,
    /// The written exception from noise does not hold any more.
    #[error(transparent)]
    Expired(#[from] Expired),
    /// The batch, or a part of it, was released before.
    #[error("the batch was collected before")]
    Collected,
    /// The ledger is older than it was. The operator's log says more.
    #[error(
        "its ledger is not where it had come to, and nothing is released until its operator has seen to it"
    )]
    SetBack,
}

/// Why a release did not happen.
#[derive(Debug, Error)]
pub(crate) enum ReleaseError {
    /// The gate said no.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something of ours failed.
    #[error("the release failed: {0}")]
    Fault(Fault),
}

impl Refused {
    /// As the problem document that the peer gets.
    pub(crate) fn abort(&self, task: &Task) -> Abort {
        match self {
            Self::Exhausted(exhausted) => Abort::budget_exhausted(exhausted.to_string(), members(exhausted)),
            Self::TooSmall => Abort::new(Problem::InvalidBatchSize, self.to_string()),
            Self::Overflow => self.forbidden(error::FIELD_OVERFLOW, "The total may not fit the field."),
            Self::Expired(_) => {
                self.forbidden(error::EXCEPTION_EXPIRED, "The written exception from noise has run out.")
            }
            Self::SetBack => {
                let title = "The ledger of an aggregator was set back.";
                let detail = format!("the {}: {self}", task.role);
                Abort::named(error::LEDGER_SET_BACK, title, StatusCode::FORBIDDEN, detail)
            }
            Self::Collected => Abort::new(Problem::BatchOverlap, self.to_string()),
        }
        .in_task(&task.id)
    }

    /// By its name the leader knows that asking again is no use, and the collector why.
    fn forbidden(&self, name: &'static str, title: &'static str) -> Abort {
        Abort::named(name, title, StatusCode::FORBIDDEN, self.to_string())
    }
}

impl ReleaseError {
    /// As a handler answers it.
    pub(crate) fn answer(self, task: &Task) -> ServerError {
        match self {
            Self::Refused(refused) => refused.abort(task).into(),
            Self::Store(error) => error.into(),
            Self::Fault(fault) => fault.into(),
        }
    }

    /// Something of ours failed.
    pub(super) fn fault(cause: impl Into<anyhow::Error>) -> Self {
        Self::Fault(Fault::new(cause))
    }
}

impl From<ChargeError> for ReleaseError {
    fn from(error: ChargeError) -> Self {
        match error {
            ChargeError::Exhausted(exhausted) => Refused::Exhausted(exhausted).into(),
            ChargeError::FieldOverflow(_) => Refused::Overflow.into(),
            ChargeError::BatchTooSmall { .. } => Refused::TooSmall.into(),
            ChargeError::UnknownBudget(_) => Self::fault(error),
        }
    }
}

fn members(exhausted: &Exhausted) -> Map<String, Value> {
    let Exhausted { budget_id, spent, requested, remaining, limit } = exhausted;
    let amounts = [("limit", limit), ("spent", spent), ("requested", requested), ("remaining", remaining)];
    amounts
        .into_iter()
        .map(|(name, units)| (name.to_owned(), Value::from(mica_dp::units::format_units(*units))))
        .chain([("budget".to_owned(), Value::from(budget_id.as_str()))])
        .collect()
}
