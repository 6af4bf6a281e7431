//! Whether the gateway can be reached, accepts this relay, and gives answers that are passed on.
//!
//! Requests find out; while none gets through, the relay tries by itself, so that one that is left alone by its load
//! balancer learns that it may come back. No client's request causes a try, and none has a line in the log: what goes
//! wrong is told when it begins, once a minute, and when it is over.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use mica_service::http::{HttpClient, PeerError};
use mica_service::trouble::Trouble;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::answer;
use crate::counters::Outcome;
use crate::forward::OHTTP_REQUEST;

/// Since when nothing gets through, and what has been told of it.
#[derive(Default)]
pub(crate) struct Reach {
    lost: Mutex<Option<Lost>>,
    unanswered: Trouble,
    bad_answers: Trouble,
    refusals: Trouble,
}

#[derive(Clone, Copy)]
struct Lost {
    since: Instant,
    why: Why,
}

#[derive(Clone, Copy)]
enum Why {
    Unreachable,
    NotAccepted,
    BadAnswer,
}

impl Reach {
    /// What became of a request.
    pub(crate) fn note(&self, outcome: Outcome) {
        match outcome {
            Outcome::Unreachable | Outcome::Timeout => self.lose(Why::Unreachable),
            Outcome::NotAccepted => {
                self.lose(Why::NotAccepted);
                if let Some(times) = self.refusals.occurs() {
                    warn!(
                        times,
                        "the gateway does not accept this relay; compare gateway_token_file or the certificate of \
                         peer_tls with [[relays]] of the gateway"
                    );
                }
            }
            Outcome::BadAnswer => self.lose(Why::BadAnswer),
            Outcome::Forwarded => self.is_back(),
            _ => {}
        }
    }

    /// An answer was not passed on.
    pub(crate) fn note_answer(&self, outcome: Outcome, status: StatusCode) {
        if outcome == Outcome::BadAnswer
            && let Some(times) = self.bad_answers.occurs()
        {
            let status = status.as_u16();
            warn!(times, status, "the gateway answers what is not passed on");
        }
    }

    /// A request stayed without an answer.
    pub(crate) fn note_error(&self, error: &PeerError) {
        if let Some(times) = self.unanswered.occurs() {
            warn!(times, %error, "no answer from the gateway");
        }
    }

    /// Why nothing has got through for so long, if that is so.
    pub(crate) fn lost_for(&self, time: Duration) -> Option<&'static str> {
        let Lost { why, .. } = (*self.lock()).filter(|lost| lost.since.elapsed() >= time)?;
        Some(match why {
            Why::Unreachable => "the gateway cannot be reached",
            Why::NotAccepted => "the gateway does not accept this relay",
            Why::BadAnswer => "the gateway gives no answers that are passed on",
        })
    }

    /// Asks the gateway now and then while nothing gets through: for its health, or whether it takes `token` by now.
    pub(crate) async fn try_again(
        &self,
        client: HttpClient,
        gateway: Uri,
        token: Arc<RwLock<Option<HeaderValue>>>,
    ) {
        let mut parts = gateway.clone().into_parts();
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/health"));
        let Ok(health) = Uri::from_parts(parts) else { return };
        loop {
            sleep(TRY_EVERY).await;
            let Some(Lost { why, .. }) = *self.lock() else { continue };
            let is_back = match why {
                // Whatever it says of its health, it is there.
                Why::Unreachable => client.send(ask(&health, None)).await.is_ok(),
                Why::NotAccepted | Why::BadAnswer => {
                    let token = token.read().unwrap_or_else(PoisonError::into_inner).clone();
                    let mut request = ask(&gateway, token);
                    *request.method_mut() = Method::POST;
                    request
                        .headers_mut()
                        .insert(header::CONTENT_TYPE, HeaderValue::from_static(OHTTP_REQUEST));
                    let answer = client.send(request).await;
                    answer.is_ok_and(|answer| {
                        let status = answer.status();
                        match why {
                            Why::BadAnswer => answer::pass_on(answer).is_ok(),
                            Why::NotAccepted | Why::Unreachable => !answer::is_about_us(status),
                        }
                    })
                }
            };
            if is_back {
                self.is_back();
            }
        }
    }

    fn lose(&self, why: Why) {
        let mut lost = self.lock();
        let since = lost.map_or_else(Instant::now, |lost| lost.since);
        *lost = Some(Lost { since, why });
    }

    fn is_back(&self) {
        *self.lock() = None;
        if self.unanswered.ends() {
            info!("the gateway can be reached again");
        }
        if self.refusals.ends() {
            info!("the gateway accepts this relay again");
        }
        if self.bad_answers.ends() {
            info!("the gateway answers what can be passed on again");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Lost>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ask(place: &Uri, token: Option<HeaderValue>) -> Request<Bytes> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = place.clone();
    if let Some(token) = token {
        request.headers_mut().insert(header::AUTHORIZATION, token);
    }
    request
}

const TRY_EVERY: Duration = Duration::from_secs(1);
