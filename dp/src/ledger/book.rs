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
}
