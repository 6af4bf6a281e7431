//! How long a peer wants to be left alone: `Retry-After`, for everybody who asks another server.

use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, header};

/// The seconds that a server wants to be left alone, within reason: a number of them, or a date (RFC 9110 10.2.3). A
/// date is held against the server's own clock where it tells it, for the two clocks may differ.
pub fn retry_after(headers: &HeaderMap, now: u64) -> Option<u64> {
    let value = text(headers, header::RETRY_AFTER)?.trim();
    let seconds = match value.parse() {
        Ok(seconds) => seconds,
        Err(_) if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => MOST_PATIENT,
        Err(_) => {
            let then = httpdate::parse_http_date(value).ok()?;
            let told = text(headers, header::DATE).and_then(|date| httpdate::parse_http_date(date).ok());
            let now = told.or_else(|| UNIX_EPOCH.checked_add(Duration::from_secs(now)))?;
            then.duration_since(now).map_or(0, |left| left.as_secs())
        }
    };
    Some(seconds.clamp(1, MOST_PATIENT))
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Nobody is left alone for longer than an hour.
const MOST_PATIENT: u64 = 3_600;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(retry_after: &str, date: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_str(retry_after).expect("a header"));
        if let Some(date) = date {
            headers.insert(header::DATE, HeaderValue::from_str(date).expect("a header"));
        }
        headers
    }

    #[test]
    fn the_time_to_wait_is_a_number_or_a_date() {
        // Sun, 06 Nov 1994 08:49:37 GMT
        let now = 784_111_777;
        for (value, seconds) in [
            ("7", Some(7)),
            ("0", Some(1)),
            (" 12 ", Some(12)),
            ("4000", Some(3_600)),
            ("99999999999999999999999", Some(3_600)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:50:07 GMT", Some(30)),
            ("Sun Nov  6 08:50:07 1994", Some(30)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", Some(1)),
            ("Mon, 07 Nov 1994 08:49:37 GMT", Some(3_600)),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(&headers(value, None), now), seconds, "{value:?}");
        }
    }

    #[test]
    fn a_date_is_held_against_the_clock_of_whoever_wrote_it() {
        let answer = headers("Sun, 06 Nov 1994 08:50:07 GMT", Some("Sun, 06 Nov 1994 08:49:57 GMT"));
        assert_eq!(retry_after(&answer, 1_780_000_000), Some(10));
    }
}
