//! `[keys]` of `gateway.toml`: how long keys live, and for which KEMs they are. The words are those of `[hpke_keys]` of leader
//! and helper.

use std::time::Duration;

use mica_envelope::Kem;
use mica_service::key_life::Terms;
use serde::Deserialize;

/// How long keys live, and for which KEMs they are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Schedule {
    rotate_every: u64,
    cache_for: u64,
    kems: Vec<Kem>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    #[serde(deserialize_with = "mica_service::config::duration")]
    rotate_every: Duration,
    #[serde(deserialize_with = "mica_service::config::duration")]
    cache_for: Duration,
    kems: Vec<String>,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            rotate_every: Duration::from_secs(30 * DAY),
            cache_for: Duration::from_secs(DAY),
            kems: vec![Kem::X25519HkdfSha256.name().to_owned()],
        }
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self { rotate_every: 30 * DAY, cache_for: DAY, kems: vec![Kem::X25519HkdfSha256] }
    }
}

impl Schedule {
    /// A schedule: a key is replaced after `rotate_every` seconds, clients keep the list for `cache_for` seconds, and
    /// there is a key for each of `kems`, the most preferred first.
    ///
    /// # Errors
    /// In a sentence, when keys would end before clients drop them, or clients would be left out.
    pub fn new(rotate_every: u64, cache_for: u64, kems: Vec<Kem>) -> Result<Self, String> {
        if !(HOUR..=30 * DAY).contains(&cache_for) {
            return Err("cache_for must be from 1h to 30d; 1d is usual".to_owned());
        }
        // A key is accepted for twice cache_for after it was advertised, and its successor lives at least as long:
        // never more than two of a KEM open.
        if rotate_every < 3 * cache_for || rotate_every > 3_650 * DAY {
            return Err("rotate_every must be from three times cache_for to 3650d; 30d is usual".to_owned());
        }
        if kems.contains(&Kem::P256HkdfSha256) {
            return Err(
                "kems may be x25519 and x-wing; p-256 costs five times as much and hides no more".to_owned()
            );
        }
        if !kems.contains(&Kem::X25519HkdfSha256) {
            return Err("kems must contain x25519, which every client has".to_owned());
        }
        if kems.len() > 2 || kems.first() == kems.get(1) {
            return Err("kems must be different ones".to_owned());
        }
        Ok(Self { rotate_every, cache_for, kems })
    }

    /// The usual one, but clients keep the list for `cache_for`: what `key_max_age` means.
    pub(crate) fn caching_for(cache_for: Duration) -> Result<Self, String> {
        let (usual, cache_for) = (Self::default(), cache_for.as_secs());
        Self::new(usual.rotate_every.max(cache_for.saturating_mul(3)), cache_for, usual.kems)
    }

    /// How long a key is advertised, in seconds.
    pub fn rotate_every(&self) -> u64 {
        self.rotate_every
    }

    /// For how long clients are told to keep the list, in seconds.
    pub fn cache_for(&self) -> u64 {
        self.cache_for
    }

    /// The KEMs there are keys for, the most preferred first.
    pub fn kems(&self) -> &[Kem] {
        &self.kems
    }

    /// How long it takes until the history is larger than clients and mirrors read, with lists as long as this one, in
    /// seconds.
    pub(super) fn history_lasts(&self, list: usize) -> u64 {
        let entries = LARGEST_HISTORY / (ENTRY + 2 * list);
        self.rotate_every.saturating_mul(u64::try_from(entries).unwrap_or(u64::MAX))
    }

    /// A gateway that lost its database rarely offers an old identifier again: the first one is random.
    pub(super) fn terms(&self) -> Terms<'_, Kem> {
        let (rotate_every, cache_for) = (self.rotate_every, self.cache_for);
        Terms { kinds: &self.kems, rotate_every, cache_for, first_id: rand::random(), two_at_most: true }
    }
}

impl TryFrom<Written> for Schedule {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let kems = written.kems.iter().map(|name| name.parse()).collect::<Result<Vec<Kem>, _>>();
        Self::new(
            written.rotate_every.as_secs(),
            written.cache_for.as_secs(),
            kems.map_err(|error| format!("kems: {error}"))?,
        )
    }
}

/// What clients and mirrors read of a history.
const LARGEST_HISTORY: usize = 4 << 20;
/// Bytes of an entry around its list, whose bytes are two digits each.
pub(super) const ENTRY: usize = 420;
/// A schedule that is sure to outgrow the history sooner is warned of.
pub(super) const LONG_ENOUGH: u64 = 3_650 * DAY;
const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_of_a_gateway_says_how_long_and_for_which_kems() {
        assert_eq!(toml::from_str::<Schedule>(""), Ok(Schedule::default()));
        let text = "rotate_every = \"7d\"\ncache_for = \"12h\"\nkems = [\"x-wing\", \"x25519\"]\n";
        let schedule: Schedule = toml::from_str(text).unwrap();
        assert_eq!((schedule.rotate_every(), schedule.cache_for()), (7 * DAY, 12 * HOUR));
        assert_eq!(schedule.kems(), [Kem::XWing, Kem::X25519HkdfSha256]);
        assert_eq!(Schedule::caching_for(Duration::from_secs(20 * DAY)).unwrap().rotate_every(), 60 * DAY);
    }

    #[test]
    fn a_schedule_that_breaks_its_promise_to_clients_is_refused_with_the_reason() {
        for (text, because) in [
            ("cache_for = \"59m\"", "from 1h to 30d"),
            ("rotate_every = \"71h\"", "three times cache_for"),
            ("rotate_every = \"4000d\"", "three times cache_for"),
            ("kems = []", "must contain x25519"),
            ("kems = [\"x-wing\"]", "must contain x25519"),
            ("kems = [\"x25519\", \"x25519\"]", "different ones"),
            ("kems = [\"x25519\", \"p-256\"]", "may be x25519 and x-wing"),
            ("kems = [\"rsa\"]", "there is no KEM `rsa`"),
            ("rotate = \"30d\"", "unknown field"),
        ] {
            let refused = toml::from_str::<Schedule>(text).unwrap_err().to_string();
            assert!(refused.contains(because), "{text}: {refused}");
        }
    }
}
