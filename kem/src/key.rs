//! The three kinds of keys. The private one is scrubbed from memory when the last copy is dropped, and cannot be printed.

use std::sync::Arc;

use aws_lc_rs::agreement::{self, UnparsedPublicKey, X25519};
use hpke::hybrid_array::typenum::U32;
use hpke::{Deserializable, HpkeError, Serializable};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

/// Bytes of every key.
pub const LENGTH: usize = 32;

/// A private key and, computed once, its public key. A copy shares both.
///
/// It cannot be printed:
/// ```compile_fail
/// fn printable<T: std::fmt::Debug>() {}
/// printable::<mica_kem::PrivateKey>();
/// ```
#[derive(Clone)]
pub struct PrivateKey(Arc<Pair>);

struct Pair {
    /// As they came: clamping is part of each use (RFC 7748 5), and what is stored stays what it was.
    bytes: Zeroizing<[u8; LENGTH]>,
    /// The same for AWS-LC, which overwrites what it frees.
    agreement: agreement::PrivateKey,
    public: PublicKey,
}

impl PrivateKey {
    /// The key of these bytes; any will do.
    ///
    /// # Panics
    /// When there is no memory.
    pub(crate) fn new(bytes: Zeroizing<[u8; LENGTH]>) -> Self {
        let agreement = agreement::PrivateKey::from_private_key(&X25519, bytes.as_slice())
            .expect("any 32 bytes are a private key of X25519");
        let public = agreement.compute_public_key().expect("every private key has a public key");
        let public = public.as_ref().try_into().expect("a public key of X25519 has 32 bytes");
        Self(Arc::new(Pair { bytes, agreement, public: PublicKey(public) }))
    }

    /// The public key.
    pub fn public_key(&self) -> PublicKey {
        self.0.public
    }

    /// What `then` makes of the product of the two keys; nothing when that is all zeros, or when `then` fails.
    pub(crate) fn agree<T, E>(
        &self,
        theirs: &[u8; LENGTH],
        then: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Option<T> {
        let theirs = UnparsedPublicKey::new(&X25519, theirs);
        agreement::agree(&self.0.agreement, theirs, (), |product| then(product).map_err(|_| ())).ok()
    }
}

impl ConstantTimeEq for PrivateKey {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.bytes.ct_eq(&*other.0.bytes)
    }
}

impl Serializable for PrivateKey {
    type OutputSize = U32;

    fn write_exact(&self, out: &mut [u8]) {
        out.copy_from_slice(self.0.bytes.as_slice());
    }
}

impl Deserializable for PrivateKey {
    fn from_bytes(encoded: &[u8]) -> Result<Self, HpkeError> {
        Ok(Self::new(Zeroizing::new(read(encoded)?)))
    }
}

/// A public key: any 32 bytes. One of small order agrees with nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; LENGTH]);

impl PublicKey {
    /// The key as it is published.
    pub fn as_bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }
}

impl Serializable for PublicKey {
    type OutputSize = U32;

    fn write_exact(&self, out: &mut [u8]) {
        out.copy_from_slice(&self.0);
    }
}

impl Deserializable for PublicKey {
    fn from_bytes(encoded: &[u8]) -> Result<Self, HpkeError> {
        read(encoded).map(Self)
    }
}

/// What a sender gives a recipient: the public half of a key that is used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncappedKey([u8; LENGTH]);

impl EncappedKey {
    pub(crate) fn as_bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }
}

impl From<PublicKey> for EncappedKey {
    fn from(key: PublicKey) -> Self {
        Self(key.0)
    }
}

impl Serializable for EncappedKey {
    type OutputSize = U32;

    fn write_exact(&self, out: &mut [u8]) {
        out.copy_from_slice(&self.0);
    }
}

impl Deserializable for EncappedKey {
    fn from_bytes(encoded: &[u8]) -> Result<Self, HpkeError> {
        read(encoded).map(Self)
    }
}

fn read(encoded: &[u8]) -> Result<[u8; LENGTH], HpkeError> {
    encoded.try_into().map_err(|_| HpkeError::IncorrectInputLength(LENGTH, encoded.len()))
}
