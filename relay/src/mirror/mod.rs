//! A copy of the gateway's key configurations, for everybody to compare.
//!
//! A gateway could give single clients a key of their own and tell them apart by it (RFC 9458 7). What the relay shows, it
//! shows to all its clients. It fetches by its own clock, never because somebody asks: so the gateway learns nothing
//! from it, and cannot answer for one client. Of the keys it keeps bytes that it does not read, and nothing that is marked as
//! meant for one; a history that does not hold it does not keep.

mod chain;
mod copy;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::{MethodFilter, on},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use mica_service::{
    config::duration,
    http::{HttpClient, HttpOptions, Peer, PeerError},
    shutdown::Shutdown,
    tls::Peers,
};
use serde::Deserialize;

use self::chain::Chain;
use self::copy::{Copy, Demands};
use crate::Config;

/// `[mirror]`: which documents of the gateway are shown, and how often they are looked at.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MirrorConfig {
    /// Where the gateway publishes its key configurations. Without it, at the well-known place of its origin.
    #[serde(default)]
    pub keys_url: Option<String>,
    /// How often the gateway is asked.
    #[serde(default = "five_minutes", deserialize_with = "duration")]
    pub every: Duration,
    /// The shortest `max-age` that is believed: whoever may change the keys often can tell clients apart by them.
    #[serde(default = "one_hour", deserialize_with = "duration")]
    pub min_max_age: Duration,
    /// The public key that the history of the lists must be signed with, in hexadecimal digits; without it, any one.
    #[serde(default)]
    pub history_key: Option<String>,
}

impl Default for MirrorConfig {
    fn default() -> Self {
        Self { keys_url: None, every: five_minutes(), min_max_age: one_hour(), history_key: None }
    }
}

/// The copies, and where they come from.
pub(crate) struct Mirror {
    client: HttpClient,
    every: Duration,
    keys: Document,
    history: Document,
}

struct Document {
    url: Uri,
    demands: Demands,
    copy: RwLock<Option<Copy>>,
    /// What is asked of a history; the other document is not read.
    chain: Option<Chain>,
}

/// The mirror, if there is to be one. The error is a sentence after a key.
pub(crate) fn build(config: &Config, peers: &Peers) -> Result<Option<Arc<Mirror>>, String> {
    let build = |mirror| Mirror::new(mirror, &config.gateway_url, peers);
    Ok(config.mirror.as_ref().map(build).transpose()?.map(Arc::new))
}

impl Mirror {
    /// Nothing is copied yet. The error is a sentence.
    fn new(config: &MirrorConfig, gateway_url: &str, peers: &Peers) -> Result<Self, String> {
        if config.every < SOONEST {
            return Err("mirror.every: ask no more often than every 10s".to_owned());
        }
        let gateway = Peer::parse(gateway_url).map_err(|error| error.to_string())?;
        let keys_url = config.keys_url.clone().unwrap_or_else(|| format!("{}{WELL_KNOWN}", gateway.origin()));
        let wrong = |error: String| format!("mirror.keys_url: {error}");
        let origin = Peer::parse(&keys_url).map_err(|error| wrong(error.to_string()))?.origin().to_owned();
        let chain = Chain::new(config.history_key.as_deref());
        let chain = chain.map_err(|error| format!("mirror.history_key: {error}"))?;
        let document = |url: String, media, min_max_age, chain| {
            let url: Uri = url.parse().map_err(|_| wrong(format!("`{url}` is not a URL")))?;
            peers.allow(&url).map_err(wrong)?;
            Ok::<_, String>(Document {
                url,
                demands: Demands { media, min_max_age },
                copy: RwLock::default(),
                chain,
            })
        };
        let options = HttpOptions {
            timeout: PATIENCE,
            max_response: LARGEST,
            peers: peers.clone(),
            ..HttpOptions::default()
        };
        Ok(Self {
            client: HttpClient::new(options),
            every: config.every,
            keys: document(keys_url, "application/ohttp-keys", config.min_max_age, None)?,
            // It only grows: a copy that is behind is not wrong.
            history: document(format!("{origin}{HISTORY}"), "application/json", ANY_TIME, Some(chain))?,
        })
    }

    /// The copies at the places where the gateway has the originals.
    pub(crate) fn router(self: &Arc<Self>) -> Router {
        let keys = async |State(mirror): State<Arc<Self>>, asked: HeaderMap| mirror.keys.answer(&asked);
        let history = async |State(mirror): State<Arc<Self>>, asked: HeaderMap| mirror.history.answer(&asked);
        let read = MethodFilter::GET.or(MethodFilter::HEAD);
        Router::new()
            .route("/ohttp-keys", on(read, keys))
            .route(WELL_KNOWN, on(read, keys))
            .route(HISTORY, on(read, history))
            .with_state(Arc::clone(self))
    }

    /// Looks at the originals again and again until `shutdown`.
    pub(crate) async fn follow(&self, shutdown: Shutdown) {
        let mut soon = AT_FIRST;
        while !shutdown.is_triggered() {
            let has_keys = self.keys.renew(&self.client).await;
            // A gateway of another make has no history.
            self.history.renew(&self.client).await;
            // The two may have been started together.
            let pause = if has_keys { self.every } else { soon };
            soon = (soon * 2).min(SOONEST);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.wait() => return,
            }
        }
    }
}

impl Document {
    /// Asks the gateway. What it may not show keeps the copy that there is, until that is stale.
    async fn renew(&self, client: &HttpClient) -> bool {
        let known = self.copy();
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = self.url.clone();
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(self.demands.media));
        if let Some(known) = &known {
            request.headers_mut().insert(header::IF_NONE_MATCH, known.tag().clone());
        }
        let answer: Result<_, PeerError> = client.send(request).await;
        let path = self.url.path();
        match answer.map(|answer| self.judge(&answer, known.as_ref())) {
            Ok(Ok(copy)) => {
                *self.copy.write().unwrap_or_else(PoisonError::into_inner) = Some(copy);
                return true;
            }
            Ok(Err(why)) => tracing::warn!(path, why, "what the gateway publishes is not mirrored"),
            Err(error) => tracing::warn!(path, %error, "the gateway cannot be asked for what it publishes"),
        }
        known.is_some()
    }

    /// The answer as a copy; or a sentence for the log.
    fn judge(&self, answer: &http::Response<Bytes>, known: Option<&Copy>) -> Result<Copy, String> {
        let copy = Copy::judge(answer, self.demands, known)?;
        if let Some(chain) = &self.chain {
            chain.take(copy.body())?;
        }
        Ok(copy)
    }

    fn copy(&self) -> Option<Copy> {
        self.copy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn answer(&self, asked: &HeaderMap) -> Response {
        let now = Instant::now();
        match self.copy().filter(|copy| !copy.is_stale(now)) {
            Some(copy) => copy.answer(asked, now),
            None => (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "10")]).into_response(),
        }
    }
}

fn five_minutes() -> Duration {
    Duration::from_mins(5)
}

fn one_hour() -> Duration {
    Duration::from_hours(1)
}

/// Where a gateway has its key configurations (RFC 9540 5).
const WELL_KNOWN: &str = "/.well-known/ohttp-gateway";
/// Where a gateway of mica has the history of its lists.
const HISTORY: &str = "/ohttp-keys/history";
/// A history may be as old as it is.
const ANY_TIME: Duration = Duration::from_secs(1);
const AT_FIRST: Duration = Duration::from_millis(500);
const SOONEST: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(20);
const LARGEST: usize = 4 << 20;
