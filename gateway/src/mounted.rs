//! Targets that live in the process of the gateway: asked without a connection, under the same limits.
//!
//! A gateway and a leader may have one operator (RFC 9458 6). Where they share a process too, a report need not be
//! written to a socket and read from it again.

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{Request, Response};
use mica_service::http::{PeerError, Sent};
use mica_service::room::{Refused, Room};
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
    room: &Room,
) -> Result<Response<Bytes>, PeerError> {
    let Ok(response) = router.clone().oneshot(request.map(Body::from)).await;
    let (head, body) = response.into_parts();
    let answer = room.read_answer(body, limit, None).await;
    answer.map(|body| Response::from_parts(head, body)).map_err(|refused| {
        let origin = origin.to_owned();
        match refused {
            Refused::TooLarge => PeerError::TooLarge { origin, limit },
            Refused::Full => PeerError::NoRoom { origin },
            Refused::Incomplete | Refused::TooSlow => {
                let why = "the answer broke off".to_owned();
                PeerError::Unreachable { origin, why, sent: Sent::All }
            }
        }
    })
}
