//! Relays that ask who is there and how often, over real sockets; and that the gateway cannot tell them from others.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use mica_relay::{ClientsConfig, Config, LimitBy, Outcome, RateLimit, Relay};
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::testing::{Authority, Folder};
use mica_service::tls::{ListenTls, PeerTls, Peers};

use crate::sealed_answer;
use crate::world::{RunningRelay, ScriptedGateway, Seen, client, start_relay};

/// The hash of some token.
const HASH: &str = "0d34faa4bdc3b1ab7f7b42e2d5c0ba2dd6bd4f3bc3ab2e8dda4d54dbd21b4f6d";

fn limit(requests: u32) -> RateLimit {
    let per = Duration::from_secs(10);
    let requests = NonZeroU32::new(requests).unwrap();
    RateLimit { requests, per, burst: None, by: LimitBy::Address, ipv6_prefix: 64 }
}

fn tokens(folder: &tempfile::TempDir, text: &str) -> ClientsConfig {
    let path = folder.path().join("tokens");
    std::fs::write(&path, text).unwrap();
    ClientsConfig { tokens_file: Some(path), certificates: false }
}

fn with_token(relay: &RunningRelay, token: &str) -> Request<Bytes> {
    let mut request = relay.sealed_request();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// What the gateway saw, as far as it could tell one relay from another by it.
fn golden(seen: &[Seen]) -> Vec<String> {
    let line = |seen: &Seen| {
        let mut fields: Vec<String> =
            seen.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        fields.retain(|field| !field.starts_with("host: "));
        fields.sort();
        format!("{} {} {:?} {fields:?} {}", seen.method, seen.uri.path(), seen.version, seen.body.len())
    };
    seen.iter().map(line).collect()
}

#[tokio::test]
async fn the_gateway_sees_the_same_of_a_relay_that_limits_and_asks_for_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let mut captured = Vec::new();
    for asks in [false, true] {
        let gateway = ScriptedGateway::new(sealed_answer);
        let clients = tokens(&folder, &format!("{}\n", sha256("relay-client-token")));
        let adjust = |config: &mut Config| {
            if asks {
                (config.clients, config.rate_limit) = (Some(clients), Some(limit(3)));
            }
        };
        let relay = start_relay(gateway.start().await, adjust).await;
        let statuses = answers(&relay, 5).await;
        if asks {
            assert_eq!(statuses, [200, 200, 200, 429, 429]);
            assert_eq!(relay.counters.count(Outcome::Limited), 2);
        }
        captured.push(golden(&gateway.seen()[..3]));
        assert_eq!(gateway.seen().len(), if asks { 3 } else { 5 });
    }
    assert_eq!(captured[0], captured[1]);
    assert_eq!(captured[0].len(), 3);
}

async fn answers(relay: &RunningRelay, many: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..many {
        let answer = client(false).send(with_token(relay, "relay-client-token")).await.unwrap();
        statuses.push(answer.status().as_u16());
    }
    statuses
}

fn sha256(token: &str) -> String {
    mica_service::token::TokenHash::of(token.as_bytes()).to_hex()
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_when_to_come_back_and_is_served_then() {
    let gateway = ScriptedGateway::new(sealed_answer);
    let adjust = |config: &mut Config| {
        config.rate_limit = Some(RateLimit { per: Duration::from_secs(2), ..limit(2) });
    };
    let relay = start_relay(gateway.start().await, adjust).await;
    for _ in 0..2 {
        assert_eq!(client(true).send(relay.sealed_request()).await.unwrap().status(), StatusCode::OK);
    }
    let refused = client(true).send(relay.sealed_request()).await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], "1");
    let since = Instant::now();
    while client(true).send(relay.sealed_request()).await.unwrap().status() != StatusCode::OK {
        assert!(since.elapsed() < Duration::from_secs(20), "it is served again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn strangers_are_told_to_show_a_token_before_anything_of_theirs_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = ScriptedGateway::new(sealed_answer);
    let text = format!("# made up\n{HASH}\n{} app\n", sha256("relay-client-token"));
    let clients = tokens(&folder, &text);
    let relay = start_relay(gateway.start().await, |config| config.clients = Some(clients)).await;
    for request in [relay.sealed_request(), with_token(&relay, "another"), with_token(&relay, HASH)] {
        let answer = client(false).send(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    }
    assert_eq!(relay.counters.count(Outcome::Stranger), 3);
    assert!(gateway.seen().is_empty());
    assert_eq!(answers(&relay, 1).await, [200]);
    assert!(!golden(&gateway.seen())[0].contains("authorization"), "the token stays here");
}

#[tokio::test]
async fn a_client_certificate_opens_a_relay_and_stays_there() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let roots = folder.write("roots.pem", &authority.pem());
    let (certificate, private_key) = folder.identity("server", &authority.issue(&["localhost"]));
    let known = folder.identity("client", &authority.issue(&["client.example"]));
    let gateway = ScriptedGateway::new(sealed_answer);
    let client_roots = Some(roots.clone());
    let tls = ListenTls { certificate, private_key, client_roots, require_client_certificate: false };
    let adjust = |config: &mut Config| {
        config.tls = Some(tls);
        config.clients = Some(ClientsConfig { tokens_file: None, certificates: true });
        config.rate_limit = Some(RateLimit { by: LimitBy::Credential, ..limit(1) });
    };
    let relay = start_relay(gateway.start().await, adjust).await;
    let send = async |identity: Option<(PathBuf, PathBuf)>| {
        let (certificate, private_key) = identity.unzip();
        let tls = PeerTls { roots: Some(roots.clone()), certificate, private_key, ..PeerTls::default() };
        let options = HttpOptions { peers: Peers::load(&tls, false).unwrap(), ..HttpOptions::default() };
        let mut request = relay.sealed_request();
        *request.uri_mut() = format!("https://localhost:{}/", relay.address.port()).parse().unwrap();
        HttpClient::new(options).send(request).await.unwrap().status().as_u16()
    };
    assert_eq!(send(None).await, 401);
    assert_eq!((send(Some(known.clone())).await, send(Some(known)).await), (200, 429));
    assert_eq!(gateway.seen().len(), 1);
}

#[tokio::test]
async fn a_relay_shows_its_own_token_to_the_gateway_and_none_of_a_client() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.token");
    std::fs::write(&path, "from-the-relay\n").unwrap();
    let gateway = ScriptedGateway::new(sealed_answer);
    let relay = start_relay(gateway.start().await, |config| config.gateway_token_file = Some(path)).await;
    client(true).send(with_token(&relay, "of-a-client")).await.unwrap();
    assert_eq!(gateway.seen()[0].headers["authorization"], "Bearer from-the-relay");
    assert_eq!(gateway.seen()[0].headers.len(), 3);
    let without = start_relay(gateway.start().await, |_| ()).await;
    for (relay, added) in
        [(relay, vec!["authorization: a token of the relay, the same in every request"]), (without, vec![])]
    {
        let about = Request::get(format!("http://{}/about", relay.address)).body(Bytes::new()).unwrap();
        let about = client(false).send(about).await.unwrap();
        let said: serde_json::Value = serde_json::from_slice(about.body()).unwrap();
        assert_eq!(said["adds_to_requests"], serde_json::json!(added));
    }
}

#[test]
fn a_relay_of_the_operator_of_the_gateway_or_leader_does_not_start() {
    let table = |text: &str| {
        let text = format!("listen = 'x'\ngateway_url = 'https://gateway.example/'\n{text}");
        Relay::build(toml::from_str(&text).unwrap()).map(drop).map_err(|error| error.to_string())
    };
    for (text, key) in [
        ("operator = 'A'\ngateway_operator = 'a'", "gateway_operator: "),
        ("operator = 'A'\ngateway_operator = 'B'\nleader_operator = 'A.'", "leader_operator: "),
    ] {
        let said = table(text).unwrap_err();
        assert!(said.starts_with(key) && said.contains("would know who sent what"), "{said}");
        assert!(table(&format!("{text}\ninsecure_one_operator = true")).is_ok());
    }
    assert!(table("operator = 'A'\ngateway_operator = 'B'\nleader_operator = 'B'").is_ok());
}
