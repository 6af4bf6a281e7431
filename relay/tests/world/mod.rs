//! A relay on a real socket, and a gateway that records what reaches it and answers what it is told to.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body, extract::State, response::Response};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri, Version};
use http_body_util::BodyExt;
use mica_relay::{Config, Counters, Relay, Reload};
use mica_service::{
    http::{HttpClient, HttpOptions},
    listener::{self, Limits},
    operations::Operations,
    shutdown::Shutdown,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};

/// What the gateway saw of one request.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

type Script = dyn Fn() -> Response + Send + Sync;

/// A gateway that answers by a script.
#[derive(Clone)]
pub(crate) struct ScriptedGateway {
    script: Arc<Script>,
    delay: Duration,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl ScriptedGateway {
    pub(crate) fn new(script: impl Fn() -> Response + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(script), delay: Duration::ZERO, seen: Arc::default() }
    }

    pub(crate) fn slow(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) async fn start(&self) -> SocketAddr {
        let router = Router::new().fallback(answer).with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(listener::serve(listener, router, Limits::default(), Shutdown::new()));
        address
    }
}

async fn answer(State(gateway): State<ScriptedGateway>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let (method, uri, version, headers) = (head.method, head.uri, head.version, head.headers);
    gateway.seen.lock().unwrap().push(Seen { method, uri, version, headers, body });
    tokio::time::sleep(gateway.delay).await;
    (gateway.script)()
}

/// A running relay.
pub(crate) struct RunningRelay {
    pub(crate) address: SocketAddr,
    pub(crate) counters: Counters,
    pub(crate) shutdown: Shutdown,
    /// Thrown when it has ended.
    pub(crate) ended: Shutdown,
    pub(crate) operations: Operations,
    pub(crate) reload: Reload,
    pub(crate) config: Config,
}

pub(crate) async fn start_relay(gateway: SocketAddr, adjust: impl FnOnce(&mut Config)) -> RunningRelay {
    let mut config = Config::new("127.0.0.1:0", format!("http://{gateway}/.well-known/ohttp-gateway"));
    adjust(&mut config);
    let relay = Relay::build(config.clone()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, counters, shutdown) = (listener.local_addr().unwrap(), relay.counters(), Shutdown::new());
    let (operations, reload) = (relay.operations(), relay.reload());
    let ended = Shutdown::new();
    let (until, done) = (shutdown.clone(), ended.clone());
    tokio::spawn(async move {
        relay.run(listener, until).await;
        done.trigger();
    });
    RunningRelay { address, counters, shutdown, ended, operations, reload, config }
}

impl RunningRelay {
    pub(crate) fn sealed_request(&self) -> Request<Bytes> {
        Request::post(format!("http://{}/", self.address))
            .header("content-type", "message/ohttp-req")
            .body(Bytes::from(vec![0x5a; 512]))
            .unwrap()
    }
}

pub(crate) fn client(h2_prior_knowledge: bool) -> HttpClient {
    HttpClient::new(HttpOptions { h2_prior_knowledge, ..HttpOptions::default() })
}

/// One sealed request from 127.0.0.`address`, and the status of the answer: clients that a relay can tell apart.
pub(crate) async fn send_from(address: u8, relay: SocketAddr, body: Vec<u8>) -> u16 {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, address], 0))).unwrap();
    let mut stream = socket.connect(relay).await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: message/ohttp-req\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap().parse().unwrap()
}
