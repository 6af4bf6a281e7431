//! Configuration of a gateway.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mica_service::config::duration;
use mica_service::listener::BodyPace;
use mica_service::tls::{ListenTls, PeerTls};
use serde::{Deserialize, Deserializer};

use crate::keys::Schedule;
use crate::relays::RelayConfig;

/// What a gateway needs to know. Unknown keys are refused.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address to listen on, such as `127.0.0.1:8081`.
    pub listen: String,
    /// The gateway's own database, `sqlite:PATH` or `postgres://..`. It holds the keys, and for a while the answers.
    pub database: String,
    /// Where inner requests may go. Whatever is not in this table is refused inside the envelope.
    #[serde(default)]
    pub routes: Vec<RouteConfig>,
    /// Who this gateway is to relays; without it, it speaks plain HTTP, on loopback only.
    #[serde(default)]
    pub tls: Option<ListenTls>,
    /// Whom the gateway takes for its targets, and who it is to them.
    #[serde(default)]
    pub peer_tls: PeerTls,
    /// Takes plain HTTP from other machines: for gateways behind a proxy that speaks TLS.
    #[serde(default)]
    pub insecure: bool,
    /// Asks the leader over plain HTTP on another machine too: where something else guards the way there.
    #[serde(default)]
    pub insecure_peers: bool,
    /// How long keys live, and for which KEMs they are.
    #[serde(default)]
    pub keys: Option<Schedule>,
    /// An older name of `keys.cache_for`.
    #[serde(default, deserialize_with = "optional_duration")]
    pub key_max_age: Option<Duration>,
    /// How long a request may take, from when it was opened, before the client is told 504: also one that waits for others
    /// and is sent on a second time.
    #[serde(default = "twenty_seconds", deserialize_with = "duration")]
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
    /// Largest answer of a target, in bytes; for larger ones the client is told 502.
    #[serde(default = "one_mebibyte")]
    pub max_response_bytes: usize,
    /// Sealed answers have at least this size, so that short answers of every kind look alike. Answers to larger requests
    /// are longer by themselves: each has room for what an upload of that size may be told.
    #[serde(default = "one_kibibyte")]
    pub min_response_bytes: usize,
    /// What to do with requests that were not padded to one of the shared sizes.
    #[serde(default)]
    pub padding: Padding,
    /// Sealed answers take a multiple of this time, counted from when the request was there, so that how long one takes
    /// does not tell an accepted report from a refused one. Zero: as long as they need.
    #[serde(default, deserialize_with = "duration")]
    pub answer_grid: Duration,
    /// How answers are remembered for requests that are sent again.
    #[serde(default)]
    pub replay: ReplayConfig,
    /// The relays that are served. Without any, everybody is.
    #[serde(default)]
    pub relays: Vec<RelayConfig>,
    /// Connections at once; more of them wait.
    #[serde(default = "a_thousand")]
    pub max_connections: usize,
    /// Requests at once on one connection of a relay, which may send off a whole pool of them together. One target is
    /// never waited for by more than half as many; whoever else asks for it is told 503, inside the envelope.
    #[serde(default = "four_thousand")]
    pub max_streams: u32,
    /// Threads that look after connections and open what is short. Without it, one for two processors; with a leader in the
    /// same process, one for each.
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
    /// Who runs this gateway.
    #[serde(default)]
    pub operator: Option<String>,
    /// Starts although a relay is of the same operator: for trials, in which nobody is hidden from anybody.
    #[serde(default)]
    pub insecure_one_operator: bool,
}

/// One kind of inner request and where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// Method of the inner request.
    pub method: String,
    /// Authority of the inner request: the host and port that clients know the target by.
    pub authority: String,
    /// Path of the inner request. A segment in braces, such as `{task}`, stands for any one segment of letters,
    /// digits, `-` and `_`.
    pub path: String,
    /// Media type of the inner request. Without it, the request must have no content.
    #[serde(default)]
    pub content_type: Option<String>,
    /// Largest content, in bytes.
    #[serde(default = "one_mebibyte")]
    pub max_bytes: usize,
    /// Further fields that are passed to the target, lower case. All others are dropped.
    #[serde(default)]
    pub forward_headers: Vec<String>,
    /// URL of the target. The path of the request is appended to its path.
    pub target: String,
    /// How the target is spoken to.
    #[serde(default)]
    pub protocol: Protocol,
    /// Sends DAP uploads to one task that arrive together as one, and gives each client what it would have been told
    /// alone. Without it, each upload goes alone.
    #[serde(default)]
    pub merge: Option<MergeConfig>,
}

/// How uploads go together.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MergeConfig {
    /// Most reports that go together, 2 to 1,000. An upload with more of its own goes alone.
    pub reports: usize,
    /// How long the first waits for others, at most a second.
    #[serde(deserialize_with = "duration")]
    pub wait: Duration,
}

/// Version of HTTP towards a target that is asked without TLS; with it, the two agree by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/2 from the first byte, many requests on one connection.
    #[default]
    H2,
    /// HTTP/1.1, for a target that speaks nothing else.
    H1,
}

/// What to do with a sealed request whose size is not one of the shared ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Padding {
    /// Nothing.
    Off,
    /// Count it.
    #[default]
    Count,
    /// Refuse it, inside the envelope.
    Refuse,
}

/// How answers are remembered for requests that are sent again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayConfig {
    /// How long an answer is remembered at least: no less than a minute, and than twice what a request may take.
    #[serde(default = "quarter_of_an_hour", deserialize_with = "duration")]
    pub window: Duration,
    /// Most requests remembered in one window, some 200 bytes each. When there are more, new ones are told 503: the
    /// default allows 500 a second for ever, and a busier gateway needs more.
    #[serde(default = "half_a_million")]
    pub max_requests: usize,
    /// Most bytes of answers remembered in one window. When half of them are taken, of answers over 256 bytes, and when
    /// all are, of any, is remembered only that they were given: who asks again is told 409. Nobody is told 503 for it.
    #[serde(default = "half_a_hundred_mebibytes")]
    pub max_bytes: usize,
    /// What to do with the date that a request may carry inside.
    #[serde(default)]
    pub dates: Dates,
    /// How far such a date may be from the gateway's own time. At most half of `window`: then no request whose date
    /// does can be older than the memory.
    #[serde(default = "five_minutes", deserialize_with = "duration")]
    pub date_window: Duration,
}

/// What to do with the `date` of an inner request (RFC 9458 6.5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dates {
    /// Nothing.
    Off,
    /// A date that is too far off is refused, inside the envelope, with the gateway's own. None is no fault.
    #[default]
    Check,
    /// The same, and a request without one is refused too.
    Require,
}

impl Default for ReplayConfig {
    fn default() -> Self {
        Self {
            window: quarter_of_an_hour(),
            max_requests: half_a_million(),
            max_bytes: half_a_hundred_mebibytes(),
            dates: Dates::default(),
            date_window: five_minutes(),
        }
    }
}

impl Config {
    /// The same with relative paths of TLS taken from `folder`.
    #[must_use]
    pub fn relative_to(mut self, folder: &Path) -> Self {
        self.tls = self.tls.map(|tls| tls.relative_to(folder));
        self.peer_tls = self.peer_tls.relative_to(folder);
        self.relays = self.relays.into_iter().map(|relay| relay.relative_to(folder)).collect();
        self.admin_token_file = self.admin_token_file.map(|path| folder.join(path));
        self
    }

    /// What differs and cannot change while a gateway runs.
    pub(crate) fn fixed_difference(&self, other: &Self) -> Option<&'static str> {
        let named = [
            ("`listen`", self.listen == other.listen),
            ("`database`", self.database == other.database),
            ("`tls`", self.tls == other.tls),
            ("`peer_tls`", self.peer_tls == other.peer_tls),
            ("`keys`", self.keys == other.keys && self.key_max_age == other.key_max_age),
            ("`timeout`", self.timeout == other.timeout),
            ("`threads`", self.threads == other.threads),
            ("`admin_listen`", self.admin_listen == other.admin_listen),
            ("what is neither a route nor a relay", self.fixed() == other.fixed()),
        ];
        named.into_iter().find(|(_, same)| !same).map(|(what, _)| what)
    }

    /// All but what may change, to be compared.
    fn fixed(&self) -> Self {
        Self { routes: Vec::new(), relays: Vec::new(), operator: None, ..self.clone() }
    }

    /// How long keys live.
    ///
    /// # Errors
    /// In a sentence, when `key_max_age` contradicts `[keys]` or makes no sense.
    pub fn schedule(&self) -> Result<Schedule, String> {
        match (&self.keys, self.key_max_age) {
            (Some(schedule), None) => Ok(schedule.clone()),
            (None, None) => Ok(Schedule::default()),
            (None, Some(cache_for)) => Schedule::caching_for(cache_for)
                .map_err(|why| format!("key_max_age: {}", why.replace("cache_for", "key_max_age"))),
            (Some(_), Some(_)) => {
                Err("key_max_age: it is called cache_for under [keys]; say it there".to_owned())
            }
        }
    }

    /// How long an exchange may take from the first byte to the last, with its answer written down and told: a stop waits
    /// as long.
    pub(crate) fn longest_exchange(&self) -> Duration {
        self.timeout
            .saturating_add(self.longest_wait())
            .saturating_add(self.answer_grid)
            .saturating_add(TO_WRITE)
    }

    fn longest_wait(&self) -> Duration {
        let waits = self.routes.iter().filter_map(|route| route.merge.as_ref().map(|merge| merge.wait));
        waits.max().unwrap_or_default()
    }

    /// Whether the memory outlives what it is to remember: the key that does not do, and a sentence.
    pub(crate) fn windows(&self) -> Result<(), (&'static str, String)> {
        let longest = self.timeout.saturating_add(self.longest_wait());
        let least = longest.saturating_add(TO_WRITE).saturating_mul(2).max(Duration::from_mins(1));
        let ReplayConfig { window, date_window, .. } = &self.replay;
        if *window < least {
            let seconds = least.as_secs();
            let what = format!(
                "an answer is to be remembered for {seconds} s at least, a minute and twice what a request may take"
            );
            return Err(("replay.window", what));
        }
        if date_window.saturating_mul(2) > *window {
            let what = format!(
                "`date_window` ({} s; 300 s where nothing is said) is more than half of `window`: an old request could \
                 outlive its answer",
                date_window.as_secs()
            );
            return Err(("replay.date_window", what));
        }
        Ok(())
    }

    /// The defaults with a listening address, a database and a table.
    pub fn new(listen: impl Into<String>, database: impl Into<String>, routes: Vec<RouteConfig>) -> Self {
        Self {
            listen: listen.into(),
            database: database.into(),
            routes,
            tls: None,
            peer_tls: PeerTls::default(),
            insecure: false,
            insecure_peers: false,
            keys: None,
            key_max_age: None,
            timeout: twenty_seconds(),
            max_request_bytes: four_mebibytes(),
            max_buffered_bytes: sixty_four_mebibytes(),
            bodies: BodyPace::default(),
            max_response_bytes: one_mebibyte(),
            min_response_bytes: one_kibibyte(),
            padding: Padding::default(),
            answer_grid: Duration::ZERO,
            replay: ReplayConfig::default(),
            relays: Vec::new(),
            max_connections: a_thousand(),
            max_streams: four_thousand(),
            threads: None,
            admin_listen: None,
            admin_token_file: None,
            admin_token_sha256: None,
            operator: None,
            insecure_one_operator: false,
        }
    }
}

/// The URL of the database may hold a password, and there are places of secrets in it.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Config(..)")
    }
}

impl RouteConfig {
    /// Largest content where nothing is said.
    pub(crate) const MAX_BYTES: usize = 1 << 20;

    /// A route for content of one media type.
    pub fn new(method: &str, authority: &str, path: &str, content_type: Option<&str>, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            authority: authority.to_owned(),
            path: path.to_owned(),
            content_type: content_type.map(ToOwned::to_owned),
            max_bytes: one_mebibyte(),
            forward_headers: Vec::new(),
            target: target.to_owned(),
            protocol: Protocol::default(),
            merge: None,
        }
    }
}

/// What an answer needs beyond the time of its target to be written down.
pub(crate) const TO_WRITE: Duration = Duration::from_secs(10);

fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// Less than the relay waits, so that the client gets an answer inside the envelope.
fn twenty_seconds() -> Duration {
    Duration::from_secs(20)
}

/// Four times the largest pool of a relay.
fn four_thousand() -> u32 {
    4_096
}

/// Relays are few, and each needs one or two.
fn a_thousand() -> usize {
    1_024
}

fn quarter_of_an_hour() -> Duration {
    Duration::from_mins(15)
}

fn five_minutes() -> Duration {
    Duration::from_mins(5)
}

fn half_a_million() -> usize {
    500_000
}

fn half_a_hundred_mebibytes() -> usize {
    50 << 20
}

/// Of the sizes that clients pad to, the one that holds the largest reports.
fn four_mebibytes() -> usize {
    4 << 20
}

fn sixty_four_mebibytes() -> usize {
    64 << 20
}

fn one_mebibyte() -> usize {
    1 << 20
}

fn one_kibibyte() -> usize {
    1 << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_does_not_show_the_password_of_its_database() {
        let config = Config::new("127.0.0.1:0", "postgres://mica:hunter2@db/mica", vec![]);
        assert_eq!(format!("{config:?}"), "Config(..)");
    }

    #[test]
    fn routes_and_relays_may_change_while_a_gateway_runs_and_nothing_else() {
        let config = Config::new("127.0.0.1:0", "sqlite:a.db", vec![]);
        let with = |change: &dyn Fn(&mut Config)| {
            let mut other = config.clone();
            change(&mut other);
            config.fixed_difference(&other)
        };
        let route = || RouteConfig::new("GET", "a", "/b", None, "http://127.0.0.1:1");
        assert_eq!(with(&|it| it.routes.push(route())), None);
        assert_eq!(with(&|it| it.operator = Some("Example".to_owned())), None);
        assert_eq!(with(&|it| it.database = "sqlite:b.db".to_owned()), Some("`database`"));
        let rest = Some("what is neither a route nor a relay");
        assert_eq!(with(&|it| it.replay.max_requests += 1), rest);
        assert_eq!(with(&|it| it.max_connections += 1), rest);
    }
}
