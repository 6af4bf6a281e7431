//! The noise is drawn once, the budget is charged once, and what was released is closed.

use mica_collector::CollectError;
use mica_dap::collection::{CollectionJobReq, Query};
use mica_dap::media::Media;
use mica_dap::time::{Duration, Interval, Time};
use mica_dap::vdaf::Measurement;
use mica_dp::{EntryKind, NoiseOf};
use mica_tests::{Dev, Reply, Wire, interval_of, now};

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_as_far_from_the_truth_as_the_policy_says_and_no_farther() {
    let dev = Dev::start(["--vdaf", "histogram", "--length", "50", "--min-batch-size", "20"]);
    let sample = dev.task.sample(25);
    let reports = dev.report_all(&sample.measurements).await;
    let collected = dev.collect(interval_of(&reports)).await;
    assert_eq!(collected.report_count, 25);
    assert_ne!(collected.values, sample.totals, "fifty values without any noise");
    let mechanism = dev.task.mechanism.clone().expect("the policy asks for noise");
    // For fifty values at once still a chance of less than one in ten million.
    let half_width = mechanism.half_width(1.0 - 1e-9, NoiseOf::BothAggregators);
    for (value, truth) in collected.values.iter().zip(&sample.totals) {
        assert!(value.abs_diff(*truth) <= u128::from(half_width), "{value} for {truth}, ± {half_width}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_gets_the_same_bytes_for_ever_and_one_charge_on_each_side() {
    let flags = ["--vdaf", "count", "--min-batch-size", "5"];
    let (on_sqlite, on_postgres) = (Dev::start(flags), Dev::start_on_postgres(flags).await);
    for dev in [Some(on_sqlite), on_postgres].into_iter().flatten() {
        let reports = dev.report_all(&dev.task.sample(8).measurements).await;
        let interval = interval_of(&reports);
        dev.collect(interval).await;
        let first = ask(&dev, interval).await;
        assert_eq!(first.status, 200, "{first:?}");
        assert!(!first.body.is_empty());
        for _ in 0..3 {
            assert_eq!(ask(&dev, interval).await.body, first.body);
        }
        let dev = dev.kill_and_restart();
        assert_eq!(ask(&dev, interval).await.body, first.body, "another draw after a restart");
        for role in ["leader", "helper"] {
            assert_eq!(charges(&dev, role).await, 1, "{role}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_released_cannot_be_released_again_in_any_shape() {
    let dev = Dev::start(["--vdaf", "count", "--min-batch-size", "2", "--time-precision", "60"]);
    let client = dev.client();
    let builder = client.builder().await.unwrap();
    let reports: Vec<_> = (0..8)
        .map(|at| builder.report(&Measurement::Bool(true), now() - 600 + at % 4 * 60).unwrap())
        .collect();
    assert_eq!(client.upload(&reports).await.unwrap().accepted, 8);
    let all = interval_of(&reports);
    let middle = Interval::new(Time(all.start().0 + 1), Duration(2)).unwrap();
    let collector = dev.task.collector();
    let collection = collector.collect(middle).await.unwrap();
    let outcome = collector.wait(&collection, || ()).await.unwrap();
    assert_eq!(outcome.report_count, 4);
    // Around it, a part of it, and across its edge.
    let start = middle.start().0;
    let overlapping = [
        all,
        Interval::new(Time(start + 1), Duration(1)).unwrap(),
        Interval::new(Time(start - 1), Duration(2)).unwrap(),
    ];
    for interval in overlapping {
        assert_eq!(refusal(collector.collect(interval).await), "batchOverlap", "{interval:?}");
    }
    // A late report cannot get in any more, and nothing comes out twice.
    let inside = dev.task.configuration.time_precision().start_of(middle.start());
    let late = builder.report(&Measurement::Bool(true), inside).unwrap();
    assert_eq!(dev.client().upload(&[late]).await.unwrap().accepted, 0);
    collector.delete(&collection).await.unwrap();
    assert_eq!(refusal(collector.collect(middle).await), "batchOverlap");
    assert!(collector.poll(&collection).await.is_err(), "a deleted collection is still there");
    for role in ["leader", "helper"] {
        assert_eq!(charges(&dev, role).await, 1, "{role}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_for_a_released_batch_is_refused() {
    let dev = Dev::start(["--vdaf", "count", "--min-batch-size", "2"]);
    let reports = dev.report_all(&dev.task.sample(3).measurements).await;
    dev.collect(interval_of(&reports)).await;
    let client = dev.client();
    let time = dev.task.configuration.time_precision().start_of(reports[0].metadata.time);
    let late = client.builder().await.unwrap().report(&Measurement::Bool(true), time).unwrap();
    let outcome = client.upload(std::slice::from_ref(&late)).await.unwrap();
    assert_eq!(outcome.accepted, 0);
    assert_eq!(outcome.rejected.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_budget_refuses_and_charges_nothing() {
    let dev = Dev::start(["--vdaf", "count", "--min-batch-size", "1", "--time-precision", "60"]);
    let client = dev.client();
    let builder = client.builder().await.unwrap();
    let time = now() - 3600;
    let reports: Vec<_> =
        (0..30).map(|at| builder.report(&Measurement::Bool(true), time + at * 60).unwrap()).collect();
    assert_eq!(client.upload(&reports).await.unwrap().accepted, 30);
    let collector = dev.task.collector();
    let mut released = 0;
    let refused = loop {
        let unit = Interval::unit(Time(reports[0].metadata.time.0 + released)).unwrap();
        let collection = collector.collect(unit).await.unwrap();
        match collector.wait(&collection, || ()).await {
            Ok(outcome) => assert_eq!(outcome.report_count, 1),
            Err(error) => break error,
        }
        released += 1;
        assert!(released < 30, "the policy's budget never ends");
    };
    assert!(released > 0);
    let CollectError::Refused(problem) = refused else { panic!("{refused}") };
    assert_eq!(problem.type_, "urn:x-mica:problem:budget-exhausted");
    for role in ["leader", "helper"] {
        assert_eq!(charges(&dev, role).await, released, "{role}");
    }
}

/// Posts the request that a collector posts.
async fn ask(dev: &Dev, interval: Interval) -> Reply {
    let request = CollectionJobReq::new(Query::time_interval(interval), Vec::new());
    let (url, token) = (dev.task.collections_url(), &dev.task.collector_to_leader);
    Wire::default().post_with_token(&url, Media::CollectionJobReq, token, request.bytes().to_vec()).await
}

fn refusal<T>(outcome: Result<T, CollectError>) -> String {
    match outcome {
        Err(CollectError::Refused(problem)) => {
            problem.type_.rsplit(':').next().unwrap_or_default().to_owned()
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was not refused"),
    }
}

/// How many charges the ledger of a role holds, each settled, in an unbroken chain.
async fn charges(dev: &Dev, role: &str) -> u64 {
    let ledger = dev.database(role).await.verified_ledger().await;
    let count = |kind| ledger.iter().filter(|entry| entry.kind == kind).count() as u64;
    assert_eq!(count(EntryKind::Commit), count(EntryKind::Charge), "{role}");
    assert_eq!(count(EntryKind::Refund), 0, "{role}");
    count(EntryKind::Charge)
}
