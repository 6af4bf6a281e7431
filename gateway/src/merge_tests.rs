//! The time that merging takes. What it does is shown over sockets, in `tests/gateway/merging.rs`.

use axum::{Router, body::Body, extract::State, response::Response};
use http_body_util::BodyExt as _;
use mica_dap::{
    hpke_config::HpkeCiphertext,
    report::{Report, ReportMetadata},
    time::Time,
};
use mica_service::{clock::Clock, room::Room, tls::Peers};

use super::*;
use crate::{config::Config, mounted::Mounted};

/// How many reports each upload had.
type Seen = Arc<Mutex<Vec<usize>>>;

/// Takes its time to refuse what comes together, and never answers what comes alone.
async fn leader(State(seen): State<Seen>, request: Request<Body>) -> Response {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let reports = UploadRequest::decode_reports(&body, 10).unwrap().len();
    seen.lock().unwrap().push(reports);
    if reports < 2 {
        std::future::pending::<()>().await;
    }
    Response::builder().status(400).body(Body::empty()).unwrap()
}

fn upload(number: u8) -> Matched {
    let sealed = || HpkeCiphertext { config_id: 1, enc: vec![2; 32], payload: vec![3; 50] };
    let report = Report {
        metadata: ReportMetadata {
            report_id: ReportId::new([number; 16]),
            time: Time(7),
            public_extensions: vec![],
        },
        public_share: vec![],
        leader_encrypted_input_share: sealed(),
        helper_encrypted_input_share: sealed(),
    };
    let mut request = Request::new(UploadRequest { reports: vec![report] }.encoded().into());
    *request.uri_mut() = "http://127.0.0.1:9/tasks/x/reports".parse().unwrap();
    let config = MergeConfig { reports: 2, wait: Duration::from_secs(1) };
    let merging = Some(Merging { config, max_bytes: 1_000 });
    Matched { request, protocol: crate::config::Protocol::H1, merging }
}

/// It was asked for the whole `timeout` again, which is an hour here: longer than the relay waits, and than a claim
/// among replicas holds.
#[tokio::test]
async fn whoever_is_sent_on_alone_after_a_joint_refusal_has_no_new_deadline() {
    let seen = Seen::default();
    let router = Router::new().fallback(leader).with_state(Arc::clone(&seen));
    let mounted = Mounted::default().with("http://127.0.0.1:9", router);
    let mut config = Config::new("127.0.0.1:0", "sqlite:never-made.db", vec![]);
    config.timeout = Duration::from_hours(1);
    let peers = Peers::load(&config.peer_tls, false).unwrap();
    let room = Arc::new(Room::new(100, 1 << 20));
    let merger = Merger::new(Upstream::new(&config, &peers, mounted, (&room, &Clock::manual(1_000))));
    let deadline = Instant::now() + Duration::from_secs(2);
    let (one, other) = tokio::join!(merger.send(upload(1), deadline), merger.send(upload(2), deadline));
    for (answer, outcome) in [one, other] {
        assert_eq!((answer.status, outcome), (504, Outcome::Timeout));
    }
    assert_eq!(seen.lock().unwrap().first(), Some(&2), "they went together first");
}

/// Whoever waited would wait for an hour.
#[tokio::test]
async fn an_upload_that_fills_a_group_by_itself_waits_for_nobody() {
    let mounted = Mounted::default().with("http://127.0.0.1:9", Router::new().fallback(async || ""));
    let config = Config::new("127.0.0.1:0", "sqlite:never-made.db", vec![]);
    let peers = Peers::load(&config.peer_tls, false).unwrap();
    let room = Arc::new(Room::new(100, 1 << 20));
    let merger = Merger::new(Upstream::new(&config, &peers, mounted, (&room, &Clock::manual(1_000))));
    for (reports, max_bytes) in [(1, 1_000), (2, 10)] {
        let config = MergeConfig { reports, wait: Duration::from_hours(1) };
        let matched = Matched { merging: Some(Merging { config, max_bytes }), ..upload(1) };
        let sent = merger.send(matched, Instant::now() + Duration::from_hours(2));
        let (answer, _) = tokio::time::timeout(Duration::from_mins(1), sent).await.unwrap();
        assert_eq!(answer.status, 200);
    }
    assert!(merger.lock().is_empty(), "nothing is left behind");
}
