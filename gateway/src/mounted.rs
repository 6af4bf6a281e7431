//! Targets that live in the process of the gateway: how they are known, and asked without a connection, under the same limits.
//!
//! A gateway and a leader may have one operator (RFC 9458 6). Where they share a process too, a report need not be
//! written to a socket and read from it again.

use std::net::SocketAddr;

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{Request, Response, Uri};
use mica_service::config::bounds::{asked_at, is_own_uri, port_of};
use mica_service::http::{Peer, PeerError, Sent};
use mica_service::room::{Refused, Room};
use tower::ServiceExt as _;

use crate::config::RouteConfig;

/// Where somebody in this process is: what leads there over a network is handed over instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    url: Uri,
    /// Whatever leads to this listener, however the URL says it. Without it, what is at the URL and below.
    listener: Option<SocketAddr>,
}

impl Place {
    /// Of a listener that speaks TLS or does not.
    ///
    /// # Errors
    /// When the address is none that a URL can have.
    pub fn of_listener(address: SocketAddr, tls: bool) -> Result<Self, PeerError> {
        let scheme = if tls { "https" } else { "http" };
        let place = Self::of_url(&format!("{scheme}://{}", asked_at(address)))?;
        Ok(Self { listener: Some(address), ..place })
    }

    /// Of a URL by which the world knows it.
    ///
    /// # Errors
    /// When it is none.
    pub fn of_url(url: &str) -> Result<Self, PeerError> {
        let url = Peer::parse(url)?.url("");
        let url = url.trim_end_matches('/').parse();
        let url = url.map_err(|_| PeerError::BadUrl("this is not a URL".to_owned()))?;
        Ok(Self { url, listener: None })
    }

    /// A `target` that leads here.
    #[must_use]
    pub fn target(&self) -> String {
        self.url.to_string().trim_end_matches('/').to_owned()
    }

    /// Whether requests of this route may lead here.
    #[must_use]
    pub fn is_led_to_by(&self, route: &RouteConfig) -> bool {
        let url = Peer::parse(&route.target).ok().and_then(|target| target.url(&route.path).parse().ok());
        // What the route leaves open may be any segment.
        url.is_some_and(|url| self.is_at(&url, |ours, other| ours == other || other.starts_with('{')))
    }

    fn is_at(&self, url: &Uri, same: impl Fn(&str, &str) -> bool) -> bool {
        if self.url.scheme() != url.scheme() {
            return false;
        }
        if let Some(listener) = self.listener {
            return is_own_uri(&[listener], url);
        }
        let hosts = self.url.host().zip(url.host());
        let mut given = url.path().split('/');
        port_of(&self.url) == port_of(url)
            && hosts.is_some_and(|(ours, other)| ours.eq_ignore_ascii_case(other))
            && self
                .url
                .path()
                .trim_end_matches('/')
                .split('/')
                .all(|ours| given.next().is_some_and(|other| same(ours, other)))
    }
}

/// What is answered by whom in this process. Everything else is asked over the network.
#[derive(Clone, Default)]
pub struct Mounted(Vec<(Place, Router)>);

impl Mounted {
    /// Has `router` answer what the route table sends to `place`.
    #[must_use]
    pub fn at(mut self, place: Place, router: Router) -> Self {
        self.0.push((place, router));
        self
    }

    /// The same for a URL such as `http://127.0.0.1:8080`, and what is below. To one that is none, nothing is sent.
    #[must_use]
    pub fn with(self, url: &str, router: Router) -> Self {
        match Place::of_url(url) {
            Ok(place) => self.at(place, router),
            Err(_) => self,
        }
    }

    /// Who answers a request for this URL, if that is somebody in this process.
    pub(crate) fn find(&self, url: &Uri) -> Option<&Router> {
        let found = self.0.iter().find(|(place, _)| place.is_at(url, |ours, other| ours == other));
        found.map(|(_, router)| router)
    }
}

/// The answer of `router`, whole.
pub(crate) async fn hand_over(
    router: &Router,
    request: Request<Bytes>,
    limit: usize,
    room: &Room,
) -> Result<Response<Bytes>, PeerError> {
    let url = request.uri().clone();
    let Ok(response) = router.clone().oneshot(request.map(Body::from)).await;
    let (head, body) = response.into_parts();
    let answer = room.read_answer(body, limit, None).await;
    answer.map(|body| Response::from_parts(head, body)).map_err(|refused| {
        let origin = mica_service::http::origin_of(&url).unwrap_or_default();
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
