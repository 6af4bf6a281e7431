//! Bearer tokens (DAP 3.5): the leader shows one to the helper, the collector shows one to the leader.
//!
//! Who presents a token holds it; who expects one holds its hash only, and compares in constant time. Neither has a
//! `Debug`, and no token is ever written to a log.

use axum::http::HeaderMap;
use http::StatusCode;
pub use mica_service::token::TokenHash;
pub(crate) use mica_service::token::presented;
use zeroize::Zeroizing;

use crate::error::Abort;

/// A token that is presented to a peer.
#[derive(Clone)]
pub struct Bearer(Zeroizing<String>);

impl Bearer {
    /// The token, if RFC 6750 2.1 allows its letters.
    pub fn new(token: &str) -> Option<Self> {
        let body = token.trim_end_matches('=');
        let allowed = |c: u8| c.is_ascii_alphanumeric() || b"-._~+/".contains(&c);
        (!body.is_empty() && body.bytes().all(allowed)).then(|| Self(Zeroizing::new(token.to_owned())))
    }

    /// The token itself, to be written to the file or header it is meant for.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The value of the `Authorization` header.
    pub fn header(&self) -> http::HeaderValue {
        let text = Zeroizing::new(format!("Bearer {}", self.expose()));
        let mut value =
            http::HeaderValue::from_str(&text).expect("a token has only letters that a header may have");
        value.set_sensitive(true);
        value
    }
}

/// Whether the request shows the token of this hash. Without one: 401; with another one: 403.
pub(crate) fn check(expected: &TokenHash, headers: &HeaderMap) -> Result<(), Abort> {
    let token = presented(headers)
        .ok_or_else(|| Abort::plain(StatusCode::UNAUTHORIZED, "a bearer token is needed"))?;
    if expected.is_of(token) {
        return Ok(());
    }
    Err(Abort::plain(StatusCode::FORBIDDEN, "the bearer token is not the one that is expected here"))
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, http::HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_right_token_is_let_in_and_no_other() {
        let hash = TokenHash::of("secret-token");
        assert!(check(&hash, &headers(&["Bearer secret-token"])).is_ok());
        assert!(check(&hash, &headers(&["bearer secret-token"])).is_ok());
        for wrong in [
            &[][..],
            &["Bearer "],
            &["Basic secret-token"],
            &["Bearer secret-toke"],
            &["Bearer secret-token1"],
            &["Bearer secret-token", "Bearer secret-token"],
        ] {
            assert!(check(&hash, &headers(wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_token_has_only_letters_that_fit_a_header() {
        assert!(Bearer::new("abc-._~+/123==").is_some());
        for wrong in ["", "==", "a b", "a\n", "ä"] {
            assert!(Bearer::new(wrong).is_none(), "{wrong:?}");
        }
    }
}
