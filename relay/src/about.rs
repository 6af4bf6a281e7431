//! What the relay says of itself to everybody alike, so that clients know what happens to their requests.
//!
//! RFC 9458 6.2.3 asks that delays are known to clients, and 5 that what a relay adds to requests is. It must never say
//! anything about a client.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, header};
use serde_json::json;

use crate::config::Config;
use crate::pool::Pool;

/// What does not change while the relay runs.
pub(crate) struct About {
    resource: String,
    max_request_bytes: usize,
}

impl About {
    pub(crate) fn new(config: &Config) -> Self {
        Self { resource: config.path.clone(), max_request_bytes: config.max_request_bytes }
    }

    /// The document, with how requests are mixed at this moment.
    pub(crate) fn answer(&self, pool: &Pool, shows_token: bool) -> Response {
        let mixing = pool.mixing().map(|mixing| {
            let wait_ms = u64::try_from(mixing.wait.as_millis()).unwrap_or(u64::MAX);
            json!({ "requests": mixing.requests, "wait_ms": wait_ms })
        });
        let document = json!({
            "role": "relay",
            "resource": self.resource,
            "takes": "message/ohttp-req",
            "max_request_bytes": self.max_request_bytes,
            "mixing": mixing,
            "adds_to_requests": if shows_token { vec![TOKEN] } else { vec![] },
            "sends_again": false,
        });
        let mut response = Response::new(Body::from(format!("{document}\n")));
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=60"));
        response
    }
}

/// What `gateway_token_file` adds: it says which relay this is, and nothing of who sent a request.
const TOKEN: &str = "authorization: a token of the relay, the same in every request";
