//! The private key of a gateway, and opening with it (RFC 9458 4.3).
//!
//! The crate `ohttp` has no place for another KEM, and its X25519 is most of what a request costs; so the gateway's end
//! is put together here from the same crate `hpke`, and `ohttp` is what the tests hold it to. Whoever has this key reads
//! every request that was sealed to it.

use hpke::{
    Deserializable as _, Kem as _, OpModeR, Serializable as _,
    aead::{Aead, AesGcm128, ChaCha20Poly1305},
    kdf::HkdfSha256,
    kem::{DhP256HkdfSha256, XWing},
};
use mica_kem::X25519HkdfSha256;

use crate::{client::HEADER, key_config::Kem, response::ResponseSecret, suite::Suite};

/// One private key, made once and scrubbed from memory when dropped.
pub(crate) enum Recipient {
    X25519(<X25519HkdfSha256 as hpke::Kem>::PrivateKey),
    P256(<DhP256HkdfSha256 as hpke::Kem>::PrivateKey),
    XWing(Box<<XWing as hpke::Kem>::PrivateKey>),
}

impl Recipient {
    /// `DeriveKeyPair` (RFC 9180 7.1.3): what the keys in databases are made with.
    pub(crate) fn derive(kem: Kem, ikm: &[u8; 32]) -> Self {
        match kem {
            Kem::X25519HkdfSha256 => Self::X25519(X25519HkdfSha256::derive_keypair(ikm).0),
            Kem::P256HkdfSha256 => Self::P256(DhP256HkdfSha256::derive_keypair(ikm).0),
            Kem::XWing => Self::XWing(Box::new(XWing::derive_keypair(ikm).0)),
        }
    }

    pub(crate) fn public_key(&self) -> Vec<u8> {
        match self {
            Self::X25519(key) => X25519HkdfSha256::sk_to_pk(key).to_bytes().to_vec(),
            Self::P256(key) => DhP256HkdfSha256::sk_to_pk(key).to_bytes().to_vec(),
            Self::XWing(key) => XWing::sk_to_pk(key).to_bytes().to_vec(),
        }
    }

    /// The plaintext, and the secret under which it is answered.
    pub(crate) fn open(&self, sealed: &Sealed<'_>) -> Option<(Vec<u8>, ResponseSecret)> {
        match self {
            Self::X25519(key) => sealed.open::<X25519HkdfSha256>(key),
            Self::P256(key) => sealed.open::<DhP256HkdfSha256>(key),
            Self::XWing(key) => sealed.open::<XWing>(key),
        }
    }
}

/// A sealed request in its parts.
pub(crate) struct Sealed<'m> {
    /// Key identifier, KEM, KDF, AEAD, as they were sent.
    pub(crate) header: &'m [u8; HEADER],
    pub(crate) enc: &'m [u8],
    pub(crate) ciphertext: &'m [u8],
    pub(crate) suite: Suite,
}

impl Sealed<'_> {
    fn open<K: hpke::Kem>(&self, key: &K::PrivateKey) -> Option<(Vec<u8>, ResponseSecret)> {
        match self.suite {
            Suite::Aes128Gcm => self.open_with::<K, AesGcm128>(key),
            Suite::ChaCha20Poly1305 => self.open_with::<K, ChaCha20Poly1305>(key),
        }
    }

    fn open_with<K: hpke::Kem, A: Aead>(&self, key: &K::PrivateKey) -> Option<(Vec<u8>, ResponseSecret)> {
        let enc = K::EncappedKey::from_bytes(self.enc).ok()?;
        let info = [INFO, self.header].concat();
        let mut context = hpke::setup_receiver::<A, HkdfSha256, K>(&OpModeR::Base, key, &enc, &info).ok()?;
        let plaintext = context.open(self.ciphertext, &[]).ok()?;
        let secret = ResponseSecret::new(self.suite, self.enc, |secret| context.export(LABEL, secret).ok())?;
        Some((plaintext, secret))
    }
}

const INFO: &[u8] = b"message/bhttp request\0";
const LABEL: &[u8] = b"message/bhttp response";

#[cfg(test)]
#[path = "recipient_tests.rs"]
mod tests;
