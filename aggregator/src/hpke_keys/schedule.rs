//! `[hpke_keys]` of `leader.toml` and `helper.toml`: how long keys live, and for which algorithms they are.

use std::time::Duration;

use mica_dap::hpke::Suite;
use mica_service::key_life::Terms;
use serde::Deserialize;

/// How long keys live, and for which algorithms they are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Schedule {
    rotate_every: u64,
    cache_for: u64,
    suites: Vec<Suite>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    #[serde(deserialize_with = "mica_service::config::duration")]
    rotate_every: Duration,
    #[serde(deserialize_with = "mica_service::config::duration")]
    cache_for: Duration,
    suites: Vec<String>,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            rotate_every: Duration::from_secs(30 * DAY),
            cache_for: Duration::from_secs(DAY),
            suites: vec![Suite::MANDATORY.name().to_owned()],
        }
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self { rotate_every: 30 * DAY, cache_for: DAY, suites: vec![Suite::MANDATORY] }
    }
}

impl Schedule {
    /// A schedule: a key is replaced after `rotate_every` seconds, clients keep the list for `cache_for` seconds, and
    /// there is a key for each of `suites`, the most preferred first.
    ///
    /// # Errors
    /// In a sentence, when it would break the protocol or use up the identifiers.
    pub fn new(rotate_every: u64, cache_for: u64, suites: Vec<Suite>) -> Result<Self, String> {
        if !(HOUR..=30 * DAY).contains(&cache_for) {
            return Err("cache_for must be from 1h to 30d; 1d is usual".to_owned());
        }
        if rotate_every < cache_for || rotate_every > 3_650 * DAY {
            return Err("rotate_every must be from cache_for to 3650d; 30d is usual".to_owned());
        }
        if !suites.contains(&Suite::MANDATORY) {
            return Err(format!("suites must contain {}, which every client has", Suite::MANDATORY));
        }
        let is_repeated =
            |(at, suite): (usize, &Suite)| suites.iter().skip(at + 1).any(|other| other == suite);
        if suites.iter().enumerate().any(is_repeated) {
            return Err("suites must be different ones".to_owned());
        }
        Ok(Self { rotate_every, cache_for, suites })
    }

    /// How long a key is advertised, in seconds.
    pub fn rotate_every(&self) -> u64 {
        self.rotate_every
    }

    /// For how long clients are told to keep the list, in seconds.
    pub fn cache_for(&self) -> u64 {
        self.cache_for
    }

    /// The algorithms there are keys for, the most preferred first.
    pub fn suites(&self) -> &[Suite] {
        &self.suites
    }

    pub(super) fn terms(&self) -> Terms<'_, Suite> {
        let (rotate_every, cache_for) = (self.rotate_every, self.cache_for);
        Terms { kinds: &self.suites, rotate_every, cache_for, first_id: 0, two_at_most: false }
    }
}

impl TryFrom<Written> for Schedule {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let suites = written.suites.iter().map(|name| name.parse()).collect::<Result<Vec<Suite>, _>>();
        let suites = suites.map_err(|error| error.to_string())?;
        Self::new(written.rotate_every.as_secs(), written.cache_for.as_secs(), suites)
    }
}

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_says_how_long_and_for_what() {
        assert_eq!(toml::from_str::<Schedule>(""), Ok(Schedule::default()));
        let text = "rotate_every = \"7d\"\ncache_for = \"12h\"\nsuites = [\"x25519-aes128gcm\", \"p256-aes256gcm\"]\n";
        let schedule: Schedule = toml::from_str(text).unwrap();
        assert_eq!((schedule.rotate_every(), schedule.cache_for()), (7 * DAY, 12 * HOUR));
        assert_eq!(schedule.suites(), [Suite::X25519Aes128Gcm, Suite::P256Aes256Gcm]);
    }

    #[test]
    fn a_schedule_that_breaks_the_protocol_is_refused_with_the_reason() {
        for (text, because) in [
            ("cache_for = \"59m\"", "from 1h to 30d"),
            ("rotate_every = \"23h\"", "rotate_every must be from cache_for"),
            ("rotate_every = \"4000d\"", "rotate_every must be from cache_for"),
            ("suites = []", "must contain x25519-aes128gcm"),
            ("suites = [\"p256-aes128gcm\"]", "must contain x25519-aes128gcm"),
            ("suites = [\"x25519-aes128gcm\", \"x25519-aes128gcm\"]", "different ones"),
            ("suites = [\"rsa\"]", "there is no HPKE suite `rsa`"),
            ("rotate = \"30d\"", "unknown field"),
        ] {
            let refused = toml::from_str::<Schedule>(text).unwrap_err().to_string();
            assert!(refused.contains(because), "{text}: {refused}");
        }
    }
}
