//! Two gateways on one database are one: what the first was answered, the second knows.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use std::time::Duration;

use axum::{Router, body::Body, response::Response};
use mica_envelope::Opener;
use mica_gateway::{Config, Mounted, Outcome};
use mica_service::{clock::Clock, shutdown::Shutdown, testing::postgres};

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

/// RFC 9458 6.5: told to come back, its client would have the target act on it twice.
#[tokio::test]
async fn what_one_gateway_answered_the_other_tells_although_its_target_hangs() {
    let Some(database) = postgres().await else { return };
    let (seen, release) = (Arc::new(AtomicUsize::new(0)), Shutdown::new());
    let router = Router::new().fallback({
        let (seen, release) = (Arc::clone(&seen), release.clone());
        async move || {
            let before = seen.fetch_add(1, Ordering::SeqCst);
            if before > 0 {
                release.wait().await;
            }
            numbered(before)
        }
    });
    let mut config = Config::new("127.0.0.1:0", database.url, routes("127.0.0.1:9".parse().unwrap()));
    // One target has half.
    config.max_streams = 2;
    let clock = Clock::manual(1_700_000_000);
    let start = async || {
        let mounted = Mounted::default().with("http://127.0.0.1:9", router.clone());
        World::beside(config.clone(), clock.clone(), mounted).await
    };
    let (one, two) = (start().await, start().await);
    let (sealed, opener) = one.seal(&upload());
    assert_eq!(one.post(one.relay, sealed.clone()).await.status(), 200);
    let (other, _) = two.seal(&upload());
    let hanging = two.post(two.gateway, other);
    let asking = async {
        while seen.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let again = two.post(two.relay, sealed).await;
        release.trigger();
        again
    };
    let (_, again) = tokio::join!(hanging, asking);
    assert_eq!(body(opener, again.body()), "answer 0");
    assert_eq!((two.count(Outcome::Again), two.count(Outcome::Full)), (1, 0));
}
