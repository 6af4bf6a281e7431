//! Targets that live in the process of the gateway: asked without a connection, under the same limits.
//!
//! A gateway and a leader may have one operator (RFC 9458 6). Where they share a process too, a report need not be
//! written to a socket and read from it again.

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use mica_service::http::{PeerError, Sent};
use tower::ServiceExt as _;

/// Which origins are answered by whom. Everything else is asked over the network.
#[derive(Clone, Default)]
pub struct Mounted(Vec<(String, Router)>);

impl Mounted {
    /// Has `router` answer what the route table sends to `origin`, such as `http://127.0.0.1:8080`.
    #[must_use]
    pub fn with(mut self, origin: impl Into<String>, router: Router) -> Self {
        self.0.push((origin.into(), router));
        self
    }

    /// Who answers a request, if that is somebody in this process.
    pub(crate) fn find(&self, request: &Request<Bytes>) -> Option<(&str, &Router)> {
        let (scheme, authority) = (request.uri().scheme_str()?, request.uri().authority()?.as_str());
        let is_it = |origin: &str| origin.split_once("://") == Some((scheme, authority));
        self.0.iter().find(|(origin, _)| is_it(origin)).map(|(origin, router)| (origin.as_str(), router))
    }
}

/// The answer of `router`, whole.
pub(crate) async fn hand_over(
    (origin, router): (&str, &Router),
    request: Request<Bytes>,
    limit: usize,
) -> Result<Response<Bytes>, PeerError> {
    let Ok(response) = router.clone().oneshot(request.map(Body::from)).await;
    let (head, body) = response.into_parts();
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(Response::from_parts(head, body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(PeerError::TooLarge { origin: origin.to_owned(), limit })
        }
        Err(_) => {
            let (origin, why) = (origin.to_owned(), "the answer broke off".to_owned());
            Err(PeerError::Unreachable { origin, why, sent: Sent::All })
        }
    }
}
