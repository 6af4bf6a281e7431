//! What one budget has paid for, as far as a ledger tells.

use crate::accountant::{Account, Filled, Span, Use};

/// One budget and the releases that count against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Book {
    /// The budget, with the limit of its newest entry.
    pub account: Account,
    /// What it has paid for and was not given back, like with like.
    pub uses: Vec<Use>,
}

impl Book {
    /// The fullest of all its windows.
    pub fn fullest(&self) -> Filled {
        self.account.fullest(&self.uses, Span::ALL)
    }

    /// One more release.
    pub fn add(&mut self, new: Use) {
        match self.uses.iter_mut().find(|old| old.is_like(&new)) {
            Some(old) => old.releases = old.releases.saturating_add(new.releases),
            None => self.uses.push(new),
        }
    }

    /// One release less; false when there was none like it.
    pub fn take_back(&mut self, gone: &Use) -> bool {
        let Some(at) = self.uses.iter().position(|old| old.is_like(gone)) else { return false };
        let Some(old) = self.uses.get_mut(at) else { return false };
        old.releases = old.releases.saturating_sub(1);
        if old.releases == 0 {
            self.uses.swap_remove(at);
        }
        true
    }
}
