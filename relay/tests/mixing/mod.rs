//! Requests that wait for each other, over real sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use mica_relay::{Config, Mixing, Outcome, Relay};
use mica_service::http::HttpClient;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::operations::figures;
use crate::sealed_answer;
use crate::world::{RunningRelay, ScriptedGateway, client, send_from, start_relay};

async fn start(gateway: &ScriptedGateway, requests: usize, wait: Duration) -> RunningRelay {
    start_relay(gateway.start().await, |config| config.mixing = Some(Mixing { requests, wait })).await
}

async fn send(http: HttpClient, relay: &RunningRelay, who: u8) -> http::Response<Bytes> {
    http.send(relay.sealed_request().map(|_| vec![who; 512].into())).await.unwrap()
}

/// 64 rounds of six requests: an order that is drawn keeps a place in one of six cases.
#[tokio::test]
async fn the_gateway_gets_requests_in_another_order_than_the_relay_and_nobody_waits_alone() {
    const MANY: usize = 6;
    const ROUNDS: usize = 64;
    let gateway = ScriptedGateway::new(sealed_answer);
    let relay = start(&gateway, MANY, Duration::from_secs(14)).await;
    for _ in 0..ROUNDS {
        let mut round = JoinSet::new();
        for who in 0..6 {
            round.spawn(send_from(who + 1, relay.address, vec![who; 512]));
            // The next one comes later, without doubt.
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
        assert!(round.join_all().await.iter().all(|status| *status == 200));
    }
    let seen: Vec<u8> = gateway.seen().iter().map(|seen| seen.body[0]).collect();
    assert_eq!(seen.len(), MANY * ROUNDS);
    let mut kept = 0;
    for round in seen.chunks(MANY) {
        let mut sorted = round.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..6).collect::<Vec<u8>>(), "each pool leaves whole");
        kept += round.iter().zip(0..).filter(|(who, place)| *who == place).count();
    }
    // Mean 64, standard deviation 8: more than 102 are seen once in a million times, and in order all 384 would be.
    assert!(kept <= 102, "{kept} of {} kept their place", seen.len());
}

#[tokio::test]
async fn a_lone_request_waits_as_long_as_was_announced_and_no_longer() {
    let gateway = ScriptedGateway::new(sealed_answer);
    let relay = start(&gateway, 10, Duration::from_millis(400)).await;
    let since = Instant::now();
    assert_eq!(send(client(true), &relay, 1).await.status(), StatusCode::OK);
    let took = since.elapsed();
    assert!((Duration::from_millis(400)..Duration::from_secs(8)).contains(&took), "{took:?}");

    let about = Request::get(format!("http://{}/about", relay.address)).body(Bytes::new()).unwrap();
    let about = client(false).send(about).await.unwrap();
    let said: serde_json::Value = serde_json::from_slice(about.body()).unwrap();
    assert_eq!(said["mixing"], serde_json::json!({ "requests": 10, "wait_ms": 400 }));
}

/// Whoever sends a lot from one place, or what cannot be a request, does not make somebody else's leave.
#[tokio::test]
async fn nobody_fills_a_pool_alone_and_what_is_no_request_does_not_count() {
    let gateway = ScriptedGateway::new(sealed_answer);
    let relay = start(&gateway, 3, Duration::from_secs(14)).await;
    let mut clients = JoinSet::new();
    clients.spawn(send_from(1, relay.address, vec![1; 512]));
    for _ in 0..5 {
        clients.spawn(send_from(2, relay.address, vec![2; 55]));
    }
    for (address, length) in [(3, 0), (4, 4), (5, 54)] {
        assert_eq!(send_from(address, relay.address, vec![b'a'; length]).await, 400);
    }
    assert_eq!(relay.counters.count(Outcome::Incomplete), 3);
    let six_wait = async {
        while !figures(&relay).await.contains("\nmica_relay_waiting 6\n") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), six_wait).await.unwrap();
    assert!(gateway.seen().is_empty(), "two senders of three");
    clients.spawn(send_from(3, relay.address, vec![3; 512]));
    assert_eq!(clients.join_all().await, [200; 7]);
    assert!(figures(&relay).await.contains("mica_relay_pools_total{why=\"full\"} 1\n"));
}

#[tokio::test]
async fn a_connection_that_is_closed_leaves_no_trace_at_the_gateway() {
    let gateway = ScriptedGateway::new(sealed_answer);
    let relay = start(&gateway, 3, Duration::from_secs(3)).await;
    let mut leaver = TcpStream::connect(relay.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: message/ohttp-req\r\ncontent-length: 512\r\n\r\n";
    leaver.write_all(&[head.as_bytes(), &[9; 512]].concat()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(leaver);
    assert_eq!(send(client(true), &relay, 1).await.status(), StatusCode::OK);
    let seen: Vec<u8> = gateway.seen().iter().map(|seen| seen.body[0]).collect();
    assert_eq!(seen, [1]);
}

#[tokio::test]
async fn a_relay_that_stops_sends_off_those_who_wait() {
    let gateway = ScriptedGateway::new(sealed_answer);
    let relay = start(&gateway, 10, Duration::from_secs(10)).await;
    let mut clients = JoinSet::new();
    for who in 0..3 {
        let request = relay.sealed_request().map(|_| vec![who; 512].into());
        clients.spawn(async move { client(true).send(request).await.unwrap().status() });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(gateway.seen().is_empty());
    relay.shutdown.trigger();
    let statuses = tokio::time::timeout(Duration::from_secs(5), clients.join_all()).await.unwrap();
    assert_eq!(statuses, [StatusCode::OK; 3]);
    assert_eq!(gateway.seen().len(), 3);
}

#[tokio::test]
async fn a_relay_that_stops_waits_for_what_it_sent_off_for_clients_that_have_gone() {
    let answered = Arc::<AtomicBool>::default();
    let said = Arc::clone(&answered);
    let gateway = ScriptedGateway::new(move || {
        said.store(true, Ordering::SeqCst);
        sealed_answer()
    });
    let gateway = gateway.slow(Duration::from_millis(500));
    let relay = start(&gateway, 50, Duration::from_secs(12)).await;
    let mut stream = TcpStream::connect(relay.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: message/ohttp-req\r\ncontent-length: 512\r\n\r\n";
    stream.write_all(&[head.as_bytes(), &[5; 512]].concat()).await.unwrap();
    while !figures(&relay).await.contains("\nmica_relay_waiting 1\n") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    relay.shutdown.trigger();
    while gateway.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(stream);
    relay.ended.wait().await;
    assert!(answered.load(Ordering::SeqCst), "the gateway has answered before the relay ends");
}

#[test]
fn a_relay_that_clients_would_give_up_is_not_built() {
    for (table, key) in [
        ("requests = 8\nwait = '30s'", "mixing.wait"),
        ("requests = 8\nwait = '15s'", "mixing.wait"),
        ("requests = 1", "mixing.requests"),
        ("requests = 1000000", "mixing.requests"),
    ] {
        let text = format!("listen = 'x'\ngateway_url = 'https://gateway.example/'\n[mixing]\n{table}");
        let config: Config = toml::from_str(&text).unwrap();
        let said = Relay::build(config).map(drop).unwrap_err().to_string();
        assert!(said.starts_with(key), "{said}");
    }
    let config: Config =
        toml::from_str("listen = 'x'\ngateway_url = 'https://gateway.example/'\n[mixing]\nrequests = 8")
            .unwrap();
    assert_eq!(config.mixing.unwrap().wait, Duration::from_secs(10));
    assert!(Relay::build(config).is_ok());
}
