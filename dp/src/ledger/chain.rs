//! Reads a whole ledger again and finds what does not follow.

use std::collections::HashMap;

use super::judge::{Judge, Wrong};
use super::{Book, ChainHead, EntryKind, LedgerEntry, ReleaseKey};

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
    let mut verifier = ChainVerifier::default();
    for entry in entries {
        verifier.push(entry)?;
    }
    verifier.finish()
}

/// The same entry by entry, for a ledger that is too long to be held: what budgets have paid for up to an entry, and which
/// releases were charged.
///
/// # Cost
/// About `O(n log n)` time for `n` entries, and memory in proportion to the releases.
pub struct ChainVerifier {
    head: ChainHead,
    standings: HashMap<(ReleaseKey, usize), Standing>,
    names: HashMap<String, usize>,
    judges: Vec<Judge>,
}

impl Default for ChainVerifier {
    fn default() -> Self {
        Self { head: ChainHead::EMPTY, standings: HashMap::new(), names: HashMap::new(), judges: Vec::new() }
    }
}

impl ChainVerifier {
    /// The next entry. After an error there is nothing more to find out.
    pub fn push(&mut self, entry: &LedgerEntry) -> Result<(), BrokenChain> {
        let taken = self.take(entry);
        taken.or_else(|wrong| self.settle(Some(wrong)))
    }

    /// Where the entries end so far.
    pub fn head(&self) -> ChainHead {
        self.head
    }

    /// What each budget has paid for, by its name, when all entries follow.
    pub fn finish(mut self) -> Result<Vec<Book>, BrokenChain> {
        self.settle(None)?;
        let mut books: Vec<Book> = self.judges.into_iter().map(Judge::into_book).collect();
        books.sort_by(|a, b| a.account.budget_id.cmp(&b.account.budget_id));
        Ok(books)
    }

    /// Judges whatever still waits, and tells the first of all that is wrong.
    fn settle(&mut self, known: Option<Wrong>) -> Result<(), BrokenChain> {
        let found = self.judges.iter_mut().filter_map(|judge| judge.settle().err()).chain(known);
        match found.min_by_key(|(sequence, _)| *sequence) {
            Some((sequence, what)) => Err(BrokenChain { sequence, what }),
            None => Ok(()),
        }
    }

    fn take(&mut self, entry: &LedgerEntry) -> Result<(), Wrong> {
        let broken = |what| (entry.sequence, what);
        if Some(entry.sequence) != self.head.sequence.checked_add(1) {
            return Err(broken("its number does not follow the entry before"));
        }
        if entry.prev_hash != self.head.hash {
            return Err(broken("it is not linked to the entry before"));
        }
        if entry.entry_hash != entry.hash() {
            return Err(broken("its content was changed"));
        }
        self.head = entry.head();
        if entry.kind == EntryKind::AcceptedRestore {
            if entry.is_bare_note() {
                return Ok(());
            }
            return Err(broken("an accepted restore moves something, or does not say what it is"));
        }
        if entry.note.is_some() {
            return Err(broken("an entry of a release has a note"));
        }
        let budget = self.budget(entry);
        let slot = (entry.key.clone(), budget);
        let standing = follow(self.standings.get(&slot), entry).map_err(broken)?;
        self.standings.insert(slot, standing);
        self.judges.get_mut(budget).map_or(Ok(()), |judge| judge.push(entry))
    }

    /// The place of the entry's budget among the judges.
    fn budget(&mut self, entry: &LedgerEntry) -> usize {
        if let Some(at) = self.names.get(&entry.budget_id) {
            return *at;
        }
        self.judges.push(Judge::of(entry));
        self.names.insert(entry.budget_id.clone(), self.judges.len() - 1);
        self.judges.len() - 1
    }
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
