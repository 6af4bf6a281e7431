//! Peers of another make, in every role, over real sockets. `docs/interop.md` says how to name one in the environment,
//! and what happened with those that exist. Without one, mica itself is the peer.

use std::time::Duration;

use mica_dap::codec::Encode as _;
use mica_dap::media::Media;
use mica_dap::report::UploadRequest;
use mica_dap::time::{Interval, Time};
use mica_tests::peer::{Peer, Serving, collected, written};
use mica_tests::{Dev, Sample, Task, Wire, eventually, free_port, now, small_vdafs};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_another_make_uploads_to_our_leader() {
    let peer = Peer::of("client", OWN);
    for plan in plans() {
        let dev = Dev::start(plan.flags());
        let from = dev.task.current_time();
        let sample = dev.task.sample(REPORTS);
        let mut told = vec!["client".to_owned(), sheet(&dev)];
        told.extend(sample.measurements.iter().map(written));
        let _printed = peer.run(dev.folder(), &told);
        let outcome = dev.collect(since(from, &dev.task)).await;
        assert_eq!((outcome.report_count, outcome.values), (REPORTS, sample.totals), "{plan:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_of_another_make_opens_what_we_release() {
    let peer = Peer::of("collector", OWN);
    for plan in plans() {
        let dev = Dev::start(plan.flags());
        let from = dev.task.current_time();
        let sample = dev.task.sample(REPORTS);
        let _reports = dev.report_all(&sample.measurements).await;
        let seconds = |units: u64| (units * dev.task.configuration.time_precision().seconds()).to_string();
        let (start, end) = (seconds(from.0), seconds(dev.task.current_time().0 + 1));
        let printed = peer.run(dev.folder(), &["collector".to_owned(), sheet(&dev), start, end]);
        assert_eq!(collected(&printed), (REPORTS, sample.totals), "{plan:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_of_another_make_serves_our_leader() {
    let peer = Peer::of("helper", OWN);
    for plan in plans() {
        let port = free_port();
        let url = peer.url.clone().unwrap_or_else(|| format!("http://127.0.0.1:{port}/"));
        let dev = Dev::start(plan.flags().into_iter().chain(["--only", "leader", "--helper-url", &url]));
        let mut serving = peer.serve(dev.folder(), &["helper".to_owned(), sheet(&dev), port.to_string()]);
        answers(&url, serving.as_mut()).await;
        whole_way(&dev.task, &plan).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_of_another_make_is_served_by_our_helper() {
    let peer = Peer::of("leader", OWN);
    for plan in plans() {
        let port = free_port();
        let url = peer.url.clone().unwrap_or_else(|| format!("http://127.0.0.1:{port}/"));
        let dev = Dev::start(plan.flags().into_iter().chain(["--only", "helper", "--leader-url", &url]));
        let mut serving = peer.serve(dev.folder(), &["leader".to_owned(), sheet(&dev), port.to_string()]);
        answers(&url, serving.as_mut()).await;
        whole_way(&dev.task, &plan).await;
    }
}

/// Our client uploads to whoever leads, and our collector asks it for the total of what can be aggregated.
async fn whole_way(task: &Task, plan: &TaskPlan) {
    let from = task.current_time();
    let sample = Sample::of(task.vdaf(), REPORTS);
    let builder = task.builder().await;
    let reports = sample.measurements.iter().map(|one| builder.report(one, now()).expect("a report"));
    let mut reports: Vec<_> = reports.collect();
    // One that the helper cannot open, in the midst of the others: it must cost itself and no other.
    let mut damaged = builder.report(&sample.measurements[0], now()).expect("a report");
    damaged.helper_encrypted_input_share.payload[0] ^= 1;
    reports.insert(5, damaged);
    let body = UploadRequest { reports }.encoded();
    let reply = Wire::default().post(&task.reports_url(), Media::UploadReq, body).await;
    assert!((200..300).contains(&reply.status) && reply.body.is_empty(), "{reply:?}");
    let collector = task.collector();
    let collection = collector.collect(since(from, task)).await.expect("the leader takes the request");
    let waiting = tokio::time::timeout(PATIENCE, collector.wait(&collection, || ()));
    let outcome = waiting.await.expect("a complete batch is released").expect("the batch is released");
    assert_eq!((outcome.report_count, outcome.values), (REPORTS, sample.totals), "{plan:?}");
}

/// From then until the end of the unit of time that we are in.
fn since(from: Time, task: &Task) -> Interval {
    Interval::between(from, Time(task.current_time().0 + 1)).expect("time does not run backwards")
}

/// Waits until whoever is at `url` has its keys ready.
async fn answers(url: &str, mut serving: Option<&mut Serving>) {
    let (wire, url) = (Wire::default(), format!("{url}hpke_config"));
    eventually("the peer to publish its keys", PATIENCE, || {
        assert!(!serving.as_mut().is_some_and(|serving| serving.has_ended()), "the peer has ended");
        let reply = wire.try_send(http::Method::GET, &url, &[], Vec::new());
        async { reply.await.is_ok_and(|reply| reply.status == 200).then_some(()) }
    })
    .await;
}

/// Writes what `mica dev` printed to where the peer reads it.
fn sheet(dev: &Dev) -> String {
    let path = dev.folder().join("sheet.json");
    std::fs::write(&path, dev.told.to_string()).expect("the folder can be written");
    path.display().to_string()
}

/// One task to try a peer with.
#[derive(Debug)]
struct TaskPlan {
    draft: String,
    vdaf: Vec<&'static str>,
}

impl TaskPlan {
    fn flags(&self) -> Vec<&str> {
        let common = ["--no-dp", "--min-batch-size", "10", "--draft", &self.draft];
        common.into_iter().chain(self.vdaf.iter().copied()).collect()
    }
}

/// Every draft with every VDAF that the environment asks for.
fn plans() -> Vec<TaskPlan> {
    let list = |variable: &str, otherwise: &str| -> Vec<String> {
        let text = std::env::var(variable).unwrap_or_else(|_| otherwise.to_owned());
        text.split(',').map(ToOwned::to_owned).collect()
    };
    let known: Vec<_> = small_vdafs().into_iter().map(|(_, flags)| flags).collect();
    let mut plans = Vec::new();
    for draft in list("MICA_INTEROP_DRAFT", "18,19") {
        for name in list("MICA_INTEROP_VDAF", "count,histogram") {
            let vdaf = known.iter().find(|flags| flags.contains(&name.as_str()));
            let vdaf = vdaf.unwrap_or_else(|| panic!("no VDAF is called {name}")).clone();
            plans.push(TaskPlan { draft: draft.clone(), vdaf });
        }
    }
    plans
}

/// The peer that is always there.
const OWN: &str = env!("CARGO_BIN_EXE_interop-peer");
const REPORTS: u64 = 24;
/// Other makes have their own ideas of how long to wait before they ask again.
const PATIENCE: Duration = Duration::from_secs(45);
