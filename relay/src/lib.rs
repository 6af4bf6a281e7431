//! The relay: drops who sent it.
//!
//! A report's first stop. The relay sees the address of a client and a sealed block whose size is one of a few
//! shared sizes. It builds a **new** request to its one gateway, out of a method, a media type and the block, so that
//! nothing else of the client's request can travel on; and a new response out of a status, a media type and the
//! block. It must never learn what is inside, which is why it does not even link the code that could open it; and
//! it must never write down who sent what: its logs and counters say how many, not who.
//!
//! It sends every request once. Only a client may send again, under a fresh envelope (RFC 9458 6.5).

mod config;
mod counters;
mod forward;
mod refusal;

use axum::Router;
use http::Uri;
use mica_service::{
    http::{HttpClient, HttpOptions, Peer, PeerError},
    listener::{self, Drained, Limits},
    room::Room,
    shutdown::Shutdown,
    tls::{Acceptor, Peers, TlsError},
};
use thiserror::Error;
use tokio::net::TcpListener;

pub use config::{Config, Protocol};
pub use counters::{Counters, Outcome};

/// One relay resource that forwards to one gateway.
pub struct Relay {
    router: Router,
    limits: Limits,
    counters: Counters,
    client: HttpClient,
    tls: Option<Acceptor>,
}

/// A relay that cannot be built: one sentence with what to do.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The URL of the gateway is of no use.
    #[error("gateway_url: {0}")]
    Gateway(#[from] PeerError),
    /// A file of TLS does not do.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The path of the relay resource is not one.
    #[error(
        "path: `{0}` is not the path of a resource; begin it with a slash and use letters, digits, - _ . and /"
    )]
    Path(String),
}

impl Relay {
    /// Checks `config` and prepares everything but the socket.
    pub fn build(config: Config) -> Result<Self, BuildError> {
        Peer::parse(&config.gateway_url)?;
        let gateway: Uri = config
            .gateway_url
            .parse()
            .map_err(|_| PeerError::BadUrl(format!("`{}` is not a URL", config.gateway_url)))?;
        let peers = Peers::load(&config.peer_tls, config.insecure_peers)?;
        peers.allow(&gateway).map_err(PeerError::BadUrl)?;
        let tls = config.tls.as_ref().map(Acceptor::load).transpose()?;
        if !is_resource_path(&config.path) {
            return Err(BuildError::Path(config.path));
        }
        let client = HttpClient::new(HttpOptions {
            h2_prior_knowledge: config.gateway_protocol == Protocol::H2,
            timeout: config.timeout,
            max_response: config.max_response_bytes,
            peers,
        });
        let counters = Counters::default();
        let forwarder = forward::Forwarder {
            client: client.clone(),
            gateway,
            max_request: config.max_request_bytes,
            room: Room::new(MOST_REQUESTS, config.max_buffered_bytes),
            counters: counters.clone(),
        };
        let router = forward::router(&config.path, forwarder);
        let limits = Limits { body_pace: config.bodies, ..Limits::default() };
        Ok(Self { router, limits, counters, client, tls })
    }

    /// Allows other numbers of connections and other deadlines.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How often each outcome occurred. Stays readable while the relay runs.
    pub fn counters(&self) -> Counters {
        self.counters.clone()
    }

    /// Serves until `shutdown`, then finishes what was begun.
    pub async fn run(self, listener: TcpListener, shutdown: Shutdown) -> Drained {
        self.client.watch();
        listener::serve_over(self.tls, listener, self.router, self.limits, shutdown).await
    }
}

fn is_resource_path(path: &str) -> bool {
    path.starts_with('/')
        && path != HEALTH
        && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
}

/// Where the relay says that it is alive.
pub(crate) const HEALTH: &str = "/health";
/// Requests that may wait for the gateway at once.
const MOST_REQUESTS: usize = 10_000;
