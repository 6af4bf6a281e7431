//! When one request is tried again, and how often.
//!
//! Never on its own account when it may have been forwarded (RFC 9458 6.5): only if it is known that it was not sent or not
//! looked at, or if whoever refused it says when to come back. Each attempt is a fresh envelope.

use std::time::Duration;

use http::{HeaderMap, header};

use crate::ClientError;

/// An attempt that came to nothing.
pub(crate) struct Failed {
    pub(crate) error: ClientError,
    pub(crate) again: Again,
}

/// Whether the same may be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// It may have been acted on, or it would be in vain.
    Never,
    /// Nobody has acted on it.
    Unheard,
    /// After this time, by the word of who refused it.
    After(Duration),
}

/// How long the attempts of one request may still wait.
pub(crate) struct Patience {
    left: Duration,
    tries: u32,
}

impl Again {
    /// What an answer of this status allows. `after` is its `Retry-After`, and `date` its `Date`: whoever names a time of
    /// day in the one says in the other what their clock shows, so that ours does not matter.
    pub(crate) fn refused(status: u16, after: Option<&[u8]>, date: Option<&[u8]>) -> Self {
        match (status, after.and_then(|after| wait(after, date))) {
            (429 | 503, Some(wait)) => Self::After(wait),
            _ => Self::Never,
        }
    }

    /// The same for an answer outside of an envelope.
    pub(crate) fn outside(status: u16, fields: &HeaderMap) -> Self {
        let field = |name| fields.get(name).map(http::HeaderValue::as_bytes);
        Self::refused(status, field(header::RETRY_AFTER), field(header::DATE))
    }
}

impl Patience {
    pub(crate) fn new(total: Duration) -> Self {
        Self { left: total, tries: 1 }
    }

    /// For how long to wait before the next attempt, if there is to be one.
    pub(crate) fn pause(&mut self, again: Again) -> Option<Duration> {
        let least = FIRST_PAUSE * 2_u32.pow(self.tries - 1);
        let pause = match again {
            Again::Never => return None,
            Again::Unheard => least,
            Again::After(time) => time.max(least),
        };
        if self.tries >= MOST_TRIES {
            return None;
        }
        self.left = self.left.checked_sub(pause)?;
        self.tries += 1;
        Some(pause)
    }
}

/// How long a `Retry-After` has us wait (RFC 9110 10.2.3): seconds, or until a time that may be over.
fn wait(after: &[u8], date: Option<&[u8]>) -> Option<Duration> {
    let text = |value| std::str::from_utf8(value).ok().map(str::trim);
    let after = text(after)?;
    if let Ok(seconds) = after.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(after).ok()?;
    let now = httpdate::parse_http_date(text(date?)?).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

const MOST_TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_says_when_to_come_back_is_asked_again() {
        let after = |seconds| Again::After(Duration::from_secs(seconds));
        for (status, retry_after, expected) in [
            (503, Some("3"), after(3)),
            (429, Some(" 0 "), after(0)),
            (503, None, Again::Never),
            (503, Some("soon"), Again::Never),
            (503, Some("-1"), Again::Never),
            (502, Some("3"), Again::Never),
            (504, Some("3"), Again::Never),
            (200, Some("3"), Again::Never),
        ] {
            assert_eq!(
                Again::refused(status, retry_after.map(str::as_bytes), None),
                expected,
                "{status} {retry_after:?}"
            );
        }
    }

    #[test]
    fn a_time_of_day_to_come_back_at_is_read_by_the_clock_of_who_names_it() {
        let refused = |after: &str, date: Option<&str>| {
            Again::refused(503, Some(after.as_bytes()), date.map(str::as_bytes))
        };
        let (date, later) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:40 GMT");
        assert_eq!(refused(later, Some(date)), Again::After(Duration::from_secs(3)));
        assert_eq!(refused(date, Some(later)), Again::After(Duration::ZERO));
        assert_eq!(
            refused("Sunday, 06-Nov-94 08:49:41 GMT", Some(date)),
            Again::After(Duration::from_secs(4))
        );
        for date in [None, Some("now"), Some("")] {
            assert_eq!(refused(later, date), Again::Never, "{date:?}");
        }
        let far = refused("Fri, 31 Dec 9999 23:59:59 GMT", Some(date));
        assert_eq!(Patience::new(Duration::from_secs(20)).pause(far), None, "it is not waited for");
    }

    #[test]
    fn patience_ends_after_three_tries_or_when_the_wait_would_be_too_long() {
        let mut patience = Patience::new(Duration::from_secs(10));
        let ms = |millis| Some(Duration::from_millis(millis));
        assert_eq!(patience.pause(Again::Never), None);
        assert_eq!(patience.pause(Again::Unheard), ms(200));
        assert_eq!(patience.pause(Again::After(Duration::ZERO)), ms(400));
        assert_eq!(patience.pause(Again::Unheard), None);
        let mut patience = Patience::new(Duration::from_secs(10));
        assert_eq!(patience.pause(Again::After(Duration::from_secs(11))), None);
        assert_eq!(Patience::new(Duration::ZERO).pause(Again::Unheard), None);
    }
}
