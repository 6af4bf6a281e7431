//! For how long a client may use a list of keys without asking for it again (RFC 9111), and whether it may use it at all: a
//! list that is marked as meant for one client would tell that client apart (RFC 9458 7).

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};

/// How long what was answered with these fields is fresh. The error is the rest of a sentence about it.
pub(crate) fn of(fields: &HeaderMap) -> Result<Duration, &'static str> {
    if fields.contains_key(header::VARY) || fields.contains_key(header::SET_COOKIE) {
        return Err("may depend on who asks");
    }
    let (mut max_age, mut must_ask) = (None::<u64>, false);
    for value in fields.get_all(header::CACHE_CONTROL) {
        let value = value.to_str().map_err(|_| UNREADABLE)?.to_ascii_lowercase();
        for directive in value.split(',').map(str::trim) {
            let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim() {
                "private" | "no-store" => return Err("is not meant for everybody"),
                "no-cache" => must_ask = true,
                "max-age" => {
                    let seconds = argument.trim().trim_matches('"').parse::<u64>().map_err(|_| UNREADABLE)?;
                    max_age = Some(max_age.map_or(seconds, |known| known.min(seconds)));
                }
                _ => {}
            }
        }
    }
    if must_ask {
        return Ok(Duration::ZERO);
    }
    let Some(max_age) = max_age else { return Ok(UNLESS_TOLD) };
    let age = fields.get(header::AGE).and_then(|age| age.to_str().ok()?.trim().parse().ok()).unwrap_or(0);
    Ok(Duration::from_secs(max_age.saturating_sub(age)).min(LONGEST))
}

/// The tag by which the list can be asked for again.
pub(crate) fn tag(fields: &HeaderMap) -> Option<HeaderValue> {
    fields.get(header::ETAG).filter(|tag| !tag.is_empty() && tag.len() <= LONGEST_TAG).cloned()
}

/// Where nothing is said, and before a list is asked for again that could not be had.
pub(crate) const UNLESS_TOLD: Duration = Duration::from_mins(10);

const UNREADABLE: &str = "has a Cache-Control that cannot be read";
/// Nobody uses a list for longer without asking.
const LONGEST: Duration = Duration::from_hours(7 * 24);
const LONGEST_TAG: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(fields: &[(&'static str, &str)]) -> HeaderMap {
        let value = |value: &str| HeaderValue::from_str(value).expect("a header");
        fields.iter().map(|(name, text)| (name.parse().expect("a name"), value(text))).collect()
    }

    #[test]
    fn a_list_is_fresh_for_as_long_as_its_publisher_says_less_its_age() {
        for (given, seconds) in [
            (&[("cache-control", "public, max-age=100")][..], 100),
            (&[("cache-control", "Max-Age=\"100\""), ("age", "30")], 70),
            (&[("cache-control", "max-age=100"), ("age", "200")], 0),
            (&[("cache-control", "max-age=100, max-age=50")], 50),
            (&[("cache-control", "max-age=100, no-cache")], 0),
            (&[("cache-control", "max-age=99999999999")], 7 * 86_400),
            (&[("cache-control", "public")], 600),
            (&[], 600),
        ] {
            assert_eq!(of(&fields(given)), Ok(Duration::from_secs(seconds)), "{given:?}");
        }
    }

    #[test]
    fn a_list_that_may_be_meant_for_one_client_is_not_used() {
        for given in [
            ("cache-control", "private, max-age=100"),
            ("cache-control", "public, no-store"),
            ("cache-control", "max-age=soon"),
            ("vary", "cookie"),
            ("set-cookie", "a=b"),
        ] {
            assert!(of(&fields(&[given])).is_err(), "{given:?}");
        }
    }

    #[test]
    fn a_tag_is_kept_unless_it_is_of_no_use() {
        let kept = |given: &str| tag(&fields(&[("etag", given)])).is_some();
        assert!(kept("\"a\"") && kept("W/\"a\"") && !kept("") && !kept(&"a".repeat(257)));
    }
}
