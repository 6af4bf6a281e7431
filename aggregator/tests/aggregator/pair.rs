//! Leader and helper together, on both databases: what clients upload is what the collector reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mica_collector::{CollectError, Collector, CollectorTask, Poll};
use mica_dap::Draft;
use mica_dap::codec::Encode as _;
use mica_dap::hpke::HpkeKeypair;
use mica_dap::media::Media;
use mica_dap::problem::{Problem, ProblemDocument};
use mica_dap::report::{Report, UploadRequest};
use mica_dap::report_error::ReportError;
use mica_dap::task::TaskParameters;
use mica_dap::time::{Duration, Interval};
use mica_dap::vdaf::Measurement;
use mica_dap::vdaf_config::VdafConfig;
use mica_service::http::{HttpClient, HttpOptions};

use crate::support::NOW;
use crate::support::pair::{Setting, on_each};

/// Each kind of Prio3, some measurements, and their totals.
pub(crate) fn five() -> Vec<(VdafConfig, Vec<Measurement>, Vec<i128>)> {
    vec![
        (VdafConfig::Count, [true, true, false, true].map(Measurement::Bool).to_vec(), vec![3]),
        (
            VdafConfig::Sum { max_measurement: 100 },
            [1, 2, 99, 100].map(Measurement::Integer).to_vec(),
            vec![202],
        ),
        (
            VdafConfig::sum_vec(3, 10),
            [[1, 2, 3], [0, 0, 10], [4, 5, 6]].map(|vector| Measurement::Vector(vector.to_vec())).to_vec(),
            vec![5, 7, 19],
        ),
        (VdafConfig::histogram(4), [0, 2, 2, 3].map(Measurement::Bucket).to_vec(), vec![1, 0, 2, 1]),
        (
            VdafConfig::multihot(4, 2),
            [[true, false, true, false], [false; 4], [true, false, false, true]]
                .map(|set| Measurement::Set(set.to_vec()))
                .to_vec(),
            vec![2, 0, 1, 1],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn totals_of_every_type_are_exact_without_noise() {
    for (vdaf, measurements, expected) in five() {
        for draft in Draft::ALL {
            let setting = Setting { draft, ..Setting::without_noise(vdaf.clone()) };
            on_each(setting, async |pair| {
                let reports: Vec<Report> = measurements.iter().map(|it| pair.report(it)).collect();
                assert_eq!(pair.upload(&reports).await, []);
                let outcome = pair.collect().await.expect("a complete batch");
                assert_eq!(outcome.values, expected);
                assert_eq!(outcome.report_count, measurements.len() as u64);
                assert_eq!(outcome.interval, pair.all());
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_report_and_one_from_the_future_are_refused_and_the_others_count() {
    on_each(Setting::without_noise(VdafConfig::Count), async |pair| {
        let good: Vec<Report> = (0..4).map(|_| pair.report(&Measurement::Bool(true))).collect();
        let early = pair.builder.report(&Measurement::Bool(true), NOW + 3_600).expect("it fits");
        assert_eq!(pair.upload(&good).await, []);
        let again = [good[1].clone(), early, pair.report(&Measurement::Bool(true))];
        assert_eq!(pair.upload(&again).await, [ReportError::ReportReplayed, ReportError::ReportTooEarly]);
        let outcome = pair.collect().await.expect("a complete batch");
        assert_eq!((outcome.values, outcome.report_count), (vec![5], 5));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_that_cannot_be_opened_costs_only_its_own_report() {
    on_each(Setting::without_noise(VdafConfig::Count), async |pair| {
        let mut reports: Vec<Report> = (0..6).map(|_| pair.report(&Measurement::Bool(true))).collect();
        let flip = |bytes: &mut Vec<u8>| *bytes.last_mut().expect("not empty") ^= 1;
        flip(&mut reports[0].leader_encrypted_input_share.payload);
        flip(&mut reports[1].helper_encrypted_input_share.payload);
        let helper = reports[2].helper_encrypted_input_share.clone();
        reports[2].leader_encrypted_input_share.payload = helper.payload;
        assert_eq!(pair.upload(&reports).await, []);
        let outcome = pair.collect().await.expect("a complete batch");
        assert_eq!((outcome.values, outcome.report_count), (vec![3], 3));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_upload_is_refused_whole_and_stores_nothing() {
    on_each(Setting::without_noise(VdafConfig::Count), async |pair| {
        let reports: Vec<Report> = (0..3).map(|_| pair.report(&Measurement::Bool(true))).collect();
        let body = UploadRequest { reports: reports.clone() }.encoded();
        let media = Media::UploadReq.header();
        let longer = [body.clone(), vec![0]].concat();
        for wrong in [body[..body.len() - 1].to_vec(), longer, Vec::new()] {
            let response = pair.post(media, wrong).await;
            assert_eq!(response.status(), 400);
            let problem = ProblemDocument::from_json(response.body()).expect("a problem document");
            assert_eq!(problem.problem(), Some(Problem::InvalidMessage));
            assert_eq!(problem.taskid, Some(pair.task_id.to_string()));
        }
        assert_eq!(pair.post("text/plain", body).await.status(), 415);
        assert_eq!(pair.upload(&reports).await, [], "none of them was kept before");
        assert_eq!(pair.collect().await.expect("a complete batch").values, [3]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_released_once_and_the_same_question_gets_the_same_answer() {
    on_each(Setting::with_noise(VdafConfig::histogram(4), "1"), async |pair| {
        let reports: Vec<Report> = (0..50).map(|at| pair.report(&Measurement::Bucket(at % 4))).collect();
        assert_eq!(pair.upload(&reports).await, []);
        let first = pair.collect().await.expect("a complete batch");
        assert_eq!(first.report_count, 50);
        assert_eq!(pair.collect().await.expect("the same collection"), first, "noise is drawn once");
        let late = pair.report(&Measurement::Bucket(0));
        assert_eq!(pair.upload(&[late]).await, [ReportError::ReportReplayed], "its batch was collected");

        let collection = pair.collector.collect(pair.all()).await.expect("still there");
        pair.collector.delete(&collection).await.expect("deleted");
        let refused = |outcome: Result<_, CollectError>| match outcome {
            Err(CollectError::Refused(problem)) => problem.problem(),
            _ => None,
        };
        let again = pair.collector.collect(pair.all()).await;
        assert_eq!(refused(again), Some(Problem::BatchOverlap));
        let wider = Interval::new(pair.all().start(), Duration(2)).expect("two units");
        assert_eq!(refused(pair.collector.collect(wider).await), Some(Problem::BatchOverlap));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_below_the_minimum_waits_for_more() {
    on_each(Setting::without_noise(VdafConfig::Count), async |pair| {
        let reports: Vec<Report> = (0..3).map(|_| pair.report(&Measurement::Bool(true))).collect();
        assert_eq!(pair.upload(&reports[..2]).await, []);
        let collection = pair.collector.collect(pair.all()).await.expect("it waits");
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let poll = pair.collector.poll(&collection).await.expect("it still waits");
        assert!(matches!(poll, Poll::Waiting { .. }));
        assert_eq!(pair.upload(&reports[2..]).await, []);
        assert_eq!(pair.collect().await.expect("a complete batch").values, [3]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_collection_asked_for_by_many_at_once_is_one_collection() {
    on_each(Setting::without_noise(VdafConfig::Count), async |pair| {
        let asked = (0..20).map(|_| {
            let pair = Arc::clone(&pair);
            tokio::spawn(async move { pair.collector.collect(pair.all()).await })
        });
        let mut collections = Vec::new();
        for asking in asked.collect::<Vec<_>>() {
            collections.push(asking.await.expect("it ends").expect("nobody is refused"));
        }
        collections.dedup();
        assert_eq!(collections.len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_reports_cannot_keep_a_batch_from_being_collected() {
    on_each(Setting::without_noise(VdafConfig::Count), async |pair| {
        let early: Vec<Report> = (0..5).map(|_| pair.report(&Measurement::Bool(true))).collect();
        assert_eq!(pair.upload(&early).await, []);
        let stop = Arc::new(AtomicBool::new(false));
        let streams: Vec<_> = (0..4)
            .map(|_| {
                let (pair, stop) = (Arc::clone(&pair), Arc::clone(&stop));
                tokio::spawn(async move {
                    let mut taken = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let report = pair.report(&Measurement::Bool(true));
                        taken += i128::from(pair.upload(&[report]).await.is_empty());
                    }
                    taken
                })
            })
            .collect();
        let outcome = pair.collect().await.expect("a batch in spite of the stream");
        stop.store(true, Ordering::Relaxed);
        let mut taken = 5;
        for stream in streams {
            taken += stream.await.expect("it ends");
        }
        let [total] = outcome.values[..] else { panic!("one value") };
        assert!((5..=taken).contains(&total), "{total} of {taken}");
        assert_eq!(i128::from(outcome.report_count), total, "what both counted is what both added");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helper_that_never_answers_holds_up_its_own_task_alone() {
    on_each(Setting::without_noise(VdafConfig::Count), async |pair| {
        for _ in 0..12 {
            let report = pair.stuck.builder.report(&Measurement::Bool(true), NOW).expect("it fits");
            pair.upload_to_stuck(report).await;
        }
        let reports: Vec<Report> = (0..3).map(|_| pair.report(&Measurement::Bool(true))).collect();
        assert_eq!(pair.upload(&reports).await, []);
        let begun = std::time::Instant::now();
        assert_eq!(pair.collect().await.expect("a batch in spite of the other task").values, [3]);
        assert!(begun.elapsed() < std::time::Duration::from_secs(4), "before the first exchange gave up");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_cannot_close_the_future_of_a_task() {
    on_each(Setting::without_noise(VdafConfig::Count), async |pair| {
        let reports: Vec<Report> = (0..3).map(|_| pair.report(&Measurement::Bool(true))).collect();
        assert_eq!(pair.upload(&reports).await, []);
        let start = pair.all().start();
        for units in [2 * 1_440, u64::MAX - start.0] {
            let future = Interval::new(start, Duration(units)).expect("an interval");
            match pair.collector.collect(future).await {
                Err(CollectError::Refused(problem)) => {
                    assert_eq!(problem.problem(), Some(Problem::BatchInvalid));
                }
                other => panic!("{units} units: {other:?}"),
            }
        }
        assert_eq!(pair.collect().await.expect("nothing was closed").values, [3]);
    })
    .await;
}

/// K6: a share opens for the collector of that task only, under the configuration that both aggregators have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_with_another_view_of_the_task_opens_nothing() {
    on_each(Setting::without_noise(VdafConfig::Count), async |pair| {
        let reports: Vec<Report> = (0..3).map(|_| pair.report(&Measurement::Bool(true))).collect();
        assert_eq!(pair.upload(&reports).await, []);
        assert_eq!(pair.collect().await.expect("a complete batch").values, [3]);
        let known = || CollectorTask::from_json(&pair.collector.task().to_json()).expect("its own file");
        let mut other = known();
        let parameters = other.configuration.parameters().clone();
        other.configuration =
            TaskParameters { min_batch_size: 2, ..parameters }.build(other.draft).expect("a configuration");
        let later = CollectorTask { draft: Draft::V19, ..known() };
        let stranger = CollectorTask { keypair: HpkeKeypair::generate(9, &mut rand::rng()), ..known() };
        for task in [other, later, stranger] {
            let collector = Collector::new(task, HttpClient::new(HttpOptions::default())).hurried();
            let collection = collector.collect(pair.all()).await.expect("the same request");
            let opened = collector.wait(&collection, || {}).await;
            assert_eq!(opened, Err(CollectError::Share("leader")));
        }
    })
    .await;
}
