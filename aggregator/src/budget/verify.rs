//! Reads the whole ledger again, derives every charge again, and says what does not follow first.

use std::collections::HashMap;

use mica_dap::id::TaskId;
use mica_dap::time::TimePrecision;
use mica_dp::accountant::Use;
use mica_dp::ledger::{BrokenChain, NotDerived, verify_chain, verify_charges};
use mica_dp::{ChainHead, EntryKind, LedgerEntry, Policy};
use mica_service::store::{Store, StoreError};
use thiserror::Error;

use super::paid::{self, Unpaid};
use crate::high_water::{HighWater, Setback};
use crate::store::policies::PolicyRow;
use crate::store::releases::NewRelease;
use crate::store::{ledger, ledger_uses, policies, releases, tasks};

/// What was looked at, and found to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Entries of each kind.
    pub charges: usize,
    /// Charges that were given back.
    pub refunds: usize,
    /// Charges that are final.
    pub commits: usize,
    /// Restored copies that an operator took on: what was charged before each may be missing.
    pub accepted_restores: usize,
    /// Texts of policies that they were derived from.
    pub policies: usize,
    /// Where the ledger ends.
    pub head: ChainHead,
}

/// The first thing that does not follow.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unsound {
    /// An entry, by the rules of the ledger itself.
    #[error(transparent)]
    Chain(#[from] BrokenChain),
    /// A charge, by the policy that it names.
    #[error(transparent)]
    Charge(#[from] NotDerived),
    /// A policy that is kept and cannot be read.
    #[error("policy {id} v{version} is kept with a text that is no policy or has another hash: {why}")]
    Policy {
        /// Its name.
        id: String,
        /// Its version.
        version: u32,
        /// The first thing wrong with it.
        why: String,
    },
    /// What is kept as spent is not what the entries add up to.
    #[error("what is kept as spent of budget \"{0}\" is not what its entries add up to")]
    Uses(String),
    /// A release and its entries do not say the same.
    #[error(transparent)]
    Release(#[from] Unpaid),
    /// The ledger was set back.
    #[error(transparent)]
    SetBack(#[from] Setback),
}

struct Picture {
    entries: Vec<LedgerEntry>,
    uses: Vec<Use>,
    policies: Vec<PolicyRow>,
    releases: Vec<(TaskId, NewRelease)>,
    precisions: HashMap<TaskId, TimePrecision>,
}

/// Checks the chain, every sum, every charge against the text of its policy, every release against its charges, and the
/// mark outside the database.
///
/// # Errors
/// When the database fails.
pub async fn verify(store: &Store, mark: &HighWater) -> Result<Result<Verified, Unsound>, StoreError> {
    let picture = store
        .read("verify_ledger", move |mut tx| async move {
            let entries = ledger::entries(&mut tx).await?;
            let uses = ledger_uses::all(&mut tx).await?;
            let policies = policies::all(&mut tx).await?;
            let releases = releases::with_noise(&mut tx).await?;
            let precisions = paid::precisions(tasks::all_tasks(&mut tx).await?);
            Ok((tx, Picture { entries, uses, policies, releases, precisions }))
        })
        .await?;
    if let Err(unsound) = follows(&picture) {
        return Ok(Err(unsound));
    }
    if let Some(setback) = mark.setback(store).await? {
        return Ok(Err(setback.into()));
    }
    // After the mark: where the end of the ledger is missing, releases miss it too, and the mark says how much.
    if let Err(unpaid) = paid::verify(&picture.entries, &picture.releases, &picture.precisions) {
        return Ok(Err(unpaid.into()));
    }
    let count = |kind| picture.entries.iter().filter(|entry| entry.kind == kind).count();
    Ok(Ok(Verified {
        charges: count(EntryKind::Charge),
        refunds: count(EntryKind::Refund),
        commits: count(EntryKind::Commit),
        accepted_restores: count(EntryKind::AcceptedRestore),
        policies: picture.policies.len(),
        head: picture.entries.last().map_or(ChainHead::EMPTY, LedgerEntry::head),
    }))
}

fn follows(picture: &Picture) -> Result<(), Unsound> {
    let books = verify_chain(&picture.entries)?;
    let policies = picture.policies.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    verify_charges(&picture.entries, &policies)?;
    let mut expected: Vec<&Use> = books.iter().flat_map(|book| &book.uses).collect();
    let mut kept: Vec<&Use> = picture.uses.iter().collect();
    for uses in [&mut expected, &mut kept] {
        uses.sort_by_cached_key(|usage| {
            (usage.budget_id.clone(), usage.task, usage.span, format!("{usage:?}"))
        });
    }
    let differing = expected.iter().zip(&kept).find(|(expected, kept)| expected != kept);
    let surplus = || kept.get(expected.len()).or_else(|| expected.get(kept.len()));
    if let Some(usage) = differing.map(|(expected, _)| expected).or_else(surplus) {
        return Err(Unsound::Uses(usage.budget_id.clone()));
    }
    Ok(())
}

fn parse(row: &PolicyRow) -> Result<Policy, Unsound> {
    let (id, version) = (row.policy_id.clone(), row.version);
    let policy = match Policy::parse(&format!("policy {id} v{version}"), &row.text) {
        Ok(policy) => policy,
        Err(findings) => {
            let why = findings.first().map_or_else(String::new, ToString::to_string);
            return Err(Unsound::Policy { id, version, why });
        }
    };
    if (policy.id(), policy.version(), policy.sha256()) == (id.as_str(), version, row.sha256) {
        return Ok(policy);
    }
    let why = "name, version or hash are not those of the text".to_owned();
    Err(Unsound::Policy { id, version, why })
}
