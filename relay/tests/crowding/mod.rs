//! Clients that say much and send little, and clients that really send more than there is room for.

use std::{
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use mica_relay::{Config, Outcome};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tower::ServiceExt;

use crate::{
    sealed_answer,
    world::{RunningRelay, ScriptedGateway, client, send_from, start_relay},
};

/// Begins a request and sends no more than this of its body.
async fn begin(relay: SocketAddr, announced: &str, sent: usize) -> TcpStream {
    let head =
        format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-type: message/ohttp-req\r\n{announced}\r\n\r\n");
    let mut stream = TcpStream::connect(relay).await.unwrap();
    stream.write_all(&[head.as_bytes(), &vec![b'x'; sent]].concat()).await.unwrap();
    stream
}

/// Whether a request of this length is forwarded. One that is refused may find its connection closed.
async fn is_forwarded(relay: &RunningRelay, length: usize) -> bool {
    let request = relay.sealed_request().map(|_| vec![0x5a; length].into());
    client(false).send(request).await.is_ok_and(|answer| answer.status() == StatusCode::OK)
}

/// Asks until there is room again for a request of this length.
async fn until_forwarded(relay: &RunningRelay, length: usize) {
    for _ in 0..500 {
        if is_forwarded(relay, length).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the room is never given back");
}

#[tokio::test]
async fn many_who_announce_much_and_send_nothing_are_in_nobodys_way() {
    let gateway = ScriptedGateway::new(sealed_answer);
    let relay = start_relay(gateway.start().await, |config| config.max_buffered_bytes = 64 << 10).await;
    let mut idle = Vec::new();
    for announced in ["content-length: 4194304", "transfer-encoding: chunked"] {
        for _ in 0..50 {
            idle.push(begin(relay.address, announced, 0).await);
        }
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    for _ in 0..10 {
        assert!(is_forwarded(&relay, 512).await);
    }
    assert_eq!(relay.counters.count(Outcome::Full), 0);
}

/// All from one address, and so many that they would hold every connection, each for longer than a client waits.
#[tokio::test]
async fn one_address_cannot_hold_the_connections_of_others() {
    let gateway = ScriptedGateway::new(sealed_answer);
    let adjust = |config: &mut Config| {
        config.max_connections = 32;
        config.bodies.grace = Duration::from_mins(1);
    };
    let relay = start_relay(gateway.start().await, adjust).await;
    let mut attack = JoinSet::new();
    for _ in 0..100 {
        let address = relay.address;
        attack.spawn(async move {
            let head = "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: message/ohttp-req\r\ncontent-length: 512\r\n\r\nx";
            let mut stream = TcpStream::connect(address).await.unwrap();
            // Closed ones fail here or there.
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
    }
    let closed = async {
        for _ in 16..100 {
            attack.join_next().await.unwrap().unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(30), closed).await.expect("more than 16 are closed at once");
    for _ in 0..20 {
        let honest = send_from(2, relay.address, vec![0x5a; 512]);
        assert_eq!(tokio::time::timeout(Duration::from_secs(30), honest).await, Ok(200));
    }
    assert!(attack.try_join_next().is_none(), "16 are still there");
    attack.shutdown().await;
    until_forwarded(&relay, 512).await;
}

#[tokio::test]
async fn a_full_relay_asks_for_patience_until_somebody_leaves() {
    let gateway = ScriptedGateway::new(sealed_answer);
    let relay = start_relay(gateway.start().await, |config| config.max_buffered_bytes = 64 << 10).await;
    let mut half_sent = Vec::new();
    for _ in 0..40 {
        half_sent.push(begin(relay.address, "content-length: 4194304", 26 << 10).await);
    }
    // One of them finds room where large ones may, and nothing is kept of the others.
    let refused = async {
        while relay.counters.count(Outcome::Full) < 39 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), refused).await.unwrap();
    assert!(!is_forwarded(&relay, 64 << 10).await);
    drop(half_sent);
    until_forwarded(&relay, 64 << 10).await;
}

#[tokio::test]
async fn clients_that_send_much_and_slowly_are_given_up_and_leave_room_for_small_requests() {
    let gateway = ScriptedGateway::new(sealed_answer);
    let adjust = |config: &mut Config| {
        config.max_buffered_bytes = 512 << 10;
        config.bodies.grace = Duration::from_secs(2);
    };
    let relay = start_relay(gateway.start().await, adjust).await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(begin(relay.address, "content-length: 4194304", 100 << 10).await);
    }
    let full = async {
        while relay.counters.count(Outcome::Full) < 17 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), full).await.unwrap();
    assert!(is_forwarded(&relay, 60 << 10).await, "there is room for small ones");
    assert!(!is_forwarded(&relay, 300 << 10).await);
    let given_up = async {
        while relay.counters.count(Outcome::TooSlow) < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), given_up).await.unwrap();
    assert!(is_forwarded(&relay, 300 << 10).await, "the room is given back");
}

#[tokio::test]
async fn a_refused_client_is_told_when_to_come_back() {
    let gateway = ScriptedGateway::new(sealed_answer).slow(Duration::from_secs(1));
    let relay = start_relay(gateway.start().await, |config| config.max_buffered_bytes = 512).await;
    let request = relay.sealed_request();
    let first = tokio::spawn(async move { client(true).send(request).await });
    while gateway.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // What waits for the gateway is still in memory. No byte of this one is sent.
    let mut stream = begin(relay.address, "content-length: 512", 0).await;
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.unwrap();
    answer.truncate(length);
    let answer = String::from_utf8(answer).unwrap().to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 503") && answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::OK);
    until_forwarded(&relay, 512).await;
}

#[tokio::test]
async fn the_largest_reports_pass_a_relay_with_its_defaults() {
    let gateway = ScriptedGateway::new(sealed_answer);
    let relay = start_relay(gateway.start().await, |_| ()).await;
    for length in [2 << 20, 4 << 20] {
        assert!(is_forwarded(&relay, length).await);
    }
    assert!(!is_forwarded(&relay, (4 << 20) + 1).await);
    let lengths: Vec<usize> = gateway.seen().iter().map(|seen| seen.body.len()).collect();
    assert_eq!(lengths, [2 << 20, 4 << 20]);
}

/// So many bytes, and then nothing, for ever.
struct Stuck(usize);

impl http_body::Body for Stuck {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        let piece = self.0.min(16 << 10);
        self.0 -= piece;
        if piece == 0 {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from(vec![7; piece])))))
    }
}

#[tokio::test]
async fn answers_that_a_gateway_does_not_end_take_the_room_there_is_and_no_more() {
    let gateway = ScriptedGateway::new(|| {
        let answer = Response::builder().header("content-type", "message/ohttp-res");
        answer.body(Body::new(Stuck(500 << 10))).unwrap()
    });
    let relay = start_relay(gateway.start().await, |config| config.max_buffered_bytes = 1 << 20).await;
    let mut all = Vec::new();
    for _ in 0..20 {
        let request = relay.sealed_request();
        all.push(tokio::spawn(async move { client(true).send(request).await }));
    }
    // One of them finds room where large ones may.
    let refused = async {
        while relay.counters.count(Outcome::Full) < 19 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(25), refused).await.unwrap();
    all.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn an_answer_keeps_its_place_until_its_client_has_read_it() {
    let gateway = ScriptedGateway::new(sealed_answer);
    let adjust = |config: &mut Config| config.max_buffered_bytes = 600;
    let relay = start_relay(gateway.start().await, adjust).await;
    let stream = TcpStream::connect(relay.address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    let (sender, connection) = builder.initial_window_size(0).handshake::<_, Bytes>(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let (head, body) = relay.sealed_request().into_parts();
    let (answer, mut sending) = sender.send_request(http::Request::from_parts(head, ()), false).unwrap();
    sending.send_data(body, true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(sender.current_max_send_streams(), 32);
    let free = async || {
        let request = http::Request::get("/metrics").body(Body::empty()).unwrap();
        let answer = relay.operations.clone().router(None).oneshot(request).await.unwrap();
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(text.to_vec()).unwrap();
        let line = text.lines().find(|line| line.starts_with("mica_free_bytes ")).unwrap().to_owned();
        line.split(' ').nth(1).unwrap().parse::<usize>().unwrap()
    };
    assert!(free().await < 600, "the answer is not read");
    drop((answer, sending, sender));
    connection.abort();
    let given_back = async {
        while free().await < 600 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(25), given_back).await.unwrap();
}

/// RFC 9458 6.5: by a `Retry-After` clients know that nobody has acted on what they sent.
#[tokio::test]
async fn nobody_is_told_to_send_again_what_the_gateway_has_answered() {
    let gateway = ScriptedGateway::new(|| {
        let answer = Response::builder().header("content-type", "message/ohttp-res");
        answer.body(Body::new(Stuck(500 << 10))).unwrap()
    });
    let relay = start_relay(gateway.start().await, |config| config.max_buffered_bytes = 1 << 20).await;
    let mut all = JoinSet::new();
    for _ in 0..3 {
        let request = relay.sealed_request();
        all.spawn(async move { client(true).send(request).await.unwrap() });
    }
    // One of them finds room where large ones may.
    for _ in 0..2 {
        let answer = all.join_next().await.unwrap().unwrap();
        assert_eq!((answer.status(), answer.headers().get("retry-after")), (StatusCode::BAD_GATEWAY, None));
    }
    assert_eq!((gateway.seen().len(), relay.counters.count(Outcome::Full)), (3, 2), "the operator sees why");
}
