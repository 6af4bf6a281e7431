//! Leader and helper together where the leader selects the batches: the batches add up to what clients uploaded.

use mica_collector::{CollectError, Poll};
use mica_dap::Draft;
use mica_dap::report::Report;
use mica_dap::time::{Duration, Interval};
use mica_dap::vdaf::Measurement;
use mica_dap::vdaf_config::VdafConfig;

use crate::support::NOW;
use crate::support::pair::{Setting, on_each};

/// K8, K10: a collector that deletes each batch before it asks for the next gets all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_gets_batch_after_batch_and_they_add_up() {
    for draft in Draft::ALL {
        let setting = Setting { draft, ..Setting::without_noise(VdafConfig::histogram(3)).by_leader() };
        on_each(setting, async |pair| {
            let reports: Vec<Report> = (0..12).map(|at| pair.report(&Measurement::Bucket(at % 3))).collect();
            assert_eq!(pair.upload(&reports[..7]).await, []);
            assert_eq!(pair.upload(&reports[7..]).await, []);
            let mut sum = vec![0; 3];
            for _ in 0..4 {
                let outcome = pair.collect().await.expect("a batch");
                assert_eq!(outcome.report_count, 3, "the minimum is the target where none is set");
                assert_eq!(pair.collect().await.expect("the same batch"), outcome);
                sum.iter_mut().zip(&outcome.values).for_each(|(sum, value)| *sum += value);
                let collection = pair.begin().await.expect("it is still there");
                pair.collector.delete(&collection).await.expect("deleted");
            }
            assert_eq!(sum, [4, 4, 4]);
            let nothing = pair.begin().await.expect("it waits");
            assert!(matches!(pair.collector.poll(&nothing).await, Ok(Poll::Waiting { .. })));
        })
        .await;
    }
}

/// S124: how many reports, and the smallest interval around their times, are exact.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_noise_of_a_batch_is_drawn_once_and_its_count_and_interval_are_exact() {
    on_each(Setting::with_noise(VdafConfig::Count, "1").by_leader(), async |pair| {
        let at = |minute: u64| {
            pair.builder.report(&Measurement::Bool(true), NOW - 60 * minute).expect("a fitting measurement")
        };
        let reports: Vec<Report> = [9, 2, 4].into_iter().map(at).collect();
        assert_eq!(pair.upload(&reports).await, []);
        let first = pair.collect().await.expect("a batch");
        let start = mica_dap::time::Time(NOW / 60 - 9);
        assert_eq!(first.interval, Interval::new(start, Duration(8)).expect("eight minutes"));
        assert_eq!(first.report_count, 3);
        assert_eq!(pair.collect().await.expect("the same batch"), first);
    })
    .await;
}

/// L34: an interval is no query of a task whose batches the leader selects.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interval_of_a_task_by_leader_is_refused() {
    on_each(Setting::without_noise(VdafConfig::Count).by_leader(), async |pair| {
        match pair.collector.collect(pair.all()).await {
            Err(CollectError::Refused(problem)) => assert!(problem.type_.ends_with(":invalidMessage")),
            other => panic!("{other:?}"),
        }
    })
    .await;
}
