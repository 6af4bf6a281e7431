//! Targets that are dead, slow, verbose or misleading: the client always learns it inside the envelope.

use std::time::{Duration, UNIX_EPOCH};

use axum::{body::Body, response::Response};
use mica_gateway::{Outcome, Protocol};
use tokio::net::TcpListener;

use crate::world::{Target, World, created, upload};

#[tokio::test]
async fn a_dead_target_is_a_sealed_502() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let world = World::start(address).await;
    assert_eq!(world.exchange(&upload()).await.1.status, 502);
    assert_eq!(world.count(Outcome::Unreached), 1);
}

#[tokio::test]
async fn a_slow_target_is_a_sealed_504() {
    let target = Target::new(created).slow(Duration::from_secs(30));
    let adjust = |config: &mut mica_gateway::Config| config.timeout = Duration::from_millis(200);
    let world = World::start_with(target.start().await, adjust).await;
    assert_eq!(world.exchange(&upload()).await.1.status, 504);
    assert_eq!(world.count(Outcome::Timeout), 1);
}

#[tokio::test]
async fn a_redirect_of_a_target_is_a_sealed_502_and_not_followed() {
    let target = Target::new(|_| {
        Response::builder().status(307).header("location", "http://127.0.0.1:9/").body(Body::empty()).unwrap()
    });
    let world = World::start(target.start().await).await;
    let (_, inner) = world.exchange(&upload()).await;
    assert_eq!(inner.status, 502);
    assert!(inner.header("location").is_none());
    assert_eq!(target.seen().len(), 1);
}

#[tokio::test]
async fn an_answer_that_is_too_large_or_cannot_be_sealed_is_a_sealed_502() {
    let target = Target::new(|_| Response::new(Body::from(vec![0; 3000])));
    let world = World::start_with(target.start().await, |config| config.max_response_bytes = 2999).await;
    assert_eq!(world.exchange(&upload()).await.1.status, 502);

    let target = Target::new(|_| {
        Response::builder().header("content-type", "x".repeat(9000)).body(Body::empty()).unwrap()
    });
    let world = World::start(target.start().await).await;
    assert_eq!(world.exchange(&upload()).await.1.status, 502);
}

#[tokio::test]
async fn a_target_that_speaks_only_http_1_is_reached() {
    let target = Target::new(created);
    let adjust = |config: &mut mica_gateway::Config| {
        config.routes.iter_mut().for_each(|route| route.protocol = Protocol::H1);
    };
    let world = World::start_with(target.start().await, adjust).await;
    assert_eq!(world.exchange(&upload()).await.1.status, 201);
    assert!(target.seen()[0].headers.contains_key("host"));
}

/// Nobody could make anything of a time of day: the `Date` beside it is not passed on, and no clock is like another.
#[tokio::test]
async fn when_a_target_wants_to_be_asked_again_is_told_in_seconds() {
    let date = |seconds: u64| httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
    let there = 1_600_000_000;
    for (after, told) in [
        ("7".to_owned(), Some("7")),
        (date(there + 30), Some("30")),
        (date(there - 30), Some("1")),
        (date(there + 86_400), Some("3600")),
        ("soon".to_owned(), None),
    ] {
        let target = Target::new(move |_| {
            let answer = Response::builder().status(503).header("date", date(there));
            answer.header("retry-after", &after).body(Body::empty()).unwrap()
        });
        let world = World::start(target.start().await).await;
        let (_, inner) = world.exchange(&upload()).await;
        assert_eq!((inner.status, inner.header("retry-after")), (503, told.map(str::as_bytes)));
        assert!(inner.header("date").is_none());
    }
}
