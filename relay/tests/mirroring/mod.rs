//! The copy of what the gateway publishes: the same for everybody, and fetched for nobody.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{Request, StatusCode};
use mica_history::{Entry, History, HistoryKey};
use mica_relay::{Config, MirrorConfig, Relay};

use crate::{
    names,
    world::{ScriptedGateway, client, start_relay},
};

const TAG: &str = "\"of-the-gateway\"";

fn published(cache: &'static str) -> impl Fn() -> Response + Send + Sync {
    move || {
        Response::builder()
            .header("content-type", "application/ohttp-keys")
            .header("cache-control", cache)
            .header("etag", TAG)
            .header("x-canary", "canary")
            .body(Body::from(vec![0x7b; 45]))
            .unwrap()
    }
}

fn with_mirror(config: &mut Config) {
    config.mirror = Some(MirrorConfig::default());
}

async fn get(relay: SocketAddr, path: &str, fields: &[(&'static str, String)]) -> http::Response<Bytes> {
    let mut request = Request::get(format!("http://{relay}{path}")).body(Bytes::new()).unwrap();
    for (name, value) in fields {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    client(false).send(request).await.unwrap()
}

/// Asks until the relay has a copy, or for as long as it would have taken it.
async fn first_copy(relay: SocketAddr) -> Option<http::Response<Bytes>> {
    for _ in 0..100 {
        let answer = get(relay, "/ohttp-keys", &[]).await;
        if answer.status() == StatusCode::OK {
            return Some(answer);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    None
}

#[tokio::test]
async fn the_mirror_shows_everybody_the_bytes_and_the_tag_of_the_gateway() {
    let gateway = ScriptedGateway::new(published("public, max-age=86400"));
    let relay = start_relay(gateway.start().await, with_mirror).await;
    assert!(first_copy(relay.address).await.is_some());
    let mut answers = BTreeSet::new();
    for path in ["/ohttp-keys", "/.well-known/ohttp-gateway"] {
        for n in 0..50 {
            let fields = [("cookie", format!("c={n}")), ("user-agent", format!("client {n}"))];
            let answer = get(relay.address, path, &fields).await;
            assert_eq!(names(answer.headers()), EXPECTED.into_iter().collect());
            let shown = ["content-type", "cache-control", "etag"]
                .map(|name| answer.headers()[name].to_str().unwrap().to_owned());
            answers.insert((answer.body().to_vec(), shown));
        }
    }
    let shown = ["application/ohttp-keys", "public, max-age=86400", TAG].map(str::to_owned);
    assert_eq!(answers.into_iter().collect::<Vec<_>>(), [(vec![0x7b; 45], shown)]);
    let known = get(relay.address, "/ohttp-keys", &[("if-none-match", TAG.to_owned())]).await;
    assert_eq!((known.status(), known.body().len()), (StatusCode::NOT_MODIFIED, 0));
}

const EXPECTED: [&str; 6] = ["age", "cache-control", "content-length", "content-type", "date", "etag"];

#[tokio::test]
async fn no_request_of_a_client_has_the_mirror_ask_the_gateway() {
    let gateway = ScriptedGateway::new(published("public, max-age=86400"));
    let relay = start_relay(gateway.start().await, with_mirror).await;
    assert!(first_copy(relay.address).await.is_some());
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = gateway.seen();
    for seen in &before {
        assert_eq!(names(&seen.headers), ["accept", "host"].into_iter().collect());
    }
    let paths: BTreeSet<_> = before.iter().map(|seen| seen.uri.path()).collect();
    assert_eq!(paths, ["/.well-known/ohttp-gateway", "/ohttp-keys/history"].into_iter().collect());
    for n in 0..50 {
        let fields = [("cache-control", "no-cache".to_owned()), ("pragma", "no-cache".to_owned())];
        get(relay.address, "/ohttp-keys", &fields).await;
        get(relay.address, "/ohttp-keys/history", &fields).await;
        get(relay.address, &format!("/ohttp-keys?{n}"), &[]).await;
    }
    assert_eq!(gateway.seen().len(), before.len());
}

#[tokio::test]
async fn the_mirror_refuses_what_is_not_meant_for_everybody() {
    for cache in ["private, max-age=86400", "public, no-store, max-age=86400", "public, max-age=3599", ""] {
        let gateway = ScriptedGateway::new(published(cache));
        let relay = start_relay(gateway.start().await, with_mirror).await;
        for _ in 0..100 {
            if !gateway.seen().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!gateway.seen().is_empty());
        let answer = get(relay.address, "/ohttp-keys", &[]).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{cache}");
        assert!(answer.body().is_empty() && answer.headers().contains_key("retry-after"));
    }
}

#[tokio::test]
async fn a_relay_without_a_mirror_publishes_nothing() {
    let gateway = ScriptedGateway::new(published("public, max-age=86400"));
    let relay = start_relay(gateway.start().await, |_| ()).await;
    for path in ["/ohttp-keys", "/.well-known/ohttp-gateway", "/ohttp-keys/history"] {
        assert_eq!(get(relay.address, path, &[]).await.status(), StatusCode::NOT_FOUND);
    }
    assert!(gateway.seen().is_empty());
}

#[test]
fn a_mirror_that_cannot_be_is_said_with_its_key() {
    let build = |mirror: &str| {
        let text =
            format!("listen = '127.0.0.1:0'\ngateway_url = 'http://127.0.0.1:1/g'\n[mirror]\n{mirror}");
        Relay::build(toml::from_str(&text).unwrap()).err().map(|error| error.to_string())
    };
    assert_eq!(build(""), None);
    assert_eq!(build("every = '1s'").unwrap(), "mirror.every: ask no more often than every 10s");
    assert!(build("history_key = 'abc'").unwrap().starts_with("mirror.history_key: write the 64 "));
    assert!(build("keys_url = 'ftp://x'").unwrap().starts_with("mirror.keys_url: "));
    assert!(build("keys_url = 'http://gateway.example/k'").unwrap().starts_with("mirror.keys_url: "));
    let unknown = toml::from_str::<Config>("listen = 'x'\ngateway_url = 'y'\n[mirror]\nnonsense = 1\n");
    assert!(unknown.unwrap_err().to_string().contains("nonsense"));
}

#[tokio::test]
async fn the_mirror_shows_a_history_that_holds_and_no_other() {
    let key = HistoryKey::from_seed(&[1; 32]).unwrap();
    let entries = vec![Entry::after(None, 100, b"one".to_vec(), &key)];
    let honest = History { key: key.public(), entries }.to_json();
    let broken = honest.replace("\"since\":100", "\"since\":99");
    for (document, key, is_shown) in [
        (honest.clone(), None, true),
        (honest.clone(), Some(hex::encode(key.public())), true),
        (honest, Some("00".repeat(32)), false),
        (broken, None, false),
        ("{}".to_owned(), None, false),
    ] {
        let shown = document.clone();
        let gateway = ScriptedGateway::new(move || {
            let answer = Response::builder().header("content-type", "application/json");
            answer.header("cache-control", "public, max-age=60").body(Body::from(document.clone())).unwrap()
        });
        let relay = start_relay(gateway.start().await, |config| {
            config.mirror = Some(MirrorConfig { history_key: key, ..MirrorConfig::default() });
        });
        let relay = relay.await;
        // The history is asked for after the keys, and judged when the answer is there.
        let mut answer = get(relay.address, "/ohttp-keys/history", &[]).await;
        for _ in 0..if is_shown { 3_000 } else { 50 } {
            if answer.status() == StatusCode::OK {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            answer = get(relay.address, "/ohttp-keys/history", &[]).await;
        }
        assert_eq!(answer.status() == StatusCode::OK, is_shown, "{shown}");
        assert!(!is_shown || answer.body() == shown.as_bytes(), "byte for byte");
    }
}

/// What could open an envelope is not in the program code of a relay, which a lint of the source cannot show.
#[test]
fn a_relay_does_not_link_what_opens_envelopes() {
    let cargo = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "-p", "mica-relay", "-e", "normal", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let tree = String::from_utf8(cargo.stdout).unwrap();
    let packages: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(packages.contains("mica-service"), "{}", String::from_utf8_lossy(&cargo.stderr));
    for opener in ["mica-envelope", "mica-dap", "mica-kem", "mica-gateway", "ohttp", "bhttp", "hpke"] {
        assert!(!packages.contains(opener), "{opener}");
    }
}
