//! A simulation of the whole of DAP: clients, leaders, a helper and a collector in one process, in virtual time, over a
//! network that loses, doubles and delays messages, with processes that die at every edge of every transaction.
//!
//! What happens is a function of a seed. The code is the real one, on real databases; only the network, the clock and the
//! order of steps are the simulation's. Each report has a bucket of its own, so that any report that is lost or counted
//! twice shows by itself.
//!
//! `MICA_SIMULATION_SEED=7` runs one seed, `MICA_SIMULATION_SEEDS=1000..5000` those; `cargo xtask simulate` does it for you.

mod actions;
mod crowd;
mod databases;
mod dice;
mod forge;
mod gate;
mod model;
mod network;
mod noised;
mod oracle;
mod plan;
mod process;
mod records;
mod replay;
mod run;
mod sabotage;
mod settle;
mod tallies;
mod task;
mod world;

mod mutations;

use crate::run::On;

/// A report that is accepted is counted once, whatever happens between and to the servers.
#[test]
fn every_accepted_report_is_counted_once_on_sqlite() {
    crowd::check_all(On::Sqlite, 0..700);
    if !crowd::is_asked_for_seeds() {
        let edges = gate::edges_of_death();
        assert!(edges.len() > 20, "processes died only at {edges:?}");
    }
}

#[test]
fn every_accepted_report_is_counted_once_on_postgres() {
    if crowd::has_postgres() {
        crowd::check_all(On::Postgres, 0..40);
    }
}

#[test]
fn a_seed_stands_for_one_plan() {
    let (setting, steps) = run::plan(7);
    assert_eq!((setting, steps), run::plan(7));
}
