//! How much one client may ask: a bucket for each, in a table of fixed size from which nobody is put out.
//!
//! A table that makes room by forgetting can be made to forget: whoever has many addresses fills it and finds the own bucket
//! full again. So there is nothing to forget here. A client has a cell in each of a few rows, at places that a key drawn at
//! the start decides, and its bucket is the fullest of them (a count-min sketch of leaky buckets). Cells that others share
//! can only make a bucket emptier, and only all of them at once are felt; nothing that anybody sends makes it fuller.

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mica_service::config::duration;
use serde::Deserialize;
use tokio::time::Instant;

use crate::config::DEFAULT_PREFIX;

/// `[rate_limit]`: so many requests of one client in such a time; more are told 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Requests in `per`.
    pub requests: NonZeroU32,
    /// The time in which they may come.
    #[serde(default = "one_minute", deserialize_with = "duration")]
    pub per: Duration,
    /// How many of them may come at once; all of them without it.
    #[serde(default)]
    pub burst: Option<NonZeroU32>,
    /// What makes a client.
    #[serde(default)]
    pub by: LimitBy,
    /// Addresses of IPv6 that share so many leading bits are one client's.
    #[serde(default = "one_site")]
    pub ipv6_prefix: u8,
}

/// What one client is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitBy {
    /// Whoever has an address, or a network of IPv6.
    #[default]
    Address,
    /// Whoever shows a token or a certificate of `[clients]`.
    Credential,
}

impl RateLimit {
    /// The same, if it makes sense.
    ///
    /// # Errors
    /// The key of the table that is wrong, and a sentence.
    pub(crate) fn checked(self, knows_clients: bool) -> Result<Self, (&'static str, String)> {
        if self.by == LimitBy::Credential && !knows_clients {
            let what = "clients show no credential here; add a table [clients], or limit by = \"address\"";
            return Err(("rate_limit.by", what.to_owned()));
        }
        if self.ipv6_prefix > 128 {
            return Err(("rate_limit.ipv6_prefix", "an address of IPv6 has 128 bits".to_owned()));
        }
        if self.per.is_zero() || self.per > A_DAY {
            return Err(("rate_limit.per", "write a time of up to a day".to_owned()));
        }
        Ok(self)
    }

    /// The time that one request costs.
    fn cost(self) -> u64 {
        (nanos(self.per) / u64::from(self.requests.get())).max(1)
    }
}

/// When each bucket will be full again, in nanoseconds since the start.
pub(super) struct Limiter {
    cells: Mutex<Vec<u64>>,
    keys: [RandomState; ROWS],
    start: Instant,
    cost: u64,
    /// How far ahead of now that may be.
    most_ahead: u64,
}

impl Limiter {
    pub(super) fn new(limit: RateLimit) -> Self {
        let burst = limit.burst.unwrap_or(limit.requests).get();
        Self {
            cells: Mutex::new(vec![0; ROWS * CELLS]),
            keys: std::array::from_fn(|_| RandomState::new()),
            start: Instant::now(),
            cost: limit.cost(),
            most_ahead: limit.cost().saturating_mul(u64::from(burst)),
        }
    }

    /// Takes one request of a client, or tells how long it has to wait.
    pub(super) fn take(&self, client: u64) -> Result<(), Duration> {
        self.take_at(client, nanos(self.start.elapsed()))
    }

    fn take_at(&self, client: u64, now: u64) -> Result<(), Duration> {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let places: [usize; ROWS] = std::array::from_fn(|row| self.place(row, client));
        let cell = |place: &usize| cells.get(*place).copied().unwrap_or(0);
        let least = places.iter().map(cell).min().unwrap_or(0);
        let after = least.max(now).saturating_add(self.cost);
        if after > now.saturating_add(self.most_ahead) {
            return Err(Duration::from_nanos(after - now - self.most_ahead));
        }
        for place in places {
            if let Some(cell) = cells.get_mut(place) {
                *cell = after.max(*cell);
            }
        }
        Ok(())
    }

    fn place(&self, row: usize, client: u64) -> usize {
        let hash = self.keys.get(row).map_or(0, |key| key.hash_one(client));
        row * CELLS + usize::try_from(hash % CELLS as u64).unwrap_or(0)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn one_minute() -> Duration {
    Duration::from_mins(1)
}

fn one_site() -> u8 {
    DEFAULT_PREFIX
}

/// Two mebibytes in all. With 10,000 clients at their limits, one of some 2,500 others finds all its cells taken.
const ROWS: usize = 4;
const CELLS: usize = 1 << 16;
const A_DAY: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limiter(requests: u32, burst: Option<u32>) -> Limiter {
        Limiter::new(RateLimit {
            requests: NonZeroU32::new(requests).unwrap(),
            per: Duration::from_secs(10),
            burst: burst.and_then(NonZeroU32::new),
            by: LimitBy::Address,
            ipv6_prefix: 64,
        })
    }

    #[test]
    fn a_client_gets_its_burst_and_then_its_rate_and_is_told_when() {
        let limiter = limiter(10, Some(3));
        for _ in 0..3 {
            assert_eq!(limiter.take_at(7, 5 * SECOND), Ok(()));
        }
        assert_eq!(limiter.take_at(7, 5 * SECOND), Err(Duration::from_secs(1)));
        assert_eq!(limiter.take_at(7, 5 * SECOND), Err(Duration::from_secs(1)), "asking costs nothing");
        assert_eq!(limiter.take_at(8, 5 * SECOND), Ok(()), "another one has its own");
        assert_eq!(limiter.take_at(7, 6 * SECOND), Ok(()));
        assert!(limiter.take_at(7, 6 * SECOND).is_err());
        let taken = (0..1_000).filter(|step| limiter.take_at(7, 6 * SECOND + step * SECOND / 10).is_ok());
        assert_eq!(taken.count(), 99, "one a second for 99.9 seconds");
        assert!(
            (0..3).all(|_| limiter.take_at(7, 200 * SECOND).is_ok())
                && limiter.take_at(7, 200 * SECOND).is_err()
        );
    }

    /// Whoever has very many addresses cannot fill the own bucket again by using them.
    #[test]
    fn a_crowd_of_addresses_does_not_reset_a_bucket() {
        let limiter = limiter(10, None);
        assert_eq!((0..20).filter(|_| limiter.take_at(42, SECOND).is_ok()).count(), 10);
        for other in 100..300_000 {
            let _ = limiter.take_at(other, SECOND);
        }
        assert!(limiter.take_at(42, SECOND).is_err());
        assert_eq!(limiter.cells.lock().unwrap().len(), ROWS * CELLS, "and takes no more memory");
    }

    #[test]
    fn a_crowd_at_its_limits_is_in_hardly_anybodys_way() {
        let limiter = limiter(5, None);
        for client in 0..10_000 {
            while limiter.take_at(client, SECOND).is_ok() {}
        }
        let turned_away = (50_000..60_000).filter(|client| limiter.take_at(*client, SECOND).is_err()).count();
        // Expected are four; the places are drawn anew each time, and 30 will not be seen.
        assert!(turned_away < 30, "{turned_away} of 10,000");
    }

    #[test]
    fn a_limit_that_makes_no_sense_is_refused() {
        let read = |text: &str| toml::from_str::<RateLimit>(text).map_err(|_| "file");
        let check = |text: &str, knows| read(text)?.checked(knows).map_err(|(key, _)| key);
        assert!(check("requests = 60", false).is_ok());
        assert!(check("requests = 60\nburst = 5\nper = '1h'\nby = 'credential'", true).is_ok());
        for (text, key) in [
            ("requests = 0", "file"),
            ("requests = 1\nburst = 0", "file"),
            ("requests = 1\nby = 'name'", "file"),
            ("requests = 1\nper = '0s'", "rate_limit.per"),
            ("requests = 1\nper = '2d'", "rate_limit.per"),
            ("requests = 1\nipv6_prefix = 129", "rate_limit.ipv6_prefix"),
            ("requests = 1\nby = 'credential'", "rate_limit.by"),
        ] {
            assert_eq!(check(text, false).map(drop), Err(key), "{text}");
        }
    }
}
