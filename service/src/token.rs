//! Bearer tokens of operators, relays and clients (RFC 6750 2.1): who shows one holds it, who expects one holds its hash.
//!
//! Neither has a `Debug`, and no token is ever written to a log.

use std::path::Path;

use http::{HeaderMap, HeaderValue, header};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// What is known of a token that somebody must show. Two of them are compared in the same time wherever they differ.
#[derive(Clone, Copy, Eq)]
pub struct TokenHash([u8; 32]);

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl TokenHash {
    /// The hash of a token.
    pub fn of(token: impl AsRef<[u8]>) -> Self {
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

    /// The hash that 64 hexadecimal digits spell, unless it is that of nothing.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes)).filter(|hash| *hash != Self::of(""))
    }

    /// The hash of the token that a file holds. The error is a sentence.
    ///
    /// # Errors
    /// When the file cannot be read or holds none.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        Secret::from_file(path).map(|token| Self::of(token.expose().trim()))
    }

    /// Whether a request shows the token.
    pub fn is_shown(&self, headers: &HeaderMap) -> bool {
        presented(headers).is_some_and(|token| self.is_of(token))
    }

    /// Whether it is the hash of this token. Takes the same time wherever they differ.
    pub fn is_of(&self, token: &[u8]) -> bool {
        let hash = Zeroizing::new(Self::of(token).0);
        hash.ct_eq(&self.0).into()
    }

    /// As hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }
}

/// The `Authorization` field that shows the token in a file. The error is a sentence.
///
/// # Errors
/// When the file cannot be read, or what it holds has letters that a token cannot have.
pub fn authorization(path: &Path) -> Result<HeaderValue, String> {
    let token = Secret::from_file(path)?;
    let token = token.expose().trim();
    let body = token.trim_end_matches('=');
    let allowed = |letter: u8| letter.is_ascii_alphanumeric() || b"-._~+/".contains(&letter);
    if body.is_empty() || !body.bytes().all(allowed) {
        return Err(format!("the file {} holds no token: letters, digits and -._~+/ only", path.display()));
    }
    let text = Zeroizing::new(format!("Bearer {token}"));
    let mut value = HeaderValue::from_str(&text).expect("a token has only letters that a field may have");
    value.set_sensitive(true);
    Ok(value)
}

/// The one bearer token of a request; the name of the scheme is free in case (RFC 9110 11.1).
pub fn presented(headers: &HeaderMap) -> Option<&[u8]> {
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

    #[test]
    fn a_token_is_known_by_its_hash_and_shown_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        std::fs::write(&path, "a-token.1==\n").expect("a file");
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, authorization(&path).expect("it is one"));
        let hash = TokenHash::from_file(&path).expect("it is one");
        assert!(hash.is_shown(&headers) && !TokenHash::of(b"a-token.1").is_shown(&headers));
        headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer a-token.1=="));
        assert!(!hash.is_shown(&headers), "two are none");
        assert!(!hash.is_shown(&HeaderMap::new()));
        for wrong in ["", "\n", "==", "two words", "ä"] {
            std::fs::write(&path, wrong).expect("a file");
            assert!(authorization(&path).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_hash_reads_what_it_writes() {
        let hash = TokenHash::of("x");
        assert!(
            TokenHash::from_hex(&hash.to_hex()) == Some(hash) && TokenHash::new(*hash.as_bytes()) == hash
        );
        assert!(hash != TokenHash::of("y") && hash.is_of(b"x") && !hash.is_of(b"y"));
    }

    #[test]
    fn the_hash_of_nothing_is_no_hash() {
        assert!(TokenHash::from_hex(&"0".repeat(64)).is_some());
        assert!(TokenHash::from_hex(&hex::encode(Sha256::digest(b""))).is_none());
        assert!(TokenHash::from_hex("00").is_none());
    }
}
