//! The HTTP client, against servers that misbehave.
#![expect(clippy::unwrap_used, reason = "a helper that fails here fails the test that called it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use mica_service::http::{HttpClient, HttpOptions, Peer, PeerError, Sent};
use mica_service::tls::{PeerTls, Peers};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Answers each request on a connection with the next of `answers`, then closes it. Counts requests.
async fn server(answers: &'static [&'static [u8]]) -> (SocketAddr, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counters = (Arc::clone(&connections), Arc::clone(&requests));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counters.0.fetch_add(1, Ordering::SeqCst);
            let requests = Arc::clone(&counters.1);
            tokio::spawn(async move {
                for answer in answers {
                    if !read_request(&mut stream).await {
                        return;
                    }
                    requests.fetch_add(1, Ordering::SeqCst);
                    stream.write_all(answer).await.unwrap();
                }
            });
        }
    });
    (address, connections, requests)
}

async fn read_request(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return false,
        }
    }
    true
}

async fn get(client: &HttpClient, address: SocketAddr) -> Result<http::Response<Bytes>, PeerError> {
    let request = Request::get(format!("http://{address}/secret/path?q=1")).body(Bytes::new()).unwrap();
    client.send(request).await
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn connections_are_used_again() {
    let (address, connections, requests) = server(&[OK, OK, OK]).await;
    let client = HttpClient::new(HttpOptions::default());
    for _ in 0..3 {
        assert_eq!(get(&client, address).await.unwrap().body(), "ok");
    }
    assert_eq!((connections.load(Ordering::SeqCst), requests.load(Ordering::SeqCst)), (1, 3));
}

#[tokio::test]
async fn of_a_connection_that_was_refused_it_is_known_that_nothing_was_sent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let refused = get(&HttpClient::new(HttpOptions::default()), address).await.unwrap_err();
    assert!(matches!(refused, PeerError::Unreachable { sent: Sent::Nothing, .. }), "{refused:?}");
    assert_eq!(refused.sent(), Sent::Nothing);
}

#[tokio::test]
async fn a_request_on_a_connection_that_breaks_is_not_sent_again() {
    // The second request on the connection is read, and answered with nothing but the end.
    let (address, _, requests) = server(&[OK, b""]).await;
    let client = HttpClient::new(HttpOptions::default());
    assert!(get(&client, address).await.is_ok());
    let broken = get(&client, address).await.unwrap_err();
    assert!(matches!(broken, PeerError::Unreachable { .. }), "{broken:?}");
    assert_eq!(broken.sent(), Sent::All, "it was read");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(requests.load(Ordering::SeqCst), 2);
}

/// R25: in HTTP/1.1 a client sees only when it sends that a connection was closed meanwhile. Nothing of the request has left
/// then, and still it is for the caller to send it again.
#[tokio::test]
async fn a_request_whose_pooled_connection_was_closed_meanwhile_is_not_sent_again() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (close, closing) = std::sync::mpsc::channel();
    let (closed, is_closed) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 1_000];
        assert!(std::io::Read::read(&mut stream, &mut head).unwrap() > 0);
        std::io::Write::write_all(&mut stream, OK).unwrap();
        closing.recv().unwrap();
        drop(stream);
        closed.send(()).unwrap();
        closing.recv().unwrap();
        listener.set_nonblocking(true).unwrap();
        listener.accept().is_ok()
    });
    let client = HttpClient::new(HttpOptions { timeout: Duration::from_secs(5), ..HttpOptions::default() });
    assert_eq!(get(&client, address).await.unwrap().body(), "ok");
    // Until it is back in the pool.
    tokio::time::sleep(Duration::from_millis(300)).await;
    close.send(()).unwrap();
    // The runtime stands still meanwhile. Then it sees the end of the connection and lets us go on first, so that the request
    // is queued when whoever serves the connection comes to it: that is what could be sent again.
    is_closed.recv().unwrap();
    tokio::task::yield_now().await;
    let broken = post(&client, address, 100).await.unwrap_err();
    assert!(matches!(broken, PeerError::Unreachable { sent: Sent::Nothing, .. }), "{broken:?}");
    close.send(()).unwrap();
    assert!(!server.join().unwrap(), "nobody came again");
}

async fn post(client: &HttpClient, address: SocketAddr, length: usize) -> Result<u16, PeerError> {
    let request = Request::post(format!("http://{address}/")).body(Bytes::from(vec![7; length])).unwrap();
    client.send(request).await.map(|answer| answer.status().as_u16())
}

/// S32: what is refused by its announced length never arrives, and the client knows it.
#[tokio::test]
async fn of_a_connection_that_breaks_within_a_request_it_is_known_that_it_did_not_arrive() {
    let client = HttpClient::new(HttpOptions::default());
    for length in [300 << 10, 2 << 20, 32 << 20] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answered = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Closed with the body unread, so that the connection is reset.
            assert!(read_request(&mut stream).await);
        });
        let broken = post(&client, address, length).await.unwrap_err();
        answered.await.unwrap();
        assert!(matches!(broken, PeerError::Unreachable { sent: Sent::Part, .. }), "{length}: {broken:?}");
    }
}

#[tokio::test]
async fn redirects_are_answers_and_not_followed() {
    let (address, _, requests) =
        server(&[b"HTTP/1.1 307 x\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"]).await;
    let answer = get(&HttpClient::new(HttpOptions::default()), address).await.unwrap();
    assert_eq!((answer.status().as_u16(), requests.load(Ordering::SeqCst)), (307, 1));
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_refused_announced_or_not() {
    let client = HttpClient::new(HttpOptions { max_response: 10, ..HttpOptions::default() });
    let announced: &[&[u8]] = &[b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n"];
    let chunked: &[&[u8]] =
        &[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n123456\r\n6\r\n123456\r\n0\r\n\r\n"];
    for answers in [announced, chunked] {
        let (address, ..) = server(answers).await;
        let refused = get(&client, address).await.unwrap_err();
        assert_eq!(refused, PeerError::TooLarge { origin: format!("http://{address}"), limit: 10 });
    }
}

/// Many connections would else hold more than all answers may take.
#[tokio::test]
async fn a_connection_of_http_1_reads_no_more_ahead_than_the_head_of_an_answer_may_be_long() {
    for (length, is_read) in [(15_000, true), (17_000, false)] {
        let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\nContent-Length: 2\r\n\r\nok", "a".repeat(length));
        let answers: &'static [&'static [u8]] = Box::leak(Box::new([&*head.into_bytes().leak()]));
        let (address, ..) = server(answers).await;
        assert_eq!(get(&HttpClient::new(HttpOptions::default()), address).await.is_ok(), is_read);
    }
}

#[tokio::test]
async fn the_timeout_covers_the_whole_answer() {
    let client =
        HttpClient::new(HttpOptions { timeout: Duration::from_millis(300), ..HttpOptions::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(read_request(&mut stream).await);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await.unwrap();
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(matches!(get(&client, address).await, Err(PeerError::Timeout { .. })));
}

#[tokio::test]
async fn a_request_that_is_given_up_before_its_end_has_left_did_not_arrive() {
    let options = HttpOptions { timeout: Duration::from_millis(300), ..HttpOptions::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            silent.push(stream);
        }
    });
    for (length, sent) in [(32 << 20, Sent::Part), (100, Sent::All)] {
        let late = post(&HttpClient::new(options.clone()), address, length).await.unwrap_err();
        assert!(matches!(late, PeerError::Timeout { .. }) && late.sent() == sent, "{late:?}");
    }
}

#[tokio::test]
async fn a_refusal_by_size_that_breaks_off_is_a_refusal() {
    let (address, ..) = server(&[b"HTTP/1.1 413 x\r\nContent-Length: 100\r\n\r\nToo"]).await;
    let client = HttpClient::new(HttpOptions::default());
    assert_eq!(post(&client, address, 10).await, Ok(413));
}

#[tokio::test]
async fn errors_name_the_origin_and_nothing_else() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for h2_prior_knowledge in [false, true] {
        let client = HttpClient::new(HttpOptions { h2_prior_knowledge, ..HttpOptions::default() });
        let refused = get(&client, free).await.unwrap_err();
        assert_eq!(refused.to_string(), format!("cannot reach http://{free}: connection refused"));
        assert!(!format!("{refused:?}").contains("secret"));
    }
    let client = HttpClient::new(HttpOptions::default());
    let request = Request::get("https://no-such-host.invalid/secret").body(Bytes::new()).unwrap();
    let refused = client.send(request).await.unwrap_err().to_string();
    assert!(refused.starts_with("cannot reach https://no-such-host.invalid: "), "{refused}");
}

#[tokio::test]
async fn plain_http_stays_on_this_machine_unless_it_is_allowed_to_leave() {
    let request = || Request::get("http://no-such-host.invalid/secret").body(Bytes::new()).unwrap();
    let refused = HttpClient::new(HttpOptions::default()).send(request()).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "http://no-such-host.invalid is plain HTTP to another machine; use https://, or allow it with --insecure-peers"
    );
    let peers = Peers::load(&PeerTls::default(), true).unwrap();
    let client = HttpClient::new(HttpOptions { peers, ..HttpOptions::default() });
    let refused = client.send(request()).await.unwrap_err().to_string();
    assert!(refused.starts_with("cannot reach http://no-such-host.invalid: "), "{refused}");
}

#[test]
fn a_peer_is_an_origin_and_a_path() {
    let peer = Peer::parse("http://leader.example:8080/dap/").unwrap();
    assert_eq!(peer.origin(), "http://leader.example:8080");
    assert_eq!(peer.url("tasks/x/reports"), "http://leader.example:8080/dap/tasks/x/reports");
    assert_eq!(Peer::parse("http://a").unwrap().url("/hpke_config"), "http://a/hpke_config");
    for bad in ["", "/path", "ftp://a/", "http://u:p@a/", "http://a/?x", "leader.example"] {
        assert!(Peer::parse(bad).is_err(), "{bad}");
    }
}

/// A relay drops answers for which it has no room, and what was under way of them still comes.
#[tokio::test]
async fn answers_that_are_refused_cost_no_other_request_on_their_connection() {
    let (arrived, release) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Semaphore::new(0)));
    let held = {
        let (arrived, release) = (Arc::clone(&arrived), Arc::clone(&release));
        move || async move {
            arrived.notify_one();
            release.acquire().await.unwrap().forget();
            "held"
        }
    };
    let router = axum::Router::new()
        .route("/large", axum::routing::get(|| async { vec![0_u8; 60_000] }))
        .route("/held", axum::routing::get(held));
    let listener = mica_service::listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = mica_service::listener::Limits { max_streams: 1_000, ..Default::default() };
    let shutdown = mica_service::shutdown::Shutdown::new();
    tokio::spawn(mica_service::listener::serve(listener, router, limits, shutdown.clone()));
    let client = HttpClient::new(HttpOptions {
        h2_prior_knowledge: true,
        max_response: 1_000,
        ..HttpOptions::default()
    });
    let ask = |path: &str| {
        let request = Request::get(format!("http://{address}{path}")).body(Bytes::new()).unwrap();
        let client = client.clone();
        tokio::spawn(async move { client.send(request).await })
    };
    let slow = ask("/held");
    arrived.notified().await;
    for _ in 0..20 {
        let refused: Vec<_> = (0..200).map(|_| ask("/large")).collect();
        for answer in refused {
            assert!(answer.await.unwrap().is_err(), "it is too large");
        }
    }
    release.add_permits(1);
    assert_eq!(slow.await.unwrap().expect("an answer").body(), "held");
    shutdown.trigger();
}
