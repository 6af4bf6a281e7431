//! Inner requests that would mean something else to the next hop: refused inside, one for one, and nobody is asked.

use bhttp::{Message, Mode};
use http::StatusCode;
use mica_envelope::decode_response;
use mica_gateway::Outcome;
use tokio::net::TcpListener;

use crate::refusals::seal_anything;
use crate::world::{UPLOAD, World};

/// The parts of a request, any of which may be spoiled.
#[derive(Clone)]
struct Parts {
    control: [Vec<u8>; 4],
    fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Parts {
    fn good() -> Self {
        Self {
            control: ["POST", "https", "leader.example", "/tasks/a/reports"].map(|it| it.as_bytes().to_vec()),
            fields: vec![(b"content-type".to_vec(), UPLOAD.into())],
        }
    }

    fn with_control(at: usize, value: &[u8]) -> Self {
        let mut parts = Self::good();
        parts.control[at] = value.to_vec();
        parts
    }

    fn with_field(name: &[u8], value: &[u8]) -> Self {
        let mut parts = Self::good();
        parts.fields.push((name.to_vec(), value.to_vec()));
        parts
    }

    fn written(self, mode: Mode) -> Vec<u8> {
        let [method, scheme, authority, path] = self.control;
        let mut message = Message::request(method, scheme, authority, path);
        self.fields.into_iter().for_each(|(name, value)| message.put_header(name, value));
        message.write_content(b"report");
        let mut bytes = Vec::new();
        message.write_bhttp(mode, &mut bytes).unwrap();
        bytes
    }
}

/// A world whose target is never connected to, and what a message that is sealed there comes to.
async fn told(world: &World, plaintext: &[u8]) -> (u16, String) {
    let (sealed, opener) = seal_anything(&world.keys, plaintext);
    let outer = world.post(world.gateway, sealed).await;
    assert_eq!(outer.status(), StatusCode::OK, "what is inside is answered inside");
    let inner = decode_response(opener.decapsulate(outer.body()).unwrap()).unwrap().message;
    let problem: serde_json::Value = serde_json::from_slice(&inner.body).unwrap();
    (inner.status, problem["title"].as_str().unwrap().to_owned())
}

async fn all_are(status: u16, title: &str, outcome: Outcome, all: Vec<Parts>) {
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::start(target.local_addr().unwrap()).await;
    let count = all.len() as u64;
    for (number, parts) in all.into_iter().enumerate() {
        let mode = if number % 2 == 0 { Mode::KnownLength } else { Mode::IndeterminateLength };
        let plaintext = parts.written(mode);
        let shown = plaintext.escape_ascii().to_string();
        assert_eq!(told(&world, &plaintext).await, (status, title.to_owned()), "{shown:.200}");
    }
    assert_eq!(world.count(outcome), count);
    let connection = tokio::time::timeout(std::time::Duration::from_millis(100), target.accept()).await;
    assert!(connection.is_err(), "no connection was made");
}

const INVALID: &str = "invalid inner request";

/// RFC 9113 8.2.1 and 8.3.1, RFC 9292 3.4 and 3.6.
#[tokio::test]
async fn a_control_character_in_any_part_is_refused() {
    let mut all = Vec::new();
    for byte in [b'\r', b'\n', b'\0', 0x7f, 0x1b] {
        for at in 0..4 {
            let good = &Parts::good().control[at];
            all.push(Parts::with_control(at, &[good, &[byte][..]].concat()));
            all.push(Parts::with_control(at, &[&good[..1], &[byte], &good[1..]].concat()));
        }
        all.push(Parts::with_field(&[b'x', byte, b'y'], b"value"));
        all.push(Parts::with_field(b"x", &[b'a', byte, b'b']));
    }
    for at in 0..4 {
        let good = &Parts::good().control[at];
        all.push(Parts::with_control(at, &[&good[..], b" HTTP/1.1\r\nhost: other.example\r\n\r\n"].concat()));
    }
    all.push(Parts::with_field(b"x", b"a\r\n\r\nGET / HTTP/1.1"));
    all_are(400, INVALID, Outcome::Invalid, all).await;
}

#[tokio::test]
async fn control_data_of_another_shape_is_refused() {
    let mut all = Vec::new();
    for method in [&b""[..], b"CONNECT", b"PO ST", b"POST:", b"(POST)", &[b'A'; 33], "P\u{d6}ST".as_bytes()] {
        all.push(Parts::with_control(0, method));
    }
    for scheme in [&b""[..], b"HTTPS", b"ftp", b"file", b"https:", b"https://"] {
        all.push(Parts::with_control(1, scheme));
    }
    for authority in [
        &b"user@leader.example"[..],
        b"user:password@leader.example",
        b"leader.example/other",
        b"leader.example?x",
        b"leader.example#x",
        b"leader.example, other.example",
        b"leader%2eexample",
        &[b'a'; 256],
    ] {
        all.push(Parts::with_control(2, authority));
    }
    for path in [
        &b""[..],
        b"*",
        b"tasks/a/reports",
        b"https://other.example/tasks/a/reports",
        b"http://127.0.0.1/",
        b"/tasks/a/reports#x",
        b"/tasks/a b/reports",
        b"/tasks\\a/reports",
        b"/tasks/%/reports",
        b"/tasks/%2/reports",
        &[b'/'; 2049],
    ] {
        all.push(Parts::with_control(3, path));
    }
    all_are(400, INVALID, Outcome::Invalid, all).await;
}

#[tokio::test]
async fn fields_of_connections_pseudo_fields_and_crowds_of_fields_are_refused() {
    let mut all = Vec::new();
    for name in [":method", ":scheme", ":authority", ":path", ":status", ":protocol", ":x"] {
        all.push(Parts::with_field(name.as_bytes(), b"POST"));
    }
    for name in ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"] {
        all.push(Parts::with_field(name.as_bytes(), b"x"));
    }
    // RFC 9458 5.1.
    all.push(Parts::with_field(b"expect", b"100-continue"));
    all.push(Parts::with_field(b"expect", b"anything"));
    for (name, value) in [
        ("Content-Type", UPLOAD),
        ("content-length", "5"),
        ("content-length", "+6"),
        ("content-length", ""),
        ("host", "other.example"),
        ("x y", "a"),
        ("x:", "a"),
        ("x", " a"),
        ("x", "a\t"),
    ] {
        all.push(Parts::with_field(name.as_bytes(), value.as_bytes()));
    }
    all.push(Parts::with_field(&[b'x'; 129], b"a"));
    all.push(Parts::with_field(b"x", &[b'a'; 8193]));
    let mut twice = Parts::with_field(b"host", b"leader.example");
    twice.fields.push((b"host".to_vec(), b"leader.example".to_vec()));
    let mut lengths = Parts::with_field(b"content-length", b"6");
    lengths.fields.push((b"content-length".to_vec(), b"6".to_vec()));
    let mut many = Parts::good();
    many.fields.extend((0..64).map(|number| (format!("x-{number}").into_bytes(), b"a".to_vec())));
    let mut long = Parts::good();
    long.fields.extend((0..3).map(|number| (format!("x-{number}").into_bytes(), vec![b'a'; 6000])));
    all.extend([twice, lengths, many, long]);
    all_are(400, INVALID, Outcome::Invalid, all).await;
}

/// What is well formed and names another place than the table does is asked of nobody.
#[tokio::test]
async fn no_authority_but_that_of_the_table_is_asked() {
    let mut all = Vec::new();
    for authority in [
        "leader.example:443",
        "leader.example:0",
        "leader.example.",
        "127.0.0.1",
        "127.0.0.1:80",
        "[::1]",
        "[::1]:443",
        "[2001:db8::1]",
        "0x7f000001",
        "localhost",
        "",
    ] {
        all.push(Parts::with_control(2, authority.as_bytes()));
    }
    all_are(404, "no such route", Outcome::NoRoute, all).await;
}
