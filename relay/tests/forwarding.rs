//! What passes a relay, in both directions, and what does not.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic anywhere")]

mod clients;
mod crowding;
mod hostile;
mod mirroring;
mod mixing;
mod operations;
mod world;

use std::{
    collections::BTreeSet,
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Version};
use mica_relay::{Config, Outcome, Protocol, Relay};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};
use world::{ScriptedGateway, client, start_relay};

fn sealed_answer() -> Response {
    Response::builder()
        .header("content-type", "message/ohttp-res")
        .header("cache-control", "no-store")
        .body(Body::from(vec![0x7b; 1024]))
        .unwrap()
}

fn names(headers: &HeaderMap) -> BTreeSet<&str> {
    headers.keys().map(http::HeaderName::as_str).collect()
}

/// Everything a client, or something between a client and the relay, may add to a request.
fn with_everything(mut request: Request<Bytes>) -> Request<Bytes> {
    for (name, value) in [
        ("user-agent", "canary/1"),
        ("cookie", "canary=1"),
        ("authorization", "Bearer canary"),
        ("forwarded", "for=203.0.113.9"),
        ("x-forwarded-for", "203.0.113.9"),
        ("via", "1.1 canary"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "canary=1"),
        ("baggage", "canary=1"),
        ("accept", "canary/canary"),
        ("accept-language", "canary"),
        ("date", "Sat, 21 Nov 2026 12:00:00 GMT"),
        ("referer", "https://canary.example/"),
        ("origin", "https://canary.example"),
        ("cf-connecting-ip", "203.0.113.9"),
        ("incremental", "?1"),
        ("x-canary", "canary"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn gateway_sees_the_block_and_no_header_of_the_client() {
    for (client_h2, gateway_protocol) in [(false, Protocol::H2), (true, Protocol::H2), (true, Protocol::H1)] {
        let gateway = ScriptedGateway::new(sealed_answer);
        let relay =
            start_relay(gateway.start().await, |config| config.gateway_protocol = gateway_protocol).await;
        let answer = client(client_h2).send(with_everything(relay.sealed_request())).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);

        let seen = gateway.seen();
        let [request] = &seen[..] else { panic!("exactly one request") };
        assert_eq!(request.method, Method::POST);
        assert_eq!(request.uri.path_and_query().unwrap(), "/.well-known/ohttp-gateway");
        assert_eq!(request.body, vec![0x5a; 512]);
        assert_eq!(request.headers["content-type"], "message/ohttp-req");
        assert_eq!(request.headers["content-length"], "512");
        let mut expected = BTreeSet::from(["content-length", "content-type"]);
        if request.version < Version::HTTP_2 {
            expected.insert("host");
        }
        assert_eq!(names(&request.headers), expected);
        let everything = format!("{:?}{}", request.headers, request.uri);
        assert!(!everything.contains("canary") && !everything.contains("203.0.113.9"));
    }
}

#[tokio::test]
async fn client_sees_status_type_length_and_caching_and_nothing_else_of_the_answer() {
    let gateway = ScriptedGateway::new(|| {
        let mut response = sealed_answer();
        for name in
            ["set-cookie", "etag", "server", "via", "x-canary", "alt-svc", "traceparent", "age", "location"]
        {
            response.headers_mut().insert(name, "canary".parse().unwrap());
        }
        response
    });
    let relay = start_relay(gateway.start().await, |_| ()).await;
    for h2 in [false, true] {
        let answer = client(h2).send(relay.sealed_request()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.body(), &vec![0x7b; 1024]);
        assert_eq!(answer.headers()["content-type"], "message/ohttp-res");
        // the date is the relay's own
        assert_eq!(
            names(answer.headers()),
            BTreeSet::from(["cache-control", "content-length", "content-type", "date"])
        );
        assert!(!format!("{:?}", answer.headers()).contains("canary"));
    }
}

#[tokio::test]
async fn an_error_of_the_gateway_is_passed_on() {
    let gateway = ScriptedGateway::new(|| {
        let mut response = Response::new(Body::from("{}"));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        response.headers_mut().insert("content-type", "application/problem+json".parse().unwrap());
        response
    });
    let relay = start_relay(gateway.start().await, |_| ()).await;
    let answer = client(false).send(relay.sealed_request()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert_eq!(relay.counters.count(Outcome::Forwarded), 1);
}

#[tokio::test]
async fn a_redirect_is_neither_followed_nor_passed_on() {
    let gateway = ScriptedGateway::new(|| {
        Response::builder().status(307).header("location", "http://203.0.113.9/").body(Body::empty()).unwrap()
    });
    let relay = start_relay(gateway.start().await, |_| ()).await;
    let answer = client(false).send(relay.sealed_request()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert!(!answer.headers().contains_key("location"));
    assert_eq!(gateway.seen().len(), 1);
    assert_eq!(relay.counters.count(Outcome::BadAnswer), 1);
}

#[tokio::test]
async fn what_a_relay_does_not_take_never_reaches_the_gateway() {
    let gateway = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = start_relay(gateway.local_addr().unwrap(), |config| config.max_request_bytes = 1024).await;
    let request = |change: &dyn Fn(&mut Request<Bytes>)| {
        let mut request = relay.sealed_request();
        change(&mut request);
        async move { client(false).send(request).await }
    };
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH] {
        let answer = request(&|request| *request.method_mut() = method.clone()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.headers()["allow"], "POST");
    }
    for media in [
        "message/ohttp-chunked-req",
        "message/ohttp-res",
        "message/ohttp-req; charset=utf-8",
        "message/ohttp-req, message/ohttp-req",
        "application/octet-stream",
        "",
    ] {
        let change = |request: &mut Request<Bytes>| {
            request.headers_mut().insert("content-type", media.parse().unwrap());
        };
        assert_eq!(request(&change).await.unwrap().status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{media}");
    }
    let twice = |request: &mut Request<Bytes>| {
        request.headers_mut().append("content-type", "message/ohttp-req".parse().unwrap());
    };
    assert_eq!(request(&twice).await.unwrap().status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let none = |request: &mut Request<Bytes>| request.headers_mut().clear();
    assert_eq!(request(&none).await.unwrap().status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let long = |request: &mut Request<Bytes>| *request.body_mut() = vec![0; 1025].into();
    assert_eq!(request(&long).await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    let empty = |request: &mut Request<Bytes>| *request.body_mut() = Bytes::new();
    assert_eq!(request(&empty).await.unwrap().status(), StatusCode::BAD_REQUEST);
    let elsewhere = |request: &mut Request<Bytes>| {
        *request.uri_mut() = format!("http://{}/other", relay.address).parse().unwrap();
    };
    assert_eq!(request(&elsewhere).await.unwrap().status(), StatusCode::NOT_FOUND);

    let counted = [Outcome::Method, Outcome::MediaType, Outcome::TooLarge, Outcome::Incomplete];
    assert_eq!(counted.map(|outcome| relay.counters.count(outcome)), [5, 8, 1, 1]);
    let connection = tokio::time::timeout(Duration::from_millis(100), gateway.accept()).await;
    assert!(connection.is_err(), "no connection was made");
}

#[tokio::test]
async fn a_long_body_without_a_declared_length_is_refused() {
    let gateway = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = start_relay(gateway.local_addr().unwrap(), |config| config.max_request_bytes = 1024).await;
    let mut stream = TcpStream::connect(relay.address).await.unwrap();
    let head =
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: message/ohttp-req\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(format!("800\r\n{}\r\n0\r\n\r\n", "x".repeat(0x800)).as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn an_unreachable_gateway_is_a_502() {
    let gateway = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gateway.local_addr().unwrap();
    drop(gateway);
    let relay = start_relay(address, |_| ()).await;
    let answer = client(false).send(relay.sealed_request()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(relay.counters.count(Outcome::Unreachable), 1);
}

#[tokio::test]
async fn a_slow_gateway_is_a_504() {
    let gateway = ScriptedGateway::new(sealed_answer).slow(Duration::from_secs(30));
    let relay =
        start_relay(gateway.start().await, |config| config.timeout = Duration::from_millis(200)).await;
    let answer = client(false).send(relay.sealed_request()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(relay.counters.count(Outcome::Timeout), 1);
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_a_502() {
    let gateway = ScriptedGateway::new(sealed_answer);
    let relay = start_relay(gateway.start().await, |config| config.max_response_bytes = 1023).await;
    let answer = client(false).send(relay.sealed_request()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
}

/// A gateway that dies in the middle may have done its work: sending again is the client's decision.
#[tokio::test]
async fn a_request_whose_connection_broke_is_not_sent_again() {
    let gateway = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gateway.local_addr().unwrap();
    let requests = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&requests);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = gateway.accept().await.unwrap();
            let mut read = vec![0; 4096];
            let mut total = 0;
            while total < 512 {
                total += stream.read(&mut read).await.unwrap();
            }
            *counted.lock().unwrap() += 1;
        }
    });
    for protocol in [Protocol::H1, Protocol::H2] {
        let relay = start_relay(address, |config| config.gateway_protocol = protocol).await;
        let answer = client(false).send(relay.sealed_request()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(*requests.lock().unwrap(), 2);
}

#[tokio::test]
async fn a_relay_that_stops_finishes_what_was_begun() {
    let gateway = ScriptedGateway::new(sealed_answer).slow(Duration::from_millis(300));
    let relay = start_relay(gateway.start().await, |_| ()).await;
    let asked = tokio::spawn({
        let request = relay.sealed_request();
        async move { client(true).send(request).await }
    });
    while gateway.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    relay.shutdown.trigger();
    assert_eq!(asked.await.unwrap().unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_relay_says_that_it_is_alive() {
    let relay = start_relay("127.0.0.1:9".parse().unwrap(), |_| ()).await;
    let request = Request::get(format!("http://{}/health", relay.address)).body(Bytes::new()).unwrap();
    assert_eq!(client(false).send(request).await.unwrap().status(), StatusCode::OK);
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// What the relay and its server write into the log on this thread, with as much as there can be of it.
fn capture() -> (Captured, impl Sized) {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("mica_relay=trace,mica_service=trace")
        .without_time()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    // As long as there is one listener only, a line that another test's thread meets first is silenced for all of them.
    let second = tracing::Dispatch::new(tracing_subscriber::registry());
    tracing::callsite::rebuild_interest_cache();
    (captured, (guard, second))
}

#[tokio::test]
async fn logs_name_no_client_no_path_and_no_length() {
    let (captured, _listening) = capture();
    let gateway = ScriptedGateway::new(sealed_answer);
    let relay = start_relay(gateway.start().await, |config| config.path = "/canary-path".to_owned()).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.77:0".parse().unwrap()).unwrap();
    let mut stream = socket.connect(relay.address).await.unwrap();
    let head = "POST /canary-path HTTP/1.1\r\nhost: canary.example\r\nuser-agent: canary\r\nconnection: close\r\n\
                content-type: message/ohttp-req\r\ncontent-length: 517\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&[0x5a; 517]).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));

    let log = captured.text();
    assert!(log.contains("forwarded"), "the capture works: {log}");
    assert!(!log.contains("127.0.0.77") && !log.contains("canary"), "{log}");
    // the relay's own address has digits as well
    let log: String = log.lines().filter(|line| !line.contains("listening")).collect();
    let port = stream.local_addr().unwrap().port().to_string();
    for secret in [port.as_str(), "517", "1024"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

/// Clients must not be able to fill a disk with lines, or a file with the moments at which they came.
#[tokio::test]
async fn a_gateway_that_fails_again_and_again_has_one_line_in_the_log_and_one_when_it_is_back() {
    let (captured, _listening) = capture();
    let status = Arc::new(AtomicU16::new(307));
    let scripted = Arc::clone(&status);
    let gateway = ScriptedGateway::new(move || {
        let mut answer = sealed_answer();
        *answer.status_mut() = StatusCode::from_u16(scripted.load(Ordering::SeqCst)).unwrap();
        answer
    });
    let relay = start_relay(gateway.start().await, |config| config.insecure_one_operator = true).await;
    let count = |line: &str| captured.text().lines().filter(|said| said.contains(line)).count();
    for (told, line) in [
        (307, "the gateway answers what is not passed on times=1"),
        (403, "the gateway does not accept this relay; compare gateway_token_file"),
    ] {
        status.store(told, Ordering::SeqCst);
        for _ in 0..20 {
            assert_eq!(
                client(true).send(relay.sealed_request()).await.unwrap().status(),
                StatusCode::BAD_GATEWAY
            );
        }
        assert_eq!(count(line), 1, "{}", captured.text());
    }
    status.store(200, Ordering::SeqCst);
    for _ in 0..5 {
        client(true).send(relay.sealed_request()).await.unwrap();
    }
    assert_eq!(count("the gateway accepts this relay again"), 1);
    assert_eq!(count("the gateway answers what can be passed on again"), 1);
    assert_eq!(count("WARN"), 2, "{}", captured.text());

    // Nobody else gets this port, and nobody listens on it.
    let nowhere = TcpSocket::new_v4().unwrap();
    nowhere.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nowhere_at = nowhere.local_addr().unwrap();
    let relay = start_relay(nowhere_at, |config| config.insecure_one_operator = true).await;
    for _ in 0..20 {
        assert_eq!(
            client(true).send(relay.sealed_request()).await.unwrap().status(),
            StatusCode::BAD_GATEWAY
        );
    }
    assert_eq!((count("no answer from the gateway times=1"), count("WARN")), (1, 3), "{}", captured.text());
}

#[test]
fn a_configuration_is_read_with_its_defaults_and_without_surprises() {
    let config: Config = toml::from_str(
        "listen = '127.0.0.1:1'\ngateway_url = 'http://gateway.example/'\ntimeout = '5s'\ngateway_protocol = 'h1'",
    )
    .unwrap();
    assert_eq!((config.path.as_str(), config.timeout), ("/", Duration::from_secs(5)));
    assert_eq!(config.gateway_protocol, Protocol::H1);
    let unknown = toml::from_str::<Config>("listen = 'x'\ngateway_url = 'y'\nlisten_to = 'z'");
    assert!(unknown.unwrap_err().to_string().contains("listen_to"));
}

#[test]
fn a_relay_without_a_usable_gateway_is_not_built() {
    for url in ["", "gateway", "ftp://gateway/", "http://", "http://user@gateway/", "http://gateway/"] {
        assert!(Relay::build(Config::new("127.0.0.1:0", url)).is_err(), "{url}");
    }
    for path in ["", "x", "/a b", "/{a}", "/health"] {
        let mut config = Config::new("127.0.0.1:0", "https://gateway.example/");
        config.path = path.to_owned();
        assert!(Relay::build(config).is_err(), "{path}");
    }
}
