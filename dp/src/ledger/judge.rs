//! Judges the charges of one budget again, many at a time.
//!
//! What is spent in a window only grows with every release that counts. So if the charges of a run fit all together, with
//! nothing that the run gives back, then each of them fitted when it was made. A run that does not fit so is cut in two,
//! down to single charges. A ledger is judged in about `O(n log n)`, and only what has not been judged is held.

use std::collections::HashMap;

use super::{Book, EntryKind, LedgerEntry};
use crate::accountant::{Account, Caps, Measure, Span, Use};

/// The first entry that does not follow, and why.
pub(super) type Wrong = (u64, &'static str);

/// What one budget has paid for, and what has still to be judged.
pub(super) struct Judge {
    account: Account,
    /// Entries of the first schema do not say what their units count.
    measure: Option<Measure>,
    counted: Counts,
    waiting: Vec<Step>,
}

/// What an entry does to its budget.
struct Step {
    sequence: u64,
    takes: bool,
    account: Account,
    usage: Use,
}

impl Judge {
    /// A budget that has paid for nothing, and whose first entry is this one.
    pub(super) fn of(first: &LedgerEntry) -> Self {
        Self { account: first.account(), measure: None, counted: Counts::default(), waiting: Vec::new() }
    }

    /// One more entry of the budget.
    pub(super) fn push(&mut self, entry: &LedgerEntry) -> Result<(), Wrong> {
        if let Some(counted) = &entry.counted
            && *self.measure.get_or_insert(counted.measure) != counted.measure
        {
            return Err((entry.sequence, "the measure of its budget is another than before"));
        }
        let account = entry.account();
        if account.window != self.account.window {
            return Err((entry.sequence, "the window of its budget is another than before"));
        }
        self.account = account.clone();
        let takes = match entry.kind {
            EntryKind::Charge => true,
            EntryKind::Refund => false,
            EntryKind::Commit | EntryKind::AcceptedRestore => return Ok(()),
        };
        self.waiting.push(Step { sequence: entry.sequence, takes, account, usage: entry.usage() });
        if self.waiting.len() >= self.counted.uses.len().max(A_RUN) { self.settle() } else { Ok(()) }
    }

    /// Judges what waits.
    pub(super) fn settle(&mut self) -> Result<(), Wrong> {
        let waiting = std::mem::take(&mut self.waiting);
        self.counted.judge(&waiting)
    }

    /// What the budget has paid for by all that was judged.
    pub(super) fn into_book(self) -> Book {
        Book { account: self.account, uses: self.counted.uses }
    }
}

/// So many entries are judged together at least.
const A_RUN: usize = 1_024;

/// What makes two releases of a budget alike.
type Kind = ([u8; 32], Span, i64, Option<i64>, Caps);

fn kind(usage: &Use) -> Kind {
    (usage.task, usage.span, usage.units, usage.epsilon_units, usage.caps)
}

/// Releases of one budget, like with like.
#[derive(Default)]
struct Counts {
    uses: Vec<Use>,
    places: HashMap<Kind, usize>,
}

impl Counts {
    fn judge(&mut self, steps: &[Step]) -> Result<(), Wrong> {
        let Some(first) = steps.first() else { return Ok(()) };
        if let Some(bad) = self.apply(steps) {
            let (before, from) = steps.split_at(bad);
            self.judge(before)?;
            let sequence = from.first().map_or(first.sequence, |step| step.sequence);
            return Err((sequence, "a refund gives back what was not counted"));
        }
        // Everything that was taken, and nothing of what was given back.
        let given_back = || steps.iter().filter(|step| !step.takes);
        given_back().for_each(|step| self.add(&step.usage));
        if self.holds(steps) {
            given_back().for_each(|step| _ = self.take_back(&step.usage));
            return Ok(());
        }
        steps.iter().filter(|step| step.takes).for_each(|step| _ = self.take_back(&step.usage));
        if steps.len() == 1 {
            return Err((first.sequence, "the budget was already exhausted"));
        }
        let (earlier, later) = steps.split_at(steps.len() / 2);
        self.judge(earlier)?;
        self.judge(later)
    }

    /// Does the steps one by one; at one that cannot be done, undoes them all and tells which.
    fn apply(&mut self, steps: &[Step]) -> Option<usize> {
        for (at, step) in steps.iter().enumerate() {
            if step.takes {
                self.add(&step.usage);
            } else if !self.take_back(&step.usage) {
                for done in steps.iter().take(at).rev() {
                    if done.takes {
                        self.take_back(&done.usage);
                    } else {
                        self.add(&done.usage);
                    }
                }
                return Some(at);
            }
        }
        None
    }

    /// Whether no window that a charge among `steps` meets holds more than any of them allows.
    fn holds(&self, steps: &[Step]) -> bool {
        let mut charges = steps.iter().filter(|step| step.takes);
        let Some(first) = charges.next() else { return true };
        let (mut account, mut span) = (first.account.clone(), first.usage.span);
        for charge in charges {
            if charge.account.measure != account.measure {
                return false;
            }
            account.limit = account.limit.min(charge.account.limit);
            span = span.with(charge.usage.span);
        }
        account.holds(&self.uses, span)
    }

    fn add(&mut self, new: &Use) {
        if let Some(old) = self.places.get(&kind(new)).and_then(|at| self.uses.get_mut(*at)) {
            old.releases = old.releases.saturating_add(1);
        } else {
            self.places.insert(kind(new), self.uses.len());
            self.uses.push(new.clone());
        }
    }

    /// One release less; false when there was none like it.
    fn take_back(&mut self, gone: &Use) -> bool {
        let Some(at) = self.places.get(&kind(gone)).copied() else { return false };
        let Some(old) = self.uses.get_mut(at) else { return false };
        old.releases = old.releases.saturating_sub(1);
        if old.releases == 0 {
            self.places.remove(&kind(gone));
            self.uses.swap_remove(at);
            if let Some(moved) = self.uses.get(at) {
                self.places.insert(kind(moved), at);
            }
        }
        true
    }
}
