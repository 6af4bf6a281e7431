//! What an operator sees of a relay and can change while it runs.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use mica_relay::{Config, Mixing, Outcome};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::sealed_answer;
use crate::world::{RunningRelay, ScriptedGateway, client, send_from, start_relay};

async fn get(relay: &RunningRelay, path: &str) -> http::Response<Bytes> {
    let request = Request::get(format!("http://{}{path}", relay.address)).body(Bytes::new()).unwrap();
    client(false).send(request).await.unwrap()
}

/// What the operator is told in numbers.
pub(crate) async fn figures(relay: &RunningRelay) -> String {
    let router = relay.operations.clone().router(None);
    let request = Request::get("/metrics").body(axum::body::Body::empty()).unwrap();
    let answer = tower::ServiceExt::oneshot(router, request).await.unwrap();
    let text = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    String::from_utf8(text.to_vec()).unwrap()
}

#[tokio::test]
async fn figures_count_what_happened_and_name_nobody() {
    let gateway = ScriptedGateway::new(sealed_answer);
    let mixing = Some(Mixing { requests: 2, wait: Duration::from_secs(14) });
    let relay = start_relay(gateway.start().await, |config| config.mixing = mixing).await;
    let clients: JoinSet<u16> =
        [1, 2].map(|address| send_from(address, relay.address, vec![0x5a; 512])).into_iter().collect();
    assert_eq!(clients.join_all().await, [200; 2]);
    let text = figures(&relay).await;
    for line in [
        "mica_relay_requests_total{outcome=\"forwarded\"} 2",
        "mica_relay_requests_total{outcome=\"limited\"} 0",
        "mica_relay_pools_total{why=\"full\"} 1",
        "mica_relay_waiting 0",
        "mica_stalled 0",
        "mica_relay_seconds_count 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!text.contains("127.0.0"), "{text}");
    let labels: std::collections::BTreeSet<&str> =
        text.split('{').skip(1).filter_map(|rest| rest.split_once('=')).map(|(name, _)| name).collect();
    assert_eq!(labels, ["le", "outcome", "why"].into());
}

#[tokio::test]
async fn figures_are_for_those_who_show_the_token_and_readiness_is_for_all() {
    let relay = start_relay("127.0.0.1:9".parse().unwrap(), |_| ()).await;
    let router = relay.operations.clone().router(Some(mica_service::token::TokenHash::of(b"operator")));
    for (path, token, status) in [
        ("/metrics", None, 401),
        ("/metrics", Some("Bearer another"), 401),
        ("/metrics", Some("Bearer operator"), 200),
        ("/ready", None, 200),
        ("/health", None, 200),
    ] {
        let mut request = Request::get(path).body(axum::body::Body::empty()).unwrap();
        if let Some(token) = token {
            request.headers_mut().insert("authorization", token.parse().unwrap());
        }
        let answer = tower::ServiceExt::oneshot(router.clone(), request).await.unwrap();
        assert_eq!(answer.status(), status, "{path} {token:?}");
    }
    assert_eq!(get(&relay, "/metrics").await.status(), StatusCode::NOT_FOUND, "not where clients come");
}

#[tokio::test]
async fn a_relay_is_not_ready_while_its_gateway_is_out_of_reach_and_finds_out_when_it_is_back() {
    let place = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = place.local_addr().unwrap();
    drop(place);
    let relay = start_relay(address, |config| config.unready_after = Duration::from_millis(200)).await;
    assert_eq!(get(&relay, "/ready").await.status(), StatusCode::OK, "nobody has tried yet");
    assert_eq!(client(true).send(relay.sealed_request()).await.unwrap().status(), StatusCode::BAD_GATEWAY);
    assert_eq!(get(&relay, "/ready").await.status(), StatusCode::OK, "it may be back in a moment");
    until_ready(&relay, false).await;
    let said = get(&relay, "/ready").await.into_body();
    assert_eq!(said, "not ready: the gateway cannot be reached\n");
    assert_eq!(get(&relay, "/health").await.status(), StatusCode::OK);
    // Nobody sends anything: the relay finds out by itself.
    let back = TcpListener::bind(address).await.unwrap();
    let router = axum::Router::new();
    let limits = mica_service::listener::Limits::default();
    tokio::spawn(mica_service::listener::serve(
        back,
        router,
        limits,
        mica_service::shutdown::Shutdown::new(),
    ));
    until_ready(&relay, true).await;
}

/// A wrong token, or none: everybody would be told 403 while the relay looks well.
#[tokio::test]
async fn a_relay_that_its_gateway_does_not_accept_is_not_ready_and_finds_out_when_it_is_accepted() {
    let accepts = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let scripted = std::sync::Arc::clone(&accepts);
    let gateway = ScriptedGateway::new(move || {
        let mut answer = sealed_answer();
        if !scripted.load(std::sync::atomic::Ordering::SeqCst) {
            *answer.status_mut() = StatusCode::FORBIDDEN;
        }
        answer
    });
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("gateway.token");
    std::fs::write(&token, "of-the-relay\n").unwrap();
    let adjust = |config: &mut Config| {
        config.unready_after = Duration::ZERO;
        config.gateway_token_file = Some(token);
    };
    let relay = start_relay(gateway.start().await, adjust).await;
    assert_eq!(get(&relay, "/ready").await.status(), StatusCode::OK);
    assert_eq!(client(true).send(relay.sealed_request()).await.unwrap().status(), StatusCode::BAD_GATEWAY);
    assert_eq!(relay.counters.count(Outcome::NotAccepted), 1);
    assert_eq!(
        get(&relay, "/ready").await.into_body(),
        "not ready: the gateway does not accept this relay\n"
    );
    // Nobody sends anything: the relay asks by itself, with its token and nothing else.
    accepts.store(true, std::sync::atomic::Ordering::SeqCst);
    until_ready(&relay, true).await;
    let asked = gateway.seen().last().cloned().unwrap();
    assert_eq!((asked.method.as_str(), asked.body.len()), ("POST", 0));
    assert_eq!(asked.headers["authorization"], "Bearer of-the-relay");
}

/// A path of `gateway_url` that the gateway does not have: everybody is told 502.
#[tokio::test]
async fn a_relay_whose_gateway_answers_nothing_that_is_passed_on_is_not_ready_until_it_does() {
    let answers = std::sync::Arc::new(std::sync::atomic::AtomicU16::new(404));
    let scripted = std::sync::Arc::clone(&answers);
    let gateway = ScriptedGateway::new(move || {
        let mut answer = sealed_answer();
        let status = scripted.load(std::sync::atomic::Ordering::SeqCst);
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        answer
    });
    let relay = start_relay(gateway.start().await, |config| config.unready_after = Duration::ZERO).await;
    assert_eq!(get(&relay, "/ready").await.status(), StatusCode::OK);
    assert_eq!(client(true).send(relay.sealed_request()).await.unwrap().status(), StatusCode::BAD_GATEWAY);
    assert_eq!(relay.counters.count(Outcome::BadAnswer), 1);
    let said = get(&relay, "/ready").await.into_body();
    assert_eq!(said, "not ready: the gateway gives no answers that are passed on\n");
    // Nobody sends anything: the relay asks by itself, for nothing, and takes a refusal of that for an answer.
    answers.store(400, std::sync::atomic::Ordering::SeqCst);
    until_ready(&relay, true).await;
    let asked = gateway.seen().last().cloned().unwrap();
    assert_eq!((asked.method.as_str(), asked.body.len()), ("POST", 0));
    assert_eq!(asked.headers["content-type"], "message/ohttp-req");
}

async fn until_ready(relay: &RunningRelay, ready: bool) {
    let since = Instant::now();
    while (get(relay, "/ready").await.status() == StatusCode::OK) != ready {
        assert!(since.elapsed() < Duration::from_secs(20), "ready is to be {ready}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_changed_configuration_is_taken_up_whole_or_not_at_all_and_nobody_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = ScriptedGateway::new(sealed_answer);
    let mixing = Some(Mixing { requests: 50, wait: Duration::from_secs(10) });
    let relay = start_relay(gateway.start().await, |config| config.mixing = mixing).await;
    let mut waiting = JoinSet::new();
    for _ in 0..3 {
        let request = relay.sealed_request();
        waiting.spawn(async move { client(true).send(request).await.unwrap().status() });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;

    let refused = |change: &dyn Fn(&mut Config)| {
        let mut config = relay.config.clone();
        config.mixing = None;
        change(&mut config);
        relay.reload.adopt(config).unwrap_err().to_string()
    };
    let said = refused(&|config| config.listen = "127.0.0.1:9999".to_owned());
    assert_eq!(said, "`listen` cannot change while the relay runs; stop it and start it again");
    let said = refused(&|config| config.gateway_url = "http://127.0.0.1:9/".to_owned());
    assert!(said.starts_with("`gateway_url` cannot change"), "{said}");
    let said = refused(&|config| config.gateway_token_file = Some(folder.path().join("missing")));
    assert!(said.starts_with("gateway_token_file: cannot read"), "{said}");
    let said = refused(&|config| config.gateway_operator = Some("somebody".to_owned()));
    assert!(said.starts_with("gateway_operator: without `operator`"), "{said}");
    // Time for what should not leave.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(gateway.seen().is_empty(), "the old one is in force, and three wait by it");
    let about = get(&relay, "/about").await;
    let about: serde_json::Value = serde_json::from_slice(about.body()).unwrap();
    assert_eq!(about["mixing"]["requests"], 50, "{about}");
    assert!(figures(&relay).await.contains("mica_relay_pools_total{why=\"flush\"} 0\n"));

    let mut config = relay.config.clone();
    config.mixing = None;
    relay.reload.adopt(config).unwrap();
    assert_eq!(waiting.join_all().await, [StatusCode::OK; 3]);
    let since = Instant::now();
    assert_eq!(client(true).send(relay.sealed_request()).await.unwrap().status(), StatusCode::OK);
    assert!(since.elapsed() < Duration::from_secs(5), "nobody waits any more");
    assert_eq!(relay.counters.count(Outcome::Forwarded), 4);
}

#[tokio::test]
async fn silent_connections_make_room_when_there_is_none() {
    let gateway = ScriptedGateway::new(sealed_answer);
    let adjust = |config: &mut Config| {
        config.max_connections = 20;
        config.max_connections_per_client = NonZeroUsize::new(20);
    };
    let relay = start_relay(gateway.start().await, adjust).await;
    let mut slow = Vec::new();
    for head in
        ["", "POST / HTTP/1.1\r\nx: ", "GET /health HTTP/1.1\r\nhost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\n"]
    {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(relay.address).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            slow.push(stream);
        }
    }
    let since = Instant::now();
    for _ in 0..5 {
        assert_eq!(client(false).send(relay.sealed_request()).await.unwrap().status(), StatusCode::OK);
    }
    // Without that, each of them would be borne for thirty seconds.
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
    let mut closed = 0;
    for mut stream in slow {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_millis(1), stream.read_to_end(&mut rest)).await;
        closed += usize::from(read.is_ok());
    }
    assert!(closed >= 20, "{closed}");
}
