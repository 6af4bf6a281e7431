//! The contract of the store, held on SQLite and on PostgreSQL: what is unique, what is guarded, and what happens
//! when several want the same.

mod batches;
mod budgets;
mod collecting;
mod helper;
mod keys;
mod reports;
mod sums;
mod tasks;

use mica_dap::time::{Duration, Interval, Time};
use mica_service::testing::{TestDatabase, databases};
use tokio::task::JoinSet;

use super::lease::LeaseRequest;
use super::{LeaseToken, Store, migrator};

/// Runs one query in a transaction of its own; a `Result`.
macro_rules! attempt {
    ($store:expr, |$tx:ident| $query:expr) => {
        $store
            .tx("test", |mut $tx| async move {
                let value = {
                    let $tx = &mut $tx;
                    $query.await?
                };
                Ok(($tx, value))
            })
            .await
    };
}

/// As [`attempt`], for queries that succeed.
macro_rules! commit {
    ($store:expr, |$tx:ident| $query:expr) => {
        $crate::store::contract_tests::attempt!($store, |$tx| $query).expect("the transaction is committed")
    };
}

use {attempt, commit};

/// A store on each kind of database, with the database that must outlive it.
async fn stores() -> Vec<(TestDatabase, Store)> {
    let mut stores = Vec::new();
    for database in databases().await {
        let store = database.open(migrator()).await.expect("a fresh database can be opened");
        stores.push((database, store));
    }
    stores
}

/// Runs eight of `work` at once and returns what they found, in no order.
async fn at_once<T, F>(work: impl Fn(u8) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for number in 0..8 {
        tasks.spawn(work(number));
    }
    tasks.join_all().await
}

fn interval(start: u64, duration: u64) -> Interval {
    Interval::new(Time(start), Duration(duration)).expect("tests know what an interval is")
}

fn lease(now: u64, holder: u8) -> LeaseRequest {
    LeaseRequest { now, seconds: 15, token: token(holder) }
}

fn token(holder: u8) -> LeaseToken {
    LeaseToken::new([holder; 16])
}
