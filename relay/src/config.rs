//! Configuration of a relay.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mica_service::config::duration;
use mica_service::listener::BodyPace;
use mica_service::tls::{ListenTls, PeerTls};
use serde::Deserialize;

use crate::clients::{ClientsConfig, RateLimit};
use crate::mirror::MirrorConfig;
use crate::pool::{Mixing, STRAGGLERS_WAIT};

/// What a relay needs to know. Unknown keys are refused.
#[derive(Clone, Deserialize)]
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
    /// Most bytes of requests and answers in memory at once, whole or on their way; when there are more, clients are told
    /// 503. A quarter is kept for those of no more than 64 KiB.
    #[serde(default = "sixty_four_mebibytes")]
    pub max_buffered_bytes: usize,
    /// How fast the bodies of requests must come; slower ones are told 408.
    #[serde(default)]
    pub bodies: BodyPace,
    /// Largest sealed response, in bytes; for larger ones the client is told 502.
    #[serde(default = "two_mebibytes")]
    pub max_response_bytes: usize,
    /// Lets requests wait for each other, so that neither order nor time tells which is whose. Without it, each leaves as
    /// it comes.
    #[serde(default)]
    pub mixing: Option<Mixing>,
    /// Serves only those who show a token or a certificate. Without it, everybody.
    #[serde(default)]
    pub clients: Option<ClientsConfig>,
    /// How much one client may ask. Without it, as much as there is room for.
    #[serde(default)]
    pub rate_limit: Option<RateLimit>,
    /// A file with the token that the relay shows to the gateway, if the gateway asks for one.
    #[serde(default)]
    pub gateway_token_file: Option<PathBuf>,
    /// Connections at once; more of them wait.
    #[serde(default = "a_few_thousand")]
    pub max_connections: usize,
    /// Connections of one client at once; more of them are closed. Without it, a sixteenth of all, and 16 at least.
    #[serde(default)]
    pub max_connections_per_client: Option<NonZeroUsize>,
    /// Threads that look after connections. Without it, one for two processors.
    #[serde(default)]
    pub threads: Option<NonZeroUsize>,
    /// Where `/metrics` and `/ready` are, for the operator alone: an address of this machine, or any with TLS and a token.
    #[serde(default)]
    pub admin_listen: Option<SocketAddr>,
    /// A file with the token that must be shown for `/metrics`.
    #[serde(default)]
    pub admin_token_file: Option<PathBuf>,
    /// The same by its SHA-256, in hexadecimal digits.
    #[serde(default)]
    pub admin_token_sha256: Option<String>,
    /// For how long the gateway may be out of reach before the relay says that it is not ready.
    #[serde(default = "half_a_minute", deserialize_with = "duration")]
    pub unready_after: Duration,
    /// Who runs this relay.
    #[serde(default)]
    pub operator: Option<String>,
    /// Who runs the gateway: somebody else.
    #[serde(default)]
    pub gateway_operator: Option<String>,
    /// Who runs the leader: somebody else than the relay.
    #[serde(default)]
    pub leader_operator: Option<String>,
    /// Starts although one operator runs both: for trials, in which nobody is hidden from anybody.
    #[serde(default)]
    pub insecure_one_operator: bool,
    /// Shows the gateway's key configurations to everybody, as the relay sees them; without it, it does not.
    #[serde(default)]
    pub mirror: Option<MirrorConfig>,
}

impl Config {
    /// The same with relative paths taken from `folder`.
    #[must_use]
    pub fn relative_to(mut self, folder: &Path) -> Self {
        self.tls = self.tls.map(|tls| tls.relative_to(folder));
        self.peer_tls = self.peer_tls.relative_to(folder);
        self.clients = self.clients.map(|clients| clients.relative_to(folder));
        for path in [&mut self.gateway_token_file, &mut self.admin_token_file].into_iter().flatten() {
            *path = folder.join(&path);
        }
        self
    }

    /// The first key that differs and cannot change while a relay runs.
    pub(crate) fn fixed_difference(&self, other: &Self) -> Option<&'static str> {
        let fixed = [
            ("listen", self.listen == other.listen),
            ("gateway_url", self.gateway_url == other.gateway_url),
            ("path", self.path == other.path),
            ("gateway_protocol", self.gateway_protocol == other.gateway_protocol),
            ("tls", self.tls == other.tls),
            ("peer_tls", self.peer_tls == other.peer_tls),
            ("insecure", self.insecure == other.insecure),
            ("insecure_peers", self.insecure_peers == other.insecure_peers),
            ("timeout", self.timeout == other.timeout),
            ("max_request_bytes", self.max_request_bytes == other.max_request_bytes),
            ("max_buffered_bytes", self.max_buffered_bytes == other.max_buffered_bytes),
            ("bodies", self.bodies == other.bodies),
            ("max_response_bytes", self.max_response_bytes == other.max_response_bytes),
            ("max_connections", self.max_connections == other.max_connections),
            (
                "max_connections_per_client",
                self.max_connections_per_client == other.max_connections_per_client,
            ),
            ("threads", self.threads == other.threads),
            ("admin_listen", self.admin_listen == other.admin_listen),
            ("admin_token_file", self.admin_token_file == other.admin_token_file),
            ("admin_token_sha256", self.admin_token_sha256 == other.admin_token_sha256),
            ("unready_after", self.unready_after == other.unready_after),
            ("mirror", self.mirror == other.mirror),
            ("rate_limit.ipv6_prefix", self.ipv6_prefix() == other.ipv6_prefix()),
        ];
        fixed.into_iter().find(|(_, same)| !same).map(|(key, _)| key)
    }

    /// How long a drain waits: whoever was taken in at the last moment may wait for others, for the gateway, and for the
    /// answers of others.
    pub(crate) fn grace(&self) -> Duration {
        self.timeout + STRAGGLERS_WAIT + self.mixing.map_or(Duration::ZERO, |mixing| mixing.wait)
    }

    /// How many connections may come from one address, or network of IPv6.
    pub(crate) fn share(&self) -> usize {
        let share = (self.max_connections / CLIENTS_AT_LEAST).max(CONNECTIONS_AT_LEAST);
        self.max_connections_per_client.map_or(share, NonZeroUsize::get)
    }

    /// What makes a client of an address of IPv6.
    pub(crate) fn ipv6_prefix(&self) -> u8 {
        self.rate_limit.map_or(DEFAULT_PREFIX, |limit| limit.ipv6_prefix)
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
            max_response_bytes: two_mebibytes(),
            mixing: None,
            clients: None,
            rate_limit: None,
            gateway_token_file: None,
            max_connections: a_few_thousand(),
            max_connections_per_client: None,
            threads: None,
            admin_listen: None,
            admin_token_file: None,
            admin_token_sha256: None,
            unready_after: half_a_minute(),
            operator: None,
            gateway_operator: None,
            leader_operator: None,
            insecure_one_operator: false,
            mirror: None,
        }
    }
}

/// There are places of secrets in it, and URLs.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Config(..)")
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

/// Idle, they take some tens of mebibytes.
fn a_few_thousand() -> usize {
    4_096
}

/// So many addresses are needed to hold all connections, unless there are few.
const CLIENTS_AT_LEAST: usize = 16;
/// What clients behind one address may need.
const CONNECTIONS_AT_LEAST: usize = 16;
/// What one customer of a provider gets.
pub(crate) const DEFAULT_PREFIX: u8 = 64;

/// Of the sizes that answers are padded to, the first beyond what a gateway takes of a target.
fn two_mebibytes() -> usize {
    2 << 20
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_a_sixteenth_of_the_connections_unless_it_is_said_otherwise() {
        let mut config = Config::new("127.0.0.1:0", "https://gateway.example/");
        assert_eq!(config.share(), 256);
        config.max_connections = 20;
        assert_eq!(config.share(), 16);
        config.max_connections_per_client = NonZeroUsize::new(3);
        assert_eq!(config.share(), 3);
    }

    #[test]
    fn a_drain_waits_as_long_as_a_request_may_take() {
        let mut config = Config::new("127.0.0.1:0", "https://gateway.example/");
        assert_eq!(config.grace(), Duration::from_secs(31));
        config.timeout = Duration::from_secs(12);
        config.mixing = Some(Mixing { requests: 8, wait: Duration::from_secs(9) });
        assert_eq!(config.grace(), Duration::from_secs(22));
    }
}
