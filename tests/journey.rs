//! From measurements to totals, through relay, gateway, leader, helper and collector: without noise, the totals are the
//! plain sums.

use mica_dap::report_error::ReportError;
use mica_dap::time::{Duration, Interval, Time};
use mica_dap::vdaf::Measurement;
use mica_tests::{Dev, Sample, interval_of, now, small_vdafs};

/// How many clients a journey has.
const CLIENTS: u64 = 30;

#[tokio::test(flavor = "multi_thread")]
async fn a_count_is_the_plain_sum() {
    journey(0, "18").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sum_is_the_plain_sum() {
    journey(1, "18").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sum_of_vectors_is_the_plain_sum() {
    journey(2, "18").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_histogram_is_the_plain_sum() {
    journey(3, "18").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_multihot_count_is_the_plain_sum() {
    journey(4, "18").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_are_the_plain_sums_in_draft_19_too() {
    for vdaf in [0, 3] {
        journey(vdaf, "19").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_batches_of_one_task_are_counted_apart() {
    let dev = Dev::start([
        "--no-dp",
        "--vdaf",
        "sum",
        "--max",
        "1000",
        "--time-precision",
        "60",
        "--min-batch-size",
        "1",
    ]);
    let sample = dev.task.sample(20);
    let builder = dev.client().builder().await.unwrap();
    let (early, late) = sample.measurements.split_at(8);
    let make = |measurements: &[Measurement], time: u64| -> Vec<_> {
        measurements.iter().map(|measurement| builder.report(measurement, time).unwrap()).collect()
    };
    let (early, late) = (make(early, now() - 600), make(late, now() - 300));
    // Both batches in one upload.
    let outcome = dev.client().upload(&[early.clone(), late.clone()].concat()).await.unwrap();
    assert_eq!((outcome.accepted, outcome.rejected.len()), (20, 0));
    for (reports, range) in [(&late, 8..20), (&early, 0..8)] {
        let interval = interval_of(reports);
        let collected = dev.collect(interval).await;
        assert_eq!(collected.values, sample.total_of(dev.task.vdaf(), range));
        assert_eq!((collected.report_count, collected.interval), (reports.len() as u64, interval));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_with_an_interval_takes_reports_of_that_interval_only() {
    let precision = 60;
    let start = now() / precision * precision - 10 * precision;
    let interval = format!("{start}:{}", 5 * precision);
    let dev = Dev::start([
        "--no-dp",
        "--vdaf",
        "count",
        "--time-precision",
        "60",
        "--min-batch-size",
        "1",
        "--task-interval",
        &interval,
    ]);
    let life = Interval::new(Time(start / precision), Duration(5)).unwrap();
    assert_eq!(dev.task.configuration.task_interval(), Some(life));
    let client = dev.client();
    let builder = client.builder().await.unwrap();
    let report = |time: u64| builder.report(&Measurement::Bool(true), time).unwrap();
    let inside: Vec<_> = (0..5).map(|unit| report(start + unit * precision + 59)).collect();
    assert_eq!(client.upload(&inside).await.unwrap().accepted, 5);
    for outside in [report(start - 1), report(start + 5 * precision)] {
        let outcome = client.upload(std::slice::from_ref(&outside)).await.unwrap();
        assert_eq!(outcome.rejected, [(outside.metadata.report_id, ReportError::ReportDropped)]);
    }
    let collected = dev.collect(life).await;
    assert_eq!((collected.report_count, collected.values), (5, vec![5]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_below_its_least_size_waits_for_the_rest() {
    let dev = Dev::start(["--no-dp", "--vdaf", "count", "--min-batch-size", "5"]);
    let sample = dev.task.sample(5);
    let mut reports = dev.report_all(&sample.measurements[..4]).await;
    let collector = dev.task.collector();
    // Two units long, so that the fifth report is inside whenever it is made.
    let start = interval_of(&reports).start();
    let interval = Interval::new(start, Duration(2)).unwrap();
    let collection = collector.collect(interval).await.unwrap();
    for _ in 0..5 {
        assert!(matches!(collector.poll(&collection).await.unwrap(), mica_collector::Poll::Waiting { .. }));
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    reports.extend(dev.report_all(&sample.measurements[4..]).await);
    let collected = dev.collect(interval).await;
    assert_eq!((collected.report_count, collected.values), (reports.len() as u64, sample.totals));
}

/// All the way for one VDAF, on both databases.
async fn journey(vdaf: usize, draft: &str) {
    let (vdaf, flags) = small_vdafs().swap_remove(vdaf);
    let flags = ["--no-dp", "--draft", draft, "--min-batch-size", "10"].into_iter().chain(flags);
    let sample = Sample::of(&vdaf, CLIENTS);
    let on_sqlite = Dev::start(flags.clone());
    let on_postgres = Dev::start_on_postgres(flags).await;
    for dev in [Some(on_sqlite), on_postgres].into_iter().flatten() {
        assert_eq!(*dev.task.vdaf(), vdaf);
        assert_eq!(dev.task.draft.to_string(), draft);
        let reports = dev.report_all(&sample.measurements).await;
        let interval = interval_of(&reports);
        let collected = dev.collect(interval).await;
        assert_eq!(collected.values, sample.totals, "{vdaf:?}");
        assert_eq!((collected.report_count, collected.interval), (CLIENTS, interval));
    }
}
