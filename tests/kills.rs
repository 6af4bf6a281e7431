//! SIGKILL at named moments of a release, with real processes and real databases: one charge, one draw, one answer.
//!
//! `MICA_TEST_KILLS` is how often each moment is tried on each database; twice on files and once on PostgreSQL when nothing
//! is said.

use std::path::Path;
use std::time::Duration;

use mica_collector::Outcome;
use mica_dap::time::Interval;
use mica_dap::vdaf::Measurement;
use mica_dap::vdaf_config::VdafConfig;
use mica_dp::EntryKind;
use mica_tests::{Database, Parties, Plan, eventually, now};

/// Built by cargo with these tests.
const MORTAL: &str = env!("CARGO_BIN_EXE_mortal-aggregator");

fn kills(unless_told: u64) -> u64 {
    std::env::var("MICA_TEST_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(unless_told)
}

/// What both are to be: with a budget that does not end.
fn plan() -> Plan {
    let mut plan = Plan::with_noise(VdafConfig::Count, "1/10");
    plan.policy = plan.policy.replace("\nepsilon = \"1\"", "\nepsilon = \"1000\"");
    plan
}

/// Two reports in each of so many hours before this one.
async fn batches(parties: &Parties, hours: u64) -> Vec<Interval> {
    let builder = parties.task.builder().await;
    let mut batches = Vec::new();
    for hour in 1..=hours {
        let time = now() - hour * 3600;
        let reports =
            [true, false].map(|value| builder.report(&Measurement::Bool(value), time).expect("a report"));
        parties.upload(&reports).await;
        batches.push(Interval::unit(reports[0].metadata.time).expect("an hour"));
    }
    batches
}

async fn shares(mut database: Database) -> Vec<Vec<u8>> {
    database.bytes("SELECT sealed_share FROM releases ORDER BY id").await
}

/// One charge and one commit for each batch, in a ledger that holds.
async fn settled(database: &Database, batches: usize, what: &str) {
    let ledger = database.verified_ledger().await;
    for kind in [EntryKind::Charge, EntryKind::Commit] {
        assert_eq!(ledger.iter().filter(|entry| entry.kind == kind).count(), batches, "{what}: {kind}");
    }
    assert_eq!(ledger.len(), 2 * batches, "{what}");
}

/// Kills `role` at this moment while a batch is being released, again and again, on each kind of database.
async fn kill_at(role: &str, transaction: &str, moment: &str) {
    let what = format!("{role} killed at {transaction} {moment}");
    let parties = Parties::start(&plan()).await;
    kill_again_and_again(parties, kills(2), (role, transaction, moment), &format!("{what}, on files")).await;
    if let Some(parties) = Parties::start_on_postgres(&plan()).await {
        let what = format!("{what}, on PostgreSQL");
        kill_again_and_again(parties, kills(1), (role, transaction, moment), &what).await;
    }
}

async fn kill_again_and_again(
    mut parties: Parties,
    kills: u64,
    (role, transaction, moment): (&str, &str, &str),
    what: &str,
) {
    let batches = batches(&parties, kills).await;
    let collector = parties.task.collector();
    for (at, batch) in batches.iter().enumerate() {
        parties.kill(role);
        parties.start_program(role, Path::new(MORTAL), &[transaction, moment]).await;
        // Who asks may lose the connection when the leader dies.
        let asked = collector.collect(*batch).await;
        let died = || std::future::ready(parties.has_ended(role).then_some(()));
        eventually(what, Duration::from_mins(1), died).await;
        drop(asked);
        let drawn =
            [shares(parties.leader_database().await).await, shares(parties.helper_database().await).await];
        match role {
            "leader" => parties.start_leader().await,
            _ => parties.start_helper().await,
        }
        let collection = collector.collect(*batch).await.expect("the leader is there again");
        let Outcome { report_count, values, .. } =
            collector.wait(&collection, || ()).await.expect("it is released in the end");
        assert_eq!(report_count, 2, "{what}");
        let again = collector.collect(*batch).await.expect("the same request");
        assert_eq!(collector.wait(&again, || ()).await.expect("the same answer").values, values, "{what}");
        let sent =
            [shares(parties.leader_database().await).await, shares(parties.helper_database().await).await];
        for (drawn, sent) in drawn.iter().zip(&sent) {
            // A helper forgets what its leader has.
            let same = drawn.iter().zip(sent).all(|(drawn, sent)| sent == drawn || sent.is_empty());
            assert!(same, "{what}: what was drawn before the kill was drawn again");
            assert_eq!(sent.len(), at + 1, "{what}");
        }
        for database in [parties.leader_database().await, parties.helper_database().await] {
            settled(&database, at + 1, what).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_killed_before_the_debit() {
    kill_at("leader", "reserve_release", "begin").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_killed_after_the_debit_and_before_its_commit() {
    kill_at("leader", "reserve_release", "commit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_killed_after_the_commit_of_the_debit_and_before_it_asks_the_helper() {
    kill_at("leader", "reserve_release", "committed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_killed_between_the_answer_of_the_helper_and_its_settlement() {
    kill_at("leader", "commit_release", "begin").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_killed_while_it_scrubs() {
    kill_at("leader", "commit_release", "commit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_killed_after_the_settlement() {
    kill_at("leader", "commit_release", "committed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_killed_before_the_debit() {
    kill_at("helper", "aggregate_share", "begin").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_killed_after_the_debit_while_it_scrubs_and_before_its_commit() {
    kill_at("helper", "aggregate_share", "commit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_killed_after_the_commit_and_before_it_answers() {
    kill_at("helper", "aggregate_share", "committed").await;
}
