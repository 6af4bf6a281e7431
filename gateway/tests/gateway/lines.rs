//! Where the lines of outer requests end, byte by byte on a real socket.

use http::StatusCode;
use mica_gateway::Outcome;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::{Target, World, created, open, upload};

/// What is answered to `head`, which announces as much as `body` has, or chunks.
async fn exchange(world: &World, head: &[u8], body: &[u8]) -> http::Response<bytes::Bytes> {
    let mut stream = TcpStream::connect(world.gateway).await.unwrap();
    stream.write_all(&[head, body].concat()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let text = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = text.split(' ').nth(1).unwrap().parse::<u16>().unwrap();
    let response = http::Response::builder().status(status);
    response.body(bytes::Bytes::from(answer.split_off(end + 4))).unwrap()
}

/// RFC 9112 2.2: whoever stands in front of a gateway, and takes a bare LF for a part of a value, reads another message than
/// the gateway does.
#[tokio::test]
async fn a_bare_lf_ends_a_line_of_an_outer_head_and_nothing_in_a_chunked_body() {
    let target = Target::new(created);
    let world = World::start(target.start().await).await;
    let head = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: message/ohttp-req\r\n";
    for (further, all_lf) in [("", true), ("x: a\n", false)] {
        let (sealed, opener) = world.seal(&upload());
        let mut head = format!("{head}{further}content-length: {}\r\n\r\n", sealed.len());
        if all_lf {
            head = head.replace("\r\n", "\n");
        }
        let (_, inner) = open(exchange(&world, head.as_bytes(), &sealed).await, opener);
        assert_eq!(inner.status, 201, "{head:?}");
    }
    let (sealed, _) = world.seal(&upload());
    let (length, other) = (sealed.len(), sealed.len() - 1);
    for further in [
        format!("content-length: {length}\r\nx: a\ncontent-length: {other}\r\n\r\n"),
        format!("content-length: {length}\r\nx: a\rb\r\n\r\n"),
    ] {
        let refused = exchange(&world, format!("{head}{further}").as_bytes(), &sealed).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{further:?}");
    }
    let head = format!("{head}transfer-encoding: chunked\r\n\r\n");
    for (size, end) in
        [("\n", "\r\n0\r\n\r\n"), (";a\n", "\r\n0\r\n\r\n"), ("\r\n", "\n0\r\n\r\n"), ("\r\n", "\r\n0\n\r\n")]
    {
        let chunk = [format!("{length:x}{size}").as_bytes(), &sealed, end.as_bytes()].concat();
        let refused = exchange(&world, head.as_bytes(), &chunk).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{size:?} {end:?}");
    }
    assert_eq!((target.seen().len(), world.count(Outcome::NotOpened)), (2, 4));
}
