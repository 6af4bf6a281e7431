//! Configuration of a relay.

use std::path::Path;
use std::time::Duration;

use mica_service::config::duration;
use mica_service::listener::BodyPace;
use mica_service::tls::{ListenTls, PeerTls};
use serde::Deserialize;

/// What a relay needs to know. Unknown keys are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address to listen on, such as `127.0.0.1:8080`.
    pub listen: String,
    /// URL of the one gateway that requests are forwarded to. A client cannot choose another.
    pub gateway_url: String,
    /// Path of the relay resource.
    #[serde(default = "root")]
    pub path: String,
    /// How the gateway is spoken to.
    #[serde(default)]
    pub gateway_protocol: Protocol,
    /// Who this relay is to its clients; without it, it speaks plain HTTP, on loopback only.
    #[serde(default)]
    pub tls: Option<ListenTls>,
    /// Whom the relay takes for its gateway, and who it is to it.
    #[serde(default)]
    pub peer_tls: PeerTls,
    /// Takes plain HTTP from other machines: for relays behind a proxy that speaks TLS.
    #[serde(default)]
    pub insecure: bool,
    /// Asks the gateway over plain HTTP on another machine too: where something else guards the way there.
    #[serde(default)]
    pub insecure_peers: bool,
    /// How long the gateway may take before the client is told 504.
    #[serde(default = "half_a_minute", deserialize_with = "duration")]
    pub timeout: Duration,
    /// Largest sealed request, in bytes; larger ones are told 413.
    #[serde(default = "four_mebibytes")]
    pub max_request_bytes: usize,
    /// Most bytes of requests in memory at once, whole or on their way; when there are more, clients are told 503. A
    /// quarter is kept for requests of no more than 64 KiB.
    #[serde(default = "sixty_four_mebibytes")]
    pub max_buffered_bytes: usize,
    /// How fast the bodies of requests must come; slower ones are told 408.
    #[serde(default)]
    pub bodies: BodyPace,
    /// Largest sealed response, in bytes; for larger ones the client is told 502.
    #[serde(default = "largest_size")]
    pub max_response_bytes: usize,
}

impl Config {
    /// The same with relative paths taken from `folder`.
    #[must_use]
    pub fn relative_to(mut self, folder: &Path) -> Self {
        self.tls = self.tls.map(|tls| tls.relative_to(folder));
        self.peer_tls = self.peer_tls.relative_to(folder);
        self
    }

    /// The defaults with a listening address and a gateway.
    pub fn new(listen: impl Into<String>, gateway_url: impl Into<String>) -> Self {
        Self {
            listen: listen.into(),
            gateway_url: gateway_url.into(),
            path: root(),
            gateway_protocol: Protocol::default(),
            tls: None,
            peer_tls: PeerTls::default(),
            insecure: false,
            insecure_peers: false,
            timeout: half_a_minute(),
            max_request_bytes: four_mebibytes(),
            max_buffered_bytes: sixty_four_mebibytes(),
            bodies: BodyPace::default(),
            max_response_bytes: largest_size(),
        }
    }
}

/// Version of HTTP towards a gateway that is asked without TLS; with it, the two agree by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/2 from the first byte: the requests of many clients share one connection.
    #[default]
    H2,
    /// HTTP/1.1, for a gateway that speaks nothing else.
    H1,
}

fn root() -> String {
    "/".to_owned()
}

fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

/// Of the sizes that clients pad to, the one that holds the largest reports.
fn four_mebibytes() -> usize {
    4 << 20
}

fn sixty_four_mebibytes() -> usize {
    64 << 20
}

/// The largest of the sizes that clients pad to.
fn largest_size() -> usize {
    16 << 20
}
