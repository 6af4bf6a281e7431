//! The budget ledger as a pure state machine: charge, commit, refund, verify.
//!
//! Every change is an entry; entries are chained by hash and never changed or removed, a refund is an entry of its
//! own. A charge takes from all budgets of a release or from none. The caller loads the state, applies one step
//! and stores the entries in the same transaction as the noised share.

mod book;
mod chain;
mod counted;
mod derive;
mod entry;
mod judge;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub use self::book::Book;
pub use self::chain::{BrokenChain, ChainVerifier, verify_chain};
pub use self::counted::Counted;
pub use self::derive::{ChargeVerifier, NotDerived, verify_charges};
pub use self::entry::{ChainHead, EntryKind, LedgerEntry, ReleaseKey};
use crate::accountant::{Admitted, OverBudget, Span, TooWide, Use};
use crate::plan::{Charge, FieldOverflow, NotYetInForce, ReleasePlan};
use crate::release::Grant;

/// One budget as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetState {
    /// The budget.
    pub budget_id: String,
    /// What it has paid for: at least all that [`crate::accountant::Account::needed_after`] asks for.
    pub uses: Vec<Use>,
}

/// A request to release one batch.
#[derive(Clone, Debug)]
pub struct ChargeRequest {
    /// What is released.
    pub key: ReleaseKey,
    /// Reports in the batch.
    pub report_count: u64,
    /// When they were made; all time when nothing better is known.
    pub data: Span,
    /// Seconds since 1970, for the record, and for a policy that holds from a day on.
    pub now: u64,
}

/// What a granted request gives: entries to store, and a grant for whoever has stored them.
#[derive(Debug)]
#[must_use = "the charge counts once its entries are stored"]
pub struct Charged {
    entries: Vec<LedgerEntry>,
    uses: Vec<Use>,
    head: ChainHead,
    warned: Vec<Warned>,
    grant: Grant,
}

/// A budget that has come to the part of its limit from which its owner wants to be warned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warned {
    /// The budget.
    pub budget_id: String,
    /// The fullest window that meets the release.
    pub window: Span,
    /// Units spent in it, the release among them.
    pub spent: i64,
    /// The most units in any window.
    pub limit: i64,
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

    /// What each of the budgets has paid for now, one release each, to be stored with the entries.
    pub fn uses(&self) -> &[Use] {
        &self.uses
    }

    /// Where the chain ends after them.
    pub fn head(&self) -> ChainHead {
        self.head
    }

    /// The budgets that were below their `warn_at` before and are not any more.
    pub fn warned(&self) -> &[Warned] {
        &self.warned
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

/// A release is not granted. Nothing was charged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChargeError {
    /// A budget has too little left.
    #[error(transparent)]
    Exhausted(Box<OverBudget>),
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
    /// The batch reaches over more time than the caps on reports hold for.
    #[error(transparent)]
    TooWide(#[from] TooWide),
    /// The policy holds from a later day on.
    #[error(transparent)]
    NotYetInForce(#[from] NotYetInForce),
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
/// What no privacy unit can lose more of by all granted and not refunded releases never exceeds a limit in any window,
/// whichever order requests come in and however they were chosen: see [`crate::accountant::Account::admit`]. A refused
/// request leaves everything as it was, so a later one that fits is granted.
pub fn charge(
    plan: &ReleasePlan,
    request: ChargeRequest,
    states: &[BudgetState],
    head: ChainHead,
) -> Result<Charged, ChargeError> {
    plan.in_force(request.now)?;
    let min_batch_size = plan.terms().min_batch_size;
    if request.report_count < min_batch_size {
        return Err(ChargeError::BatchTooSmall { report_count: request.report_count, min_batch_size });
    }
    plan.one_batch(request.data)?;
    plan.fits_the_field(request.report_count)?;
    let (mut uses, mut warned) = (Vec::new(), Vec::new());
    for charge in plan.charges() {
        let state = states
            .iter()
            .find(|state| state.budget_id == charge.budget_id)
            .ok_or_else(|| ChargeError::UnknownBudget(charge.budget_id.clone()))?;
        let proposal = plan.proposal(charge, *request.key.task_id(), request.data);
        let admitted = plan.account(charge).admit(&state.uses, &proposal);
        let admitted = admitted.map_err(|over| ChargeError::Exhausted(Box::new(over)))?;
        warned.extend(crossing(plan, charge, &admitted));
        uses.push(admitted.usage);
    }
    let mut head = head;
    let mut entries = Vec::new();
    for charge in plan.charges() {
        let entry = LedgerEntry::charge(plan, charge, &request, head);
        head = entry.head();
        entries.push(entry);
    }
    let grant = Grant::charged(request.key, plan);
    Ok(Charged { entries, uses, head, warned, grant })
}

fn crossing(plan: &ReleasePlan, charge: &Charge, admitted: &Admitted) -> Option<Warned> {
    let budget = plan.budgets().iter().find(|budget| budget.id() == charge.budget_id)?;
    let warn_at = budget.warn_at_units()?;
    (admitted.before < warn_at && warn_at <= admitted.after).then(|| Warned {
        budget_id: charge.budget_id.clone(),
        window: admitted.window,
        spent: admitted.after,
        limit: charge.limit,
    })
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
