//! The client side: how one server of mica asks another.
//!
//! It sends each request once. It does not resend on a broken connection, does not follow redirects and
//! keeps no cookies: a relay that resends links two requests, and whoever may resend knows it by itself.
//! Its errors name the origin that was asked and nothing else.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{Request, Response, Uri};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use thiserror::Error;

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Speak HTTP/2 from the first byte, many requests on one connection; otherwise HTTP/1.1.
    pub h2_prior_knowledge: bool,
    /// For the whole exchange, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// Answers larger than this are refused.
    pub max_response: usize,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self { h2_prior_knowledge: false, timeout: Duration::from_secs(30), max_response: 16 * 1024 * 1024 }
    }
}

/// Why there is no answer. `origin` is scheme, host and port as they were configured.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PeerError {
    /// No connection, or it broke before the answer was complete. The peer may have seen the request.
    #[error("cannot reach {origin}: {why}")]
    Unreachable {
        /// Who was asked.
        origin: String,
        /// In one phrase.
        why: String,
    },
    /// No complete answer in time. The peer may have seen the request.
    #[error("{origin} did not answer within {seconds} s")]
    Timeout {
        /// Who was asked.
        origin: String,
        /// The time that was allowed.
        seconds: u64,
    },
    /// The answer is larger than allowed.
    #[error("the answer of {origin} is larger than {limit} bytes")]
    TooLarge {
        /// Who was asked.
        origin: String,
        /// The size that was allowed.
        limit: usize,
    },
    /// The URL cannot be asked at all: one sentence.
    #[error("{0}")]
    BadUrl(String),
}

/// Where another party of the protocol answers: an origin and a path that all its resources share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    origin: String,
    base: String,
}

impl Peer {
    /// Reads `http://host:port/base/`.
    pub fn parse(url: &str) -> Result<Self, PeerError> {
        let uri: Uri = url.parse().map_err(|_| PeerError::BadUrl(format!("`{url}` is not a URL")))?;
        let origin = origin_of(&uri)?;
        if uri.query().is_some() {
            return Err(PeerError::BadUrl(format!("the URL of a peer has no `?` in it: {origin}")));
        }
        Ok(Self { origin, base: uri.path().trim_end_matches('/').to_owned() })
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The URL of a resource; `path` is relative to the path of the peer.
    pub fn url(&self, path: &str) -> String {
        format!("{}{}/{}", self.origin, self.base, path.trim_start_matches('/'))
    }
}

/// Sends requests over pooled connections. Clones share the pool.
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: Client<HttpConnector, Full<Bytes>>,
    options: HttpOptions,
    #[cfg(feature = "testing")]
    instead: Option<crate::testing::Network>,
}

impl HttpClient {
    /// No connection yet.
    pub fn new(options: HttpOptions) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT.min(options.timeout)));
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .retry_canceled_requests(false)
            .http2_only(options.h2_prior_knowledge)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW);
        Self {
            client: builder.build(connector),
            options,
            #[cfg(feature = "testing")]
            instead: None,
        }
    }

    /// A client whose requests never leave the process: `network` answers them, in its own time.
    #[cfg(feature = "testing")]
    pub fn through(network: crate::testing::Network) -> Self {
        Self { instead: Some(network), ..Self::new(HttpOptions::default()) }
    }

    /// Sends `request` once and reads the whole answer, whatever its status.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, PeerError> {
        #[cfg(feature = "testing")]
        if let Some(network) = &self.instead {
            return network.carry(request).await;
        }
        let origin = origin_of(request.uri())?;
        match tokio::time::timeout(self.options.timeout, self.exchange(&origin, request)).await {
            Ok(answer) => answer,
            Err(_) => Err(PeerError::Timeout { origin, seconds: self.options.timeout.as_secs() }),
        }
    }

    async fn exchange(&self, origin: &str, request: Request<Bytes>) -> Result<Response<Bytes>, PeerError> {
        let unreachable = |why| PeerError::Unreachable { origin: origin.to_owned(), why };
        let too_large =
            || PeerError::TooLarge { origin: origin.to_owned(), limit: self.options.max_response };
        let limit = self.options.max_response;
        let response = self.client.request(request.map(Full::new)).await;
        let (head, body) = response.map_err(|error| unreachable(explain(&error)))?.into_parts();
        if body.size_hint().lower() > limit as u64 {
            return Err(too_large());
        }
        match Limited::new(body, limit).collect().await {
            Ok(body) => Ok(Response::from_parts(head, body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
            Err(_) => Err(unreachable("the answer broke off".to_owned())),
        }
    }
}

fn origin_of(uri: &Uri) -> Result<String, PeerError> {
    let host = uri.authority().map(Authority::as_str).filter(|name| !name.contains('@'));
    match (uri.scheme_str(), host) {
        (Some("http"), Some(host)) => Ok(format!("http://{host}")),
        (Some("https"), Some(host)) => Err(PeerError::BadUrl(format!(
            "https://{host} cannot be asked: this version does not speak TLS yet; \
             put a TLS proxy in front and give its http:// address"
        ))),
        _ => Err(PeerError::BadUrl("the URL of a peer starts with http:// and a host".to_owned())),
    }
}

/// The kind of failure, without the address that lower layers like to add.
fn explain(error: &hyper_util::client::legacy::Error) -> String {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return io.kind().to_string();
        }
        source = cause.source();
    }
    let why = if error.is_connect() { "no connection" } else { "the connection broke before the answer" };
    why.to_owned()
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Shorter than a listener keeps a silent connection, so that none is used in the moment it is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
