//! Who may ask: the holder of the admin token, which is known here by its hash alone.
//!
//! A wrong token costs its sender patience and nobody else: whoever has the right one is never locked out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};

use crate::auth::{self, TokenHash};
use crate::error::Abort;

/// The admin token, and how often another was tried lately.
#[derive(Clone)]
pub(super) struct Access {
    token: TokenHash,
    failures: Arc<Mutex<Failures>>,
}

struct Failures {
    since: Instant,
    count: u32,
}

impl Access {
    pub(super) fn new(token: TokenHash) -> Self {
        Self { token, failures: Arc::new(Mutex::new(Failures { since: Instant::now(), count: 0 })) }
    }

    /// Lets the holder of the token pass.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Abort> {
        let Err(refusal) = auth::check(&self.token, headers) else { return Ok(()) };
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.since.elapsed() >= WINDOW {
            *failures = Failures { since: Instant::now(), count: 0 };
        }
        failures.count = failures.count.saturating_add(1);
        if failures.count == MOST {
            tracing::warn!("many requests to the admin API without its token");
        }
        if failures.count <= MOST {
            return Err(refusal);
        }
        let left = WINDOW.saturating_sub(failures.since.elapsed()).as_secs() + 1;
        Err(Abort::plain(StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens").retry_after(left))
    }
}

/// How many wrong tokens are told that they are wrong in one window.
const MOST: u32 = 20;

const WINDOW: Duration = Duration::from_mins(1);
