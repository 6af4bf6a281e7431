//! The leader alone, `mica dev --only leader`, against a helper of somebody else that does what a script says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt as _;
use mica_dap::aggregation::{AggregationJobInitReq, AggregationJobResp, VerifyResp, VerifyResult};
use mica_dap::codec::Encode as _;
use mica_dap::hpke::HpkeKeypair;
use mica_dap::media::Media;
use mica_dap::report::UploadRequest;
use mica_dap::vdaf::Measurement;
use mica_service::listener::{self, Limits};
use mica_service::shutdown::Shutdown;
use mica_tests::{Dev, Forge, Wire, eventually};

/// What it does with the next request about an aggregation job.
#[derive(Clone)]
enum Act {
    Busy,
    Nonsense,
    /// Later, at a place that lost the base path and the step.
    Defer,
    /// One of each: a code that nobody knows, a bad proof, a message that is none.
    Answer,
}

#[derive(Clone, Debug)]
struct Seen {
    method: Method,
    target: String,
    authorization: Option<String>,
    body: Bytes,
}

#[derive(Clone)]
struct Helper {
    keys: Bytes,
    script: Arc<Mutex<VecDeque<Act>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Helper {
    /// Listens on a port of its own; its endpoint.
    async fn start(script: &[Act]) -> (Self, String) {
        let pair = HpkeKeypair::generate(9, &mut rand::rng());
        let config = pair.config.encoded();
        let length = u16::try_from(config.len()).expect("one configuration is short");
        let helper = Self {
            keys: [&length.to_be_bytes(), config.as_slice()].concat().into(),
            script: Arc::new(Mutex::new(script.iter().cloned().collect())),
            seen: Arc::default(),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}/api/dap/", listener.local_addr().expect("it is bound"));
        let router = Router::new().fallback(answer).with_state(helper.clone());
        tokio::spawn(listener::serve(listener, router, Limits::default(), Shutdown::new()));
        (helper, endpoint)
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("nobody panics").clone()
    }
}

async fn answer(State(helper): State<Helper>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let target = head.uri.to_string();
    if target.ends_with("/hpke_config") {
        return reply(StatusCode::OK, Some(Media::HpkeConfigList.header()), helper.keys.clone());
    }
    let authorization = head.headers.get(header::AUTHORIZATION);
    let authorization = authorization.map(|value| value.to_str().expect("plain").to_owned());
    let body = body.collect().await.expect("the whole request").to_bytes();
    let seen = Seen { method: head.method, target, authorization, body };
    helper.seen.lock().expect("nobody panics").push(seen.clone());
    let act = helper.script.lock().expect("nobody panics").pop_front().unwrap_or(Act::Busy);
    match act {
        Act::Busy => {
            let mut busy = reply(StatusCode::SERVICE_UNAVAILABLE, None, Bytes::new());
            busy.headers_mut().insert(header::RETRY_AFTER, http::HeaderValue::from_static("1"));
            busy
        }
        Act::Nonsense => reply(StatusCode::OK, Some("text/html"), Bytes::from_static(b"<html>")),
        Act::Defer => {
            let mut later = reply(StatusCode::CREATED, None, Bytes::new());
            let place = seen.target.replace("/api/dap", "") + "/mine-1";
            later.headers_mut().insert(header::RETRY_AFTER, http::HeaderValue::from_static("1"));
            later.headers_mut().insert(header::LOCATION, place.parse().expect("a header"));
            later
        }
        Act::Answer => {
            let asked =
                helper.seen().into_iter().find(|seen| seen.method == Method::POST).expect("it was asked");
            reply(
                StatusCode::ACCEPTED,
                Some(Media::AggregationJobResp.header()),
                verdicts(&asked.body).into(),
            )
        }
    }
}

/// Nothing of what it says makes a report count.
fn verdicts(request: &[u8]) -> Vec<u8> {
    let job = AggregationJobInitReq::decode_limited(request, 100).expect("a job");
    let ids = job.verify_inits.iter().map(|init| init.report_share.metadata.report_id);
    let results = [VerifyResult::Reject(200), VerifyResult::Reject(6), VerifyResult::Continue(vec![7; 9])];
    let resps = ids.zip(results).map(|(report_id, result)| VerifyResp { report_id, result });
    AggregationJobResp { verify_resps: resps.collect() }.encoded()
}

fn reply(status: StatusCode, media: Option<&str>, body: Bytes) -> Response {
    let mut reply = Response::builder().status(status);
    if let Some(media) = media {
        reply = reply.header(header::CONTENT_TYPE, media);
    }
    reply.body(Body::from(body)).expect("an answer of a test")
}

/// S72, S73, and every way of a `Location`.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_alone_repeats_its_job_until_a_helper_of_another_make_has_settled_it() {
    for draft in ["18", "19"] {
        let (helper, endpoint) = Helper::start(&[Act::Busy, Act::Nonsense, Act::Defer, Act::Answer]).await;
        let flags = ["--no-dp", "--vdaf", "sum", "--max", "100", "--draft", draft, "--only", "leader"];
        let dev = Dev::start(flags.into_iter().chain(["--helper-url", &endpoint]));
        let forge = Forge::of(&dev.task).await;
        let reports = [1, 2, 3].map(|value| forge.good(&Measurement::Integer(value)));
        let body = UploadRequest { reports: reports.to_vec() }.encoded();
        let media = [("content-type", Media::UploadReq.header())];
        let taken = Wire::default().try_send(Method::POST, &dev.task.reports_url(), &media, body).await;
        assert_eq!(taken.expect("the leader answers").status, 200);

        let settled = async || {
            let mut database = dev.database("leader").await;
            let left = database.number("SELECT CAST(COUNT(*) AS BIGINT) FROM segments").await;
            (left == 0).then_some(())
        };
        eventually("the end of the job", Duration::from_secs(40), settled).await;
        let seen = helper.seen();
        let methods: Vec<&Method> = seen.iter().map(|seen| &seen.method).collect();
        assert_eq!(methods, [&Method::POST, &Method::POST, &Method::POST, &Method::GET], "draft {draft}");
        assert!(seen[..3].iter().all(|request| request.body == seen[0].body), "the same bytes each time");
        let place = format!("/api/dap/tasks/{}/aggregation_jobs/mine-1?step=0", dev.task.id);
        assert_eq!(seen[3].target, place);
        let shown = format!("Bearer {}", dev.task.leader_to_helper);
        assert!(seen.iter().all(|request| request.authorization.as_ref() == Some(&shown)));
        let mut database = dev.database("leader").await;
        assert_eq!(database.tally("aggregated").await, 0);
        assert_eq!(database.tally("vdaf_verify_error").await, 2);
        assert_eq!(database.tally("uploaded").await, 3);
    }
}
