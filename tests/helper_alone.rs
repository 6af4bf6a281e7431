//! `mica dev --only helper` against a leader that says exactly what a test tells it to: the main rows of what a helper
//! must do, over real sockets, at once and deferred.

use http::Method;
use mica_dap::codec::Encode as _;
use mica_dap::collection::{AggregateShareReq, BatchSelector, CollectionJobReq, Query};
use mica_dap::id::{BatchId, ReportId};
use mica_dap::media::Media;
use mica_dap::resource::Resource;
use mica_dap::time::{Duration, Interval, Time};
use mica_dap::vdaf::Measurement;
use mica_tests::{Dev, LoneLeader, Split, Wire, checksum};

const HELPER: [&str; 11] = [
    "--only",
    "helper",
    "--leader-url",
    "http://127.0.0.1:9/",
    "--no-dp",
    "--vdaf",
    "sum",
    "--max",
    "100",
    "--min-batch-size",
    "2",
];

fn numbers(leader: &LoneLeader, values: &[u64]) -> Vec<Split> {
    values.iter().map(|value| leader.report(&Measurement::Integer(*value))).collect()
}

fn ids(reports: &[Split]) -> Vec<ReportId> {
    reports.iter().map(|report| report.id).collect()
}

/// Both modes: the share of these reports.
fn share_of(dev: &Dev, batch: Option<BatchId>, ids: &[ReportId]) -> AggregateShareReq {
    let present = dev.task.current_time();
    let hours = Interval::new(Time(present.0 - 60), Duration(62)).expect("an interval");
    let (query, batch_selector) = match batch {
        Some(batch) => (Query::leader_selected(), BatchSelector::leader_selected(batch)),
        None => (Query::time_interval(hours), BatchSelector::time_interval(hours)),
    };
    AggregateShareReq {
        collection_job_req: CollectionJobReq::new(query, Vec::new()),
        batch_selector,
        report_count: ids.len() as u64,
        checksum: checksum(ids),
    }
}

/// From the first job to a released batch, with everything asked twice and once after a power cut.
async fn whole_life(flags: &[&str], batch: Option<BatchId>) {
    let dev = Dev::start(HELPER.iter().chain(flags).copied());
    let deferring = flags.contains(&"--deferred");
    let leader = LoneLeader::of(&dev.task).await;
    let reports = numbers(&leader, &[10, 20, 30]);
    let counted = ids(&reports);
    let request = leader.job(batch, &reports).encoded();
    let first = leader.post_job(request.clone()).await;
    assert_eq!((first.status, first.body.is_empty()), (200, deferring), "{first:?}");
    let location = first.header("location").expect("a job has a place").to_owned();
    assert_eq!(location.ends_with("?step=0"), deferring);
    let place = location.split('?').next().expect("a path").to_owned();
    let (answer, _) = leader.patiently(first).await;
    for (query, problem) in [("", "invalidMessage"), ("?step=1", "stepMismatch")] {
        assert_eq!(leader.follow(Method::GET, &format!("{place}{query}")).await.problem(), problem);
    }
    let outputs = leader.finish(&answer, reports);

    let dev = dev.kill_and_restart();
    let (again, _) = leader.patiently(leader.post_job(request.clone()).await).await;
    assert_eq!((&again.body, again.header("location")), (&answer.body, Some(place.as_str())));
    let wanted = share_of(&dev, batch, &counted);
    let mut wrong = wanted.clone();
    wrong.report_count = u64::MAX;
    let (refused, _) = leader.patiently(leader.post_share(wrong.encoded()).await).await;
    assert_eq!(refused.problem(), "batchMismatch");
    let (share, _) = leader.patiently(leader.post_share(wanted.encoded()).await).await;
    assert_eq!(leader.total(&share, &wanted, &outputs), [60]);
    let dev = dev.kill_and_restart();
    let (same, _) = leader.patiently(leader.post_share(wanted.encoded()).await).await;
    assert_eq!(same.body, share.body, "drawn once");

    let late = numbers(&leader, &[1]);
    let (answer, _) = leader.patiently(leader.post_job(leader.job(batch, &late).encoded()).await).await;
    assert_eq!(answer.body.last(), Some(&1), "batch_collected");
    for place in [place.as_str(), same.header("location").expect("a share has a place")] {
        assert_eq!(leader.follow(Method::DELETE, place).await.status, 204);
        let twice = leader.follow(Method::DELETE, place).await;
        assert!((400..500).contains(&twice.status), "{twice:?}");
    }
    assert_eq!(leader.post_job(request).await.problem(), "unrecognizedAggregationJob");
    let (gone, _) = leader.patiently(leader.post_share(wanted.encoded()).await).await;
    assert_eq!(gone.problem(), "batchOverlap");
    assert_eq!(dev.database("helper").await.tally("aggregated").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_alone_serves_a_leader_at_once_from_the_first_job_to_the_share() {
    whole_life(&[], None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_alone_serves_a_leader_later_from_the_first_job_to_the_share() {
    whole_life(&["--deferred"], None).await;
}

/// S48, S50, S51, S53, S54, S64 and their like.
#[tokio::test(flavor = "multi_thread")]
async fn a_helper_alone_refuses_what_makes_no_sense() {
    let dev = Dev::start(HELPER);
    let leader = LoneLeader::of(&dev.task).await;
    let reports = numbers(&leader, &[1, 2]);
    let good = leader.job(None, &reports);
    let bytes = good.encoded();
    let mut parameter = good.clone();
    parameter.agg_param = vec![1];
    let mut key = good.clone();
    key.verification_key_id = 7;
    let mut twice = good.clone();
    twice.verify_inits.push(twice.verify_inits[0].clone());
    for (what, body, problem) in [
        ("truncated", bytes[..bytes.len() - 1].to_vec(), "invalidMessage"),
        ("trailing", [bytes.as_slice(), &[0]].concat(), "invalidMessage"),
        ("nothing", Vec::new(), "invalidMessage"),
        ("no report", leader.job(None, &[]).encoded(), "invalidMessage"),
        ("a batch", leader.job(Some(BatchId::new([5; 32])), &reports).encoded(), "invalidMessage"),
        ("a parameter", parameter.encoded(), "invalidAggregationParameter"),
        ("another key", key.encoded(), "invalidMessage"),
        ("a report twice", twice.encoded(), "invalidMessage"),
    ] {
        let refused = leader.post_job(body).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, problem), "{what}");
    }
    let url = Resource::AggregationJobs(dev.task.id).url(dev.task.configuration.helper_url());
    let bearer = format!("Bearer {}", dev.task.leader_to_helper);
    let fields =
        [("content-type", Media::AggregationJobInitReq.header()), ("authorization", bearer.as_str())];
    let huge = Wire::default().try_send(Method::POST, &url, &fields, vec![0; 40 << 20]).await;
    // A server that has seen enough may also close the connection.
    assert!(huge.is_err() || huge.is_ok_and(|reply| reply.status == 413));
    let nowhere = format!("/tasks/{}/aggregation_jobs/AAAAAAAAAAAAAAAAAAAAAA", dev.task.id);
    for method in [Method::GET, Method::DELETE] {
        let unknown = leader.follow(method, &format!("{nowhere}?step=0")).await;
        assert_eq!(unknown.problem(), "unrecognizedAggregationJob");
    }
    // And nothing of it was kept: the same reports are counted now.
    let answer = leader.post_job(bytes).await;
    assert_eq!(leader.finish(&answer, reports).len(), 2);
}
