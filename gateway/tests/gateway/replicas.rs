//! Two gateways on one database are one: what the first was answered, the second knows.

use std::time::Duration;

use axum::{body::Body, response::Response};
use mica_envelope::Opener;
use mica_gateway::{Config, Outcome};
use mica_service::{clock::Clock, testing::postgres};

use crate::world::{Target, World, routes, upload};

fn numbered(before: usize) -> Response {
    Response::new(Body::from(format!("answer {before}")))
}

fn body(opener: Opener, sealed: &[u8]) -> String {
    String::from_utf8(opener.open(sealed).unwrap().body.to_vec()).unwrap()
}

async fn two(target: &Target, clock: &Clock) -> Option<(World, World)> {
    let database = postgres().await?;
    let config = Config::new("127.0.0.1:0", database.url, routes(target.start().await));
    Some((World::over(config.clone(), clock.clone()).await, World::over(config, clock.clone()).await))
}

#[tokio::test]
async fn a_replay_at_the_second_gateway_gets_the_answer_of_the_first_and_the_target_sees_one() {
    let (target, clock) = (Target::new(numbered), Clock::manual(1_700_000_000));
    let Some((one, two)) = two(&target, &clock).await else { return };
    let (sealed, opener) = one.seal(&upload());
    let first = one.post(one.relay, sealed.clone()).await;
    let second = two.post(two.relay, sealed.clone()).await;
    assert_ne!(first.body(), second.body());
    assert_eq!(first.body().len(), second.body().len());
    assert_eq!(body(opener, second.body()), "answer 0");
    assert_eq!(target.seen().len(), 1);
    assert_eq!((one.count(Outcome::Forwarded), two.count(Outcome::Again)), (1, 1));
}

#[tokio::test]
async fn the_same_request_at_both_at_once_reaches_the_target_once() {
    let target = Target::new(numbered).slow(Duration::from_millis(300));
    let Some((one, two)) = two(&target, &Clock::manual(1_700_000_000)).await else { return };
    for round in 0..5 {
        let (sealed, opener) = one.seal(&upload());
        let (_, second) =
            tokio::join!(one.post(one.relay, sealed.clone()), two.post(two.relay, sealed.clone()));
        assert_eq!(body(opener, second.body()), format!("answer {round}"));
        assert_eq!(target.seen().len(), round + 1);
    }
}
