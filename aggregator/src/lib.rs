//! Leader and helper: the two aggregators that verify and add what nobody alone can read.
//!
//! In the order a report travels: the leader's `leader` upload writes it down as it came, the jobs of both roles
//! verify it together and add it to the bucket of its time, and `release` lets a batch go: ledger, noise and the
//! noised share in one transaction, once. Neither role ever learns who sent a report (the relay dropped that), or a
//! value (it holds one share of it).

pub mod admin;
pub mod aggregator;
pub mod agreement;
pub mod auth;
pub mod budget;
#[cfg(feature = "testing")]
mod by_hand;
mod callers;
pub mod config;
pub mod credential;
mod crowd;
pub mod enrol;
pub mod error;
mod extract;
mod helper;
pub mod high_water;
pub mod hpke_keys;
mod jobs;
mod leader;
pub mod metrics;
mod open;
pub mod pace;
pub mod policy;
pub mod registry;
mod release;
mod router;
pub mod shared;
pub mod store;
pub mod task;
pub mod task_file;
pub mod taskprov;

pub use aggregator::{Aggregator, BuildError};
#[cfg(feature = "testing")]
pub use by_hand::ByHand;
pub use config::Config;
pub use jobs::Reason;
pub use task::Role;
pub use task_file::TaskFile;
