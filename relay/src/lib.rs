//! The relay: drops who sent it.
//!
//! A report's first stop. The relay sees the address of a client and a sealed block whose size is one of a few
//! shared sizes. It builds a **new** request to its one gateway, out of a method, a media type and the block, so that
//! nothing else of the client's request can travel on; and a new response out of a status, a media type and the
//! block. It must never learn what is inside, which is why it does not even link the code that could open it; and
//! it must never write down who sent what: its logs and counters say how many, not who.
//!
//! It sends every request once. Only a client may send again, under a fresh envelope (RFC 9458 6.5). When it is told to, it
//! lets requests wait for each other and sends them in an order that is drawn (`pool`), and says so at `/about`.

mod about;
mod answer;
mod bounds;
mod clients;
mod config;
mod counters;
mod forward;
mod metrics;
mod mirror;
mod pool;
mod reach;
mod refusal;
mod reload;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::Uri;
use mica_service::{
    http::{HttpClient, HttpOptions, Peer, PeerError},
    listener::{Callers, Drained, Gauge, Limits, Listening},
    metrics::Times,
    operations::Operations,
    room::Room,
    shutdown::Shutdown,
    telemetry,
    tls::{Acceptor, Peers, TlsError},
};
use thiserror::Error;
use tokio::{net::TcpListener, time::Instant};

use mirror::Mirror;

pub use clients::{ClientsConfig, LimitBy, RateLimit};
pub use config::{Config, Protocol};
pub use counters::{Counters, Outcome};
pub use mirror::MirrorConfig;
pub use pool::Mixing;
pub use reload::{Kept, Reload};

/// One relay resource that forwards to one gateway.
pub struct Relay {
    router: Router,
    limits: Limits,
    counters: Counters,
    client: HttpClient,
    gateway: Uri,
    tls: Option<Acceptor>,
    callers: Callers,
    gauge: Gauge,
    reach: Arc<reach::Reach>,
    operations: Operations,
    reload: Reload,
    mirror: Option<Arc<Mirror>>,
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
    /// The mirror cannot be.
    #[error("{0}")]
    Mirror(String),
    /// The path of the relay resource is not one.
    #[error(
        "path: `{0}` is not the path of a resource; begin it with a slash and use letters, digits, - _ . and /"
    )]
    Path(String),
    /// A value that is of no use, or not beside the others.
    #[error("{key}: {what}")]
    Value {
        /// The dotted key.
        key: &'static str,
        /// What is wrong with it.
        what: String,
    },
}

impl From<(&'static str, String)> for BuildError {
    fn from((key, what): (&'static str, String)) -> Self {
        Self::Value { key, what }
    }
}

impl Relay {
    /// Checks `config` and prepares everything but the socket.
    pub fn build(config: Config) -> Result<Self, BuildError> {
        bounds::check(&config)?;
        let gateway = gateway(&config)?;
        let peers = Peers::load(&config.peer_tls, config.insecure_peers)?;
        peers.allow(&gateway).map_err(PeerError::BadUrl)?;
        let tls = config.tls.as_ref().map(Acceptor::load).transpose()?;
        let settings = reload::Settings::read(&config)?;
        let mirror = mirror::build(&config, &peers).map_err(BuildError::Mirror)?;
        let client = HttpClient::new(HttpOptions {
            h2_prior_knowledge: config.gateway_protocol == Protocol::H2,
            timeout: config.timeout,
            max_response: config.max_response_bytes,
            // What the gateway says to one client must not be seen in the time of another's request.
            holds_back: false,
            peers,
        });
        let (counters, times, gauge) = (Counters::default(), Arc::<Times>::default(), Gauge::default());
        let reach = Arc::<reach::Reach>::default();
        let room = Arc::new(Room::new(MOST_REQUESTS, config.max_buffered_bytes));
        let callers = Callers::new(config.ipv6_prefix());
        let limits = limits(&config);
        let (about, path, patience) = (about::About::new(&config), config.path.clone(), config.unready_after);
        let max_request = config.max_request_bytes;
        let reload = Reload::new(config, settings, client.clone(), &room, &counters);
        let operations = {
            let (counters, pool, room, times, gauge) =
                (counters.clone(), reload.pool(), Arc::clone(&room), Arc::clone(&times), gauge.clone());
            let (accepting, reach) = (gauge.clone(), Arc::clone(&reach));
            let seen = metrics::Seen { counters, pool, room, times, gauge };
            Operations::new(move || seen.render(), move || readiness(&accepting, &reach, patience))
        };
        let forwarder = forward::Forwarder {
            pool: reload.pool(),
            door: reload.door(),
            token: reload.token(),
            reach: Arc::clone(&reach),
            times,
            operations: operations.clone(),
            gateway: gateway.clone(),
            max_request,
            room,
            about,
            counters: counters.clone(),
        };
        let router = forward::router(&path, forwarder);
        let router = mirror.iter().fold(router, |router, mirror| router.merge(mirror.router()));
        Ok(Self {
            router,
            limits,
            counters,
            client,
            gateway,
            tls,
            callers,
            gauge,
            reach,
            operations,
            reload,
            mirror,
        })
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

    /// What the relay tells its operator.
    pub fn operations(&self) -> Operations {
        self.operations.clone()
    }

    /// Changes how the relay works while it runs.
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// Serves until `shutdown`, then sends off all who wait and finishes what was begun.
    pub async fn run(self, listener: TcpListener, shutdown: Shutdown) -> Drained {
        self.client.watch();
        if let Some(mirror) = self.mirror {
            let until = shutdown.clone();
            telemetry::spawn(async move { mirror.follow(until).await });
        }
        let (pool, token) = (self.reload.pool(), self.reload.token());
        self.reload.announce();
        let beside = [
            telemetry::spawn(Arc::clone(&pool).keep_time(shutdown.clone())),
            telemetry::spawn(async move { self.reach.try_again(self.client, self.gateway, token).await }),
        ];
        let listening = Listening {
            tls: self.tls,
            router: self.router,
            limits: self.limits,
            callers: Some(self.callers),
            gauge: self.gauge,
        };
        let (grace, stopping) = (listening.limits.grace, shutdown.clone());
        let stopped = async {
            stopping.wait().await;
            Instant::now()
        };
        let (drained, stopped) = tokio::join!(listening.serve(listener, shutdown), stopped);
        // What was sent off for clients that have gone is on its way all the same.
        let until = (stopped + grace).max(Instant::now() + TO_FINISH);
        if tokio::time::timeout_at(until, pool.carried()).await.is_err() {
            tracing::warn!("requests that were sent off are left unanswered");
        }
        for task in beside {
            task.abort();
        }
        drained
    }
}

fn gateway(config: &Config) -> Result<Uri, BuildError> {
    Peer::parse(&config.gateway_url)?;
    if !is_resource_path(&config.path) {
        return Err(BuildError::Path(config.path.clone()));
    }
    let url = &config.gateway_url;
    Ok(url.parse().map_err(|_| PeerError::BadUrl(format!("`{url}` is not a URL")))?)
}

fn limits(config: &Config) -> Limits {
    let (body_pace, max_connections) = (config.bodies, config.max_connections);
    let (max_streams, grace) = (CLIENTS_STREAMS, config.grace());
    let max_per_caller = Some(config.share());
    // A client asks for one thing at a time.
    let gathers = false;
    Limits { body_pace, max_connections, max_per_caller, max_streams, gathers, grace, ..Limits::default() }
}

fn readiness(gauge: &Gauge, reach: &reach::Reach, patience: Duration) -> Result<(), &'static str> {
    if gauge.is_stalled() {
        return Err("connections cannot be accepted");
    }
    reach.lost_for(patience).map_or(Ok(()), Err)
}

fn is_resource_path(path: &str) -> bool {
    path.starts_with('/')
        && ![HEALTH, READY, ABOUT].contains(&path)
        && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
}

/// Where the relay says that it is alive.
pub(crate) const HEALTH: &str = "/health";
/// Where it says whether it takes requests.
pub(crate) const READY: &str = "/ready";
/// Where it says what it is and what it does to requests.
pub(crate) const ABOUT: &str = "/about";
/// Requests at once on one connection of a client, which has few of them.
const CLIENTS_STREAMS: u32 = 32;
/// At least so long after the last connection.
const TO_FINISH: Duration = Duration::from_secs(2);
/// Requests that may wait for the gateway at once.
const MOST_REQUESTS: usize = 10_000;
