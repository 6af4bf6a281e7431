//! `Date` inside the envelope: optional, and looked at when it is there (RFC 9458 6.5.1).
//!
//! A memory forgets after a while. A request that says when it was made can be refused when it is older than what is
//! remembered for sure; one that does not is judged by the memory alone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use mica_envelope::{InnerRequest, InnerResponse};
use mica_service::clock::Clock;
use mica_service::key_life::CLOCKS_DIFFER;

use crate::{
    config::{Dates, ReplayConfig},
    problem::Problem,
};

/// Which dates are taken.
pub(crate) struct DateRule {
    dates: Dates,
    window: u64,
    promised_from: AtomicU64,
    clock: Clock,
}

impl DateRule {
    /// The rule of a configuration, for a memory that began at `promised_from`.
    pub(crate) fn new(config: &ReplayConfig, promised_from: u64, clock: Clock) -> Self {
        let promised_from = AtomicU64::new(promised_from);
        Self { dates: config.dates, window: config.date_window.as_secs(), promised_from, clock }
    }

    /// The refusal of a request whose date does not do, with the time it is here.
    pub(crate) fn refusal(&self, request: &InnerRequest) -> Option<InnerResponse> {
        let mut dates = request.headers.iter().filter(|(name, _)| name == "date").map(|(_, value)| value);
        let problem = match (self.dates, dates.next(), dates.next()) {
            (Dates::Off, ..) | (Dates::Check, None, _) => return None,
            (Dates::Require, None, _) => Problem::NO_DATE,
            (_, Some(date), None) if self.is_near(date) => return None,
            (_, Some(_), _) => Problem::DATE,
        };
        let now = UNIX_EPOCH + Duration::from_secs(self.clock.now());
        let mut refusal = problem.inside();
        refusal.headers.push(("date".to_owned(), httpdate::fmt_http_date(now).into_bytes()));
        // What depends on a date must not be given to another one (RFC 9458 6.5.2).
        refusal.headers.push(("cache-control".to_owned(), b"no-store".to_vec()));
        Some(refusal)
    }

    fn is_near(&self, date: &[u8]) -> bool {
        let date = std::str::from_utf8(date).ok().and_then(|date| httpdate::parse_http_date(date).ok());
        let Some(date) = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok()) else { return false };
        let (date, now) = (date.as_secs(), self.clock.now());
        // A clock that was ahead may have promised it from then on only; it has been kept since now, at any rate.
        let promised_from = match self.promised_from.load(Ordering::Relaxed) {
            ahead if ahead > now.saturating_add(CLOCKS_DIFFER) => {
                self.promised_from.fetch_min(now, Ordering::Relaxed).min(now)
            }
            promised_from => promised_from,
        };
        date.abs_diff(now) <= self.window && date >= promised_from
    }
}
