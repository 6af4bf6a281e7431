//! What a server tells whoever runs it: its figures, and whether it is ready for more.
//!
//! A server has a listener of its own for this, so that figures are not for everybody who can reach it. They must never
//! name a client.

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode, header};

use crate::token::TokenHash;

/// Whether a server takes requests; if not, why, in a few words of ours.
pub type Readiness = Result<(), &'static str>;

/// What a server says of itself. Clones are about the same server.
#[derive(Clone)]
pub struct Operations {
    figures: Arc<dyn Fn() -> String + Send + Sync>,
    readiness: Arc<dyn Fn() -> Readiness + Send + Sync>,
}

impl Operations {
    /// From the one that writes the figures and the one that knows whether the server is ready.
    pub fn new(
        figures: impl Fn() -> String + Send + Sync + 'static,
        readiness: impl Fn() -> Readiness + Send + Sync + 'static,
    ) -> Self {
        Self { figures: Arc::new(figures), readiness: Arc::new(readiness) }
    }

    /// The answer to `/ready`: 200, or 503 and why.
    pub fn ready(&self) -> Response {
        match (self.readiness)() {
            Ok(()) => "ready\n".into_response(),
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response(),
        }
    }

    /// `/metrics`, `/ready` and `/health`, the first of them for those who show the token if there is one.
    pub fn router(self, token: Option<TokenHash>) -> Router {
        let operations = self.clone();
        let metrics = async move |headers: HeaderMap| {
            if token.is_some_and(|token| !token.is_shown(&headers)) {
                let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
                return (StatusCode::UNAUTHORIZED, challenge, "a token is needed\n").into_response();
            }
            ([(header::CONTENT_TYPE, PROMETHEUS)], (self.figures)()).into_response()
        };
        Router::new()
            .route("/metrics", get(metrics))
            .route("/ready", get(async move || operations.ready()))
            .route("/health", get(async || "ok\n"))
    }
}

const PROMETHEUS: &str = "text/plain; version=0.0.4";
