//! Sends a request that the table built to its target, once, and reads the answer: over the network, or in this process.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use mica_envelope::InnerResponse;
use mica_service::clock::Clock;
use mica_service::http::{HttpClient, HttpOptions, PeerError, Sent};
use mica_service::retry_after::retry_after;
use mica_service::room::Room;
use mica_service::tls::Peers;
use mica_service::trouble::Trouble;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::{
    config::{Config, Protocol},
    counters::Outcome,
    mounted::{Mounted, hand_over},
    problem::Problem,
    route::Matched,
};

/// Connections to all targets.
pub(crate) struct Upstream {
    h2: HttpClient,
    h1: HttpClient,
    mounted: Mounted,
    max_response: usize,
    /// Where answers are counted.
    room: Arc<Room>,
    clock: Clock,
    unanswered: Trouble,
    bad_answers: Trouble,
}

impl Upstream {
    pub(crate) fn new(
        config: &Config,
        peers: &Peers,
        mounted: Mounted,
        (room, clock): (&Arc<Room>, &Clock),
    ) -> Self {
        let client = |h2_prior_knowledge| {
            HttpClient::new(HttpOptions {
                h2_prior_knowledge,
                timeout: config.timeout,
                max_response: config.max_response_bytes,
                // What a target says to one client must not be seen in the time of another's request.
                holds_back: false,
                peers: peers.clone(),
            })
        };
        let (unanswered, bad_answers) = (Trouble::default(), Trouble::default());
        let max_response = config.max_response_bytes;
        Self {
            h2: client(true),
            h1: client(false),
            mounted,
            max_response,
            room: Arc::clone(room),
            clock: clock.clone(),
            unanswered,
            bad_answers,
        }
    }

    /// The target's answer or, when there is none before the deadline, ours in its place, and which of them it is.
    pub(crate) async fn send(&self, matched: Matched, deadline: Instant) -> (InnerResponse, Outcome) {
        let client = match matched.protocol {
            Protocol::H2 => &self.h2,
            Protocol::H1 => &self.h1,
        };
        let exchange = async {
            match self.mounted.find(matched.request.uri()) {
                Some(router) => hand_over(router, matched.request, self.max_response, &self.room).await,
                None => client.send_within(matched.request, &self.room, None).await,
            }
        };
        let Ok(answer) = timeout_at(deadline, exchange).await else {
            if let Some(times) = self.unanswered.occurs() {
                warn!(times, "no answer from a target in time");
            }
            return (Problem::TIMEOUT.inside(), Outcome::Timeout);
        };
        match answer {
            Ok(response) if is_passed_on(response.status().as_u16()) => {
                (inside(response, self.clock.now()), Outcome::Forwarded)
            }
            Ok(response) => {
                if let Some(times) = self.bad_answers.occurs() {
                    let status = response.status().as_u16();
                    warn!(times, status, "a target answered with a status that is not passed on");
                }
                (Problem::BAD_TARGET.inside(), Outcome::BadTarget)
            }
            Err(error) => {
                // Clients decide how often a target is asked, and so how often it fails.
                if let Some(times) = self.unanswered.occurs() {
                    warn!(times, %error, "no answer from a target");
                }
                match error {
                    PeerError::Timeout { .. } => (Problem::TIMEOUT.inside(), Outcome::Timeout),
                    PeerError::NoRoom { .. } => (Problem::NO_ROOM.inside(), Outcome::BadTarget),
                    // Nobody need remember what went nowhere.
                    _ if error.sent() == Sent::Nothing => (Problem::BAD_TARGET.inside(), Outcome::Unreached),
                    _ => (Problem::BAD_TARGET.inside(), Outcome::BadTarget),
                }
            }
        }
    }
}

/// Redirects are not followed and not passed on: a client must not be led away from its relay.
fn is_passed_on(status: u16) -> bool {
    matches!(status, 200..=299 | 400..=599)
}

/// Status, content and the few fields a client needs.
fn inside(response: Response<Bytes>, now: u64) -> InnerResponse {
    let (head, body) = response.into_parts();
    let field = |name: &str| {
        let value = head.headers.get(name)?.as_bytes().trim_ascii();
        Some((name.to_owned(), value.to_vec()))
    };
    let mut headers: Vec<_> = PASSED_ON.into_iter().filter_map(field).collect();
    // In seconds: a time of day says nothing without the `date` beside it, which is not passed on.
    let seconds = retry_after(&head.headers, now);
    headers.extend(seconds.map(|seconds| ("retry-after".to_owned(), seconds.to_string().into_bytes())));
    InnerResponse { status: head.status.as_u16(), headers, body }
}

/// Length follows from the content.
const PASSED_ON: [&str; 2] = ["content-type", "cache-control"];
