//! Senders that say much and send little, and one that really sends more than there is room for.

use std::time::Duration;

use http::StatusCode;
use mica_gateway::Outcome;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::world::{Target, World, created, open, upload};

/// Begins a request and sends no more than this of its body.
async fn begin(world: &World, announced: &str, sent: usize) -> TcpStream {
    let head =
        format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-type: message/ohttp-req\r\n{announced}\r\n\r\n");
    let mut stream = TcpStream::connect(world.gateway).await.unwrap();
    stream.write_all(&[head.as_bytes(), &vec![b'x'; sent]].concat()).await.unwrap();
    stream
}

async fn answer_to(mut stream: TcpStream) -> String {
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.unwrap();
    answer.truncate(length);
    String::from_utf8(answer).unwrap().to_ascii_lowercase()
}

#[tokio::test]
async fn many_who_announce_much_and_send_nothing_are_in_nobodys_way() {
    let target = Target::new(created);
    let adjust = |config: &mut mica_gateway::Config| config.max_buffered_bytes = 64 << 10;
    let world = World::start_with(target.start().await, adjust).await;
    let mut idle = Vec::new();
    for announced in ["content-length: 4194304", "transfer-encoding: chunked"] {
        for _ in 0..50 {
            idle.push(begin(&world, announced, 0).await);
        }
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    for _ in 0..10 {
        assert_eq!(world.exchange(&upload()).await.1.status, 201);
    }
    assert_eq!(world.count(Outcome::NotOpened), 0);
}

#[tokio::test]
async fn a_full_gateway_says_when_to_come_back_until_somebody_leaves() {
    let target = Target::new(created);
    let adjust = |config: &mut mica_gateway::Config| config.max_buffered_bytes = 512;
    let world = World::start_with(target.start().await, adjust).await;
    let half_sent = begin(&world, "content-length: 4194304", 512).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    // No byte of this one is sent.
    let answer = answer_to(begin(&world, "content-length: 512", 0).await).await;
    assert!(answer.starts_with("http/1.1 503") && answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    let (sealed, opener) = world.seal(&upload());
    assert_eq!(world.post(world.relay, sealed.clone()).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.count(Outcome::NotOpened), 2);
    drop(half_sent);
    for _ in 0..500 {
        let outer = world.post(world.relay, sealed.clone()).await;
        if outer.status() == StatusCode::OK {
            assert_eq!(open(outer, opener).1.status, 201);
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the room is never given back");
}

#[tokio::test]
async fn a_request_that_comes_too_slowly_is_told_so() {
    let target = Target::new(created);
    let adjust = |config: &mut mica_gateway::Config| config.bodies.grace = Duration::from_millis(300);
    let world = World::start_with(target.start().await, adjust).await;
    let answer = answer_to(begin(&world, "content-length: 4194304", 100_000).await).await;
    assert!(answer.starts_with("http/1.1 408"), "{answer}");
    assert!(answer.contains("application/problem+json") && answer.contains("too slowly"), "{answer}");
}

#[tokio::test]
async fn what_waits_for_its_target_is_still_in_memory() {
    let target = Target::new(created).slow(Duration::from_secs(1));
    let adjust = |config: &mut mica_gateway::Config| config.max_buffered_bytes = 512;
    let world = World::start_with(target.start().await, adjust).await;
    let waiting = async {
        let (outer, _) = world.exchange(&upload()).await;
        assert_eq!(outer.status(), StatusCode::OK);
    };
    let asking = async {
        while target.seen().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let answer = answer_to(begin(&world, "content-length: 512", 0).await).await;
        assert!(answer.starts_with("http/1.1 503"), "{answer}");
    };
    tokio::join!(waiting, asking);
    assert_eq!(world.exchange(&upload()).await.1.status, 201);
}

#[tokio::test]
async fn the_largest_reports_pass_relay_and_gateway_with_their_defaults() {
    let target = Target::new(created);
    let adjust = |config: &mut mica_gateway::Config| config.routes[0].max_bytes = 4 << 20;
    let world = World::start_with(target.start().await, adjust).await;
    let mut request = upload();
    request.body = vec![7; 1_700_000].into();
    assert_eq!(world.exchange(&request).await.1.status, 201);
    assert_eq!(target.seen()[0].body, request.body);
}
