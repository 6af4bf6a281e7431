//! The gateway: opens the envelope.
//!
//! A report's second stop. The gateway learns what is asked and never who asks: requests reach it from the relay, and
//! of the relay's request it reads the media type and the sealed block, nothing else. It checks the inner request
//! strictly, finds it in a table that was fixed at the start, builds a **new** request from that table, and seals the
//! answer. The table decides where requests go; an inner request cannot name a host, a port or a path of its own.
//!
//! Whatever happens after a seal was good is answered inside the envelope, with one size and one set of outer fields,
//! so that the relay cannot tell an accepted report from a refused one (RFC 9458 5.2, 6.3).

mod bounds;
mod caught;
mod config;
mod counters;
mod deadline;
mod forward;
mod grid;
mod health;
pub mod keys;
mod media_type;
mod merge;
mod metrics;
mod mounted;
mod problem;
mod publish;
mod relays;
mod reload;
mod replay;
mod route;
mod server;
mod targets;
mod under_way;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::{Router, routing::get};
use mica_service::{
    clock::Clock,
    compute::ComputePool,
    listener::{Drained, Gauge, Limits, Listening},
    metrics::Times,
    operations::Operations,
    room::Room,
    shutdown::Shutdown,
    steady::Steady,
    store::{Store, StoreError},
    telemetry,
    tls::{Acceptor, Peers, RELOAD_INTERVAL, TlsError},
    trouble::Trouble,
};
use sqlx::migrate::Migrator;
use thiserror::Error;
use tokio::{net::TcpListener, time::Instant};

pub use config::{Config, Dates, MergeConfig, Padding, Protocol, ReplayConfig, RouteConfig};
pub use counters::{Counters, Outcome};
pub use mounted::{Mounted, Place};
pub use relays::{RelayConfig, RelayError};
pub use reload::{Kept, Reload};
pub use replay::{Remembered, remembered};
pub use route::RouteError;

/// The schema of a gateway's own database.
pub static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// A gateway that is ready to serve.
pub struct Gateway {
    router: Router,
    limits: Limits,
    counters: Counters,
    keys: Arc<keys::Keys>,
    tls: Option<Acceptor>,
    peers: Peers,
    store: Store,
    under_way: under_way::UnderWay,
    health: Arc<health::Health>,
    gauge: Gauge,
    operations: Operations,
    reload: Reload,
}

/// A gateway that cannot be built: one sentence with what to do.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A route of the table makes no sense.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// A relay of the list makes no sense.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// A file of TLS does not do.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The database does not do.
    #[error("database: {0}")]
    Store(#[from] StoreError),
    /// What the configuration says of keys makes no sense.
    #[error("{0}")]
    Keys(String),
    /// The windows of the memory do not go together: the key, and a sentence.
    #[error("{0}: {1}")]
    Window(&'static str, String),
}

/// What several roles in one process may share.
#[derive(Clone)]
pub struct Resources {
    /// Tells the time.
    pub clock: Clock,
    /// Opens envelopes.
    pub compute: ComputePool,
    /// Targets in this process.
    pub mounted: Mounted,
}

impl Default for Resources {
    fn default() -> Self {
        Self { clock: Clock::system(), compute: ComputePool::new(), mounted: Mounted::default() }
    }
}

impl Gateway {
    /// Checks `config`, opens the database, and makes a key when there is none.
    pub async fn build(config: Config) -> Result<Self, BuildError> {
        Self::build_with(config, Resources::default()).await
    }

    /// The same on a clock and a pool that others use as well.
    pub async fn build_with(config: Config, resources: Resources) -> Result<Self, BuildError> {
        let peers = Peers::load(&config.peer_tls, config.insecure_peers)?;
        let tls = config.tls.as_ref().map(Acceptor::load).transpose()?;
        let reload = changeable(&config, &peers)?;
        let schedule = config.schedule().map_err(BuildError::Keys)?;
        let store = Store::open(&config.database, &MIGRATOR).await?;
        let Resources { clock, compute, mounted } = resources;
        let steady = Steady::new(clock.clone());
        let keys = Arc::new(keys::Keys::load(store.clone(), steady.clone(), schedule).await?);
        let under_way = under_way::UnderWay::new();
        let answers = replay::Answers::open(&store, &config.replay, steady, under_way.clone()).await?;
        let (limits, targets) = (limits(&config), targets::Targets::new(config.max_streams));
        let (counters, times, gauge) = (Counters::default(), Arc::<Times>::default(), Gauge::default());
        let room = Arc::new(Room::new(MOST_REQUESTS, config.max_buffered_bytes));
        let seen = {
            let (counters, room, times) = (counters.clone(), Arc::clone(&room), Arc::clone(&times));
            metrics::Seen { counters, room, times, gauge: gauge.clone(), answers: answers.clone() }
        };
        let server = server::Server {
            keys: Arc::clone(&keys),
            routes: Arc::clone(&reload.routes),
            relays: Arc::clone(&reload.relays),
            strangers: Trouble::default(),
            failures: Trouble::default(),
            times,
            merger: merge::Merger::new(forward::Upstream::new(&config, &peers, mounted, (&room, &clock))),
            targets,
            dates: replay::DateRule::new(&config.replay, answers.promised_from(), clock),
            answers,
            under_way: under_way.clone(),
            grid: grid::Grid::new(config.answer_grid),
            timeout: config.timeout,
            compute,
            counters: counters.clone(),
            padding: config.padding,
            max_request: config.max_request_bytes,
            room,
            min_response: config.min_response_bytes,
        };
        let health = Arc::new(health::Health::new(store.clone()));
        let operations = operations(seen, gauge.clone(), Arc::clone(&health), Arc::clone(&keys));
        let ready = operations.clone();
        Ok(Self {
            router: server::router(server).route("/ready", get(async move || ready.ready())),
            limits,
            gauge,
            operations,
            reload,
            counters,
            keys,
            tls,
            peers,
            store,
            under_way,
            health,
        })
    }

    /// Allows other numbers of connections and other deadlines.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The published list of key configurations (`application/ohttp-keys`).
    pub fn key_config(&self) -> Vec<u8> {
        self.keys.list()
    }

    /// The keys. They stay as this gateway sees them while it runs.
    pub fn keys(&self) -> Arc<keys::Keys> {
        Arc::clone(&self.keys)
    }

    /// How often each outcome occurred. Stays readable while the gateway runs.
    pub fn counters(&self) -> Counters {
        self.counters.clone()
    }

    /// What the gateway tells its operator.
    pub fn operations(&self) -> Operations {
        self.operations.clone()
    }

    /// Changes how the gateway works while it runs.
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// Serves until `shutdown`, then finishes what was begun, also for relays that have gone: what a target has answered is
    /// remembered.
    pub async fn run(self, listener: TcpListener, shutdown: Shutdown) -> Drained {
        self.peers.watch(RELOAD_INTERVAL);
        self.reload.announce();
        let (keys, until) = (self.keys, shutdown.clone());
        let following = telemetry::spawn(async move { keys.follow(until).await });
        let (health, until) = (self.health, shutdown.clone());
        let looking = telemetry::spawn(async move { health.follow(until).await });
        let (grace, stopping) = (self.limits.grace, shutdown.clone());
        let listening = Listening {
            tls: self.tls,
            router: self.router,
            limits: self.limits,
            callers: None,
            gauge: self.gauge,
        };
        let stopped = async {
            stopping.wait().await;
            Instant::now()
        };
        let (drained, stopped) = tokio::join!(listening.serve(listener, shutdown), stopped);
        let until = (stopped + grace).max(Instant::now() + TO_FINISH);
        if tokio::time::timeout_at(until, self.under_way.finished()).await.is_err() {
            tracing::warn!("requests that were begun are left unfinished");
        }
        if let Err(error) = following.await {
            tracing::error!(%error, "the keys were not followed to the end");
        }
        looking.abort();
        self.store.close().await;
        drained
    }
}

fn operations(
    seen: metrics::Seen,
    accepting: Gauge,
    health: Arc<health::Health>,
    keys: Arc<keys::Keys>,
) -> Operations {
    let readiness = move || {
        if accepting.is_stalled() {
            return Err("connections cannot be accepted");
        }
        if keys.has_wrong_clock() {
            return Err("the clocks of this machine and of the database differ");
        }
        health.readiness()
    };
    Operations::new(move || seen.render(), readiness)
}

fn changeable(config: &Config, peers: &Peers) -> Result<Reload, BuildError> {
    bounds::check_all(config).map_err(|(key, what)| BuildError::Window(key, what))?;
    Ok(Reload {
        routes: reload::Live::new(route::RouteTable::of(config, peers)?),
        relays: reload::Live::new(relays::Relays::load(config)?),
        peers: peers.clone(),
        in_force: Arc::new(Mutex::new(config.clone())),
    })
}

fn limits(config: &Config) -> Limits {
    Limits {
        body_pace: config.bodies,
        max_connections: config.max_connections,
        max_streams: config.max_streams,
        grace: config.longest_exchange(),
        ..Limits::default()
    }
}

/// At least so long after the last connection.
const TO_FINISH: Duration = Duration::from_secs(2);
/// Requests that may wait for their targets at once.
const MOST_REQUESTS: usize = 10_000;
