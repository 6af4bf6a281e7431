//! The world in which the tests of the whole product take place: the real `mica` program in processes of its own, real
//! sockets, real databases, and whoever stands outside: clients, collectors, hostile peers, broken networks.
//!
//! Nothing here stands in for a part of mica. Where a helper cannot do what it should, it panics and so fails the test.

#![expect(clippy::missing_panics_doc, reason = "a helper of tests that cannot go on fails the test")]

mod binary;
mod client;
mod database;
mod dev;
mod forge;
mod front;
mod lone_helper;
mod lone_leader;
mod parties;
pub mod peer;
mod port;
mod process;
mod proxy;
mod sample;
mod search;
mod task;
mod wire;
mod wiretap;

pub use binary::mica;
pub use client::{Courier, Delivery};
pub use database::Database;
pub use dev::Dev;
pub use forge::{Flaw, Forge};
pub use front::Front;
pub use lone_helper::LoneHelper;
pub use lone_leader::{LoneLeader, Split, checksum};
pub use parties::{Parties, Plan};
pub use port::free_port;
pub use process::Process;
pub use proxy::{Exchange, Fault, Proxy};
pub use sample::{Sample, small_vdafs};
pub use search::{Finding, Haystack, Needle};
pub use task::{Task, interval_of};
pub use wire::{Reply, Wire};
pub use wiretap::Wiretap;

use std::time::Duration;

/// Now, in seconds since the Unix epoch.
#[must_use]
pub fn now() -> u64 {
    mica_service::clock::Clock::system().now()
}

/// Waits until `probe` gives something, at most `patience`.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    patience: Duration,
    mut probe: impl FnMut() -> F,
) -> T {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited {patience:?} for {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
