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

/// RFC 9458 6.5: by a `Retry-After` clients know that nobody has acted on what they sent.
#[tokio::test]
async fn nobody_is_told_to_send_again_what_a_target_has_answered() {
    let long = |_| axum::response::Response::builder().status(201).body(vec![7; 20_000].into()).unwrap();
    let target = Target::new(long);
    let world = World::start_with(target.start().await, |config| config.max_buffered_bytes = 8 << 10).await;
    let (sealed, opener) = world.seal(&upload());
    let (_, inner) = open(world.post(world.relay, sealed.clone()).await, opener);
    assert_eq!((inner.status, inner.header("retry-after")), (502, None));
    assert_eq!(
        (world.count(Outcome::BadTarget), world.count(Outcome::Full)),
        (1, 0),
        "it may have been acted on"
    );
    let again = world.post(world.relay, sealed).await;
    assert_eq!((again.status(), world.count(Outcome::Again)), (StatusCode::OK, 1));
    assert_eq!(target.seen().len(), 1);
}

/// A relay would see in the time of one client's request what another one was told.
#[tokio::test]
async fn a_refusal_of_one_upload_is_not_seen_in_the_time_of_another() {
    let refuse = |before: usize| match before % 2 {
        0 => axum::response::Response::builder().status(413).body("".into()).unwrap(),
        _ => created(before),
    };
    let target = Target::new(refuse);
    let world = World::start_with(target.start().await, |config| config.routes[0].max_bytes = 4 << 20).await;
    let mut request = upload();
    request.body = vec![7; 100_000].into();
    // A machine may be slow, but not each time: with its end kept back, no upload takes less than 300 ms.
    for _ in 0..40 {
        assert_eq!(world.exchange(&request).await.1.status, 413);
        let since = std::time::Instant::now();
        assert_eq!(world.exchange(&request).await.1.status, 201);
        if since.elapsed() < Duration::from_millis(300) {
            return;
        }
    }
    panic!("the end of an upload is kept back after the refusal of another");
}

#[tokio::test]
async fn a_sealed_answer_keeps_its_place_until_its_relay_has_read_it() {
    let target = Target::new(created);
    let adjust = |config: &mut mica_gateway::Config| config.max_buffered_bytes = 64 << 10;
    let world = World::start_with(target.start().await, adjust).await;
    let stream = TcpStream::connect(world.gateway).await.unwrap();
    let mut builder = h2::client::Builder::new();
    let handshake = builder.initial_window_size(0).handshake::<_, bytes::Bytes>(stream);
    let (sender, connection) = handshake.await.unwrap();
    let connection = tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let head = http::Request::post(format!("http://{}/", world.gateway))
        .header("content-type", "message/ohttp-req")
        .body(())
        .unwrap();
    let (answer, mut sending) = sender.send_request(head, false).unwrap();
    sending.send_data(world.seal(&upload()).0.into(), true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let free = async || {
        let figures = world.figures().await;
        let line = figures.lines().find(|line| line.starts_with("mica_free_bytes ")).unwrap().to_owned();
        line.split(' ').nth(1).unwrap().parse::<usize>().unwrap()
    };
    assert!(free().await < 64 << 10, "the answer is not read");
    drop((answer, sending, sender));
    connection.abort();
    let given_back = async {
        while free().await < 64 << 10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(25), given_back).await.unwrap();
}

/// Listeners wait for 20 s when nobody says otherwise.
#[tokio::test]
async fn a_stop_waits_for_as_long_as_a_request_may_take() {
    let target = Target::new(created).slow(Duration::from_secs(22));
    let world =
        World::start_with(target.start().await, |config| config.timeout = Duration::from_mins(2)).await;
    let (sealed, opener) = world.seal(&upload());
    let asking = world.post(world.gateway, sealed);
    let stopping = async {
        while target.seen().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        world.stop();
    };
    let (outer, ()) = tokio::join!(asking, stopping);
    assert_eq!(open(outer, opener).1.status, 201);
    world.ended.wait().await;
}
