//! Clients and gateways that try to get more through a relay than it passes on, byte by byte on real sockets.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::StatusCode;
use mica_relay::{Outcome, Protocol};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::sealed_answer;
use crate::world::{ScriptedGateway, client, start_relay};

/// A gateway that writes these bytes in answer to any request, and what it read.
async fn raw_gateway(answer: Vec<u8>) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::<Mutex<Vec<u8>>>::default();
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = vec![0; 64 << 10];
            let mut total = Vec::new();
            while total.len() < 512 || !total.ends_with(&[0x5a; 512]) {
                let length = stream.read(&mut read).await.unwrap();
                if length == 0 {
                    break;
                }
                total.extend_from_slice(&read[..length]);
            }
            log.lock().unwrap().extend_from_slice(&total);
            // The relay may have hung up on it.
            let _ = stream.write_all(&answer).await;
        }
    });
    (address, seen)
}

/// What a client that speaks HTTP/1.1 reads until the connection ends.
async fn exchange(relay: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(relay).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn field_names(head: &str) -> BTreeSet<String> {
    let lines = head.lines().skip(1).take_while(|line| !line.is_empty());
    lines.filter_map(|line| Some(line.split_once(':')?.0.to_ascii_lowercase())).collect()
}

#[tokio::test]
async fn nothing_that_a_hostile_client_sends_reaches_the_gateway_but_the_block() {
    let answer =
        b"HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-res\r\ncontent-length: 3\r\n\r\nyes".to_vec();
    let (gateway, seen) = raw_gateway(answer).await;
    let relay = start_relay(gateway, |config| config.gateway_protocol = Protocol::H1).await;
    let mut request = b"POST /?canary=1 HTTP/1.1\r\nHost: canary.example\r\nConnection: close, x-canary, keep-alive\r\n\
        X-Canary: canary\r\nKeep-Alive: timeout=canary\r\nProxy-Authorization: canary\r\nTE: trailers\r\n\
        Trailer: x-canary\r\nForwarded: for=canary\r\nVia: 1.1 canary\r\nTraceparent: canary\r\nCookie: a=canary\r\n\
        X-Forwarded-For: canary\r\nX-Forwarded-For: canary\r\nX-HTTP-Method-Override: PUT\r\nDate: canary\r\n\
        Content-Type: message/ohttp-req\r\nTransfer-Encoding: chunked\r\n\r\n200;canary=canary\r\n"
        .to_vec();
    request.extend_from_slice(&[0x5a; 512]);
    request.extend_from_slice(b"\r\n0\r\nX-Canary: canary\r\n\r\n");
    let answer = exchange(relay.address, &request).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("yes"), "{answer}");
    let seen = String::from_utf8_lossy(&seen.lock().unwrap()).into_owned();
    assert!(seen.starts_with("POST /.well-known/ohttp-gateway HTTP/1.1\r\n"), "{seen}");
    let expected = ["content-length", "content-type", "host"].map(str::to_owned);
    assert_eq!(field_names(&seen), expected.into());
    assert!(!seen.to_lowercase().contains("canary"), "{seen}");
    let block = seen.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(block, "Z".repeat(512));
}

#[tokio::test]
async fn nothing_that_a_hostile_gateway_sends_reaches_the_client_but_what_is_on_the_list() {
    let answer = "HTTP/1.1 103 Early Hints\r\nlink: <canary>\r\nset-cookie: canary\r\n\r\nHTTP/1.1 200 Canary\r\n\
        content-type: message/ohttp-res\r\ncache-control: no-store\r\nset-cookie: canary=1\r\nset-cookie: canary=2\r\n\
        etag: \"canary\"\r\nlast-modified: canary\r\nvary: canary\r\nlink: <canary>\r\nlocation: /canary\r\n\
        content-location: /canary\r\nwww-authenticate: canary\r\nproxy-authenticate: canary\r\nalt-svc: canary\r\n\
        server: canary\r\nserver-timing: canary\r\nvia: 1.1 canary\r\nforwarded: for=canary\r\ntraceparent: canary\r\n\
        x-canary: canary\r\ncontent-encoding: canary\r\ncontent-disposition: canary\r\nretry-after: 7\r\n\
        report-to: canary\r\nnel: canary\r\nclear-site-data: canary\r\ndate: Sat, 01 Jan 2000 00:00:00 GMT\r\n\
        connection: close\r\ntransfer-encoding: chunked\r\n\r\n3;canary=canary\r\nyes\r\n0\r\nx-canary: canary\r\n\r\n";
    let (gateway, _) = raw_gateway(answer.as_bytes().to_vec()).await;
    let relay = start_relay(gateway, |config| config.gateway_protocol = Protocol::H1).await;
    let request = [
        b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: message/ohttp-req\r\ncontent-length: 512\r\n\r\n"
            .as_slice(),
        &[0x5a; 512],
    ]
    .concat();
    let answer = exchange(relay.address, &request).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nyes"), "{answer}");
    // The date is the relay's own, and the connection its own affair.
    let expected =
        ["cache-control", "connection", "content-length", "content-type", "date"].map(str::to_owned);
    assert_eq!(field_names(&answer), expected.into());
    assert!(!answer.to_lowercase().contains("canary") && !answer.contains("2000"), "{answer}");
}

#[tokio::test]
async fn refusals_of_the_gateway_are_passed_on_with_their_problem_and_nothing_else() {
    for status in [400, 413, 415, 422, 429, 503] {
        let answer = format!(
            "HTTP/1.1 {status} Canary\r\ncontent-type: Application/Problem+JSON; canary=1\r\ncontent-length: 2\r\n\
             cache-control: private, canary=1, max-age=9999\r\nwww-authenticate: canary\r\nset-cookie: canary\r\n\
             retry-after: 86400\r\n\r\n{{}}"
        );
        let (gateway, _) = raw_gateway(answer.into_bytes()).await;
        let relay = start_relay(gateway, |config| config.gateway_protocol = Protocol::H1).await;
        let answer = client(false).send(relay.sealed_request()).await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let mut expected = BTreeSet::from(["cache-control", "content-length", "content-type", "date"]);
        if [429, 503].contains(&status) {
            expected.insert("retry-after");
            assert_eq!(answer.headers()["retry-after"], "3600", "nobody is sent away for a day");
        }
        let names: BTreeSet<&str> = answer.headers().keys().map(http::HeaderName::as_str).collect();
        assert_eq!(names, expected, "{status}");
        assert_eq!(relay.counters.count(Outcome::Forwarded), 1);
    }
}

/// They have common clients send the same block again by themselves, or ask for a password, or are nobody's.
#[tokio::test]
async fn statuses_that_have_clients_do_something_are_a_502_and_nobody_elses_words_are_passed_on() {
    for (status, media, outcome) in [
        (401, "application/problem+json", Outcome::NotAccepted),
        (403, "application/problem+json", Outcome::NotAccepted),
        (407, "application/problem+json", Outcome::NotAccepted),
        (201, "message/ohttp-res", Outcome::BadAnswer),
        (204, "message/ohttp-res", Outcome::BadAnswer),
        (205, "message/ohttp-res", Outcome::BadAnswer),
        (200, "text/html; track=77", Outcome::BadAnswer),
        (200, "message/ohttp-chunked-res", Outcome::BadAnswer),
        (404, "application/problem+json", Outcome::BadAnswer),
        (408, "application/problem+json", Outcome::BadAnswer),
        (421, "application/problem+json", Outcome::BadAnswer),
        (425, "application/problem+json", Outcome::BadAnswer),
        (500, "application/problem+json", Outcome::BadAnswer),
        (599, "application/problem+json", Outcome::BadAnswer),
    ] {
        let gateway = ScriptedGateway::new(move || {
            let answer = axum::response::Response::builder().status(status).header("content-type", media);
            answer.header("retry-after", "7").body("canary".into()).unwrap()
        });
        let relay = start_relay(gateway.start().await, |_| ()).await;
        let answer = client(true).send(relay.sealed_request()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY, "{status} {media}");
        let everything = format!("{:?}{:?}", answer.headers(), answer.body());
        assert!(!everything.contains("canary") && !everything.contains("retry-after"), "{everything}");
        assert_eq!(relay.counters.count(outcome), 1, "{status} {media}");
    }
    let gateway = ScriptedGateway::new(|| {
        let answer = axum::response::Response::builder().status(503).header("content-type", "text/html");
        answer.header("retry-after", "7").body("<p>canary".into()).unwrap()
    });
    let relay = start_relay(gateway.start().await, |_| ()).await;
    let answer = client(true).send(relay.sealed_request()).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (503, &"7".parse().unwrap()));
    assert_eq!(
        (answer.body().as_ref(), &answer.headers()["content-type"].as_bytes()),
        (b"{}".as_slice(), &b"application/problem+json".as_slice())
    );
}

#[tokio::test]
async fn answers_that_are_no_http_or_too_much_of_it_are_a_502() {
    let huge = format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "a".repeat(1 << 20));
    let many = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x: y\r\n".repeat(1_000));
    let endless = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", u64::MAX);
    let wrong = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 7\r\n\r\nhello".to_owned();
    for answer in ["SSH-2.0-canary\r\n".to_owned(), String::new(), huge, many, endless, wrong] {
        let (gateway, _) = raw_gateway(answer.clone().into_bytes()).await;
        let relay = start_relay(gateway, |config| config.gateway_protocol = Protocol::H1).await;
        let got = client(false).send(relay.sealed_request()).await.unwrap();
        assert_eq!(got.status(), StatusCode::BAD_GATEWAY, "{}", &answer[..answer.len().min(60)]);
    }
}

#[tokio::test]
async fn chunked_oblivious_http_is_refused_at_once_by_its_media_type() {
    let gateway = ScriptedGateway::new(sealed_answer);
    let relay = start_relay(gateway.start().await, |_| ()).await;
    for media in ["message/ohttp-chunked-req", "Message/OHTTP-Chunked-Req", "message/ohttp-chunked-res"] {
        let mut request = relay.sealed_request();
        request.headers_mut().insert("content-type", media.parse().unwrap());
        request.headers_mut().insert("incremental", "?1".parse().unwrap());
        let answer = client(true).send(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    assert!(gateway.seen().is_empty());
}

/// RFC 9112 2.2: whoever stands in front of a relay, and takes a bare LF for a part of a value, reads another message than
/// the relay does.
#[tokio::test]
async fn a_bare_lf_ends_a_line_of_a_head_and_nothing_in_a_chunked_body() {
    let gateway = ScriptedGateway::new(sealed_answer);
    let relay = start_relay(gateway.start().await, |_| ()).await;
    let head = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: message/ohttp-req\r\n";
    let block = "Z".repeat(512);
    let in_chunks = |chunks: &str| format!("{head}transfer-encoding: chunked\r\n\r\n{chunks}");
    let cases = [
        (200, format!("{head}content-length: 512\r\n\r\n{block}").replace("\r\n", "\n")),
        (200, format!("{head}x: a\ncontent-length: 512\r\n\r\n{block}")),
        (200, format!("{head}content-length: 512\r\n\n{block}")),
        (400, format!("{head}content-length: 512\r\nx: a\ncontent-length: 511\r\n\r\n{block}")),
        (400, format!("{head}content-length: 512\r\nx: a\rb\r\n\r\n{block}")),
        (200, in_chunks(&format!("200\r\n{block}\r\n0\r\n\r\n"))),
        (400, in_chunks(&format!("200\n{block}\r\n0\r\n\r\n"))),
        (400, in_chunks(&format!("200;a\n{block}\r\n0\r\n\r\n"))),
        (400, in_chunks(&format!("200\r\n{block}\n0\r\n\r\n"))),
        (400, in_chunks(&format!("200\r\n{block}\r\n0\n\r\n"))),
    ];
    let taken = cases.iter().filter(|(status, _)| *status == 200).count();
    for (status, request) in cases {
        let answer = exchange(relay.address, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}\n{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "one message has one answer: {answer}");
    }
    let seen = gateway.seen();
    assert_eq!(seen.len(), taken);
    assert!(seen.iter().all(|seen| seen.body == block && seen.headers.get("x").is_none()));

    let answer = b"HTTP/1.1 200 OK\ncontent-type: message/ohttp-res\nx: a\ncontent-length: 3\n\nyes".to_vec();
    let (gateway, _) = raw_gateway(answer).await;
    let relay = start_relay(gateway, |config| config.gateway_protocol = Protocol::H1).await;
    let answer =
        exchange(relay.address, format!("{head}content-length: 512\r\n\r\n{block}").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nyes"), "{answer}");
    assert!(!answer.replace("\r\n", "").contains(['\r', '\n']), "{answer:?}");
}
