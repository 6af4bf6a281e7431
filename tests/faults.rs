//! Power cuts and broken networks: every accepted report is counted once, every batch is charged and drawn once.

use std::collections::BTreeSet;
use std::time::Duration;

use mica_collector::Outcome;
use mica_dap::report::Report;
use mica_dap::vdaf_config::VdafConfig;
use mica_dp::EntryKind;
use mica_tests::{Database, Dev, Fault, Parties, Plan, Sample, eventually, interval_of};

const PATIENCE: Duration = Duration::from_secs(25);

/// So much work that a power cut comes in the middle of it.
fn slow() -> VdafConfig {
    VdafConfig::sum_vec(100, 255)
}

fn sum() -> VdafConfig {
    VdafConfig::Sum { max_measurement: 1000 }
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_killed_between_upload_and_aggregation_counts_every_report_once() {
    let plan = Plan { max_job_reports: 30, ..Plan::without_dp(sum()) };
    let mut parties = Parties::start(&plan).await;
    let sample = parties.task.sample(100);
    let reports = parties.reports(&parties.task.builder().await, &sample.measurements);
    // Nothing can be aggregated while the helper is away.
    parties.kill_helper();
    for part in reports.chunks(25) {
        parties.upload(part).await;
    }
    parties.kill_leader();
    let mut database = parties.leader_database().await;
    assert_eq!((database.report_ids().await, database.tally("aggregated").await), (100, 0));
    parties.start_leader().await;
    parties.start_helper().await;
    assert_exact(&parties, &reports, &sample).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn helper_killed_again_and_again_counts_every_report_once() {
    let plan = Plan { max_job_reports: 20, ..Plan::without_dp(slow()) };
    let mut parties = Parties::start(&plan).await;
    let sample = parties.task.sample(320);
    let reports = parties.reports(&parties.task.builder().await, &sample.measurements);
    for (round, part) in reports.chunks(80).enumerate() {
        for few in part.chunks(20) {
            parties.upload(few).await;
        }
        // The last of these reports are in a job that has begun or is about to; each time at another moment of it.
        for _ in 0..2_000 {
            if parties.proxy.is_asking("aggregation_jobs") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(2 * round as u64)).await;
        parties.kill_helper();
        tokio::time::sleep(Duration::from_millis(100)).await;
        parties.start_helper().await;
    }
    let broken = parties.proxy.posted("aggregation_jobs").iter().filter(|job| job.answers.is_empty()).count();
    assert!(broken > 0, "no job was under way at any power cut");
    assert_exact(&parties, &reports, &sample).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_killed_again_and_again_counts_every_report_once() {
    let plan = Plan { max_job_reports: 20, ..Plan::without_dp(slow()) };
    let mut parties = Parties::start(&plan).await;
    let sample = parties.task.sample(320);
    let reports = parties.reports(&parties.task.builder().await, &sample.measurements);
    for (round, part) in reports.chunks(80).enumerate() {
        for few in part.chunks(20) {
            parties.upload(few).await;
        }
        tokio::time::sleep(Duration::from_millis(20 + 40 * round as u64)).await;
        parties.kill_leader();
        parties.start_leader().await;
    }
    assert_exact(&parties, &reports, &sample).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_loses_and_repeats_messages_changes_nothing() {
    let plan = Plan { max_job_reports: 20, ..Plan::without_dp(sum()) };
    let parties = Parties::start(&plan).await;
    let sample = parties.task.sample(100);
    let reports = parties.reports(&parties.task.builder().await, &sample.measurements);
    for fault in [Fault::LoseAnswer, Fault::Repeat, Fault::LoseRequest, Fault::LoseAnswer] {
        parties.proxy.fail("aggregation_jobs", fault);
    }
    parties.proxy.fail("aggregate_shares", Fault::LoseAnswer);
    parties.proxy.fail("aggregate_shares", Fault::Repeat);
    for part in reports.chunks(20) {
        parties.upload(part).await;
    }
    assert_exact(&parties, &reports, &sample).await;

    let exchanges = parties.proxy.posted("aggregation_jobs");
    assert!(exchanges.len() >= 8, "three retries and five jobs, but {}", exchanges.len());
    let jobs: BTreeSet<_> = exchanges.iter().map(|exchange| exchange.request.clone()).collect();
    assert_eq!(jobs.len(), 5, "a job that is tried again sends the same bytes");
    let mut database = parties.helper_database().await;
    let done = database.number("SELECT CAST(COUNT(*) AS BIGINT) FROM helper_jobs").await;
    assert_eq!(done, 5, "a job that comes again is done once");
    for exchange in exchanges.iter().chain(&parties.proxy.posted("aggregate_shares")) {
        for (status, answer) in &exchange.answers {
            assert_eq!(*status, 200);
            let same = |other: &&mica_tests::Exchange| other.request == exchange.request;
            let others = exchanges.iter().filter(same).flat_map(|other| &other.answers);
            assert!(others.clone().all(|(_, other)| other == answer), "the same bytes get the same answer");
        }
    }
    let shares = parties.proxy.posted("aggregate_shares");
    assert!(shares.len() >= 2);
    let answers: BTreeSet<_> = shares.iter().flat_map(|share| share.answers.clone()).collect();
    assert_eq!(answers.len(), 1, "a share that is asked for again is the same share");
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_killed_during_a_collection_draws_and_charges_once() {
    let mut parties = Parties::start(&Plan::with_noise(VdafConfig::histogram(30), "1/2")).await;
    let sample = parties.task.sample(40);
    let reports = parties.reports(&parties.task.builder().await, &sample.measurements);
    parties.upload(&reports).await;
    // The helper commits its share and the leader never hears of it.
    parties.proxy.fail("aggregate_shares", Fault::HoldAnswer);
    let collector = parties.task.collector();
    let collection = collector.collect(interval_of(&reports)).await.unwrap();
    eventually("the helper to commit", PATIENCE, async || parties.proxy.posted("aggregate_shares").pop())
        .await;
    parties.kill_leader();
    let mut database = parties.leader_database().await;
    let drawn = database.bytes("SELECT sealed_share FROM releases").await;
    assert_eq!((drawn.len(), charges(&database).await), (1, 1));
    drop(database);

    parties.start_leader().await;
    let outcome = wait(&collector, &collection).await;
    assert_eq!(outcome.report_count, 40);
    let mut leader = parties.leader_database().await;
    assert_eq!(leader.bytes("SELECT sealed_share FROM releases").await, drawn, "a second draw");
    assert_eq!(charges(&leader).await, 1);
    assert_eq!(charges(&parties.helper_database().await).await, 1);
    let asked = parties.proxy.posted("aggregate_shares");
    assert!(asked.len() >= 2);
    let distinct: BTreeSet<_> =
        asked.iter().map(|share| (share.request.clone(), share.answers.clone())).collect();
    assert_eq!(distinct.len(), 1, "the same request, and the same share of the helper");
}

#[tokio::test(flavor = "multi_thread")]
async fn helper_killed_during_a_collection_draws_and_charges_once() {
    let mut parties = Parties::start(&Plan::with_noise(VdafConfig::histogram(30), "1/2")).await;
    let sample = parties.task.sample(40);
    let reports = parties.reports(&parties.task.builder().await, &sample.measurements);
    parties.upload(&reports).await;
    parties.proxy.fail("aggregate_shares", Fault::LoseAnswer);
    let collector = parties.task.collector();
    let collection = collector.collect(interval_of(&reports)).await.unwrap();
    eventually("the helper to commit", PATIENCE, async || parties.proxy.posted("aggregate_shares").pop())
        .await;
    parties.kill_helper();
    parties.start_helper().await;
    let outcome = wait(&collector, &collection).await;
    assert_eq!(outcome.report_count, 40);
    assert_eq!(charges(&parties.leader_database().await).await, 1);
    assert_eq!(charges(&parties.helper_database().await).await, 1);
    let shares: BTreeSet<_> =
        parties.proxy.posted("aggregate_shares").iter().flat_map(|share| share.answers.clone()).collect();
    assert_eq!(shares.len(), 1, "the helper sent two different shares of one batch");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_dev_command_after_a_power_cut_serves_the_same_task() {
    let dev = Dev::start(["--no-dp", "--vdaf", "sum", "--max", "1000", "--min-batch-size", "5"]);
    let sample = dev.task.sample(30);
    let (before, after) = sample.measurements.split_at(18);
    let mut reports = dev.report_all(before).await;
    let told = dev.told.clone();
    let dev = dev.kill_and_restart();
    for key in ["relay", "gateway", "leader", "helper", "task", "auth", "collector", "databases"] {
        assert_eq!(dev.told[key], told[key], "{key}");
    }
    reports.extend(dev.report_all(after).await);
    let collected = dev.collect(interval_of(&reports)).await;
    assert_eq!((collected.report_count, collected.values), (30, sample.totals));
}

/// Collects everything; both aggregators must have counted each report once.
async fn assert_exact(parties: &Parties, reports: &[Report], sample: &Sample) {
    let collector = parties.task.collector();
    let collection = collector.collect(interval_of(reports)).await.expect("the leader takes the request");
    let outcome = wait(&collector, &collection).await;
    let count = reports.len() as u64;
    assert_eq!((outcome.report_count, &outcome.values), (count, &sample.totals));
    let (mut leader, mut helper) = (parties.leader_database().await, parties.helper_database().await);
    for database in [&mut leader, &mut helper] {
        assert_eq!(database.report_ids().await, reports.len() as u64);
        assert_eq!(database.tally("aggregated").await, reports.len() as u64);
    }
    assert_eq!(leader.number("SELECT CAST(COUNT(*) AS BIGINT) FROM segments").await, 0, "reports were kept");
}

async fn wait(collector: &mica_collector::Collector, collection: &mica_collector::Collection) -> Outcome {
    let outcome = tokio::time::timeout(PATIENCE, collector.wait(collection, || ())).await;
    outcome.expect("the batch is released in time").expect("the batch is released")
}

async fn charges(database: &Database) -> usize {
    let ledger = database.verified_ledger().await;
    ledger.iter().filter(|entry| entry.kind == EntryKind::Charge).count()
}
