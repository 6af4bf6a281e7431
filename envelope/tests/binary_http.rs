//! Binary HTTP, read and written: every rule has a message that breaks it, and a second implementation agrees.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic anywhere")]

use std::io::Cursor;

use bhttp::{Message, Mode, StatusCode};
use mica_envelope::{
    InnerRequest, InnerResponse, Invalid, SIZE_BUCKETS, decode_request, decode_response,
    encode_request_padded, encode_response_padded,
};
use proptest::prelude::*;

fn upload() -> Message {
    let mut message = Message::request(
        b"POST".to_vec(),
        b"https".to_vec(),
        b"leader.example".to_vec(),
        b"/tasks/t/reports".to_vec(),
    );
    message.put_header("content-type", "application/dap-upload-req");
    message.write_content(b"report");
    message
}

fn written(message: &Message, mode: Mode) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.write_bhttp(mode, &mut bytes).unwrap();
    bytes
}

/// Why the request that `spoil` made is refused; in both framings alike.
fn refusal(spoil: impl Fn(&mut Message)) -> &'static str {
    let mut message = upload();
    spoil(&mut message);
    let [known, indeterminate] = [Mode::KnownLength, Mode::IndeterminateLength]
        .map(|mode| decode_request(written(&message, mode)).expect_err("it must be refused"));
    assert_eq!(known, indeterminate);
    known.0
}

fn control(method: &str, scheme: &str, authority: &str, path: &str) -> Result<InnerRequest, Invalid> {
    let [method, scheme, authority, path] =
        [method, scheme, authority, path].map(|part| part.as_bytes().to_vec());
    decode_request(written(&Message::request(method, scheme, authority, path), Mode::KnownLength))
        .map(|it| it.message)
}

#[test]
fn both_framings_are_read() {
    for mode in [Mode::KnownLength, Mode::IndeterminateLength] {
        let decoded = decode_request(written(&upload(), mode)).unwrap();
        assert_eq!(decoded.padding, 0);
        let request = decoded.message;
        assert_eq!((request.method.as_str(), request.scheme.as_str()), ("POST", "https"));
        assert_eq!(
            (request.authority.as_str(), request.path.as_str()),
            ("leader.example", "/tasks/t/reports")
        );
        assert_eq!(request.header("content-type"), Some(&b"application/dap-upload-req"[..]));
        assert_eq!(request.body, &b"report"[..]);
    }
}

/// RFC 9292 3: lengths are integers of RFC 9000 16, in any of their widths.
#[test]
fn lengths_need_not_be_written_in_the_shortest_form() {
    let parts: [&[u8]; 4] = [b"POST", b"https", b"leader.example", b"/tasks/t/reports"];
    for (prefix, width) in [(0x40_u8, 2), (0x80, 4), (0xc0, 8)] {
        let number = |value: usize| {
            let mut bytes = value.to_be_bytes()[8 - width..].to_vec();
            bytes[0] |= prefix;
            bytes
        };
        let vector = |bytes: &[u8]| [number(bytes.len()), bytes.to_vec()].concat();
        let field = [vector(b"content-type"), vector(b"a/b")].concat();
        let control: Vec<u8> = parts.iter().flat_map(|part| vector(part)).collect();
        let message = [number(0), control, vector(&field), vector(b"report"), vector(b"")].concat();
        let decoded = decode_request(message).unwrap();
        assert_eq!((decoded.message.path.as_str(), decoded.padding), ("/tasks/t/reports", 0));
        assert_eq!(decoded.message.header("content-type"), Some(&b"a/b"[..]));
        assert_eq!(decoded.message.body, &b"report"[..]);
    }
}

/// RFC 9292 3.1 to 3.3.
#[test]
fn a_framing_that_is_not_defined_is_refused() {
    let good = written(&upload(), Mode::KnownLength);
    for framing in 4..=63 {
        let mut message = good.clone();
        message[0] = framing;
        assert_eq!(decode_request(message.clone()), Err(Invalid("unknown framing indicator")));
        assert_eq!(decode_response(message), Err(Invalid("unknown framing indicator")));
    }
}

#[test]
fn control_data_that_could_reach_another_place_is_refused() {
    assert!(control("GET", "https", "a.example", "/").is_ok());
    for (method, scheme, authority, path) in [
        ("G ET", "https", "a.example", "/"),
        ("GET\r\nx: y", "https", "a.example", "/"),
        ("", "https", "a.example", "/"),
        ("CONNECT", "https", "a.example", "/"),
        ("GET", "ftp", "a.example", "/"),
        ("GET", "", "a.example", "/"),
        ("GET", "https", "user@a.example", "/"),
        ("GET", "https", "a.example/x", "/"),
        ("GET", "https", "a.example\r\n", "/"),
        ("GET", "https", "a.example", ""),
        ("GET", "https", "a.example", "*"),
        ("GET", "https", "a.example", "https://b.example/"),
        ("GET", "https", "a.example", "/a\r\nx: y"),
        ("GET", "https", "a.example", "/a b"),
    ] {
        assert!(
            control(method, scheme, authority, path).is_err(),
            "{method:?} {scheme:?} {authority:?} {path:?}"
        );
    }
}

#[test]
fn fields_that_could_smuggle_are_refused() {
    assert_eq!(refusal(|m| m.put_header(":method", "GET")), "pseudo-field among the fields");
    assert_eq!(refusal(|m| m.put_header(":protocol", "x")), "pseudo-field among the fields");
    assert_eq!(refusal(|m| m.put_trailer(":path", "/")), "pseudo-field among the fields");
    assert_eq!(refusal(|m| m.put_header("Accept", "x")), "field name is not a lower-case token");
    assert_eq!(refusal(|m| m.put_header("a\r\nb", "x")), "field name is not a lower-case token");
    for value in ["a\r\nb: c", "a\nb", "a\rb", "a\0b"] {
        assert_eq!(
            refusal(|m| m.put_header("x", value)),
            "field value has a forbidden character or is too long"
        );
    }
    assert_eq!(refusal(|m| m.put_header("x", " a")), "field value begins or ends with a blank");
    for name in ["connection", "transfer-encoding", "upgrade", "te", "keep-alive", "proxy-connection"] {
        assert_eq!(refusal(|m| m.put_header(name, "x")), "connection-specific field");
        assert_eq!(refusal(|m| m.put_trailer(name, "x")), "connection-specific field");
    }
    assert_eq!(refusal(|m| m.put_header("expect", "100-continue")), "expect inside an envelope");
    assert_eq!(refusal(|m| m.put_header("content-length", "5")), "content-length contradicts the content");
    assert_eq!(
        refusal(|m| {
            m.put_header("content-length", "6");
            m.put_header("content-length", "6");
        }),
        "content-length twice"
    );
    assert_eq!(refusal(|m| m.put_header("host", "other.example")), "host contradicts the authority");
    assert_eq!(
        refusal(|m| {
            m.put_header("host", "leader.example");
            m.put_header("host", "leader.example");
        }),
        "host twice"
    );
}

#[test]
fn an_empty_authority_is_taken_from_host() {
    let mut message = Message::request(b"GET".to_vec(), b"https".to_vec(), Vec::new(), b"/".to_vec());
    message.put_header("host", "Leader.Example");
    let request = decode_request(written(&message, Mode::KnownLength)).unwrap().message;
    assert_eq!(request.authority, "leader.example");
    assert!(request.headers.is_empty());
}

#[test]
fn too_many_and_too_large_fields_are_refused() {
    assert_eq!(refusal(|m| (0..64).for_each(|_| m.put_header("x", "y"))), "too many fields");
    assert_eq!(
        refusal(|m| (0..3).for_each(|_| m.put_header("x", vec![b'y'; 8000]))),
        "field section too large"
    );
}

#[test]
fn a_status_is_between_200_and_599() {
    for (status, is_good) in [(200, true), (599, true), (600, false), (99, false), (0, false)] {
        let mut bytes = vec![1];
        bytes.extend_from_slice(&[
            0x40 | u8::try_from(status >> 8).unwrap(),
            u8::try_from(status & 0xff).unwrap(),
        ]);
        assert_eq!(decode_response(bytes).is_ok(), is_good, "{status}");
    }
}

#[test]
fn a_request_is_no_response_and_the_other_way_round() {
    assert!(decode_response(written(&upload(), Mode::KnownLength)).is_err());
    let response = Message::response(StatusCode::try_from(200_u16).unwrap());
    assert!(decode_request(written(&response, Mode::KnownLength)).is_err());
}

#[test]
fn padding_must_be_zero() {
    let mut bytes = written(&upload(), Mode::KnownLength);
    bytes.extend_from_slice(&[0; 100]);
    assert_eq!(decode_request(bytes.clone()).unwrap().padding, 100);
    bytes.push(1);
    assert_eq!(decode_request(bytes), Err(Invalid("padding is not zero")));
}

#[test]
fn a_message_may_end_before_an_empty_section_and_nowhere_else() {
    for mode in [Mode::KnownLength, Mode::IndeterminateLength] {
        let mut message = upload();
        let whole = written(&message, mode);
        // at the start of the field section, of the content and of the trailers, but never within one
        let ends: Vec<usize> =
            (0..whole.len()).filter(|&end| decode_request(whole[..end].to_vec()).is_ok()).collect();
        assert_eq!(ends.len(), 3);
        assert_eq!(ends[2], whole.len() - 1);
        message = Message::request(b"GET".to_vec(), b"https".to_vec(), b"a.example".to_vec(), b"/".to_vec());
        let whole = written(&message, mode);
        for cut in 1..=3 {
            assert!(decode_request(whole[..whole.len() - cut].to_vec()).is_ok());
        }
        assert!(decode_request(whole[..whole.len() - 4].to_vec()).is_err());
    }
}

#[test]
fn a_declared_length_beyond_the_message_costs_nothing() {
    for length in [[0xff; 8], [0xc0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff]] {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&length);
        assert_eq!(decode_request(bytes), Err(Invalid("message is truncated")));
    }
}

#[test]
fn what_would_be_refused_is_not_written() {
    let good = InnerRequest {
        method: "POST".into(),
        scheme: "https".into(),
        authority: "a.example".into(),
        path: "/".into(),
        headers: vec![("x".into(), b"y".to_vec())],
        body: "b".into(),
    };
    assert!(encode_request_padded(&good, 55).is_ok());
    for spoil in [
        (|m| m.method = "a b".into()) as fn(&mut InnerRequest),
        |m| m.scheme = "ftp".into(),
        |m| m.authority = "a@b".into(),
        |m| m.path = "x".into(),
        |m| m.headers = vec![("X".into(), vec![])],
        |m| m.headers = vec![("x".into(), b"\r\n".to_vec())],
        |m| m.headers = vec![("expect".into(), vec![])],
        |m| m.headers = vec![("host".into(), b"a".to_vec())],
        |m| m.headers = vec![("content-length".into(), b"1".to_vec())],
        |m| m.body = vec![0; 16 << 20].into(),
    ] {
        let mut bad = good.clone();
        spoil(&mut bad);
        assert!(encode_request_padded(&bad, 55).is_err());
    }
}

fn headers() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let name = "x-[a-z0-9-]{0,20}";
    let value = "([!-~]([ -~]{0,30}[!-~])?)?".prop_map(String::into_bytes);
    proptest::collection::vec((name, value), 0..8)
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..3000)
}

proptest! {
    #[test]
    fn unpadding_a_padded_request_gives_it_back(
        method in "[A-Z]{1,10}", path in "/[a-zA-Z0-9_/-]{0,60}", headers in headers(), body in body(),
        overhead in 0_usize..2000,
    ) {
        let (scheme, authority) = ("https".to_owned(), "leader.example:8080".to_owned());
        let request = InnerRequest { method, scheme, authority, path, headers, body: body.into() };
        prop_assume!(request.method != "CONNECT");
        let bytes = encode_request_padded(&request, overhead).unwrap();
        prop_assert!(SIZE_BUCKETS.contains(&(bytes.len() + overhead)));
        prop_assert!(Message::read_bhttp(&mut Cursor::new(&bytes)).is_ok());
        let decoded = decode_request(bytes).unwrap();
        prop_assert!(decoded.message == request);
    }

    #[test]
    fn unpadding_a_padded_response_gives_it_back(
        status in 200_u16..600, headers in headers(), body in body(), least in 0_usize..5000,
    ) {
        let response = InnerResponse { status, headers, body: body.into() };
        let bytes = encode_response_padded(&response, 32, least).unwrap();
        prop_assert!(SIZE_BUCKETS.contains(&(bytes.len() + 32)));
        prop_assert!(bytes.len() + 32 >= least);
        let theirs = Message::read_bhttp(&mut Cursor::new(&bytes)).unwrap();
        prop_assert_eq!(theirs.content(), &response.body[..]);
        prop_assert!(decode_response(bytes).unwrap().message == response);
    }

    #[test]
    fn reading_garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode_request(bytes.clone());
        let _ = decode_response(bytes);
    }

    #[test]
    fn reading_a_spoiled_message_never_panics(
        at in any::<proptest::sample::Index>(), to in any::<u8>(), cut in any::<proptest::sample::Index>(),
        indeterminate in any::<bool>(),
    ) {
        let mode = if indeterminate { Mode::IndeterminateLength } else { Mode::KnownLength };
        let mut bytes = written(&upload(), mode);
        let at = at.index(bytes.len());
        bytes[at] = to;
        bytes.truncate(cut.index(bytes.len() + 1));
        if let Ok(ours) = decode_request(bytes.clone()) {
            // whatever we accept, the second opinion reads alike, where it can read cut-off messages at all
            if let Ok(theirs) = Message::read_bhttp(&mut Cursor::new(&bytes)) {
                prop_assert_eq!(theirs.content(), &ours.message.body[..]);
            }
        }
    }
}
