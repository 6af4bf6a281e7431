//! The end of the journey: ask for a batch, wait for it, open both noised shares, add them, read the sum.
//!
//! The collector is the only party that sees a total, and it sees no other than a noised one: each aggregator has added
//! its noise before it sealed its share to the collector's key. What is printed beside a value is the width of that
//! noise, from the same function that set it.

mod collect;
mod error;
#[cfg(test)]
mod fixtures;
mod guarantee;
mod result;
mod task;
mod words;

pub use collect::{Collection, Collector, Poll};
pub use error::CollectError;
pub use guarantee::{Guarantee, NotTheTasks};
pub use result::{Estimate, Outcome};
pub use task::{CollectorTask, CollectorTaskError};
pub use words::label_of;
