//! Reads the whole ledger again, derives every charge again, and says what does not follow first.
//!
//! Entries, releases and tasks are read a page at a time, in one picture of the database; what stays in memory is what the
//! budgets have paid for, and a line for each release.

use std::collections::HashMap;

use mica_dap::id::TaskId;
use mica_dap::task::TaskConfiguration;
use mica_dp::accountant::Use;
use mica_dp::ledger::{Book, BrokenChain, ChainVerifier, ChargeVerifier, NotDerived};
use mica_dp::{ChainHead, EntryKind, Policy};
use mica_service::store::{Store, StoreError, Tx};
use thiserror::Error;

use super::paid::{Reading, Unpaid};
use crate::high_water::{HighWater, Setback};
use crate::store::policies::PolicyRow;
use crate::store::{ledger, ledger_uses, policies, releases, tasks};
use crate::task_file::TaskFile;

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

/// What one picture of the database says.
struct Reread {
    follows: Result<Verified, Unsound>,
    paid: Result<(), Unpaid>,
}

/// Checks the chain, every sum, every charge against the text of its policy, every release against its charges, and the
/// mark outside the database.
///
/// # Errors
/// When the database fails.
pub async fn verify(store: &Store, mark: &HighWater) -> Result<Result<Verified, Unsound>, StoreError> {
    in_pages(store, mark, PAGE).await
}

/// The same, so many rows at a time.
pub(crate) async fn in_pages(
    store: &Store,
    mark: &HighWater,
    page: u32,
) -> Result<Result<Verified, Unsound>, StoreError> {
    let reread = store
        .read("verify_ledger", move |mut tx| async move {
            let reread = reread(&mut tx, page).await?;
            Ok((tx, reread))
        })
        .await?;
    let verified = match reread.follows {
        Ok(verified) => verified,
        Err(unsound) => return Ok(Err(unsound)),
    };
    if let Some(setback) = mark.setback(store).await? {
        return Ok(Err(setback.into()));
    }
    // After the mark: where the end of the ledger is missing, releases miss it too, and the mark says how much.
    Ok(reread.paid.map(|()| verified).map_err(Unsound::from))
}

async fn reread(tx: &mut Tx, page: u32) -> Result<Reread, StoreError> {
    let rows = policies::all(tx).await?;
    let texts: Result<Vec<Policy>, Unsound> = rows.iter().map(parse).collect();
    let policies = texts.as_deref().unwrap_or_default();
    let mut reading = Reading::new(configurations(tx, page).await?);
    let read = entries(tx, page, policies, &mut reading).await?;
    let mut after = None;
    loop {
        let releases = releases::page(tx, after, page).await?;
        let Some((_, last)) = releases.last() else { break };
        after = Some(last.id);
        for (task, row) in &releases {
            reading.release(task, &row.release, policies);
        }
    }
    let kept = ledger_uses::all(tx).await?;
    let follows = read.and_then(|read| {
        texts?;
        read.charges?;
        as_kept(&read.books, &kept)?;
        Ok(Verified { policies: rows.len(), ..read.verified })
    });
    Ok(Reread { follows, paid: reading.finish() })
}

/// What a whole chain of entries says.
struct Chain {
    verified: Verified,
    books: Vec<Book>,
    charges: Result<(), NotDerived>,
}

async fn entries(
    tx: &mut Tx,
    page: u32,
    policies: &[Policy],
    reading: &mut Reading,
) -> Result<Result<Chain, Unsound>, StoreError> {
    let (mut chain, mut charges) = (ChainVerifier::default(), ChargeVerifier::new(policies));
    let mut derived = Ok(());
    let mut verified = Verified {
        charges: 0,
        refunds: 0,
        commits: 0,
        accepted_restores: 0,
        policies: 0,
        head: ChainHead::EMPTY,
    };
    let mut after = None;
    loop {
        let entries = ledger::page_after(tx, after, page).await?;
        let Some(last) = entries.last() else { break };
        after = Some(last.sequence);
        for entry in &entries {
            if let Err(broken) = chain.push(entry) {
                return Ok(Err(broken.into()));
            }
            if derived.is_ok() {
                derived = charges.push(entry);
            }
            reading.entry(entry);
            *match entry.kind {
                EntryKind::Charge => &mut verified.charges,
                EntryKind::Refund => &mut verified.refunds,
                EntryKind::Commit => &mut verified.commits,
                EntryKind::AcceptedRestore => &mut verified.accepted_restores,
            } += 1;
        }
    }
    verified.head = chain.head();
    let charges = derived.and_then(|()| charges.finish());
    Ok(chain.finish().map(|books| Chain { verified, books, charges }).map_err(Unsound::from))
}

/// What every task was made as, where that can be read.
async fn configurations(tx: &mut Tx, page: u32) -> Result<HashMap<TaskId, TaskConfiguration>, StoreError> {
    let mut configurations = HashMap::new();
    let mut after = i64::MIN;
    loop {
        let rows = tasks::page(tx, after, page).await?;
        let Some(last) = rows.last() else { return Ok(configurations) };
        after = last.key;
        let files = rows.into_iter().filter_map(|row| TaskFile::from_row(row.task).ok());
        configurations.extend(files.map(|file| (file.task_id, file.configuration)));
    }
}

/// Whether what is kept as spent is what the entries add up to.
fn as_kept(books: &[Book], kept: &[Use]) -> Result<(), Unsound> {
    let mut expected: Vec<&Use> = books.iter().flat_map(|book| &book.uses).collect();
    let mut kept: Vec<&Use> = kept.iter().collect();
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

/// So many rows are in memory at a time.
const PAGE: u32 = 1_000;
