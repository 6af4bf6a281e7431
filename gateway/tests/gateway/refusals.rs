//! What is refused, where it is said, and that nothing was asked of anyone.

use std::{collections::BTreeSet, time::Duration};

use bhttp::{Message, Mode};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use mica_envelope::{InnerRequest, KeyConfigList, decode_response, media};
use mica_gateway::{Config, Outcome, Padding};
use tokio::net::TcpListener;

use crate::world::{Target, World, created, upload};

/// A target that must never be connected to.
struct Untouched(TcpListener);

impl Untouched {
    async fn start() -> (Self, World) {
        Self::start_with(|_| ()).await
    }

    async fn start_with(adjust: impl FnOnce(&mut Config)) -> (Self, World) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let world = World::start_with(listener.local_addr().unwrap(), adjust).await;
        (Self(listener), world)
    }

    async fn check(self) {
        let connection = tokio::time::timeout(Duration::from_millis(100), self.0.accept()).await;
        assert!(connection.is_err(), "no connection was made");
    }
}

type Spoil = fn(&mut InnerRequest);

/// Seals any bytes, as only a broken or hostile client does.
pub(crate) fn seal_anything(keys: &KeyConfigList, plaintext: &[u8]) -> (Vec<u8>, ohttp::ClientResponse) {
    let mut config = ohttp::KeyConfig::decode(&keys.encoded()[2..]).unwrap();
    ohttp::ClientRequest::from_config(&mut config).unwrap().encapsulate(plaintext).unwrap()
}

#[tokio::test]
async fn an_inner_request_outside_of_the_table_is_refused_inside_and_no_connection_is_made() {
    let (target, world) = Untouched::start().await;
    let cases: [(Spoil, u16); 14] = [
        (|request| request.authority = "other.example".into(), 404),
        (|request| request.authority = "leader.example:8443".into(), 404),
        (|request| request.authority = "127.0.0.1".into(), 404),
        (|request| request.authority = "[::1]:80".into(), 404),
        (|request| request.authority = String::new(), 404),
        (|request| request.path = "/".into(), 404),
        (|request| request.path = "/admin".into(), 404),
        (|request| request.path = "/tasks/../reports".into(), 404),
        (|request| request.path = "/tasks/%2e%2e/reports".into(), 404),
        (|request| request.path = "/tasks/a/reports?to=http://127.0.0.1/".into(), 404),
        (|request| request.path = "//127.0.0.1/tasks/a/reports".into(), 404),
        (|request| request.method = "PUT".into(), 405),
        (|request| request.headers.clear(), 415),
        (|request| request.body = vec![0; 2001].into(), 413),
    ];
    for (spoil, status) in cases {
        let mut request = upload();
        spoil(&mut request);
        let (outer, inner) = world.exchange(&request).await;
        assert_eq!(inner.status, status, "{} {}", request.authority, request.path);
        assert_eq!(inner.header("content-type"), Some(media::PROBLEM_JSON.as_bytes()));
        let problem: serde_json::Value = serde_json::from_slice(&inner.body).unwrap();
        assert_eq!(problem["status"], status);
        assert_eq!(outer.headers()["content-type"], media::OHTTP_RESPONSE);
    }
    assert_eq!(world.count(Outcome::NoRoute), 14);
    target.check().await;
}

#[tokio::test]
async fn an_inner_message_that_breaks_a_rule_is_refused_inside_and_no_connection_is_made() {
    let (target, world) = Untouched::start().await;
    let message = |spoil: &dyn Fn(&mut Message)| {
        let [method, scheme, authority, path] =
            ["POST", "https", "leader.example", "/tasks/a/reports"].map(|part| part.as_bytes().to_vec());
        let mut message = Message::request(method, scheme, authority, path);
        message.put_header("content-type", crate::world::UPLOAD);
        message.write_content(b"report");
        spoil(&mut message);
        let mut bytes = Vec::new();
        message.write_bhttp(Mode::KnownLength, &mut bytes).unwrap();
        bytes
    };
    let [get, scheme, authority] = [b"GET".to_vec(), b"https".to_vec(), b"leader.example".to_vec()];
    let mut non_zero_padding = message(&|_| ());
    non_zero_padding.extend_from_slice(&[0, 0, 1]);
    let mut truncated = message(&|_| ());
    truncated.truncate(truncated.len() - 3);
    for plaintext in [
        b"nonsense".to_vec(),
        Vec::new(),
        non_zero_padding,
        truncated,
        message(&|message| message.put_header("transfer-encoding", "chunked")),
        message(&|message| message.put_header("connection", "close")),
        message(&|message| message.put_header("expect", "100-continue")),
        message(&|message| message.put_header("x", "a\r\nhost: other")),
        message(&|message| message.put_header("X-Upper", "a")),
        message(&|message| message.put_header(":path", "/other")),
        message(&|message| message.put_header("content-length", "3")),
        message(&|message| message.put_header("host", "other.example")),
        message(&|message| {
            *message =
                Message::request(get.clone(), scheme.clone(), authority.clone(), b"http://other/".to_vec());
        }),
        message(&|message| {
            *message =
                Message::request(b"GET / HTTP".to_vec(), scheme.clone(), authority.clone(), b"/".to_vec());
        }),
        message(&|message| {
            *message = Message::request(get.clone(), b"ftp".to_vec(), authority.clone(), b"/".to_vec());
        }),
        message(&|message| {
            *message =
                Message::request(get.clone(), scheme.clone(), b"user@leader.example".to_vec(), b"/".to_vec());
        }),
    ] {
        let (sealed, opener) = seal_anything(&world.keys, &plaintext);
        let outer = world.post(world.relay, sealed).await;
        assert_eq!(outer.status(), StatusCode::OK);
        let inner = decode_response(opener.decapsulate(outer.body()).unwrap()).unwrap().message;
        assert_eq!(inner.status, 400);
        let problem: serde_json::Value = serde_json::from_slice(&inner.body).unwrap();
        assert_eq!(problem["title"], "invalid inner request");
    }
    assert_eq!(world.count(Outcome::Invalid), 16);
    target.check().await;
}

#[tokio::test]
async fn what_no_key_opens_is_refused_in_clear_and_always_alike() {
    let (target, world) = Untouched::start().await;
    let (good, _) = world.seal(&upload());
    let changed = |position: usize, byte: u8| {
        let mut sealed = good.clone();
        sealed[position] ^= byte;
        sealed
    };
    let mut longer = good.clone();
    longer.push(0);
    let mut answers = BTreeSet::new();
    for sealed in [
        b"no sealed request".to_vec(),
        vec![world.keys.key_id()],
        good[..40].to_vec(),
        changed(0, 1),
        changed(2, 1),
        changed(4, 2),
        changed(6, 3),
        changed(10, 1),
        changed(500, 1),
        longer,
    ] {
        // What is too short to be a request is kept back by the relay already.
        let to = if sealed.len() < 55 { world.gateway } else { world.relay };
        let outer = world.post(to, sealed).await;
        assert_eq!(outer.status(), StatusCode::BAD_REQUEST);
        assert_eq!(outer.headers()["content-type"], media::PROBLEM_JSON);
        answers.insert(outer.body().to_vec());
    }
    assert_eq!(answers.len(), 1);
    let problem: serde_json::Value = serde_json::from_slice(answers.first().unwrap()).unwrap();
    assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#ohttp-key");
    assert_eq!(world.count(Outcome::Key), 10);
    target.check().await;
}

#[tokio::test]
async fn what_is_no_sealed_request_is_refused_before_it_is_opened() {
    let adjust = |config: &mut Config| {
        config.max_request_bytes = 1024;
        config.routes.iter_mut().for_each(|route| route.max_bytes = 1000);
    };
    let (target, world) = Untouched::start_with(adjust).await;
    let send = async |change: &dyn Fn(&mut Request<Bytes>)| {
        let mut request =
            Request::post(format!("http://{}/", world.gateway)).body(Bytes::from(vec![0; 512])).unwrap();
        request.headers_mut().insert("content-type", "message/ohttp-req".parse().unwrap());
        change(&mut request);
        world.http.send(request).await.unwrap()
    };
    for media in ["message/ohttp-chunked-req", "application/octet-stream", "message/ohttp-req;x=y", ""] {
        let change = |request: &mut Request<Bytes>| {
            request.headers_mut().insert("content-type", media.parse().unwrap());
        };
        assert_eq!(send(&change).await.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{media}");
    }
    let none = |request: &mut Request<Bytes>| request.headers_mut().clear();
    assert_eq!(send(&none).await.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let put = |request: &mut Request<Bytes>| *request.method_mut() = Method::PUT;
    assert_eq!(send(&put).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    let long = |request: &mut Request<Bytes>| *request.body_mut() = vec![0; 1025].into();
    assert_eq!(send(&long).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let elsewhere = |request: &mut Request<Bytes>| {
        *request.uri_mut() = format!("http://{}/other", world.gateway).parse().unwrap();
    };
    assert_eq!(send(&elsewhere).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(world.count(Outcome::NotOpened), 7);
    target.check().await;
}

#[tokio::test]
async fn accepted_refused_and_failed_look_alike_from_outside() {
    let target = Target::new(|before| match before {
        0 => created(0),
        1 => axum::response::Response::builder().status(400).body("bad report".into()).unwrap(),
        _ => axum::response::Response::builder().status(302).header("location", "/").body("".into()).unwrap(),
    });
    let world = World::start(target.start().await).await;
    let mut elsewhere = upload();
    elsewhere.authority = "other.example".into();
    let mut looks = BTreeSet::new();
    let mut inside = Vec::new();
    for request in [upload(), upload(), upload(), elsewhere] {
        let (outer, inner) = world.exchange(&request).await;
        inside.push(inner.status);
        let names: Vec<String> = outer.headers().keys().map(ToString::to_string).collect();
        looks.insert((outer.status().as_u16(), outer.body().len(), names));
    }
    assert_eq!(inside, [201, 400, 502, 404]);
    assert_eq!(looks.len(), 1, "{looks:?}");
}

#[tokio::test]
async fn unpadded_requests_are_counted_or_refused_as_the_operator_decides() {
    let mut plaintext = Vec::new();
    let [get, https, leader] = ["GET", "https", "leader.example"].map(|part| part.as_bytes().to_vec());
    let message = Message::request(get, https, leader, b"/hpke_config".to_vec());
    message.write_bhttp(Mode::KnownLength, &mut plaintext).unwrap();
    for (policy, status, counted) in
        [(Padding::Off, 201, 0), (Padding::Count, 201, 1), (Padding::Refuse, 400, 1)]
    {
        let target = Target::new(created);
        let world = World::start_with(target.start().await, |config| config.padding = policy).await;
        let (sealed, opener) = seal_anything(&world.keys, &plaintext);
        let outer = world.post(world.relay, sealed).await;
        let inner = decode_response(opener.decapsulate(outer.body()).unwrap()).unwrap().message;
        assert_eq!((inner.status, world.count(Outcome::Unpadded)), (status, counted), "{policy:?}");
        assert_eq!(target.seen().is_empty(), policy == Padding::Refuse);
    }
}
