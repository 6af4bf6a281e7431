//! The server side of every HTTP connection: accept, guard, drain.
//!
//! An accept loop of our own, because a server that strangers can reach needs what convenience servers
//! leave out: a deadline for headers, a deadline for bodies, a cap on connections, patience when file
//! descriptors run out, and a drain that finishes what was begun. HTTP/1.1 and HTTP/2 with prior
//! knowledge share the port; inside TLS the two sides agree on one of them.
//!
//! The address of whoever connects is dropped where it is accepted: no handler and no log ever sees it. A server that limits
//! what one client may ask sees a [`Caller`] in its place.

mod accept;
mod callers;
mod connection;
mod farewell;
mod gauge;
mod pace;
mod pulse;
mod shares;
mod unread;

use std::fmt::Display;
use std::io;
use std::time::Duration;

use axum::Router;
use thiserror::Error;
use tokio::net::{TcpListener, ToSocketAddrs};

pub use self::callers::{Caller, Callers};
use self::connection::Server;
pub use self::gauge::Gauge;
pub use self::pace::{BodyPace, TooSlow, is_too_slow};
use crate::shutdown::Shutdown;
use crate::tls::{Acceptor, RELOAD_INTERVAL};

/// What a listener allows.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections served at once; more of them wait in the queue of the operating system.
    pub max_connections: usize,
    /// Connections of one [`Caller`] at once; more of them are closed. Without [`Callers`], nobody is told apart.
    pub max_per_caller: Option<usize>,
    /// How long a handshake of TLS may take.
    pub handshake_timeout: Duration,
    /// How long the headers of a request may take, counted from the connection or from the last answer.
    pub header_timeout: Duration,
    /// How long the body of a request may take.
    pub body_timeout: Duration,
    /// How fast it must come until then, and how fast answers must be taken.
    pub body_pace: BodyPace,
    /// A connection on which nothing happens for this long is closed.
    pub idle_timeout: Duration,
    /// Requests at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// Many of them are usual, and what is said to them together is sent together.
    pub gathers: bool,
    /// How long a drain waits for what was begun.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 1_024,
            max_per_caller: None,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_mins(1),
            body_pace: BodyPace::default(),
            idle_timeout: Duration::from_mins(2),
            max_streams: 256,
            gathers: true,
            grace: Duration::from_secs(20),
        }
    }
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut because the grace period was over.
    pub cut: usize,
}

/// An address that cannot be listened on: one sentence with what to do.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {why}")]
pub struct BindError {
    /// The address as it was given.
    pub address: String,
    why: String,
}

/// Listens on `address`, for example `127.0.0.1:8080`; port 0 takes any free one.
pub async fn bind(address: impl ToSocketAddrs + Display) -> Result<TcpListener, BindError> {
    let name = address.to_string();
    TcpListener::bind(address).await.map_err(|error| BindError { address: name, why: explain(&error) })
}

/// Serves `router` on `listener` until `shutdown`, then finishes the requests that were begun.
///
/// Limits on the size of bodies are layers of the router.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, shutdown: Shutdown) -> Drained {
    serve_over(None, listener, router, limits, shutdown).await
}

/// The same inside TLS. A request carries the client's certificate, if there is one, as an extension:
/// `Arc<ClientCertificate>`.
pub async fn serve_over(
    tls: Option<Acceptor>,
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: Shutdown,
) -> Drained {
    let listening = Listening { tls, router, limits, callers: None, gauge: Gauge::default() };
    listening.serve(listener, shutdown).await
}

/// A listener that also tells callers apart, or is watched.
pub struct Listening {
    /// Who the server is; without it, it speaks plain HTTP.
    pub tls: Option<Acceptor>,
    /// What is answered.
    pub router: Router,
    /// What is allowed.
    pub limits: Limits,
    /// With it, a request carries a [`Caller`] as an extension.
    pub callers: Option<Callers>,
    /// Sees whether connections are being accepted.
    pub gauge: Gauge,
}

impl Listening {
    /// Serves until `shutdown`, then finishes the requests that were begun.
    pub async fn serve(self, listener: TcpListener, shutdown: Shutdown) -> Drained {
        if let Some(tls) = &self.tls {
            tls.watch(RELOAD_INTERVAL);
        }
        // Large, and inside of the futures of everybody who serves.
        Box::pin(accept::serve(listener, Server::new(self, shutdown))).await
    }
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "address already in use; stop the other program or choose another port".to_owned()
        }
        io::ErrorKind::PermissionDenied => "permission denied; choose a port above 1023".to_owned(),
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; use one of its own, or 0.0.0.0 for all of them".to_owned()
        }
        io::ErrorKind::InvalidInput => "not an address; write it as 127.0.0.1:8080 or [::1]:8080".to_owned(),
        _ => error.to_string(),
    }
}
