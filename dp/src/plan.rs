//! What a policy decides about one task: the noise, the charges and the words.

use num_bigint::BigUint;

use crate::accountant::{Account, Caps, Measure, Proposal, Span, TooWide, Window, Within, format_second};
use crate::ledger::Counted;
use crate::mechanism::Mechanism;
use crate::policy::{Budget, PrivacyUnit, Variant};
use crate::rational::Rational;
use crate::sensitivity::Sensitivity;
use crate::shape::Shape;
use crate::statement::{Statement, Terms};
use crate::units::charge_units;

/// Which policy decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

/// The budget behind a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Payer {
    pub(crate) window: Window,
    pub(crate) variant: Variant,
}

/// How every batch of a task is released. Made only by [`crate::Policy::release_for`].
#[derive(Clone, Debug)]
pub struct ReleasePlan {
    pub(crate) policy: PolicyRef,
    pub(crate) release_id: String,
    /// Whether the release is for one task, by its identifier, and for no other.
    pub(crate) one_task: bool,
    pub(crate) terms: Terms,
    pub(crate) statement: Statement,
    pub(crate) sensitivity: Sensitivity,
    pub(crate) charges: Vec<Charge>,
    /// In the order of the charges.
    pub(crate) payers: Vec<Payer>,
    pub(crate) report_delta: Option<Rational>,
    pub(crate) budgets: Vec<Budget>,
    pub(crate) effective_from: Option<u64>,
    pub(crate) owner: Option<String>,
    pub(crate) justification: String,
}

/// A policy does not hold yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy holds from {} on, and nothing is released under it before", written(*effective_from))]
pub struct NotYetInForce {
    /// Seconds since 1970.
    pub effective_from: u64,
}

impl NotYetInForce {
    /// Nothing when it holds at `now`, both in seconds since 1970.
    pub(crate) fn check(effective_from: Option<u64>, now: u64) -> Result<(), Self> {
        match effective_from {
            Some(effective_from) if now < effective_from => Err(Self { effective_from }),
            _ => Ok(()),
        }
    }
}

fn written(second: u64) -> String {
    i64::try_from(second).map_or_else(|_| second.to_string(), format_second)
}

impl Budget {
    /// The budget as the accountant sees it.
    pub fn account(&self) -> Account {
        Payer { window: self.window(), variant: self.variant() }.account(self.id(), self.limit_units())
    }
}

impl Payer {
    fn account(self, budget_id: &str, limit: i64) -> Account {
        let measure = match self.variant {
            Variant::Pure => Measure::Epsilon,
            Variant::Zcdp => Measure::Rho,
        };
        Account { budget_id: budget_id.to_owned(), window: self.window, measure, limit }
    }
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

    /// The budget that pays `charge`, one of [`Self::charges`], as the accountant sees it.
    pub fn account(&self, charge: &Charge) -> Account {
        self.payer(charge).account(&charge.budget_id, charge.limit)
    }

    /// What `charge` asks of its budget for a batch of `task` whose reports were made in `data`.
    pub fn proposal(&self, charge: &Charge, task: [u8; 32], data: Span) -> Proposal {
        let epsilon_units = self.epsilon_units();
        let (caps, within) = (self.caps(), self.within());
        Proposal { task, span: data, units: charge.units, epsilon_units, caps, within }
    }

    /// Where a batch must lie, so that the caps on reports hold in it.
    pub fn within(&self) -> Within {
        self.terms.contribution.within()
    }

    /// Whether reports made in `data` can be one batch.
    ///
    /// # Privacy
    /// The collector chooses a batch when the reports are there. What clients keep to is a cap in a piece of time, so
    /// a batch over several pieces may have several times the reports that the noise was made for.
    pub fn one_batch(&self, data: Span) -> Result<(), TooWide> {
        let within = self.within();
        if within.holds(data) { Ok(()) } else { Err(TooWide { span: data, within }) }
    }

    /// What the ledger writes down of that.
    pub(crate) fn counted(&self, charge: &Charge, data: Span) -> Counted {
        let Account { window, measure, .. } = self.account(charge);
        Counted { window, measure, data, caps: self.caps(), epsilon_units: self.epsilon_units() }
    }

    /// What a privacy unit contributes to a task at most, counted in the shortest window that is charged.
    pub fn caps(&self) -> Caps {
        let caps = &self.terms.contribution;
        match self.terms.unit {
            PrivacyUnit::Report => Caps::ONE_REPORT,
            PrivacyUnit::Client => Caps {
                per_batch: caps.max_reports_per_batch,
                per_window: caps.max_reports_per_window,
                window: Window::shortest(self.payers.iter().map(|payer| payer.window))
                    .unwrap_or(Window::Lifetime),
            },
        }
    }

    /// What a release costs as pure epsilon, when its noise is Laplace.
    fn epsilon_units(&self) -> Option<i64> {
        let loss = &self.terms.loss;
        (loss.variant == Variant::Pure).then(|| charge_units(&loss.amount)).flatten()
    }

    fn payer(&self, charge: &Charge) -> Payer {
        let at = self.charges.iter().position(|it| it.budget_id == charge.budget_id);
        let payer = at.and_then(|at| self.payers.get(at)).copied();
        payer.expect("every charge of a plan has its payer, and no other charge is asked for")
    }

    /// The delta at which epsilon is reported, when a budget is counted in rho.
    pub fn report_delta(&self) -> Option<&Rational> {
        self.report_delta.as_ref()
    }

    /// The budgets that pay, in the order of [`Self::charges`]: their windows, limits and warnings.
    pub fn budgets(&self) -> &[Budget] {
        &self.budgets
    }

    /// Seconds since 1970 before which nothing is released under this policy.
    pub fn effective_from(&self) -> Option<u64> {
        self.effective_from
    }

    /// Whether the policy holds at `now`, in seconds since 1970. Checked before a charge.
    pub fn in_force(&self, now: u64) -> Result<(), NotYetInForce> {
        NotYetInForce::check(self.effective_from, now)
    }

    /// Who answers for the policy.
    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// Why the policy is as it is, in its author's words.
    pub fn justification(&self) -> &str {
        &self.justification
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
    pub(crate) effective_from: Option<u64>,
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

    /// Whether the policy holds at `now`, in seconds since 1970.
    pub fn in_force(&self, now: u64) -> Result<(), NotYetInForce> {
        NotYetInForce::check(self.effective_from, now)
    }

    /// Seconds since 1970 from which the decision no longer holds.
    pub fn expires(&self) -> u64 {
        self.expires
    }
}
