//! Who has spent how much of what, and whether one more release fits.
//!
//! The accountant works on data time: on when reports were made, not on when anybody asked for them. It sees spans,
//! costs and caps; it never learns a measurement, a total or which client sent a report, and what it answers does
//! not depend on any of them.

mod account;
mod batch;
mod calendar;
mod cap;
mod names;
mod renewal;
mod span;
#[cfg(test)]
mod tests;
mod timeline;
mod usage;
mod window;

pub use self::account::{Account, Admitted, Filled, OverBudget, Proposal};
pub use self::batch::{BatchWindow, TooWide, Within};
pub use self::calendar::CalendarUnit;
pub use self::cap::Measure;
pub use self::names::{format_second, parse_second};
pub use self::span::{NoSpan, Span};
pub use self::usage::{Caps, Use};
pub use self::window::{NoWindow, OnGrid, Rolling, Window};
