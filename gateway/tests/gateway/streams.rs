//! How much goes on at once: a whole pool of a relay, and targets that hang beside others that answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing::any};
use http::StatusCode;
use mica_gateway::{Config, Mounted, Outcome};
use mica_relay::{ClientsConfig, Mixing, Relay};
use mica_service::{
    clock::Clock,
    http::{HttpClient, HttpOptions},
    shutdown::Shutdown,
    testing::sqlite,
    token::TokenHash,
};
use tokio::{net::TcpListener, sync::Barrier, task::JoinSet};

use crate::world::{World, open, routes, upload};

/// Answers nobody before so many are there.
fn all_at_once(many: usize) -> Router {
    let barrier = Arc::new(Barrier::new(many));
    let together = move || {
        let barrier = Arc::clone(&barrier);
        async move {
            barrier.wait().await;
            StatusCode::CREATED
        }
    };
    Router::new().fallback(any(together))
}

/// The same, and one of them a little later than the others. Counts those that it has answered.
fn all_at_once_but_for_one(many: usize, answered: &Arc<AtomicUsize>) -> Router {
    let (barrier, count) = (Arc::new(Barrier::new(many)), Arc::clone(answered));
    let together = move || {
        let (barrier, count) = (Arc::clone(&barrier), Arc::clone(&count));
        async move {
            if barrier.wait().await.is_leader() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            count.fetch_add(1, Ordering::SeqCst);
            StatusCode::CREATED
        }
    };
    Router::new().fallback(any(together))
}

fn nowhere() -> std::net::SocketAddr {
    "127.0.0.1:9".parse().unwrap()
}

#[tokio::test]
async fn a_large_pool_of_a_relay_is_under_way_at_once_on_one_connection() {
    // More than an ordinary listener takes on one connection.
    const MANY: usize = 300;
    let database = sqlite();
    let mut config = Config::new("127.0.0.1:0", database.url.clone(), routes(nowhere()));
    config.timeout = Duration::from_mins(5);
    let mounted = Mounted::default().with("http://127.0.0.1:9", all_at_once(MANY));
    let world = World::beside(config, Clock::manual(1_700_000_000), mounted).await;
    // As a relay asks: one client, one connection.
    let options =
        HttpOptions { h2_prior_knowledge: true, timeout: Duration::from_mins(5), ..HttpOptions::default() };
    let (relay, gateway) = (HttpClient::new(options), world.gateway);
    let mut round = JoinSet::new();
    for _ in 0..MANY {
        let (sealed, opener) = world.seal(&upload());
        let relay = relay.clone();
        round.spawn(async move {
            let request = http::Request::post(format!("http://{gateway}/"))
                .header("content-type", "message/ohttp-req")
                .body(bytes::Bytes::from(sealed))
                .unwrap();
            open(relay.send(request).await.unwrap(), opener).1.status
        });
    }
    while let Some(status) = round.join_next().await {
        assert_eq!(status.unwrap(), 201);
    }
}

/// Through a relay that mixes so many: all of them leave together, and nobody has an answer before the target has given all.
#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_clients_of_a_relay_that_mixes_are_answered_in_one_release() {
    const MANY: usize = 500;
    let answered = Arc::<AtomicUsize>::default();
    let database = sqlite();
    let mut config = Config::new("127.0.0.1:0", database.url.clone(), routes(nowhere()));
    config.timeout = Duration::from_mins(5);
    let mounted = Mounted::default().with("http://127.0.0.1:9", all_at_once_but_for_one(MANY, &answered));
    let world = World::beside(config, Clock::manual(1_700_000_000), mounted).await;
    // What tells clients apart here is a token, so that they need no addresses and few sockets.
    let folder = tempfile::tempdir().unwrap();
    let token = |number: usize| format!("token-{number}");
    let hashes: Vec<String> = (0..MANY).map(|number| TokenHash::of(token(number)).to_hex()).collect();
    std::fs::write(folder.path().join("tokens"), hashes.join("\n")).unwrap();
    let mut config = mica_relay::Config::new("127.0.0.1:0", format!("http://{}/", world.gateway));
    config.clients =
        Some(ClientsConfig { tokens_file: Some(folder.path().join("tokens")), certificates: false });
    (config.mixing, config.timeout) =
        (Some(Mixing { requests: MANY, wait: Duration::from_secs(14) }), Duration::from_mins(5));
    let relay = Relay::build(config).unwrap();
    let operations = relay.operations();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(relay.run(listener, Shutdown::new()));
    let sealed: Vec<_> = (0..MANY).map(|_| world.seal(&upload())).collect();
    let client = || {
        let timeout = Duration::from_mins(5);
        HttpClient::new(HttpOptions { h2_prior_knowledge: true, timeout, ..HttpOptions::default() })
    };
    // A relay takes 32 requests at once on one connection.
    let clients: Vec<HttpClient> = (0..MANY.div_ceil(25)).map(|_| client()).collect();
    let mut round = JoinSet::new();
    for (number, (sealed, opener)) in sealed.into_iter().enumerate() {
        let http = clients[number / 25].clone();
        round.spawn(async move {
            let request = http::Request::post(format!("http://{address}/"))
                .header("content-type", "message/ohttp-req")
                .header("authorization", format!("Bearer {}", token(number)))
                .body(bytes::Bytes::from(sealed))
                .unwrap();
            open(http.send(request).await.unwrap(), opener).1.status
        });
    }
    while let Some(status) = round.join_next().await {
        assert_eq!(answered.load(Ordering::SeqCst), MANY, "the last is there before the first is told");
        assert_eq!(status.unwrap(), 201);
    }
    let asked = http::Request::get("/metrics").body(axum::body::Body::empty()).unwrap();
    let figures = tower::ServiceExt::oneshot(operations.router(None), asked).await.unwrap();
    let figures = axum::body::to_bytes(figures.into_body(), 1 << 20).await.unwrap();
    let figures = String::from_utf8(figures.to_vec()).unwrap();
    for line in ["{why=\"full\"} 1\n", "{why=\"time\"} 0\n", "{why=\"flush\"} 0\n"] {
        assert!(figures.contains(&format!("mica_relay_pools_total{line}")), "{figures}");
    }
}

#[tokio::test]
async fn a_target_that_hangs_takes_half_of_what_a_relay_has_and_the_others_are_answered() {
    let database = sqlite();
    let mut config = Config::new("127.0.0.1:0", database.url.clone(), routes(nowhere()));
    let mut other = routes("127.0.0.1:10".parse().unwrap());
    for route in &mut other {
        route.authority = "other.example".to_owned();
    }
    config.routes.extend(other);
    (config.max_streams, config.timeout) = (8, Duration::from_mins(5));
    let mounted = Mounted::default()
        .with("http://127.0.0.1:9", Router::new().fallback(any(std::future::pending::<StatusCode>)))
        .with("http://127.0.0.1:10", all_at_once(1));
    let world = Arc::new(World::beside(config, Clock::manual(1_700_000_000), mounted).await);
    let mut hanging = JoinSet::new();
    for _ in 0..6 {
        let world = Arc::clone(&world);
        hanging.spawn(async move { world.exchange(&upload()).await.1 });
    }
    // Four wait; who comes after them is told at once.
    for _ in 0..2 {
        let told = hanging.join_next().await.unwrap().unwrap();
        let after = told.headers.iter().find(|(name, _)| name == "retry-after");
        assert_eq!((told.status, after.map(|(_, value)| &value[..])), (503, Some(&b"1"[..])));
    }
    let mut request = upload();
    request.authority = "other.example".into();
    assert_eq!(world.exchange(&request).await.1.status, 201);
    assert_eq!((world.count(Outcome::Full), world.count(Outcome::Forwarded)), (2, 1));
    hanging.abort_all();
}

#[tokio::test]
async fn what_was_answered_is_answered_again_while_its_target_hangs() {
    let database = sqlite();
    let mut config = Config::new("127.0.0.1:0", database.url.clone(), routes(nowhere()));
    (config.max_streams, config.timeout) = (8, Duration::from_mins(5));
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let once = move || {
        let before = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move { if before == 0 { StatusCode::CREATED } else { std::future::pending().await } }
    };
    let mounted = Mounted::default().with("http://127.0.0.1:9", Router::new().fallback(any(once)));
    let world = Arc::new(World::beside(config, Clock::manual(1_700_000_000), mounted).await);
    let (sealed, _) = world.seal(&upload());
    world.post(world.relay, sealed.clone()).await;
    let mut hanging = JoinSet::new();
    for _ in 0..5 {
        let world = Arc::clone(&world);
        hanging.spawn(async move { world.exchange(&upload()).await.1 });
    }
    assert_eq!(hanging.join_next().await.unwrap().unwrap().status, 503, "four wait");
    world.post(world.relay, sealed).await;
    assert_eq!((world.count(Outcome::Full), world.count(Outcome::Again)), (1, 1));
    hanging.abort_all();
}
