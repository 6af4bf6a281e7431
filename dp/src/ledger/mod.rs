//! The budget ledger as a pure state machine: charge, commit, refund, verify.
//!
//! Every change is an entry; entries are chained by hash and never changed or removed, a refund is an entry of its
//! own. A charge takes from all budgets of a release or from none. The caller loads the state, applies one step
//! and stores the entries in the same transaction as the noised share.

mod chain;
mod entry;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub use self::chain::{BrokenChain, verify_chain};
pub use self::entry::{ChainHead, EntryKind, LedgerEntry, ReleaseKey};
use crate::plan::{FieldOverflow, ReleasePlan};
use crate::release::Grant;
use crate::units::format_units;

/// One budget as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetState {
    /// The budget.
    pub budget_id: String,
    /// A limit that holds besides the policy's, in units; the lower of the two decides. The store of an aggregator
    /// gives the limit of the policy file in force, so that one alone decides; that versions of a policy only ever
    /// go up is not enforced yet.
    pub limit: i64,
    /// The sum of all entries of this budget, in units.
    pub spent: i64,
}

/// A request to release one batch.
#[derive(Clone, Debug)]
pub struct ChargeRequest {
    /// What is released.
    pub key: ReleaseKey,
    /// Reports in the batch.
    pub report_count: u64,
    /// Seconds since 1970, for the record only.
    pub now: u64,
}

/// What a granted request gives: entries to store, and a grant for whoever has stored them.
#[derive(Debug)]
#[must_use = "the charge counts once its entries are stored"]
pub struct Charged {
    entries: Vec<LedgerEntry>,
    head: ChainHead,
    grant: Grant,
}

/// A grant was asked for whose charge is not in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the charge is not recorded in the ledger")]
pub struct NotRecorded;

impl Charged {
    /// One entry per budget, to be stored in this order.
    pub fn entries(&self) -> &[LedgerEntry] {
        &self.entries
    }

    /// Where the chain ends after them.
    pub fn head(&self) -> ChainHead {
        self.head
    }

    /// The permission to draw noise, once. `stored` are the entries of this release so far, read back from the ledger
    /// in the transaction that wrote them: those of the charge are the last.
    ///
    /// # Privacy
    /// Whoever forgets to store the charge, or a part of it, has no grant.
    pub fn recorded(self, stored: &[LedgerEntry]) -> Result<Grant, NotRecorded> {
        if self.entries.is_empty() || !stored.ends_with(&self.entries) {
            return Err(NotRecorded);
        }
        Ok(self.grant)
    }
}

/// A budget has too little left.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "budget \"{budget_id}\" is exhausted: {} of {} spent, {} requested, {} left",
    format_units(*.spent), format_units(*.limit), format_units(*.requested), format_units(*.remaining)
)]
pub struct Exhausted {
    /// The budget.
    pub budget_id: String,
    /// Units spent so far.
    pub spent: i64,
    /// Units this release costs.
    pub requested: i64,
    /// Units left.
    pub remaining: i64,
    /// The limit in units.
    pub limit: i64,
}

/// A release is not granted. Nothing was charged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChargeError {
    /// A budget has too little left.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    /// The total could wrap around the field.
    #[error(transparent)]
    FieldOverflow(#[from] FieldOverflow),
    /// The batch is smaller than the policy's minimum.
    #[error("the batch has {report_count} reports, the policy asks for {min_batch_size}")]
    BatchTooSmall {
        /// Reports in the batch.
        report_count: u64,
        /// The policy's minimum.
        min_batch_size: u64,
    },
    /// The caller did not load a budget that the release charges.
    #[error("the state of budget \"{0}\" was not loaded")]
    UnknownBudget(String),
}

/// A charge cannot be settled that way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SettleError {
    /// There is no charge among the entries.
    #[error("there is no charge to settle")]
    NoCharge,
    /// The noised share may have left: what is committed is spent.
    #[error("the charge is committed")]
    Committed,
    /// The charge was given back.
    #[error("the charge is refunded")]
    Refunded,
    /// The entries belong to several releases.
    #[error("the entries belong to several releases")]
    MixedReleases,
}

/// Charges every budget of `plan` for one release, or none of them.
///
/// # Privacy
/// The charges of all granted and not refunded releases never exceed a limit, whichever order requests come in and
/// however they were chosen: pure and zero-concentrated losses add up under adaptive choice. A refused request
/// leaves everything as it was, so a later one that fits is granted.
pub fn charge(
    plan: &ReleasePlan,
    request: ChargeRequest,
    states: &[BudgetState],
    head: ChainHead,
) -> Result<Charged, ChargeError> {
    let min_batch_size = plan.terms().min_batch_size;
    if request.report_count < min_batch_size {
        return Err(ChargeError::BatchTooSmall { report_count: request.report_count, min_batch_size });
    }
    plan.fits_the_field(request.report_count)?;
    for charge in plan.charges() {
        let state = states
            .iter()
            .find(|state| state.budget_id == charge.budget_id)
            .ok_or_else(|| ChargeError::UnknownBudget(charge.budget_id.clone()))?;
        let limit = charge.limit.min(state.limit);
        let remaining = limit.saturating_sub(state.spent).max(0);
        if charge.units > remaining {
            let (budget_id, spent) = (charge.budget_id.clone(), state.spent);
            return Err(Exhausted { budget_id, spent, requested: charge.units, remaining, limit }.into());
        }
    }
    let mut head = head;
    let mut entries = Vec::new();
    for charge in plan.charges() {
        let entry = LedgerEntry::charge(plan, charge, &request, head);
        head = entry.head();
        entries.push(entry);
    }
    let grant = Grant::charged(request.key, plan);
    Ok(Charged { entries, head, grant })
}

/// The entries that make the charges of one release final. `recorded` are the entries of that release so far.
pub fn commit(recorded: &[LedgerEntry], now: u64, head: ChainHead) -> Result<Vec<LedgerEntry>, SettleError> {
    settle(recorded, EntryKind::Commit, now, head)
}

/// The entries that give the charges of one release back. Only for a charge that is not committed and of which
/// nothing derived from the data has left the process. `recorded` are the entries of that release so far.
pub fn refund(recorded: &[LedgerEntry], now: u64, head: ChainHead) -> Result<Vec<LedgerEntry>, SettleError> {
    settle(recorded, EntryKind::Refund, now, head)
}

fn settle(
    recorded: &[LedgerEntry],
    kind: EntryKind,
    now: u64,
    head: ChainHead,
) -> Result<Vec<LedgerEntry>, SettleError> {
    let first = recorded.first().ok_or(SettleError::NoCharge)?;
    if recorded.iter().any(|entry| entry.key != first.key) {
        return Err(SettleError::MixedReleases);
    }
    // A release that was refunded may have been charged again: only what follows its last refund counts.
    let open = recorded.rsplit(|entry| entry.kind == EntryKind::Refund).next().unwrap_or(recorded);
    if open.iter().any(|entry| entry.kind == EntryKind::Commit) {
        return Err(SettleError::Committed);
    }
    if open.is_empty() {
        return Err(SettleError::Refunded);
    }
    let mut head = head;
    let mut entries = Vec::new();
    for charge in open {
        let entry = charge.settled(kind, now, head);
        head = entry.head();
        entries.push(entry);
    }
    Ok(entries)
}
