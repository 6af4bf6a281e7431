//! Clients that stand at an address of their own and say more about themselves than they should, in front of a relay
//! that must forget it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mica_envelope::{ClientEnvelope, InnerRequest, InnerResponse, KeyConfigList, media};
use tokio::net::TcpSocket;

/// Takes sealed requests to the relay from one address.
pub struct Courier {
    relay: Uri,
    keys: KeyConfigList,
    source: Ipv4Addr,
    fields: Vec<(&'static str, String)>,
}

/// An answer, and the address that the request was sent from.
pub struct Delivery {
    /// What was in the envelope.
    pub response: InnerResponse,
    /// Whom the relay saw.
    pub source: SocketAddr,
}

impl Courier {
    /// A client at the address `source`, of the loopback network.
    #[must_use]
    pub fn new(relay: &str, keys: &KeyConfigList, source: Ipv4Addr) -> Self {
        let relay = relay.parse().expect("the URL of a relay");
        Self { relay, keys: keys.clone(), source, fields: Vec::new() }
    }

    /// The same, with further header fields in front of the relay.
    #[must_use]
    pub fn with_fields(mut self, fields: Vec<(&'static str, String)>) -> Self {
        self.fields = fields;
        self
    }

    /// Sends one inner request and opens the answer.
    pub async fn ask(&self, method: &str, url: &str, content: Option<(&str, Vec<u8>)>) -> Delivery {
        self.send(&inner(method, url, content)).await
    }

    /// Sends any inner request and opens the answer.
    pub async fn send(&self, request: &InnerRequest) -> Delivery {
        let (sealed, opener) = ClientEnvelope::seal(&self.keys, request).expect("a request can be sealed");
        let (status, content_type, body, source) = self.post(sealed).await;
        assert_eq!((status, content_type.as_str()), (200, media::OHTTP_RESPONSE), "{body:?}");
        Delivery { response: opener.open(&body).expect("the answer is ours to open"), source }
    }

    /// One connection, one request.
    async fn post(&self, sealed: Vec<u8>) -> (u16, String, Bytes, SocketAddr) {
        let host = self.relay.host().expect("a relay has a host");
        let port = self.relay.port_u16().expect("a relay of a test has a port");
        let target = SocketAddr::new(host.parse::<IpAddr>().expect("a relay of a test has an address"), port);
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from((self.source, 0))).expect("an address of the loopback network");
        let stream = socket.connect(target).await.expect("the relay listens");
        let source = stream.local_addr().expect("a connected socket has an address");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        let driver = tokio::spawn(connection);
        let path = self.relay.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::post(path)
            .header(header::HOST, format!("{host}:{port}"))
            .header(header::CONTENT_TYPE, media::OHTTP_REQUEST);
        for (name, value) in &self.fields {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(Bytes::from(sealed))).expect("a request");
        let (head, body) = sender.send_request(request).await.expect("the relay answers").into_parts();
        let body = body.collect().await.expect("the whole answer").to_bytes();
        driver.abort();
        let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        (head.status.as_u16(), content_type.unwrap_or_default().to_owned(), body, source)
    }
}

fn inner(method: &str, url: &str, content: Option<(&str, Vec<u8>)>) -> InnerRequest {
    let uri: Uri = url.parse().expect("a URL");
    let (headers, body) = match content {
        Some((media, body)) => (vec![("content-type".to_owned(), media.as_bytes().to_vec())], body),
        None => (Vec::new(), Vec::new()),
    };
    InnerRequest {
        method: method.to_owned(),
        scheme: uri.scheme_str().expect("a whole URL").to_owned(),
        authority: uri.authority().expect("a whole URL").to_string(),
        path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        headers,
        body: Bytes::from(body),
    }
}
