//! A relay, a gateway and a target on real sockets, and a client that seals.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body, extract::State, response::Response};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use mica_envelope::{ClientEnvelope, InnerRequest, InnerResponse, KeyConfigList, Opener};
use mica_gateway::{Config, Counters, Gateway, Mounted, Outcome, Reload, Resources, RouteConfig, keys::Keys};
use mica_relay::Relay;
use mica_service::{
    clock::Clock,
    compute::ComputePool,
    http::{HttpClient, HttpOptions},
    listener::{self, Limits},
    operations::Operations,
    shutdown::Shutdown,
    testing::{TestDatabase, sqlite},
};
use tokio::net::{TcpListener, TcpSocket};

pub(crate) const UPLOAD: &str = "application/ppm-dap;message=upload-req";

/// What the target saw of one request.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

type Script = dyn Fn(usize) -> Response + Send + Sync;

/// A target that answers by a script, which is told how many requests came before.
#[derive(Clone)]
pub(crate) struct Target {
    script: Arc<Script>,
    delay: Duration,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Target {
    pub(crate) fn new(script: impl Fn(usize) -> Response + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(script), delay: Duration::ZERO, seen: Arc::default() }
    }

    pub(crate) fn slow(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn router(&self) -> Router {
        Router::new().fallback(answer).with_state(self.clone())
    }

    pub(crate) async fn start(&self) -> SocketAddr {
        let router = self.router();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(listener::serve(listener, router, Limits::default(), Shutdown::new()));
        address
    }
}

/// An address that nobody else gets, and where nobody listens until it is opened.
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    socket: TcpSocket,
}

impl Door {
    pub(crate) fn shut() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self { address: socket.local_addr().unwrap(), socket }
    }

    pub(crate) fn open(self, router: Router) {
        let listener = self.socket.listen(1024).unwrap();
        tokio::spawn(listener::serve(listener, router, Limits::default(), Shutdown::new()));
    }
}

async fn answer(State(target): State<Target>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let before = {
        let mut seen = target.seen.lock().unwrap();
        seen.push(Seen { method: head.method, uri: head.uri, headers: head.headers, body });
        seen.len() - 1
    };
    tokio::time::sleep(target.delay).await;
    (target.script)(before)
}

pub(crate) fn created(_: usize) -> Response {
    Response::builder().status(201).body(Body::from("stored")).unwrap()
}

/// A running gateway with a relay in front of it.
pub(crate) struct World {
    pub(crate) relay: SocketAddr,
    pub(crate) gateway: SocketAddr,
    pub(crate) keys: KeyConfigList,
    pub(crate) ring: Arc<Keys>,
    pub(crate) counters: Counters,
    pub(crate) clock: Clock,
    pub(crate) http: HttpClient,
    operations: Operations,
    shutdown: Shutdown,
    pub(crate) ended: Shutdown,
    /// Unless it outlives the gateway.
    pub(crate) database: Option<TestDatabase>,
}

pub(crate) fn routes(target: SocketAddr) -> Vec<RouteConfig> {
    let target = format!("http://{target}/inside");
    let mut upload =
        RouteConfig::new("POST", "leader.example", "/tasks/{task}/reports", Some(UPLOAD), &target);
    upload.max_bytes = 2000;
    vec![upload, RouteConfig::new("GET", "leader.example", "/hpke_config", None, &target)]
}

pub(crate) async fn start_gateway(config: Config, clock: Clock) -> (SocketAddr, Running) {
    start_gateway_beside(config, clock, Mounted::default()).await
}

/// The same with targets in its process.
pub(crate) async fn start_gateway_beside(
    config: Config,
    clock: Clock,
    mounted: Mounted,
) -> (SocketAddr, Running) {
    let resources = Resources { clock, compute: ComputePool::with_threads(1), mounted };
    let gateway = Gateway::build_with(config, resources).await.unwrap();
    let kept = Running {
        keys: gateway.key_config(),
        ring: gateway.keys(),
        counters: gateway.counters(),
        operations: gateway.operations(),
        reload: gateway.reload(),
        shutdown: Shutdown::new(),
        ended: Shutdown::new(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (shutdown, ended) = (kept.shutdown.clone(), kept.ended.clone());
    tokio::spawn(async move {
        gateway.run(listener, shutdown).await;
        ended.trigger();
    });
    (address, kept)
}

/// What is known of a gateway that runs.
pub(crate) struct Running {
    pub(crate) keys: Vec<u8>,
    pub(crate) ring: Arc<Keys>,
    pub(crate) counters: Counters,
    pub(crate) operations: Operations,
    pub(crate) reload: Reload,
    pub(crate) shutdown: Shutdown,
    /// Thrown when it has ended.
    pub(crate) ended: Shutdown,
}

impl World {
    pub(crate) async fn start(target: SocketAddr) -> Self {
        Self::start_with(target, |_| ()).await
    }

    pub(crate) async fn start_with(target: SocketAddr, adjust: impl FnOnce(&mut Config)) -> Self {
        let (database, clock) = (sqlite(), Clock::manual(1_700_000_000));
        let mut config = Config::new("127.0.0.1:0", database.url.clone(), routes(target));
        adjust(&mut config);
        Self { database: Some(database), ..Self::over(config, clock).await }
    }

    /// A gateway over a database that outlives it.
    pub(crate) async fn over(config: Config, clock: Clock) -> Self {
        Self::beside(config, clock, Mounted::default()).await
    }

    /// The same with targets in its process.
    pub(crate) async fn beside(config: Config, clock: Clock, mounted: Mounted) -> Self {
        let (gateway, kept) = start_gateway_beside(config, clock.clone(), mounted).await;
        let config = mica_relay::Config::new("127.0.0.1:0", format!("http://{gateway}/"));
        let relay = Relay::build(config).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(relay.run(listener, Shutdown::new()));
        Self {
            relay: address,
            gateway,
            keys: KeyConfigList::parse(kept.keys).unwrap(),
            ring: kept.ring,
            counters: kept.counters,
            clock,
            http: HttpClient::new(HttpOptions::default()),
            operations: kept.operations,
            shutdown: kept.shutdown,
            ended: kept.ended,
            database: None,
        }
    }

    /// Lets the gateway end.
    pub(crate) fn stop(&self) {
        self.shutdown.trigger();
    }

    pub(crate) fn seal(&self, request: &InnerRequest) -> (Vec<u8>, Opener) {
        ClientEnvelope::seal(&self.keys, request).unwrap()
    }

    /// Sends a sealed block to `to` and returns the outer answer.
    pub(crate) async fn post(&self, to: SocketAddr, sealed: Vec<u8>) -> http::Response<Bytes> {
        let request = Request::post(format!("http://{to}/"))
            .header("content-type", "message/ohttp-req")
            .body(Bytes::from(sealed))
            .unwrap();
        self.http.send(request).await.unwrap()
    }

    /// One exchange through the relay: the outer answer and what was inside.
    pub(crate) async fn exchange(&self, request: &InnerRequest) -> (http::Response<Bytes>, InnerResponse) {
        let (sealed, opener) = self.seal(request);
        open(self.post(self.relay, sealed).await, opener)
    }

    /// What the operator is shown.
    pub(crate) async fn figures(&self) -> String {
        let asked = Request::get("/metrics").body(Body::empty()).unwrap();
        let answer = tower::ServiceExt::oneshot(self.operations.clone().router(None), asked).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    pub(crate) fn count(&self, outcome: Outcome) -> u64 {
        self.counters.count(outcome)
    }
}

pub(crate) fn upload() -> InnerRequest {
    InnerRequest {
        method: "POST".into(),
        scheme: "https".into(),
        authority: "leader.example".into(),
        path: "/tasks/Ab-_9/reports".into(),
        headers: vec![("content-type".into(), UPLOAD.into())],
        body: "report".into(),
    }
}

pub(crate) fn open(outer: http::Response<Bytes>, opener: Opener) -> (http::Response<Bytes>, InnerResponse) {
    assert_eq!(outer.status(), StatusCode::OK);
    let inner = opener.open(outer.body()).unwrap();
    (outer, inner)
}
