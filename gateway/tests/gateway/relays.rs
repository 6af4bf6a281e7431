//! Gateways that know their relays, what operators see of a gateway, and what can change while it runs.

use std::net::SocketAddr;
use std::path::PathBuf;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use mica_envelope::{ClientEnvelope, KeyConfigList};
use mica_gateway::{BuildError, Config, Gateway, Outcome, RelayConfig};
use mica_relay::Relay;
use mica_service::clock::Clock;
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::listener::{self, Limits};
use mica_service::shutdown::Shutdown;
use mica_service::testing::{Authority, Folder, TestDatabase, sqlite};
use mica_service::tls::{ListenTls, PeerTls, Peers};
use tokio::net::TcpListener;

use crate::world::{Running, Target, created, open, routes, start_gateway, upload};

fn by_token(path: &std::path::Path) -> RelayConfig {
    let token_file = Some(path.to_owned());
    RelayConfig { name: "edge".to_owned(), token_file, certificate_sha256: None, operator: None }
}

/// A gateway before a target that answers 201.
async fn start(adjust: impl FnOnce(&mut Config)) -> (SocketAddr, Running, Target, (Config, TestDatabase)) {
    let target = Target::new(created);
    let database = sqlite();
    let mut config = Config::new("127.0.0.1:0", database.url.clone(), routes(target.start().await));
    adjust(&mut config);
    let (address, running) = start_gateway(config.clone(), Clock::manual(1_700_000_000)).await;
    (address, running, target, (config, database))
}

fn sealed(running: &Running) -> (Vec<u8>, mica_envelope::Opener) {
    let keys = KeyConfigList::parse(running.keys.clone()).unwrap();
    ClientEnvelope::seal(&keys, &upload()).unwrap()
}

async fn post(http: &HttpClient, url: &str, body: Vec<u8>, token: Option<&str>) -> http::Response<Bytes> {
    let mut request = Request::post(url).header("content-type", "message/ohttp-req");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    http.send(request.body(Bytes::from(body)).unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_gateway_that_knows_its_relays_turns_others_away_before_any_key_is_touched() {
    let folder = Folder::new();
    let path = folder.write("relay.token", "of-the-relay\n");
    let (gateway, running, target, _kept) = start(|config| config.relays = vec![by_token(&path)]).await;
    let (http, url) = (HttpClient::new(HttpOptions::default()), format!("http://{gateway}/"));
    for token in [None, Some("another"), Some("relay.token")] {
        let (block, _) = sealed(&running);
        let answer = post(&http, &url, block, token).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        // Nonsense gets the same answer: nothing was opened to tell.
        let nonsense = post(&http, &url, vec![1; 600], token).await;
        assert_eq!((nonsense.status(), nonsense.body()), (answer.status(), answer.body()));
    }
    let counted = [Outcome::Stranger, Outcome::NotOpened, Outcome::Key];
    assert_eq!(counted.map(|outcome| running.counters.count(outcome)), [6, 0, 0]);
    assert!(target.seen().is_empty());

    let mut config = mica_relay::Config::new("127.0.0.1:0", url);
    config.gateway_token_file = Some(path);
    let relay = Relay::build(config).unwrap();
    let place = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay_url = format!("http://{}/", place.local_addr().unwrap());
    tokio::spawn(relay.run(place, Shutdown::new()));
    let (block, opener) = sealed(&running);
    // What a client shows stays at the relay.
    let answer = post(&http, &relay_url, block, Some("of-a-client")).await;
    assert_eq!(open(answer, opener).1.status, 201);
    let keys = Request::get(format!("http://{gateway}/ohttp-keys")).body(Bytes::new()).unwrap();
    assert_eq!(http.send(keys).await.unwrap().status(), StatusCode::OK, "keys are for everybody");
}

#[tokio::test]
async fn a_relay_is_known_by_its_certificate() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let roots = folder.write("roots.pem", &authority.pem());
    let (certificate, private_key) = folder.identity("gateway", &authority.issue(&["localhost"]));
    let issued = authority.issue(&["relay.example"]);
    let known = folder.identity("relay", &issued);
    let other = folder.identity("other", &authority.issue(&["relay.example"]));
    let hash = mica_service::token::TokenHash::of(issued.der()).to_hex();
    let client_roots = Some(roots.clone());
    let adjust = |config: &mut Config| {
        config.tls =
            Some(ListenTls { certificate, private_key, client_roots, require_client_certificate: false });
        config.relays = vec![RelayConfig {
            name: "edge".to_owned(),
            token_file: None,
            certificate_sha256: Some(hash),
            operator: None,
        }];
    };
    let (gateway, running, _, _kept) = start(adjust).await;
    let url = format!("https://localhost:{}/", gateway.port());
    let send = async |identity: Option<(PathBuf, PathBuf)>| {
        let (certificate, private_key) = identity.unzip();
        let tls = PeerTls { roots: Some(roots.clone()), certificate, private_key, ..PeerTls::default() };
        let options = HttpOptions { peers: Peers::load(&tls, false).unwrap(), ..HttpOptions::default() };
        post(&HttpClient::new(options), &url, sealed(&running).0, None).await.status().as_u16()
    };
    assert_eq!((send(None).await, send(Some(other)).await, send(Some(known)).await), (403, 403, 200));
}

#[tokio::test]
async fn a_gateway_of_the_operator_of_its_relay_does_not_start() {
    let folder = Folder::new();
    let (path, other) =
        (folder.write("relay.token", "of-the-relay\n"), folder.write("other.token", "of-the-other\n"));
    let build = async |ours: &str, theirs: Option<&str>, insecure: bool| {
        let database = sqlite();
        let mut config = Config::new("127.0.0.1:0", database.url.clone(), Vec::new());
        config.operator = Some(ours.to_owned());
        config.insecure_one_operator = insecure;
        let operator = theirs.map(ToOwned::to_owned);
        config.relays =
            vec![by_token(&path), RelayConfig { name: "other".to_owned(), operator, ..by_token(&other) }];
        Gateway::build(config).await.map(drop)
    };
    let Err(BuildError::Relay(error)) = build("Example", Some("example."), false).await else {
        panic!("one operator runs both");
    };
    assert!(error.relay == 2 && error.what.contains("would know who sent what"), "{error}");
    assert!(build("Example", Some("example."), true).await.is_ok());
    assert!(build("Example", Some("another"), false).await.is_ok());
    assert!(build("Example", None, false).await.is_ok());
}

#[tokio::test]
async fn figures_of_a_gateway_count_what_happened_and_name_no_task() {
    let (gateway, running, _, _kept) = start(|_| ()).await;
    let http = HttpClient::new(HttpOptions::default());
    let (block, opener) = sealed(&running);
    let answer = post(&http, &format!("http://{gateway}/"), block, None).await;
    assert_eq!(open(answer, opener).1.status, 201);
    let request = Request::get("/metrics").body(axum::body::Body::empty()).unwrap();
    let answer = tower::ServiceExt::oneshot(running.operations.router(None), request).await.unwrap();
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(text.to_vec()).unwrap();
    for line in [
        "mica_gateway_requests_total{outcome=\"forwarded\"} 1",
        "mica_gateway_requests_total{outcome=\"key\"} 0",
        "mica_gateway_seconds_count 1",
        "mica_stalled 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!text.contains("leader.example") && !text.contains("Ab-_9"), "{text}");
    let labels: std::collections::BTreeSet<&str> =
        text.split('{').skip(1).filter_map(|rest| rest.split_once('=')).map(|(name, _)| name).collect();
    assert_eq!(labels, ["le", "of", "outcome"].into());
    let ready = Request::get(format!("http://{gateway}/ready")).body(Bytes::new()).unwrap();
    assert_eq!(http.send(ready).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn changed_routes_and_relays_are_taken_up_whole_or_not_at_all_and_what_was_begun_ends() {
    let slow = Target::new(created).slow(std::time::Duration::from_millis(400));
    let place = slow.start().await;
    let (gateway, running, _, (config, _database)) = start(|config| config.routes = routes(place)).await;
    let (http, url) = (HttpClient::new(HttpOptions::default()), format!("http://{gateway}/"));
    let (block, opener) = sealed(&running);
    let begun = tokio::spawn({
        let (http, url) = (http.clone(), url.clone());
        async move { post(&http, &url, block, None).await }
    });
    while slow.seen().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let refused = |change: &dyn Fn(&mut Config)| {
        let mut changed = config.clone();
        changed.routes.clear();
        change(&mut changed);
        running.reload.adopt(changed).unwrap_err().to_string()
    };
    let said = refused(&|config| config.listen = "127.0.0.1:9".to_owned());
    assert!(said.starts_with("`listen` cannot change while the gateway runs"), "{said}");
    let said = refused(&|config| config.min_response_bytes = 1);
    assert!(said.starts_with("what is neither a route nor a relay cannot change"), "{said}");
    let said = refused(&|config| config.relays = vec![by_token(std::path::Path::new("/none"))]);
    assert!(said.starts_with("relay 1: cannot read"), "{said}");
    let (block, again) = sealed(&running);
    assert_eq!(open(post(&http, &url, block, None).await, again).1.status, 201, "the old table is in force");

    let mut changed = config.clone();
    changed.routes.clear();
    running.reload.adopt(changed).unwrap();
    let (block, gone) = sealed(&running);
    assert_eq!(open(post(&http, &url, block, None).await, gone).1.status, 404);
    assert_eq!(open(begun.await.unwrap(), opener).1.status, 201);
    running.reload.adopt(config.clone()).unwrap();
    let (block, back) = sealed(&running);
    assert_eq!(open(post(&http, &url, block, None).await, back).1.status, 201);

    // From one list of relays to another, and to none.
    let folder = Folder::new();
    let answers = async |relays: &[&str]| {
        let mut changed = config.clone();
        changed.relays = relays.iter().map(|token| by_token(&folder.write(token, token))).collect();
        running.reload.adopt(changed).unwrap();
        let mut statuses = Vec::new();
        for token in [None, Some("one"), Some("two")] {
            statuses.push(post(&http, &url, sealed(&running).0, token).await.status().as_u16());
        }
        statuses
    };
    assert_eq!(answers(&["one"]).await, [403, 200, 403]);
    assert_eq!(answers(&["two"]).await, [403, 403, 200]);
    assert_eq!(answers(&[]).await, [200; 3]);
}

/// A relay with a pool before a gateway: what is mixed still opens, each for who sealed it.
#[tokio::test]
async fn mixed_requests_are_answered_each_to_its_own_client() {
    let (gateway, running, target, _kept) = start(|_| ()).await;
    let mut config = mica_relay::Config::new("127.0.0.1:0", format!("http://{gateway}/"));
    // All come from one address and count as one sender: each pool leaves when its time has come.
    let wait = std::time::Duration::from_millis(500);
    config.mixing = Some(mica_relay::Mixing { requests: 8, wait });
    let relay = Relay::build(config).unwrap();
    let place = listener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", place.local_addr().unwrap());
    tokio::spawn(relay.with_limits(Limits::default()).run(place, Shutdown::new()));
    let http = HttpClient::new(HttpOptions { h2_prior_knowledge: true, ..HttpOptions::default() });
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let ((block, opener), http, url) = (sealed(&running), http.clone(), url.clone());
        clients.spawn(async move { open(post(&http, &url, block, None).await, opener).1.status });
    }
    assert_eq!(clients.join_all().await, [201; 16]);
    assert_eq!(target.seen().len(), 16);
}
