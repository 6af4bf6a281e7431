//! How a relay mixes, as its configuration says it.

use std::time::Duration;

use mica_service::config::duration;
use mica_service::room::SMALL;
use serde::Deserialize;

/// `[mixing]`: requests wait for each other and leave in another order than they came, and so do their answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mixing {
    /// Requests of so many different senders leave together.
    pub requests: usize,
    /// Nobody waits longer than this for others: neither a request for requests nor an answer for answers.
    #[serde(default = "ten_seconds", deserialize_with = "duration")]
    pub wait: Duration,
}

impl Mixing {
    /// The same, if clients and memory can bear it.
    ///
    /// # Errors
    /// The key of the table that is wrong, and a sentence.
    pub(crate) fn checked(self, timeout: Duration, memory: usize) -> Result<Self, (&'static str, String)> {
        if !(LEAST_REQUESTS..=MOST_REQUESTS).contains(&self.requests) {
            let what = format!("a pool holds {LEAST_REQUESTS} to {MOST_REQUESTS} requests");
            return Err(("mixing.requests", what));
        }
        if self.requests.saturating_mul(SMALL) > memory {
            let what = format!(
                "{} requests of {} KiB are more than max_buffered_bytes allows; allow more or mix fewer",
                self.requests,
                SMALL >> 10
            );
            return Err(("mixing.requests", what));
        }
        if self.wait.is_zero() {
            return Err(("mixing.wait", "without any wait nothing is mixed; leave the table out".to_owned()));
        }
        if self.wait >= timeout {
            let what = "the wait must be shorter than `timeout`, the time that the gateway has".to_owned();
            return Err(("mixing.wait", what));
        }
        if self.wait.saturating_mul(2) >= CLIENTS_WAIT {
            let what = format!(
                "a request and its answer wait this long each, and clients give up after {} s; \
                 write less than {} s",
                CLIENTS_WAIT.as_secs(),
                CLIENTS_WAIT.as_secs() / 2
            );
            return Err(("mixing.wait", what));
        }
        Ok(self)
    }
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

const LEAST_REQUESTS: usize = 2;
/// What one connection to the gateway carries at once, with room to spare.
pub(super) const MOST_REQUESTS: usize = 1_024;
/// How long clients usually wait for an answer.
const CLIENTS_WAIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_clients_or_memory_cannot_bear_is_refused() {
        let check = |requests, wait, memory| {
            let mixing = Mixing { requests, wait: Duration::from_millis(wait) };
            mixing.checked(Duration::from_secs(12), memory).map_err(|(key, _)| key)
        };
        for (requests, wait) in [(2, 1), (8, 5_000), (1_000, 11_999)] {
            assert!(check(requests, wait, 64 << 20).is_ok(), "{requests} {wait}");
        }
        for (requests, wait, key) in [
            (0, 100, "mixing.requests"),
            (1, 100, "mixing.requests"),
            (1_025, 100, "mixing.requests"),
            (1_024, 100, "mixing.requests"),
            (8, 0, "mixing.wait"),
            (8, 12_000, "mixing.wait"),
        ] {
            assert_eq!(check(requests, wait, 60 << 20), Err(key), "{requests} {wait}");
        }
        let patient = Mixing { requests: 2, wait: Duration::from_secs(15) };
        let said = patient.checked(Duration::from_mins(5), 64 << 20).expect_err("clients are gone by then");
        assert!(said.1.contains("clients give up after 30 s"), "{}", said.1);
    }
}
