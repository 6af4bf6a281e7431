//! The same life of a batch in every combination: who selects batches, VDAF, draft, whether the helper answers at once, and
//! both databases.

use mica_aggregator::config::Answers;
use mica_dap::Draft;
use mica_dap::report::Report;
use mica_dap::report_error::ReportError;
use mica_dap::vdaf::Measurement;
use mica_dap::vdaf_config::VdafConfig;

use crate::pair::five;
use crate::support::NOW;
use crate::support::pair::{Setting, on_each};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_combination_by_time_counts_the_good_reports_and_answers_the_same_again() {
    for (vdaf, measurements, expected) in six() {
        let setting = || Setting::without_noise(vdaf.clone());
        Box::pin(at_once_and_later(setting, &measurements, &expected)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_combination_by_leader_counts_the_good_reports_and_answers_the_same_again() {
    let by_leader = |vdaf: &VdafConfig| {
        // One batch, whatever becomes of the bad reports.
        Setting { batch_target_size: Some(20), ..Setting::without_noise(vdaf.clone()).by_leader() }
    };
    for (vdaf, measurements, expected) in six() {
        Box::pin(at_once_and_later(|| by_leader(&vdaf), &measurements, &expected)).await;
    }
}

/// Each kind of Prio3, and Poplar1 with its two rounds.
fn six() -> Vec<(VdafConfig, Vec<Measurement>, Vec<i128>)> {
    let vdaf = VdafConfig::Poplar1 { bits: 4 };
    let string = |text: &str| Measurement::parse(&vdaf, text).expect("four bits");
    let strings = ["0010", "1011", "0001", "1111", "0111"].map(string).to_vec();
    let mut all = five();
    all.push((vdaf, strings, vec![2, 1, 1]));
    all
}

/// Both drafts, with a helper that answers at once and one that answers later: four pairs next to each other.
async fn at_once_and_later(setting: impl Fn() -> Setting, measurements: &[Measurement], expected: &[i128]) {
    let life = |draft, answers| whole_life(Setting { draft, answers, ..setting() }, measurements, expected);
    tokio::join!(
        life(Draft::V18, Answers::AtOnce),
        life(Draft::V18, Answers::Deferred),
        life(Draft::V19, Answers::AtOnce),
        life(Draft::V19, Answers::Deferred),
    );
}

/// Good reports, one of them twice, one whose share is damaged for the helper alone, and one from the future.
async fn whole_life(setting: Setting, measurements: &[Measurement], expected: &[i128]) {
    on_each(setting, async |pair| {
        let good: Vec<Report> = measurements.iter().map(|it| pair.report(it)).collect();
        let mut damaged = pair.report(&measurements[0]);
        *damaged.helper_encrypted_input_share.payload.last_mut().expect("not empty") ^= 1;
        let early = pair.builder.report(&measurements[0], NOW + 3_600).expect("it fits");
        let mut sent = good.clone();
        sent.insert(1, damaged);
        sent.push(early);
        assert_eq!(pair.upload(&sent).await, [ReportError::ReportTooEarly]);
        assert_eq!(pair.upload(&good[1..2]).await, [ReportError::ReportReplayed]);
        let outcome = pair.collect().await.expect("a complete batch");
        assert_eq!(outcome.values, expected);
        assert_eq!(outcome.report_count, measurements.len() as u64);
        assert_eq!(outcome.interval, pair.all());
        assert_eq!(pair.collect().await.expect("the same batch"), outcome);
    })
    .await;
}
