//! Answers that the relay makes itself. They are constant: none repeats anything of a request.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::counters::Outcome;

/// Why a request was not forwarded, or its answer not passed on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    pub(crate) outcome: Outcome,
    /// Seconds after which it may be otherwise: only where nothing was sent on.
    pub(crate) retry_after: Option<u64>,
}

impl Refusal {
    pub(crate) fn of(outcome: Outcome) -> Self {
        let retry_after = (outcome == Outcome::Full).then_some(1);
        Self { outcome, retry_after }
    }

    /// The gateway has the request, and may have acted on it: nobody is told to send it again (RFC 9458 6.5).
    pub(crate) fn unanswered(outcome: Outcome) -> Self {
        Self { outcome, retry_after: None }
    }

    fn status_and_text(self) -> (StatusCode, &'static str) {
        match self.outcome {
            Outcome::Method => {
                (StatusCode::METHOD_NOT_ALLOWED, "This is an Oblivious HTTP relay. It takes POST only.\n")
            }
            Outcome::MediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "The relay takes message/ohttp-req and nothing else.\n")
            }
            Outcome::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "The request is too large.\n"),
            Outcome::Incomplete => {
                (StatusCode::BAD_REQUEST, "The request is incomplete or too short to be one.\n")
            }
            Outcome::TooSlow => (StatusCode::REQUEST_TIMEOUT, "The request came too slowly.\n"),
            Outcome::Full if self.retry_after.is_none() => {
                (StatusCode::BAD_GATEWAY, "The relay had no room for the answer of the gateway.\n")
            }
            Outcome::Full => {
                (StatusCode::SERVICE_UNAVAILABLE, "The relay has its hands full. Try again in a moment.\n")
            }
            Outcome::Stranger => {
                (StatusCode::UNAUTHORIZED, "This relay serves those who show a token that it knows.\n")
            }
            Outcome::Limited => (StatusCode::TOO_MANY_REQUESTS, "Too many requests. Try again later.\n"),
            Outcome::Timeout => (StatusCode::GATEWAY_TIMEOUT, "The gateway did not answer in time.\n"),
            Outcome::Forwarded
            | Outcome::BadAnswer
            | Outcome::NotAccepted
            | Outcome::Unreachable
            | Outcome::Left => (StatusCode::BAD_GATEWAY, "The gateway gave no usable answer.\n"),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, text) = self.status_and_text();
        let mut response = (status, text).into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
