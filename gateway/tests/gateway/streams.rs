//! How much goes on at once: a whole pool of a relay, and targets that hang beside others that answer.

use std::{sync::Arc, time::Duration};

use axum::{Router, routing::any};
use http::StatusCode;
use mica_gateway::{Config, Mounted, Outcome};
use mica_service::{
    clock::Clock,
    http::{HttpClient, HttpOptions},
    testing::sqlite,
};
use tokio::{sync::Barrier, task::JoinSet};

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
