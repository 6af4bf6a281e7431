//! The same sealed request again: the target sees it once, the sender gets the same answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::{Router, body::Body, response::Response};
use bytes::Bytes;
use mica_envelope::Opener;
use mica_gateway::{Config, Mounted, Outcome};
use mica_service::{clock::Clock, shutdown::Shutdown, testing::sqlite};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::world::{Door, Target, World, created, open, routes, upload};

fn numbered(before: usize) -> Response {
    Response::new(Body::from(format!("answer {before}")))
}

fn body(opener: Opener, sealed: &[u8]) -> String {
    String::from_utf8(opener.open(sealed).unwrap().body.to_vec()).unwrap()
}

/// Sends a whole request over a connection of its own.
async fn begin(world: &World, sealed: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(world.gateway).await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: message/ohttp-req\r\ncontent-length: {}\r\n\r\n",
        sealed.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(sealed).await.unwrap();
    stream
}

#[tokio::test]
async fn a_resent_request_gets_the_first_answer_under_a_fresh_nonce() {
    let target = Target::new(numbered);
    let world = World::start(target.start().await).await;
    let (sealed, opener) = world.seal(&upload());
    let first = world.post(world.relay, sealed.clone()).await;
    let second = world.post(world.relay, sealed.clone()).await;
    assert_eq!(target.seen().len(), 1);
    assert_ne!(first.body(), second.body());
    assert_eq!(first.body().len(), second.body().len());
    assert_eq!(body(opener, second.body()), "answer 0");
    assert_eq!((world.count(Outcome::Forwarded), world.count(Outcome::Again)), (1, 1));
    // a fresh envelope is a new request
    assert_eq!(world.exchange(&upload()).await.1.body, "answer 1");
}

#[tokio::test]
async fn a_request_sent_twice_at_once_reaches_the_target_once() {
    let target = Target::new(numbered).slow(Duration::from_millis(200));
    let world = World::start(target.start().await).await;
    let (sealed, opener) = world.seal(&upload());
    let (one, two) =
        tokio::join!(world.post(world.relay, sealed.clone()), world.post(world.relay, sealed.clone()));
    assert_eq!((one.status(), two.status()), (http::StatusCode::OK, http::StatusCode::OK));
    assert_eq!(body(opener, two.body()), "answer 0");
    assert_eq!(target.seen().len(), 1);
}

#[tokio::test]
async fn a_request_whose_sender_left_is_finished_and_can_be_asked_for_again() {
    let target = Target::new(numbered).slow(Duration::from_millis(200));
    let world = World::start(target.start().await).await;
    let (sealed, opener) = world.seal(&upload());
    let stream = begin(&world, &sealed).await;
    while target.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(stream);
    let again = world.post(world.relay, sealed).await;
    assert_eq!(body(opener, again.body()), "answer 0");
    assert_eq!(target.seen().len(), 1);
}

/// What the target does when it is asked is under way although nobody waits for it.
#[tokio::test]
async fn a_gateway_that_stops_remembers_what_a_target_answers_to_somebody_who_has_left() {
    let (database, release) = (sqlite(), Shutdown::new());
    let seen = Arc::new(AtomicUsize::new(0));
    let router = Router::new().fallback({
        let (seen, release) = (Arc::clone(&seen), release.clone());
        async move || {
            let before = seen.fetch_add(1, Ordering::SeqCst);
            release.wait().await;
            numbered(before)
        }
    });
    let config = Config::new("127.0.0.1:0", database.url.clone(), routes("127.0.0.1:9".parse().unwrap()));
    let clock = Clock::manual(1_700_000_000);
    let start = async || {
        let mounted = Mounted::default().with("http://127.0.0.1:9", router.clone());
        World::beside(config.clone(), clock.clone(), mounted).await
    };
    let world = start().await;
    let (sealed, opener) = world.seal(&upload());
    let stream = begin(&world, &sealed).await;
    while seen.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(stream);
    world.stop();
    // Enough for a gateway that did not wait to have ended.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!world.ended.is_triggered());
    release.trigger();
    world.ended.wait().await;
    let world = start().await;
    assert_eq!(body(opener, world.post(world.relay, sealed).await.body()), "answer 0");
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn requests_beyond_the_memory_are_told_503_inside_and_the_remembered_are_kept() {
    let target = Target::new(created);
    let world = World::start_with(target.start().await, |config| config.replay.max_requests = 1).await;
    let (sealed, _) = world.seal(&upload());
    world.post(world.relay, sealed.clone()).await;
    world.clock.advance(300);
    let refused = world.exchange(&upload()).await.1;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some(&b"600"[..])));
    world.post(world.relay, sealed).await;
    assert_eq!((world.count(Outcome::Full), world.count(Outcome::Again)), (1, 1));
    assert_eq!(target.seen().len(), 1);
    world.clock.advance(600);
    assert_eq!(world.exchange(&upload()).await.1.status, 201);
}

/// Anybody can have a leader name a thousand reports that it did not take: 17 kB for each such upload.
#[tokio::test]
async fn long_answers_keep_nobody_out() {
    let target = Target::new(|before| match before {
        0..20 => Response::builder().status(200).body(Body::from(vec![0; 17_000])).unwrap(),
        _ => created(before),
    });
    let world = World::start_with(target.start().await, |config| config.replay.max_bytes = 100_000).await;
    for _ in 0..20 {
        assert_eq!(world.exchange(&upload()).await.1.status, 200);
    }
    let (sealed, opener) = world.seal(&upload());
    assert_eq!(open(world.post(world.relay, sealed.clone()).await, opener).1.status, 201);
    world.post(world.relay, sealed).await;
    assert_eq!((world.count(Outcome::Full), world.count(Outcome::Again)), (0, 1));
    assert_eq!(target.seen().len(), 21);
}

#[tokio::test]
async fn whoever_only_reads_takes_no_memory_and_is_sent_on_again() {
    let target = Target::new(numbered);
    let world = World::start_with(target.start().await, |config| config.replay.max_requests = 1).await;
    let mut read = upload();
    (read.method, read.path) = ("GET".into(), "/hpke_config".into());
    (read.headers, read.body) = (vec![], Bytes::new());
    let (sealed, opener) = world.seal(&read);
    for _ in 0..3 {
        world.post(world.relay, sealed.clone()).await;
    }
    assert_eq!(body(opener, world.post(world.relay, sealed).await.body()), "answer 3");
    assert_eq!(world.exchange(&upload()).await.1.body, "answer 4");
    assert_eq!(world.exchange(&upload()).await.1.status, 503);
    let figures = world.figures().await;
    for line in [
        "mica_gateway_remembered{of=\"requests\"} 1",
        "mica_gateway_remembered_limit{of=\"requests\"} 1",
        "mica_gateway_remembered_limit{of=\"bytes\"} 52428800",
    ] {
        assert!(figures.lines().any(|it| it == line), "{line}\n{figures}");
    }
}

#[tokio::test]
async fn what_does_not_open_or_has_no_route_takes_no_memory() {
    let target = Target::new(created);
    let world = World::start_with(target.start().await, |config| config.replay.max_requests = 1).await;
    let (mut garbage, _) = world.seal(&upload());
    garbage[100] ^= 1;
    let mut elsewhere = upload();
    elsewhere.path = "/other".into();
    for _ in 0..5 {
        world.post(world.relay, garbage.clone()).await;
        world.exchange(&elsewhere).await;
    }
    assert_eq!(world.exchange(&upload()).await.1.status, 201);
}

#[tokio::test]
async fn a_request_that_never_reached_its_target_is_sent_on_when_the_target_is_there_again() {
    let (target, door) = (Target::new(numbered), Door::shut());
    let world = World::start(door.address).await;
    let (sealed, opener) = world.seal(&upload());
    assert_eq!(open(world.post(world.relay, sealed.clone()).await, opener).1.status, 502);
    assert_eq!(world.count(Outcome::Unreached), 1);
    door.open(target.router());
    for again in 0..2 {
        assert_eq!(world.post(world.relay, sealed.clone()).await.status(), 200);
        assert_eq!(target.seen().len(), 1);
        assert_eq!((world.count(Outcome::Forwarded), world.count(Outcome::Again)), (1, again));
    }
}

#[tokio::test]
async fn what_a_replica_could_not_send_on_another_sends_on() {
    let Some(database) = mica_service::testing::postgres().await else { return };
    let (target, door, clock) = (Target::new(numbered), Door::shut(), Clock::manual(1_700_000_000));
    let config = Config::new("127.0.0.1:0", database.url, routes(door.address));
    let (one, two) =
        (World::over(config.clone(), clock.clone()).await, World::over(config, clock.clone()).await);
    let (sealed, opener) = one.seal(&upload());
    assert_eq!(open(one.post(one.relay, sealed.clone()).await, opener).1.status, 502);
    door.open(target.router());
    for world in [&two, &one] {
        assert_eq!(world.post(world.relay, sealed.clone()).await.status(), 200);
        assert_eq!(target.seen().len(), 1);
    }
    let counts = (one.count(Outcome::Unreached), two.count(Outcome::Forwarded), one.count(Outcome::Again));
    assert_eq!(counts, (1, 1, 1));
}

#[tokio::test]
async fn a_request_that_its_target_may_have_is_not_sent_on_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    tokio::spawn(async move {
        // It reads the whole request and hangs up.
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut read = Vec::new();
            while !read.ends_with(b"report") {
                if tokio::io::AsyncReadExt::read_buf(&mut stream, &mut read).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let adjust = |config: &mut Config| {
        config.routes.iter_mut().for_each(|route| route.protocol = mica_gateway::Protocol::H1);
    };
    let world = World::start_with(address, adjust).await;
    let (sealed, opener) = world.seal(&upload());
    assert_eq!(open(world.post(world.relay, sealed.clone()).await, opener).1.status, 502);
    assert_eq!(world.post(world.relay, sealed).await.status(), 200);
    assert_eq!(taken.load(Ordering::SeqCst), 1);
    assert_eq!((world.count(Outcome::BadTarget), world.count(Outcome::Again)), (1, 1));
}
