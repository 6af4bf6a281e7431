//! One request through the relay: check what it is, build a new one, send it once, build a new answer.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use axum::{
    Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::{any, get},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use mica_service::{
    http::PeerError,
    metrics::Times,
    operations::Operations,
    room::{Place, Refused, Room},
};
use tracing::debug;

use crate::{
    ABOUT, HEALTH, READY,
    about::About,
    answer,
    clients::{Door, Sender},
    counters::{Counters, Outcome},
    pool::{Exchanged, Pool},
    reach::Reach,
    refusal::Refusal,
};

/// Everything the relay resource needs.
pub(crate) struct Forwarder {
    pub(crate) pool: Arc<Pool>,
    pub(crate) door: Arc<Door>,
    pub(crate) reach: Arc<Reach>,
    pub(crate) times: Arc<Times>,
    pub(crate) operations: Operations,
    pub(crate) gateway: Uri,
    /// What the relay shows to the gateway, if anything.
    pub(crate) token: Arc<RwLock<Option<HeaderValue>>>,
    pub(crate) max_request: usize,
    pub(crate) room: Arc<Room>,
    pub(crate) about: About,
    pub(crate) counters: Counters,
}

/// The relay resource at `path`, what it says of itself, and the health of the process.
pub(crate) fn router(path: &str, forwarder: Forwarder) -> Router {
    Router::new()
        .route(path, any(relay))
        .route(ABOUT, get(about))
        .route(HEALTH, get(async || "ok\n"))
        .route(READY, get(ready))
        .with_state(Arc::new(forwarder))
}

async fn about(State(forwarder): State<Arc<Forwarder>>) -> Response {
    let shows_token = forwarder.token.read().unwrap_or_else(PoisonError::into_inner).is_some();
    forwarder.about.answer(&forwarder.pool, shows_token)
}

async fn ready(State(forwarder): State<Arc<Forwarder>>) -> Response {
    forwarder.operations.ready()
}

async fn relay(State(forwarder): State<Arc<Forwarder>>, request: Request<Body>) -> Response {
    let answered = forwarder.exchange(request).await;
    let outcome = answered.as_ref().map_or_else(|refusal| refusal.outcome, |_| Outcome::Forwarded);
    forwarder.counters.add(outcome);
    forwarder.reach.note(outcome);
    debug!(outcome = outcome.label());
    answered.unwrap_or_else(IntoResponse::into_response)
}

impl Forwarder {
    async fn exchange(&self, request: Request<Body>) -> Result<Response, Refusal> {
        let (sender, sealed, place) = self.accept(request).await?;
        let since = Instant::now();
        let exchanged = self.pool.exchange(sender, self.new_request(sealed), place).await;
        self.times.add(since.elapsed());
        match exchanged {
            Exchanged::Answered(Ok(answer)) => {
                let status = answer.status();
                answer::pass_on(answer).map_err(|outcome| {
                    self.reach.note_answer(outcome, status);
                    Refusal::of(outcome)
                })
            }
            Exchanged::Answered(Err(error)) => {
                self.reach.note_error(&error);
                Err(Refusal::unanswered(outcome_of(&error)))
            }
            Exchanged::Failed => Err(Refusal::of(Outcome::Unreachable)),
            Exchanged::Refused => Err(Refusal::of(Outcome::Full)),
        }
    }

    /// The sealed block, if the request is one that a relay takes. All else of the request is dropped here.
    async fn accept(&self, request: Request<Body>) -> Result<(Sender, Bytes, Place), Refusal> {
        if request.method() != Method::POST {
            return Err(Refusal::of(Outcome::Method));
        }
        let sender = self.door.admit(request.headers(), request.extensions())?;
        if !is_sealed_request(request.headers()) {
            return Err(Refusal::of(Outcome::MediaType));
        }
        if declared_length(request.headers()).is_some_and(|length| length > self.max_request as u64) {
            return Err(Refusal::of(Outcome::TooLarge));
        }
        let body = self.room.read(request.into_body(), self.max_request).await;
        let (sealed, place) = body.map_err(|refused| {
            Refusal::of(match refused {
                Refused::Full => Outcome::Full,
                Refused::TooLarge => Outcome::TooLarge,
                Refused::Incomplete => Outcome::Incomplete,
                Refused::TooSlow => Outcome::TooSlow,
            })
        })?;
        if sealed.len() < LEAST_REQUEST {
            return Err(Refusal::of(Outcome::Incomplete));
        }
        Ok((sender, sealed, place))
    }

    /// Method, URI, media type, content: host and length follow from these, and there is nothing else but what the relay
    /// shows of itself, the same in every request.
    fn new_request(&self, sealed: Bytes) -> Request<Bytes> {
        let mut request = Request::new(sealed);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.gateway.clone();
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(OHTTP_REQUEST));
        if let Some(token) = self.token.read().unwrap_or_else(PoisonError::into_inner).clone() {
            request.headers_mut().insert(header::AUTHORIZATION, token);
        }
        request
    }
}

fn outcome_of(error: &PeerError) -> Outcome {
    match error {
        PeerError::Timeout { .. } => Outcome::Timeout,
        PeerError::TooLarge { .. } => Outcome::BadAnswer,
        PeerError::NoRoom { .. } => Outcome::Full,
        PeerError::NotAccepted { .. } => Outcome::NotAccepted,
        PeerError::Unreachable { .. } | PeerError::Certificate { .. } | PeerError::BadUrl(_) => {
            Outcome::Unreachable
        }
    }
}

/// Exactly one content type, and exactly this one: the types of Oblivious HTTP have no parameters, and the chunked ones
/// are others.
fn is_sealed_request(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let is_the_one =
        |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(OHTTP_REQUEST.as_bytes());
    values.next().is_some_and(is_the_one) && values.next().is_none()
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Media type of a sealed request (RFC 9458 9.2).
pub(crate) const OHTTP_REQUEST: &str = "message/ohttp-req";
/// A header, an encapsulated key of the shortest KEM and a tag around nothing: what is shorter is no encapsulated request
/// (RFC 9458 4.3).
const LEAST_REQUEST: usize = 7 + 32 + 16;
