//! Bearer tokens (DAP 3.5): the leader shows one to the helper, the collector shows one to the leader.
//!
//! Who presents a token holds it; who expects one holds its hash only, and compares in constant time. Neither has a
//! `Debug`, and no token is ever written to a log.

use axum::http::HeaderMap;
use http::{StatusCode, header};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
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

/// What is known of a token that a peer must present.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of `token`.
    pub fn of(token: &str) -> Self {
        Self::of_bytes(token.as_bytes())
    }

    /// The hash of a token as it came.
    pub(crate) fn of_bytes(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// The hash with these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hash that 64 hexadecimal digits spell.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// As hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Whether the request shows the token. Without one: 401; with another one: 403.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Abort> {
        let token = presented(headers)
            .ok_or_else(|| Abort::plain(StatusCode::UNAUTHORIZED, "a bearer token is needed"))?;
        let hash = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(token)));
        if bool::from(hash.ct_eq(&self.0)) {
            return Ok(());
        }
        Err(Abort::plain(StatusCode::FORBIDDEN, "the bearer token is not the one that is expected here"))
    }
}

/// The one bearer token of a request; the name of the scheme is free in case (RFC 9110 11.1).
pub(crate) fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?.as_bytes();
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(SCHEME) && !token.is_empty()).then_some(token)
}

const SCHEME: &[u8] = b"Bearer ";

#[cfg(test)]
mod tests {
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
        assert!(hash.check(&headers(&["Bearer secret-token"])).is_ok());
        assert!(hash.check(&headers(&["bearer secret-token"])).is_ok());
        for wrong in [
            &[][..],
            &["Bearer "],
            &["Basic secret-token"],
            &["Bearer secret-toke"],
            &["Bearer secret-token1"],
            &["Bearer secret-token", "Bearer secret-token"],
        ] {
            assert!(hash.check(&headers(wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_token_has_only_letters_that_fit_a_header() {
        assert!(Bearer::new("abc-._~+/123==").is_some());
        for wrong in ["", "==", "a b", "a\n", "ä"] {
            assert!(Bearer::new(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn a_hash_reads_what_it_writes() {
        let hash = TokenHash::of("x");
        assert!(TokenHash::from_hex(&hash.to_hex()) == Some(hash));
        assert!(TokenHash::from_hex("00").is_none());
    }
}
