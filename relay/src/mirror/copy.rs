//! What an origin said, if it may be kept and shown to everybody.

use std::time::{Duration, Instant};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};

/// A document of the gateway, as the gateway published it.
#[derive(Clone)]
pub(super) struct Copy {
    body: Bytes,
    media: &'static str,
    tag: HeaderValue,
    max_age: u64,
    /// When it left the gateway.
    born: Instant,
}

/// What is asked of a document.
#[derive(Clone, Copy)]
pub(super) struct Demands {
    pub(super) media: &'static str,
    pub(super) min_max_age: Duration,
}

/// Why a document is not kept: a sentence for the log.
pub(super) type Refused = &'static str;

impl Copy {
    /// The answer of the origin as a copy, if everybody may be shown it for long enough. `known` is the copy that the
    /// origin was told of.
    pub(super) fn judge(
        answer: &http::Response<Bytes>,
        demands: Demands,
        known: Option<&Self>,
    ) -> Result<Self, Refused> {
        let fields = answer.headers();
        let max_age = shared_for(fields)?;
        if max_age < demands.min_max_age.as_secs().max(1) {
            return Err(
                "it may be kept for too short a time: whoever changes it often can tell clients apart",
            );
        }
        let age = one(fields, &header::AGE).and_then(|age| age.parse().ok()).unwrap_or(0);
        if age >= max_age {
            return Err("it is older than it may be");
        }
        let born = Instant::now().checked_sub(Duration::from_secs(age)).unwrap_or_else(Instant::now);
        if answer.status() == StatusCode::NOT_MODIFIED {
            let known = known.ok_or("it is not sent, and there is no copy of it")?;
            return Ok(Self { max_age, born, ..known.clone() });
        }
        if answer.status() != StatusCode::OK {
            return Err("its status is not 200");
        }
        if !one(fields, &header::CONTENT_TYPE).is_some_and(|media| media.eq_ignore_ascii_case(demands.media))
        {
            return Err("it has another media type");
        }
        if answer.body().is_empty() {
            return Err("it is empty");
        }
        let (body, media) = (answer.body().clone(), demands.media);
        Ok(Self { tag: tag(fields, &body), body, media, max_age, born })
    }

    /// The tag that the origin knows it by.
    pub(super) fn tag(&self) -> &HeaderValue {
        &self.tag
    }

    /// What it says.
    pub(super) fn body(&self) -> &Bytes {
        &self.body
    }

    /// Whether it is as old as it may be.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        self.age(now) >= self.max_age
    }

    fn age(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.born).as_secs()
    }

    /// The same bytes under the same tag for whoever asks, or the statement that the asker has them.
    pub(super) fn answer(&self, asked: &HeaderMap, now: Instant) -> Response {
        let values = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let is_known = values.flat_map(|value| value.split(',')).any(|tag| {
            let tag = tag.trim();
            tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == self.tag.as_bytes()
        });
        let mut response = if is_known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            let mut response = Response::new(Body::from(self.body.clone()));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media));
            response
        };
        let fields = response.headers_mut();
        fields.insert(header::ETAG, self.tag.clone());
        fields.insert(header::AGE, HeaderValue::from(self.age(now)));
        let cache = format!("public, max-age={}", self.max_age);
        fields.insert(header::CACHE_CONTROL, ascii(&cache));
        response
    }
}

/// For how many seconds everybody may be shown the same (RFC 9111 3, 5.2.2).
fn shared_for(fields: &HeaderMap) -> Result<u64, Refused> {
    // Cookies and languages make answers for one.
    if fields.contains_key(header::VARY) || fields.contains_key(header::SET_COOKIE) {
        return Err("it may depend on who asks");
    }
    let (mut is_public, mut max_age) = (false, None::<u64>);
    for value in fields.get_all(header::CACHE_CONTROL) {
        let value = value.to_str().map_err(|_| "its Cache-Control cannot be read")?.to_ascii_lowercase();
        for directive in value.split(',').map(str::trim) {
            let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim() {
                "public" => is_public = true,
                "private" | "no-store" | "no-cache" => return Err("it is not meant for everybody"),
                "max-age" | "s-maxage" => {
                    let seconds = argument.trim().trim_matches('"').parse();
                    let seconds = seconds.map_err(|_| "its Cache-Control cannot be read")?;
                    max_age = Some(max_age.map_or(seconds, |known| known.min(seconds)));
                }
                _ => {}
            }
        }
    }
    match max_age {
        Some(max_age) if is_public => Ok(max_age),
        _ => Err("it is not marked as public, with a max-age"),
    }
}

fn one<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = fields.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then(|| value.trim())
}

/// The origin's own strong tag, or one made of the content where there is none.
fn tag(fields: &HeaderMap, body: &Bytes) -> HeaderValue {
    let is_strong =
        |tag: &&str| tag.len() >= 2 && tag.starts_with('"') && tag.ends_with('"') && tag.len() < 256;
    match one(fields, &header::ETAG).filter(is_strong) {
        Some(tag) => ascii(tag),
        None => ascii(&format!("\"{}\"", hex::encode(Sha256::digest(body)))),
    }
}

fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("it was a header, or is made of digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMANDS: Demands =
        Demands { media: "application/ohttp-keys", min_max_age: Duration::from_secs(100) };

    fn answer(fields: &[(&'static str, &str)]) -> http::Response<Bytes> {
        let mut answer = http::Response::new(Bytes::from_static(b"keys"));
        answer.headers_mut().insert("content-type", HeaderValue::from_static("application/ohttp-keys"));
        for (name, value) in fields {
            answer.headers_mut().append(*name, HeaderValue::from_str(value).unwrap());
        }
        answer
    }

    fn judged(fields: &[(&'static str, &str)]) -> Result<u64, Refused> {
        Copy::judge(&answer(fields), DEMANDS, None).map(|copy| copy.max_age)
    }

    #[test]
    fn only_what_everybody_may_be_shown_for_long_enough_is_kept() {
        assert_eq!(judged(&[("cache-control", "public, max-age=100")]), Ok(100));
        assert_eq!(judged(&[("cache-control", "max-age=\"200\""), ("cache-control", "Public")]), Ok(200));
        assert_eq!(judged(&[("cache-control", "public, max-age=300, s-maxage=150")]), Ok(150));
        for cache in [
            "public, max-age=99",
            "public, max-age=500, s-maxage=99",
            "max-age=100",
            "public",
            "public, max-age=x",
            "public, max-age=-1",
            "public, private, max-age=100",
            "public, Private=\"x\", max-age=100",
            "public, no-store, max-age=100",
            "public, no-cache, max-age=100",
        ] {
            assert!(judged(&[("cache-control", cache)]).is_err(), "{cache}");
        }
        assert!(judged(&[]).is_err());
        for further in [("vary", "accept"), ("set-cookie", "a=b"), ("age", "100")] {
            assert!(judged(&[("cache-control", "public, max-age=100"), further]).is_err(), "{further:?}");
        }
        let mut wrong = answer(&[("cache-control", "public, max-age=100")]);
        wrong.headers_mut().insert("content-type", HeaderValue::from_static("text/html"));
        assert!(Copy::judge(&wrong, DEMANDS, None).is_err());
        let mut unchanged = answer(&[("cache-control", "public, max-age=100")]);
        *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
        assert!(Copy::judge(&unchanged, DEMANDS, None).is_err(), "there is nothing to be unchanged");
    }

    #[test]
    fn a_copy_says_how_old_it_is_and_is_stale_in_the_end() {
        let fields = [("cache-control", "public, max-age=100"), ("age", "30")];
        let copy = Copy::judge(&answer(&fields), DEMANDS, None).unwrap();
        let after = |seconds| copy.born + Duration::from_secs(seconds);
        assert!(!copy.is_stale(after(99)) && copy.is_stale(after(100)));
        assert_eq!(copy.answer(&HeaderMap::new(), after(99)).headers()["age"], "99");
        assert!(copy.age(Instant::now()) >= 30, "it was older than that when it came");
        let mut again = answer(&[("cache-control", "public, max-age=200")]);
        *again.status_mut() = StatusCode::NOT_MODIFIED;
        let renewed = Copy::judge(&again, DEMANDS, Some(&copy)).unwrap();
        assert!(!renewed.is_stale(after(150)) && renewed.tag() == copy.tag() && renewed.body == copy.body);
    }

    #[test]
    fn the_tag_is_the_origins_own_or_made_of_the_content() {
        let tag = |given: &str| {
            let fields = [("cache-control", "public, max-age=100"), ("etag", given)];
            Copy::judge(&answer(&fields), DEMANDS, None).unwrap().tag().to_str().unwrap().to_owned()
        };
        assert_eq!(tag("\"abc\""), "\"abc\"");
        assert!(tag("W/\"abc\"").len() == 66 && tag("W/\"abc\"") == tag("abc"));
    }
}
