//! The client side: how one server of mica asks another.
//!
//! It sends each request once. It does not resend on a broken connection, does not follow redirects and
//! keeps no cookies: a relay that resends links two requests, and whoever may resend knows it by itself.
//! Its errors name the origin that was asked and nothing else.

use std::time::Duration;

use axum::BoxError;
use bytes::Bytes;
use http::uri::Authority;
use http::{Request, Response, StatusCode, Uri, header};
use http_body::Body;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use thiserror::Error;

use crate::gathering::GatheringConnector;
pub use crate::outgoing::Sent;
use crate::outgoing::{Outgoing, Progress, Sizes};
use crate::room::{Place, Refused, Room};
use crate::tls::{Connector, Peers, RELOAD_INTERVAL, Reason, is_plain};

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Without TLS: speak HTTP/2 from the first byte, many requests on one connection; otherwise HTTP/1.1. With TLS both
    /// sides agree on HTTP/2 if they can.
    pub h2_prior_knowledge: bool,
    /// For the whole exchange, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// Answers larger than this are refused.
    pub max_response: usize,
    /// Keeps the end of a request back that is larger than any that its peer is known to take, so that a refusal comes
    /// before it. Not where one sender's refusal would be seen in the time of another's request.
    pub holds_back: bool,
    /// Whom to believe, what to show, and whether plain HTTP may leave this machine.
    pub peers: Peers,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            h2_prior_knowledge: false,
            timeout: Duration::from_secs(30),
            max_response: 16 * 1024 * 1024,
            holds_back: true,
            peers: Peers::default(),
        }
    }
}

/// Why there is no answer. `origin` is scheme, host and port as they were configured.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PeerError {
    /// No connection, or it broke before the answer was complete.
    #[error("cannot reach {origin}: {why}")]
    Unreachable {
        /// Who was asked.
        origin: String,
        /// In one phrase.
        why: String,
        /// How much of the request may have left.
        sent: Sent,
    },
    /// No complete answer in time.
    #[error("{origin} did not answer within {seconds} s")]
    Timeout {
        /// Who was asked.
        origin: String,
        /// The time that was allowed.
        seconds: u64,
        /// How much of the request may have left.
        sent: Sent,
    },
    /// The answer is larger than allowed.
    #[error("the answer of {origin} is larger than {limit} bytes")]
    TooLarge {
        /// Who was asked.
        origin: String,
        /// The size that was allowed.
        limit: usize,
    },
    /// The peer is not who it should be. Nothing was sent.
    #[error("the certificate of {host} is not valid: {why}")]
    Certificate {
        /// The host that was asked.
        host: String,
        /// Why, and what to do.
        why: String,
    },
    /// The peer does not accept our certificate, or that we have none.
    #[error("{origin} does not let us in: {why}")]
    NotAccepted {
        /// Who was asked.
        origin: String,
        /// Why, and what to do.
        why: String,
    },
    /// There is no room for the answer right now.
    #[error("there is no room for the answer of {origin}")]
    NoRoom {
        /// Who was asked.
        origin: String,
    },
    /// The URL cannot be asked at all: one sentence.
    #[error("{0}")]
    BadUrl(String),
}

impl PeerError {
    /// How much of the request the peer may have got. A part is as good as nothing: it is no request.
    pub fn sent(&self) -> Sent {
        match self {
            Self::Unreachable { sent, .. } | Self::Timeout { sent, .. } => *sent,
            Self::Certificate { .. } | Self::BadUrl(_) => Sent::Nothing,
            // Who does not let us in may say so about one connection while another breaks.
            Self::TooLarge { .. } | Self::NoRoom { .. } | Self::NotAccepted { .. } => Sent::All,
        }
    }
}

/// Where another party of the protocol answers: an origin and a path that all its resources share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    origin: String,
    base: String,
}

impl Peer {
    /// Reads `https://host:port/base/`.
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
    plain: Client<GatheringConnector, Outgoing>,
    tls: Client<GatheringConnector, Outgoing>,
    connector: Connector,
    options: HttpOptions,
    sizes: Sizes,
    #[cfg(feature = "testing")]
    instead: Option<crate::testing::Network>,
}

impl HttpClient {
    /// No connection yet.
    pub fn new(options: HttpOptions) -> Self {
        let connector = options.peers.connector(CONNECT_TIMEOUT.min(options.timeout));
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .retry_canceled_requests(false)
            .http1_max_buf_size(H1_BUFFER)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            // Answers that are refused are resets of ours, and what is under way of them comes all the same. Whoever counts
            // these against the connection ends it, with the requests of all others on it.
            .http2_max_concurrent_reset_streams(RESET_STREAMS)
            .http2_max_local_error_reset_streams(None);
        let through = |always| GatheringConnector::new(connector.clone(), always);
        let tls = builder.build(through(false));
        let prior = options.h2_prior_knowledge;
        let plain = builder.http2_only(prior).build(through(prior));
        Self {
            plain,
            tls,
            connector,
            options,
            sizes: Sizes::default(),
            #[cfg(feature = "testing")]
            instead: None,
        }
    }

    /// A client whose requests never leave the process: `network` answers them, in its own time.
    #[cfg(feature = "testing")]
    pub fn through(network: crate::testing::Network) -> Self {
        Self { instead: Some(network), ..Self::new(HttpOptions::default()) }
    }

    /// Takes changed certificates and roots up. Must be called inside a tokio runtime.
    pub fn watch(&self) {
        self.options.peers.watch(RELOAD_INTERVAL);
    }

    /// Whether peers that ask for a certificate are shown one.
    pub fn shows_certificate(&self) -> bool {
        self.options.peers.show_certificate()
    }

    /// Whether `uri` may be asked at all.
    ///
    /// # Errors
    /// One sentence, when it is plain HTTP to another machine.
    pub fn allow(&self, uri: &Uri) -> Result<(), String> {
        #[cfg(feature = "testing")]
        if self.instead.is_some() {
            return Ok(());
        }
        self.options.peers.allow(uri)
    }

    /// Sends `request` once and reads the whole answer, whatever its status.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, PeerError> {
        self.send_for(request, None).await
    }

    /// The same, for an answer that is counted: it is read through `room`, with a `place` into that of its request. The
    /// place is kept with the bytes of the answer and free when these are gone.
    pub async fn send_within(
        &self,
        request: Request<Bytes>,
        room: &Room,
        place: Option<Place>,
    ) -> Result<Response<Bytes>, PeerError> {
        self.send_for(request, Some((room, place))).await
    }

    async fn send_for(
        &self,
        request: Request<Bytes>,
        within: Option<Within<'_>>,
    ) -> Result<Response<Bytes>, PeerError> {
        #[cfg(feature = "testing")]
        if let Some(network) = &self.instead {
            let answer = network.carry(request).await?;
            let origin = || "the network of a test".to_owned();
            return read(answer.map(http_body_util::Full::new), self.options.max_response, within)
                .await
                .map_err(|refused| {
                    PeerError::of_answer(refused, origin(), self.options.max_response, Sent::All)
                });
        }
        let origin = origin_of(request.uri())?;
        self.options.peers.allow(request.uri()).map_err(PeerError::BadUrl)?;
        let (head, body) = request.into_parts();
        let bytes = body.len();
        let holds_back = self.options.holds_back && !self.sizes.takes(&origin, bytes);
        let (body, progress) = Outgoing::new(body, holds_back);
        let exchange = self.exchange(&origin, Request::from_parts(head, body), &progress, within);
        let answer = tokio::time::timeout(self.options.timeout, exchange).await.unwrap_or_else(|_| {
            let (origin, seconds) = (origin.clone(), self.options.timeout.as_secs());
            Err(PeerError::Timeout { origin, seconds, sent: progress.stop() })
        });
        match &answer {
            _ if !self.options.holds_back => {}
            Ok(answer) => self.sizes.learn(&origin, bytes, answer.status() != StatusCode::PAYLOAD_TOO_LARGE),
            Err(error) if error.sent() == Sent::Part => self.sizes.learn(&origin, bytes, false),
            Err(_) => {}
        }
        answer
    }

    async fn exchange(
        &self,
        origin: &str,
        request: Request<Outgoing>,
        progress: &Progress,
        within: Option<Within<'_>>,
    ) -> Result<Response<Bytes>, PeerError> {
        let limit = self.options.max_response;
        let client = if is_plain(request.uri()) { &self.plain } else { &self.tls };
        let response = client.request(request).await;
        let response = response.map_err(|error| self.explain(origin, &error, progress))?;
        read(response, limit, within)
            .await
            .map_err(|refused| PeerError::of_answer(refused, origin.to_owned(), limit, progress.stop()))
    }

    /// The kind of failure, without the address that lower layers like to add.
    fn explain(
        &self,
        origin: &str,
        error: &hyper_util::client::legacy::Error,
        progress: &Progress,
    ) -> PeerError {
        let host = origin.split_once("://").map_or(origin, |(_, host)| host).to_owned();
        let origin = origin.to_owned();
        let sent = if error.is_connect() { Sent::Nothing } else { progress.stop() };
        match self.connector.reason(&host, error) {
            Some(Reason::Certificate(why)) => PeerError::Certificate { host, why },
            Some(Reason::NotAccepted(why)) => PeerError::NotAccepted { origin, why },
            Some(Reason::Unusable(why)) => PeerError::BadUrl(why),
            Some(Reason::Other(why)) => PeerError::Unreachable { origin, why, sent },
            None => {
                let why = match sent {
                    _ if error.is_connect() => "no connection",
                    Sent::Nothing | Sent::Part => "the connection broke before all of the request had left",
                    Sent::All => "the connection broke before the answer",
                };
                PeerError::Unreachable { origin, why: why.to_owned(), sent }
            }
        }
    }
}

/// Where an answer is counted, and the place of its request.
type Within<'a> = (&'a Room, Option<Place>);

/// The whole answer.
async fn read<B>(
    answer: Response<B>,
    limit: usize,
    within: Option<Within<'_>>,
) -> Result<Response<Bytes>, Refused>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let (mut head, body) = answer.into_parts();
    let read = match within {
        Some((room, place)) => room.read_answer(body, limit, place).await,
        None if body.size_hint().lower() > limit as u64 => Err(Refused::TooLarge),
        None => match Limited::new(body, limit).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(Refused::TooLarge),
            Err(_) => Err(Refused::Incomplete),
        },
    };
    match read {
        Ok(body) => Ok(Response::from_parts(head, body)),
        // Who refuses a request by its size often breaks off over it; the status says it all.
        Err(Refused::Incomplete) if head.status == StatusCode::PAYLOAD_TOO_LARGE => {
            head.headers.remove(header::CONTENT_LENGTH);
            Ok(Response::from_parts(head, Bytes::new()))
        }
        Err(refused) => Err(refused),
    }
}

impl PeerError {
    /// An answer of `origin` that was refused.
    fn of_answer(refused: Refused, origin: String, limit: usize, sent: Sent) -> Self {
        match refused {
            Refused::TooLarge => Self::TooLarge { origin, limit },
            Refused::Full => Self::NoRoom { origin },
            Refused::Incomplete | Refused::TooSlow => {
                Self::Unreachable { origin, why: BROKE_OFF.to_owned(), sent }
            }
        }
    }
}

/// Scheme, host and port of the URL of a peer.
///
/// # Errors
/// When it has none of them, or a name before its host.
pub fn origin_of(uri: &Uri) -> Result<String, PeerError> {
    let host = uri.authority().map(Authority::as_str).filter(|name| !name.contains('@'));
    match (uri.scheme_str(), host) {
        (Some(scheme @ ("http" | "https")), Some(host)) => Ok(format!("{scheme}://{host}")),
        _ => Err(PeerError::BadUrl("the URL of a peer starts with https:// and a host".to_owned())),
    }
}

const BROKE_OFF: &str = "the answer broke off";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Shorter than a listener keeps a silent connection, so that none is used in the moment it is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// What one connection of HTTP/1.1 reads ahead, which no room counts. The head of an answer is no longer.
const H1_BUFFER: usize = 16 << 10;
/// Streams that were given up, for which frames may still come: remembered to be passed over.
const RESET_STREAMS: usize = 1_024;
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
