//! How much noise, and may we?
//!
//! The differential-privacy stage of a report's journey: after both aggregators have summed a batch and before
//! anything leaves for the collector. From a policy file and the task's VDAF this crate derives sensitivity, noise,
//! charges, intervals and the statement that both aggregators agree on; its ledger grants or refuses a release;
//! and its gate turns a grant into a noised share, once.
//!
//! Pure: no files, no clock, no database, and random numbers come from the caller. It sees one share of a total,
//! which looks random; it never sees a report.
//!
//! ```text
//! policy file ─▶ Policy ─▶ ReleasePlan ─▶ ledger::charge ─▶ Charged ─(stored)─▶ Grant ─▶ perturb ─▶ Noised
//!                              ├─▶ Mechanism ─(drawn ahead)─▶ Noise ─────────────────────────┘
//!                              └─▶ Statement ─▶ task_info
//! ```

pub mod accountant;
mod bound;
mod canonical;
pub mod conversion;
mod explain;
#[cfg(feature = "faults")]
pub mod faults;
mod guarantee;
pub mod ledger;
mod mechanism;
mod noise;
mod plan;
pub mod planner;
mod policy;
mod promise;
mod rational;
mod release;
mod sensitivity;
mod shape;
mod statement;
pub mod units;

pub use bound::{BoundStatement, NotBound};
pub use explain::{printed_epsilon, printed_factor};
pub use ledger::{
    Book, BudgetState, ChainHead, ChargeError, ChargeRequest, Charged, EntryKind, LedgerEntry, NotRecorded,
    ReleaseKey,
};
pub use mechanism::{CalibrationError, Mechanism, NoiseOf, UnknownMechanism};
pub use noise::Noise;
pub use plan::{Charge, FieldOverflow, NotYetInForce, PolicyRef, ReleasePlan, WithoutDp};
pub use policy::{
    Budget, CeilingException, Change, ChargedBudget, Decision, Limit, Policy, PrivacyUnit, Refusal,
    TaskFacts, Variant, WARNINGS, json_schema, not_allowable,
};
pub use promise::{Promise, Sentence};
pub use rational::{NotExact, Rational};
pub use release::{Expired, Grant, NoException, Noised, PerturbError, Protection, perturb};
pub use sensitivity::{NeighboringRelation, Sensitivity};
pub use shape::{NoSensitivity, Shape};
pub use statement::{
    Contribution, Enforcer, LONGEST_LABEL, LabelError, Loss, Statement, Terms, parse_task_info,
    statement_differences,
};
