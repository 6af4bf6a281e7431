//! Reads a whole ledger again and finds what does not follow.

use std::collections::BTreeMap;

use super::{Book, ChainHead, EntryKind, LedgerEntry, ReleaseKey};
use crate::accountant::Measure;

/// The ledger is not what its own rules would have written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ledger entry {sequence}: {what}")]
pub struct BrokenChain {
    /// The first entry that does not follow.
    pub sequence: u64,
    /// What is wrong with it.
    pub what: &'static str,
}

/// The charge that a release has open or settled on one budget.
enum Standing {
    Charged(i64),
    Committed,
    Refunded,
}

/// Checks every hash, link and rule of a ledger from its first entry, judges every charge again by what was spent before
/// it, and returns what each budget has paid for.
///
/// An empty end cannot be seen from inside: compare the last entry with a head kept elsewhere to find a ledger
/// that was cut or restored from an older copy.
pub fn verify_chain(entries: &[LedgerEntry]) -> Result<Vec<Book>, BrokenChain> {
    let mut head = ChainHead::EMPTY;
    let mut standings: BTreeMap<(&ReleaseKey, &str), Standing> = BTreeMap::new();
    let mut books: BTreeMap<&str, Book> = BTreeMap::new();
    let mut measures: BTreeMap<&str, Measure> = BTreeMap::new();
    for entry in entries {
        let broken = |what| BrokenChain { sequence: entry.sequence, what };
        if Some(entry.sequence) != head.sequence.checked_add(1) {
            return Err(broken("its number does not follow the entry before"));
        }
        if entry.prev_hash != head.hash {
            return Err(broken("it is not linked to the entry before"));
        }
        if entry.entry_hash != entry.hash() {
            return Err(broken("its content was changed"));
        }
        head = entry.head();
        if entry.kind == EntryKind::AcceptedRestore {
            if entry.is_bare_note() {
                continue;
            }
            return Err(broken("an accepted restore moves something, or does not say what it is"));
        }
        if entry.note.is_some() {
            return Err(broken("an entry of a release has a note"));
        }
        let slot = (&entry.key, entry.budget_id.as_str());
        let standing = follow(standings.get(&slot), entry).map_err(broken)?;
        standings.insert(slot, standing);
        // Entries of the first schema do not say what their units count.
        if let Some(counted) = &entry.counted
            && *measures.entry(&entry.budget_id).or_insert(counted.measure) != counted.measure
        {
            return Err(broken("the measure of its budget is another than before"));
        }
        let book = books
            .entry(&entry.budget_id)
            .or_insert_with(|| Book { account: entry.account(), uses: Vec::new() });
        count(book, entry).map_err(broken)?;
    }
    Ok(books.into_values().collect())
}

/// The standing of a charge after `entry`, if the entry is allowed to follow.
fn follow(before: Option<&Standing>, entry: &LedgerEntry) -> Result<Standing, &'static str> {
    match (entry.kind, before) {
        (EntryKind::Charge, None | Some(Standing::Refunded)) if entry.units > 0 => {
            Ok(Standing::Charged(entry.units))
        }
        (EntryKind::Charge, None | Some(Standing::Refunded)) => Err("a charge takes nothing"),
        (EntryKind::Charge, Some(_)) => Err("the same release is charged twice"),
        (EntryKind::Commit, Some(Standing::Charged(_))) if entry.units == 0 => Ok(Standing::Committed),
        (EntryKind::Commit, Some(Standing::Charged(_))) => Err("a commit moves units"),
        (EntryKind::Refund, Some(Standing::Charged(units))) if entry.units.checked_neg() == Some(*units) => {
            Ok(Standing::Refunded)
        }
        (EntryKind::Refund, Some(Standing::Charged(_))) => Err("a refund differs from its charge"),
        (EntryKind::Refund, Some(Standing::Committed)) => Err("a committed charge is refunded"),
        (EntryKind::Commit, Some(Standing::Committed)) => Err("a charge is committed twice"),
        (EntryKind::Commit | EntryKind::Refund, None | Some(Standing::Refunded)) => {
            Err("there is no charge to settle")
        }
        (EntryKind::AcceptedRestore, _) => Err("an accepted restore is of no release"),
    }
}

/// What `entry` does to what its budget has paid for.
fn count(book: &mut Book, entry: &LedgerEntry) -> Result<(), &'static str> {
    let account = entry.account();
    if account.window != book.account.window {
        return Err("the window of its budget is another than before");
    }
    match entry.kind {
        EntryKind::Charge => {
            let admitted = account.admit(&book.uses, &entry.proposal());
            let admitted = admitted.map_err(|_| "the budget was already exhausted")?;
            book.add(admitted.usage);
        }
        EntryKind::Refund if !book.take_back(&entry.usage()) => {
            return Err("a refund gives back what was not counted");
        }
        EntryKind::Refund | EntryKind::Commit | EntryKind::AcceptedRestore => {}
    }
    book.account = account;
    Ok(())
}
