//! The ledger of privacy budgets for whoever answers for it: how much is spent, what happened, and whether all of it
//! follows from the policies that were in force.
//!
//! It reads the database of one aggregator, whether that runs or not, and changes nothing. It sees costs and times, and
//! neither a report nor a total.

mod history;
pub(crate) mod paid;
mod status;
mod verify;
mod view;

pub use self::history::{Filter, history};
pub use self::paid::Unpaid;
pub use self::status::{BudgetStatus, status};
#[cfg(test)]
pub(crate) use self::verify::in_pages;
pub use self::verify::{Unsound, Verified, verify};
pub use self::view::{BudgetList, BudgetView, WindowView};
