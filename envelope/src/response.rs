//! The gateway's one answer to a request, sealed under what only the sender of that request shares (RFC 9458 4.4).

use aws_lc_rs::{
    aead::{Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
};
use zeroize::Zeroizing;

use crate::suite::Suite;

/// What the two ends of one request share. Scrubbed from memory when dropped.
pub(crate) struct ResponseSecret {
    suite: Suite,
    enc: Vec<u8>,
    exported: Zeroizing<Vec<u8>>,
}

impl ResponseSecret {
    /// The secret that `export` writes, of the length that the suite asks for.
    pub(crate) fn new(
        suite: Suite,
        enc: &[u8],
        export: impl FnOnce(&mut [u8]) -> Option<()>,
    ) -> Option<Self> {
        let mut exported = Zeroizing::new(vec![0; suite.response_nonce()]);
        export(&mut exported)?;
        Some(Self { suite, enc: enc.to_vec(), exported })
    }

    #[cfg(test)]
    pub(crate) fn exported(&self) -> &[u8] {
        &self.exported
    }

    /// Bytes that sealing adds.
    pub(crate) fn overhead(&self) -> usize {
        self.suite.response_nonce() + self.suite.algorithm().tag_len()
    }

    /// The sealed answer, under a fresh nonce that stands before it.
    pub(crate) fn seal(self, plaintext: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = vec![0; self.suite.response_nonce()];
        aws_lc_rs::rand::fill(&mut nonce).ok()?;
        self.seal_under(nonce, plaintext)
    }

    fn seal_under(self, response_nonce: Vec<u8>, plaintext: &[u8]) -> Option<Vec<u8>> {
        let salt = [self.enc.as_slice(), &response_nonce].concat();
        let secret = Salt::new(HKDF_SHA256, &salt).extract(&self.exported);
        let key = UnboundKey::from(secret.expand(&[b"key"], self.suite.algorithm()).ok()?);
        let mut nonce = [0; NONCE_LEN];
        secret.expand(&[b"nonce"], NonceLength).and_then(|nonce_of| nonce_of.fill(&mut nonce)).ok()?;

        let mut sealed = response_nonce;
        let start = sealed.len();
        sealed.reserve_exact(plaintext.len() + self.suite.algorithm().tag_len());
        sealed.extend_from_slice(plaintext);
        let (_, within) = sealed.split_at_mut(start);
        // The key seals this once, so no nonce of it comes twice.
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = LessSafeKey::new(key).seal_in_place_separate_tag(nonce, Aad::empty(), within).ok()?;
        sealed.extend_from_slice(tag.as_ref());
        Some(sealed)
    }
}

struct NonceLength;

impl KeyType for NonceLength {
    fn len(&self) -> usize {
        NONCE_LEN
    }
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
