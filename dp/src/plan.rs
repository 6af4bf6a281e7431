//! What a policy decides about one task: the noise, the charges and the words.

use num_bigint::BigUint;

use crate::mechanism::Mechanism;
use crate::rational::Rational;
use crate::sensitivity::Sensitivity;
use crate::shape::Shape;
use crate::statement::{Statement, Terms};

/// Which policy decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRef {
    /// The policy's own name.
    pub id: String,
    /// Its version, which only grows.
    pub version: u32,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
}

/// One budget's part of the cost of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The budget.
    pub budget_id: String,
    /// The cost of one release in units of 10⁻¹².
    pub units: i64,
    /// The limit in the same units.
    pub limit: i64,
}

/// How every batch of a task is released. Made only by [`crate::Policy::release_for`].
#[derive(Clone, Debug)]
pub struct ReleasePlan {
    pub(crate) policy: PolicyRef,
    pub(crate) release_id: String,
    pub(crate) terms: Terms,
    pub(crate) statement: Statement,
    pub(crate) sensitivity: Sensitivity,
    pub(crate) charges: Vec<Charge>,
    pub(crate) report_delta: Option<Rational>,
}

/// A total of this many reports with its noise could wrap around the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{report_count} reports and noise of up to {noise_bound} could wrap around the field of {shape}")]
pub struct FieldOverflow {
    /// Reports in the batch.
    pub report_count: u64,
    /// The noise of both aggregators, passed with probability 2⁻⁴⁰ at most.
    pub noise_bound: BigUint,
    /// What is measured.
    pub shape: Shape,
}

impl ReleasePlan {
    /// The policy that decided.
    pub fn policy(&self) -> &PolicyRef {
        &self.policy
    }

    /// The `id` of the matching `[[release]]`.
    pub fn release_id(&self) -> &str {
        &self.release_id
    }

    /// The noise each aggregator adds.
    pub fn mechanism(&self) -> &Mechanism {
        &self.terms.mechanism
    }

    /// What both aggregators agree on, field by field.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// What both aggregators agree on, in its one spelling.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The sensitivity the noise was calibrated to.
    pub fn sensitivity(&self) -> &Sensitivity {
        &self.sensitivity
    }

    /// What a release costs, in the order of the budgets' names.
    pub fn charges(&self) -> &[Charge] {
        &self.charges
    }

    /// The delta at which epsilon is reported, when a budget is counted in rho.
    pub fn report_delta(&self) -> Option<&Rational> {
        self.report_delta.as_ref()
    }

    /// Whether the total of `report_count` reports decodes to the right signed number, except with probability
    /// 2⁻⁴⁰: `count · max + noise bound < p / 2`. Checked before a charge; wrapping hurts accuracy, never privacy.
    pub fn fits_the_field(&self, report_count: u64) -> Result<(), FieldOverflow> {
        let shape = self.terms.shape;
        let noise_bound = self.mechanism().noise_bound(shape.length());
        let largest = BigUint::from(report_count) * shape.largest_coordinate() + &noise_bound;
        if largest * 2u8 < shape.modulus() {
            return Ok(());
        }
        Err(FieldOverflow { report_count, noise_bound, shape })
    }
}

/// A written decision to release a task's totals without noise. Made only by [`crate::Policy::release_for`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WithoutDp {
    pub(crate) policy: PolicyRef,
    pub(crate) justification: String,
    pub(crate) expires: u64,
}

impl WithoutDp {
    /// The policy that says so.
    pub fn policy(&self) -> &PolicyRef {
        &self.policy
    }

    /// Why, in the words of the policy file.
    pub fn justification(&self) -> &str {
        &self.justification
    }

    /// Seconds since 1970 from which the decision no longer holds.
    pub fn expires(&self) -> u64 {
        self.expires
    }
}
