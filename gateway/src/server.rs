//! One request through the gateway: take the sealed block, open it, resolve, forward, seal the answer.

use std::sync::Arc;
use std::time::Duration;

use axum::{
    Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::{MethodFilter, any, get, on},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use mica_envelope::{
    AnswerLock, EncDigest, InnerRequest, InnerResponse, Invalid, Opened, Sealer, media, pad_response,
    padded_length,
};
use mica_service::{
    compute::ComputePool,
    metrics::Times,
    room::{Place, Refused, Room},
    telemetry,
    trouble::Trouble,
};
use tokio::time::Instant;
use tracing::{error, warn};

use crate::{
    caught::caught,
    config::Padding,
    counters::{Counters, Outcome},
    grid::Grid,
    keys::Keys,
    merge::Merger,
    problem::Problem,
    relays::Relays,
    reload::Live,
    replay::{Answer, Answers, Claim, DateRule, encoded},
    route::{Matched, RouteTable},
    targets::Targets,
    under_way::{Begun, UnderWay},
};

/// Everything the gateway resource needs.
pub(crate) struct Server {
    pub(crate) keys: Arc<Keys>,
    pub(crate) routes: Arc<Live<RouteTable>>,
    pub(crate) relays: Arc<Live<Relays>>,
    pub(crate) strangers: Trouble,
    pub(crate) failures: Trouble,
    pub(crate) times: Arc<Times>,
    pub(crate) merger: Arc<Merger>,
    pub(crate) targets: Targets,
    pub(crate) answers: Answers,
    pub(crate) under_way: UnderWay,
    pub(crate) dates: DateRule,
    pub(crate) grid: Grid,
    /// How long a request may take, however often its target is asked.
    pub(crate) timeout: Duration,
    pub(crate) compute: ComputePool,
    pub(crate) counters: Counters,
    pub(crate) padding: Padding,
    pub(crate) max_request: usize,
    pub(crate) room: Arc<Room>,
    pub(crate) min_response: usize,
}

/// The gateway resource at its two paths, the keys at theirs (RFC 9540 6), and the health of the process.
pub(crate) fn router(server: Server) -> Router {
    let keys = Arc::clone(&server.keys);
    let gateway = Router::new()
        .route("/", any(seal_or_refuse))
        .route("/.well-known/ohttp-gateway", any(seal_or_refuse))
        .with_state(Arc::new(server));
    let list = async |State(keys): State<Arc<Keys>>, asked: HeaderMap| keys.ring().list.answer(&asked);
    let history = async |State(keys): State<Arc<Keys>>, asked: HeaderMap| keys.ring().history.answer(&asked);
    let read = MethodFilter::GET.or(MethodFilter::HEAD);
    let public = Router::new()
        .route("/ohttp-keys", on(read, list))
        .route("/.well-known/ohttp-gateway", on(read, list))
        .route(mica_envelope::history::PATH, on(read, history))
        .route("/health", get(async || "ok\n"))
        .with_state(keys);
    gateway.merge(public)
}

async fn seal_or_refuse(State(server): State<Arc<Server>>, request: Request<Body>) -> Response {
    // Once the request is complete it is finished even if the relay does not wait: a client may ask again.
    let outcome = match server.accept(request).await {
        Ok((sealed, place)) => {
            let since = Instant::now();
            let begun = server.under_way.begin();
            let done = telemetry::spawn(Arc::clone(&server).exchange(sealed, (place, begun))).await;
            server.times.add(since.elapsed());
            match done {
                Ok(outcome) => outcome,
                Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            }
        }
        Err(problem) => {
            server.note_refusal(&problem);
            Err(problem)
        }
    };
    match outcome {
        Ok(sealed) => outside(sealed),
        Err(problem) => in_clear(&problem),
    }
}

impl Server {
    /// The sealed block, if the request is one that a gateway takes. All else of the request is dropped here.
    async fn accept(&self, request: Request<Body>) -> Result<(Bytes, Place), Problem> {
        if request.method() != Method::POST {
            return Err(Problem::METHOD);
        }
        if !self.relays.now().admit(request.headers(), request.extensions()) {
            return Err(Problem::STRANGER);
        }
        let mut types = request.headers().get_all(header::CONTENT_TYPE).iter();
        let is_sealed = types.next().is_some_and(|value| media::is(value.as_bytes(), media::OHTTP_REQUEST));
        if !is_sealed || types.next().is_some() {
            return Err(Problem::MEDIA_TYPE);
        }
        self.room.read(request.into_body(), self.max_request).await.map_err(|refused| match refused {
            Refused::Full => Problem::BUSY,
            Refused::TooLarge => Problem::TOO_LARGE,
            Refused::Incomplete => Problem::INCOMPLETE,
            Refused::TooSlow => Problem::TOO_SLOW,
        })
    }

    /// A relay whose token is wrong looks like a stranger: whoever runs the gateway can tell from this that there are some.
    fn note_refusal(&self, problem: &Problem) {
        if *problem != Problem::STRANGER {
            return self.counters.add(Outcome::NotOpened);
        }
        self.counters.add(Outcome::Stranger);
        if let Some(times) = self.strangers.occurs() {
            warn!(times, "requests of none of the relays that are served were refused");
        }
    }

    /// The sealed answer, in the place of its request. An error is said in clear, because there is nothing to seal it
    /// with.
    async fn exchange(
        self: Arc<Self>,
        sealed: Bytes,
        (mut place, _begun): (Place, Begun),
    ) -> Result<Bytes, Problem> {
        let arrived = Instant::now();
        let least = self.min_response.max(least_answer(sealed.len()));
        let (ring, moment) = (self.keys.ring(), self.keys.moment());
        // Nearly all of it is one key agreement, which a request that is not too long does not wait for another thread for.
        let opened = if sealed.len() <= SHORT {
            ring.open(&sealed, moment)
        } else {
            self.compute.run(move || ring.open(&sealed, moment)).await
        };
        let Ok(inside) = opened else {
            self.counters.add(Outcome::Key);
            return Err(Problem::KEY);
        };
        let Opened { request, padded, enc, lock, sealer } = inside;
        let answered = caught(async {
            match self.resolve(request, padded) {
                Ok(resolved) => self.answer_once((enc, lock), resolved, arrived + self.timeout).await,
                Err((refusal, outcome)) => {
                    self.counters.add(outcome);
                    encoded(&refusal)
                }
            }
        });
        let answer = answered.await.unwrap_or_else(|| {
            if let Some(times) = self.failures.occurs() {
                error!(times, "requests failed in a way that nobody foresaw");
            }
            encoded(&Problem::FAILED.inside())
        });
        let sealed = self.seal(sealer, answer, least, &mut place).await;
        self.grid.wait(arrived).await;
        sealed.map(|sealed| place.house(sealed.into()))
    }

    /// What is sent on, if the request keeps the rules and is in the table; and what is to be said of its date instead,
    /// unless it came before.
    fn resolve(
        &self,
        request: Result<InnerRequest, Invalid>,
        padded: bool,
    ) -> Result<(Matched, Option<InnerResponse>), (InnerResponse, Outcome)> {
        if !padded && self.padding != Padding::Off {
            self.counters.add(Outcome::Unpadded);
            if self.padding == Padding::Refuse {
                return Err((Problem::NOT_PADDED.inside(), Outcome::Invalid));
            }
        }
        let invalid = |Invalid(rule)| (Problem::invalid(rule).inside(), Outcome::Invalid);
        let inner = request.map_err(invalid)?;
        let refusal = self.dates.refusal(&inner);
        let matched = self.routes.now().resolve(inner);
        Ok((matched.map_err(|problem| (problem.inside(), Outcome::NoRoute))?, refusal))
    }

    /// The target's answer, from the target the first time and from memory after that. Whoever only reads may ask the
    /// target as often as it likes: that is harmless, and takes no memory.
    async fn answer_once(
        &self,
        (enc, lock): (EncDigest, AnswerLock),
        (matched, misdated): (Matched, Option<InnerResponse>),
        deadline: Instant,
    ) -> Answer {
        let only_reads = matched.only_reads();
        // What was answered is said again whatever time it is since, and takes no place at the target.
        if !only_reads && let Some(before) = self.answers.recall(enc, &lock, misdated.is_some()).await {
            return self.ask_or_say(before, matched, deadline).await;
        }
        if let Some(refusal) = misdated {
            self.counters.add(Outcome::Date);
            return encoded(&refusal);
        }
        let Some(_under_way) = self.targets.enter(matched.request.uri()) else {
            // A replica may have answered it.
            let before = if only_reads { None } else { self.answers.recall(enc, &lock, true).await };
            return self.ask_or_say(before.unwrap_or(Claim::Later(1)), matched, deadline).await;
        };
        if only_reads {
            return self.ask(matched, deadline).await.0;
        }
        let claim = self.answers.claim(enc, lock, deadline).await;
        self.ask_or_say(claim, matched, deadline).await
    }

    async fn ask_or_say(&self, claim: Claim, matched: Matched, deadline: Instant) -> Answer {
        match claim {
            Claim::Later(seconds) => {
                self.counters.add(Outcome::Full);
                encoded(&Problem::LATER.inside_after(seconds))
            }
            Claim::Again(answer) => {
                self.counters.add(Outcome::Again);
                answer
            }
            Claim::First(ticket) => {
                let (answer, outcome) = self.ask(matched, deadline).await;
                match outcome {
                    // The target got nothing: the same request may be sent on when it is there again.
                    Outcome::Unreached => ticket.take_back(answer.clone()).await,
                    _ => ticket.leave(answer.clone()).await,
                }
                answer
            }
        }
    }

    async fn ask(&self, matched: Matched, deadline: Instant) -> (Answer, Outcome) {
        let (answer, outcome) = self.merger.send(matched, deadline).await;
        self.counters.add(outcome);
        // The copy is counted as long as it waits to be remembered and sealed.
        let made = encoded(&answer);
        (self.room.in_place_of(answer.body, made), outcome)
    }

    /// Sealing a short answer takes less time than handing it to another thread.
    async fn seal(
        &self,
        sealer: Sealer,
        mut answer: Answer,
        least: usize,
        place: &mut Place,
    ) -> Result<Vec<u8>, Problem> {
        let pad = |answer: &Answer| pad_response(answer, sealer.overhead(), least);
        let size = |answer: &Answer| padded_length(answer.len().saturating_add(sealer.overhead()).max(least));
        if size(&answer).is_none() {
            answer = encoded(&Problem::BAD_TARGET.inside());
        }
        // It has to have its place before it is made.
        let padded = if size(&answer).is_some_and(|size| self.room.fit(place, size)) {
            pad(&answer).map_err(|_| Problem::BAD_TARGET)?
        } else {
            // It is remembered, for whoever sends the same again when there is room.
            pad(&encoded(&Problem::NO_ROOM.inside())).map_err(|_| Problem::BAD_TARGET)?
        };
        drop(answer);
        let outcome = if padded.len() <= SHORT {
            sealer.seal_encoded(&padded)
        } else {
            self.compute.run(move || sealer.seal_encoded(&padded)).await
        };
        outcome.map_err(|_| Problem::BAD_TARGET)
    }
}

/// What the answer to an upload that fits in `sealed` bytes may need, when each of its reports was refused (DAP 4.4.2). Every
/// answer to a request of that size has as much room, whatever the request was: else the size would tell how many reports
/// were refused.
fn least_answer(sealed: usize) -> usize {
    let reports = (sealed.saturating_sub(SMALLEST_SEAL) / SMALLEST_REPORT).min(MOST_REPORTS);
    reports * STATUS + AROUND_STATUSES
}

/// Every sealed answer looks like this, whatever is in it (RFC 9458 5).
fn outside(sealed: Bytes) -> Response {
    let mut response = Response::new(Body::from(sealed));
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(media::OHTTP_RESPONSE));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Only before a seal was opened.
fn in_clear(problem: &Problem) -> Response {
    let mut response = Response::new(Body::from(problem.json()));
    *response.status_mut() =
        StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(media::PROBLEM_JSON));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if problem.status == 405 {
        fields.insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    if problem.status == 503 {
        fields.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// What is opened and sealed where it was read: beyond, the work grows with the content and goes to other threads.
const SHORT: usize = 16 * 1024;
/// Bytes of a sealed request with nothing in it: header, encapsulated key and tag.
const SMALLEST_SEAL: usize = 7 + 32 + 16;
/// Bytes of a report with nothing in it.
const SMALLEST_REPORT: usize = 44;
/// As many as a leader of mica takes in one upload.
const MOST_REPORTS: usize = 1_000;
/// Bytes of what an answer says of one report: its identifier and a code.
const STATUS: usize = 17;
/// Status line, fields and sealing around them.
const AROUND_STATUSES: usize = 256;

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
