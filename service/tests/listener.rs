//! The listener, over real sockets.
#![expect(clippy::unwrap_used, reason = "a helper that fails here fails the test that called it")]

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::ConnectInfo;
use axum::routing::{get, post};
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::listener::{BodyPace, Caller, Callers, Drained, Gauge, Limits, Listening, bind, serve};
use mica_service::shutdown::Shutdown;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::timeout;

struct Running {
    address: SocketAddr,
    shutdown: Shutdown,
    server: JoinHandle<Drained>,
    arrived: Arc<Notify>,
    release: Arc<Semaphore>,
}

/// A server that says hello, reads bodies, and holds `/held` back until it is released.
async fn start(limits: Limits) -> Running {
    let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let held = {
        let (arrived, release) = (Arc::clone(&arrived), Arc::clone(&release));
        move || async move {
            arrived.notify_one();
            release.acquire().await.unwrap().forget();
            "held"
        }
    };
    let router = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/length", post(|body: Bytes| async move { body.len().to_string() }))
        .route("/held", get(held))
        .route("/address", get(sees_address));
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let server = tokio::spawn(serve(listener, router, limits, shutdown.clone()));
    Running { address, shutdown, server, arrived, release }
}

async fn sees_address(request: axum::extract::Request) -> String {
    let known = request.extensions().get::<ConnectInfo<SocketAddr>>().is_some();
    format!("{known} {}", request.extensions().len())
}

fn short() -> Limits {
    Limits {
        header_timeout: Duration::from_millis(300),
        body_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(300),
        grace: Duration::from_secs(5),
        ..Limits::default()
    }
}

fn client(h2_prior_knowledge: bool) -> HttpClient {
    HttpClient::new(HttpOptions { h2_prior_knowledge, ..HttpOptions::default() })
}

async fn ask(client: &HttpClient, address: SocketAddr, path: &str) -> String {
    let request = http::Request::get(format!("http://{address}{path}")).body(Bytes::new()).unwrap();
    let answer = client.send(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    String::from_utf8(answer.into_body().to_vec()).unwrap()
}

/// Sends `bytes`, then every 50 ms one of `drip`, and measures how long the server puts up with it.
async fn patience(address: SocketAddr, bytes: &[u8], drip: &[u8]) -> (Duration, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let drip = drip.to_vec();
    let started = Instant::now();
    let dripping = tokio::spawn(async move {
        for byte in drip.iter().cycle() {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if write.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    });
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(10), read.read_to_end(&mut answer)).await.expect("it never gave up");
    dripping.abort();
    (started.elapsed(), answer)
}

#[tokio::test]
async fn both_versions_of_http_are_answered_on_one_port() {
    let running = start(Limits::default()).await;
    for h2 in [false, true] {
        let client = client(h2);
        assert_eq!(ask(&client, running.address, "/").await, "hello");
        let body = Bytes::from(vec![7; 3_000_000]);
        let url = format!("http://{}/length", running.address);
        let answer = client.send(http::Request::post(url).body(body).unwrap()).await.unwrap();
        // The limit on bodies is the router's, and axum's own default is 2 MB.
        assert_eq!(answer.status(), 413);
    }
}

#[tokio::test]
async fn headers_that_drip_in_do_not_hold_a_connection() {
    let running = start(short()).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice();
    let cases: [(&[u8], &[u8]); 5] = [
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"a"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b""),
        (b"", b""),
        (b"PRI * HT", b""),
        (preface, b""),
    ];
    for (bytes, drip) in cases {
        let (waited, _) = patience(running.address, bytes, drip).await;
        assert!(waited >= Duration::from_millis(250), "{bytes:?}: {waited:?}");
        assert!(waited < Duration::from_secs(5), "{bytes:?}: {waited:?}");
    }
    assert_eq!(ask(&client(false), running.address, "/").await, "hello");
}

#[tokio::test]
async fn a_body_that_drips_in_is_given_up() {
    let running = start(short()).await;
    let head = b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n";
    let (waited, answer) = patience(running.address, head, b"b").await;
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_body_that_keeps_its_pace_is_read_and_a_slower_one_is_not() {
    let min_bytes_per_second = NonZeroU32::new(10).unwrap();
    let body_pace = BodyPace { grace: Duration::from_millis(500), min_bytes_per_second };
    let running = start(Limits { body_pace, ..Limits::default() }).await;
    let head = b"POST /length HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 40\r\n\r\n";
    // A byte every 50 ms is twice the rate.
    let (waited, answer) = patience(running.address, head, b"b").await;
    assert!(answer.ends_with(b"40") && waited > Duration::from_secs(1), "{waited:?}");
    let (waited, answer) = patience(running.address, head, b"").await;
    assert!(answer.starts_with(b"HTTP/1.1 400") && waited < Duration::from_secs(5), "{waited:?}");
}

#[tokio::test]
async fn a_silent_connection_is_closed_and_a_working_one_is_not() {
    let running = start(short()).await;
    for h2 in [false, true] {
        let client = client(h2);
        assert_eq!(ask(&client, running.address, "/").await, "hello");
        let release = Arc::clone(&running.release);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            release.add_permits(1);
        });
        assert_eq!(ask(&client, running.address, "/held").await, "held", "longer than any timeout");
    }
    let (waited, answer) = patience(running.address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"").await;
    assert!(waited < Duration::from_secs(5) && answer.ends_with(b"hello"), "{waited:?}");
}

#[tokio::test]
async fn connections_over_the_cap_wait_for_their_turn() {
    let running = start(Limits { max_connections: 2, ..Limits::default() }).await;
    let mut served = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        say_hello(&mut stream).await.unwrap();
        served.push(stream);
    }
    let mut third = TcpStream::connect(running.address).await.unwrap();
    assert!(timeout(Duration::from_millis(300), say_hello(&mut third)).await.is_err(), "over the cap");
    served.pop();
    // Its request was sent above and is answered now.
    let mut answer = [0; 4];
    timeout(Duration::from_secs(10), third.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP");
}

async fn say_hello(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        answer.push(stream.read_u8().await?);
    }
    Ok(())
}

#[tokio::test]
async fn a_drain_finishes_what_was_begun_and_takes_nothing_new() {
    for h2 in [false, true] {
        let running = start(Limits::default()).await;
        let idle = TcpStream::connect(running.address).await.unwrap();
        let address = running.address;
        let held = tokio::spawn(async move { ask(&client(h2), address, "/held").await });
        running.arrived.notified().await;
        running.shutdown.trigger();
        let refused = async {
            while TcpStream::connect(address).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(10), refused).await.unwrap();
        running.release.add_permits(1);
        assert_eq!(held.await.unwrap(), "held");
        let drained = timeout(Duration::from_secs(10), running.server).await.unwrap().unwrap();
        assert_eq!(drained, Drained { cut: 0 });
        drop(idle);
    }
}

#[tokio::test]
async fn a_drain_does_not_wait_for_ever() {
    let running = start(Limits { grace: Duration::from_millis(200), ..Limits::default() }).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    running.arrived.notified().await;
    running.shutdown.trigger();
    let drained = timeout(Duration::from_secs(10), running.server).await.unwrap().unwrap();
    assert_eq!(drained, Drained { cut: 1 });
}

#[tokio::test]
async fn no_handler_can_learn_the_address_of_its_peer() {
    let running = start(Limits::default()).await;
    for h2 in [false, true] {
        assert!(ask(&client(h2), running.address, "/address").await.starts_with("false "));
    }
}

#[tokio::test]
async fn an_address_in_use_is_reported_with_what_to_do() {
    let first = bind("127.0.0.1:0").await.unwrap();
    let address = first.local_addr().unwrap();
    assert_eq!(
        bind(address).await.unwrap_err().to_string(),
        format!(
            "cannot listen on {address}: address already in use; stop the other program or choose another port"
        )
    );
    assert!(bind("not an address").await.is_err());
}

/// A server that refuses each request by its announced length, without looking at the body.
async fn refusing() -> SocketAddr {
    let refuse = |_: axum::extract::Request| async { http::StatusCode::PAYLOAD_TOO_LARGE };
    let router = Router::new().route("/", post(refuse));
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, router, Limits::default(), Shutdown::new()));
    address
}

/// S32.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_reaches_a_client_whose_body_nobody_reads() {
    let address = refusing().await;
    for h2 in [false, true] {
        let client = client(h2);
        for length in [10, 500 << 10, 2 << 20, 32 << 20] {
            for _ in 0..10 {
                let request = http::Request::post(format!("http://{address}/"));
                let answer = client.send(request.body(Bytes::from(vec![0; length])).unwrap()).await;
                assert_eq!(answer.map(|answer| answer.status().as_u16()), Ok(413), "{length}, h2: {h2}");
            }
        }
    }
}

/// Announces so many bytes, sends as many of them as the server puts up with, and only then reads.
async fn talkative(address: SocketAddr, announced: usize) -> (usize, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {announced}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let (piece, mut sent) = (vec![0; 64 << 10], 0);
    while sent < announced {
        let next = &piece[..piece.len().min(announced - sent)];
        let Ok(Ok(())) = timeout(Duration::from_secs(10), stream.write_all(next)).await else { break };
        sent += next.len();
    }
    let (mut answer, mut some) = (Vec::new(), [0; 1_000]);
    while let Ok(Ok(read @ 1..)) = timeout(Duration::from_secs(2), stream.read(&mut some)).await {
        answer.extend_from_slice(&some[..read]);
    }
    (sent, answer)
}

#[tokio::test]
async fn a_client_that_reads_last_is_heard_out_and_one_that_goes_on_for_ever_is_left() {
    let address = refusing().await;
    let (sent, answer) = talkative(address, 3 << 20).await;
    assert_eq!(sent, 3 << 20);
    assert!(answer.starts_with(b"HTTP/1.1 413"));
    let begun = Instant::now();
    let (sent, _) = talkative(address, 1 << 40).await;
    assert!(sent < 100 << 20, "{sent}");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_client_that_asks_before_it_sends_is_told_no_and_nothing_else() {
    let address = refusing().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_handler_can_know_a_caller_again_and_not_who_it_is() {
    let knows = async |request: axum::extract::Request| {
        let caller = request.extensions().get::<Caller>().unwrap().hash();
        let address = request.extensions().get::<ConnectInfo<SocketAddr>>().is_some();
        format!("{caller} {address}")
    };
    let mut seen = Vec::new();
    for _ in 0..2 {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listening = Listening {
            tls: None,
            router: Router::new().route("/", get(knows)),
            limits: Limits::default(),
            callers: Some(Callers::new(64)),
            gauge: Gauge::default(),
        };
        tokio::spawn(listening.serve(listener, Shutdown::new()));
        let (first, second) =
            (ask(&client(false), address, "/").await, ask(&client(true), address, "/").await);
        assert_eq!(first, second, "two connections of one machine");
        assert!(first.ends_with(" false"), "{first}");
        seen.push(first);
    }
    assert_ne!(seen[0], seen[1], "another key, another hash");
}

/// Waits until the server has closed the connection.
async fn until_closed(connection: JoinHandle<Result<(), h2::Error>>) {
    let _ = timeout(Duration::from_mins(1), connection).await.expect("it is closed").unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_left() {
    let body_pace = BodyPace { grace: Duration::from_millis(300), ..BodyPace::default() };
    let running = start(Limits { body_pace, ..Limits::default() }).await;
    // All of the window, and a byte of it: the rest of the answer lies in wait.
    for window in [0, 1] {
        let stream = TcpStream::connect(running.address).await.unwrap();
        let mut builder = h2::client::Builder::new();
        let (sender, connection) =
            builder.initial_window_size(window).handshake::<_, Bytes>(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut sender = sender.ready().await.unwrap();
        let request = http::Request::get(format!("http://{}/", running.address)).body(()).unwrap();
        let (answer, _) = sender.send_request(request, true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        until_closed(connection).await;
        drop((answer, sender));
    }
    assert_eq!(ask(&client(true), running.address, "/").await, "hello");
}

#[tokio::test]
async fn a_request_says_once_whom_it_is_for() {
    let running = start(Limits::default()).await;
    for (head, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", "400"),
        ("GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "200"),
        ("GET / HTTP/1.0\r\n\r\n", "200"),
    ] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        let said = String::from_utf8_lossy(&answer);
        assert!(said.ends_with(status), "{head:?}: {said}");
    }
}

#[tokio::test]
async fn headers_have_a_bound_however_their_version_is_found_out() {
    let running = start(Limits::default()).await;
    // What begins like HTTP/2 is looked at by another than what is plain from its first bytes.
    for first in ["GET", "P"] {
        for (length, status) in [(15_000, "200"), (17_000, "431")] {
            let rest = format!(" / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "x".repeat(length));
            let rest = if first == "P" { format!("OST{}", rest.replacen('/', "/length", 1)) } else { rest };
            let mut stream = TcpStream::connect(running.address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            stream.write_all(first.as_bytes()).await.unwrap();
            if first == "P" {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            stream.write_all(rest.as_bytes()).await.unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, *format!("HTTP/1.1 {status}").as_bytes(), "{first} {length}");
        }
    }
}
