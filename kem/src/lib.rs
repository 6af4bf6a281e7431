//! DHKEM(X25519, HKDF-SHA256) of RFC 9180 4.1 with the X25519 of AWS-LC, as a KEM that the crate `hpke` can use.
//!
//! X25519 is nine tenths of the cost of opening what was sealed, and opening is most of the cost of a report: once at
//! the gateway, once at the leader, once at the helper. The KEM of `hpke` needs two multiplications for each, one of
//! them to compute the recipient's public key anew, in portable Rust; this one needs one, in assembly, because a
//! private key here keeps its public key. Key schedule, KDF and AEAD are those of `hpke`: no primitive is written here.
//!
//! The bytes are the same in every respect: keys that were stored by either open what was sealed with the other.
//! Only the base and PSK modes are here; a sender that authenticates itself is refused.
//!
//! # What a clock can learn
//! On `x86_64` and aarch64 AWS-LC's X25519 is the assembly of s2n-bignum, whose authors say that it is written in a
//! constant-time style, without branches or addresses that depend on secrets, and proved to compute what it should;
//! elsewhere it is C in the same style, its field arithmetic made by fiat-crypto. On aarch64 data-independent timing is
//! switched on for the call where the processor has it. Whether a shared secret was all zeros is told, and must be
//! (RFC 9180 7.1.4). These are their claims: no timing was measured here.

mod key;

#[cfg(test)]
mod tests;

use hpke::kdf::{HkdfSha256, Kdf};
use hpke::kem::SharedSecret;
use hpke::rand_core::CryptoRng;
use hpke::{HpkeError, Kem};
use zeroize::Zeroizing;

pub use key::{EncappedKey, LENGTH, PrivateKey, PublicKey};

/// DHKEM(X25519, HKDF-SHA256), 0x0020.
pub struct X25519HkdfSha256;

impl Kem for X25519HkdfSha256 {
    type PublicKey = PublicKey;
    type PrivateKey = PrivateKey;
    type EncappedKey = EncappedKey;
    type NSecret = <HkdfSha256 as Kdf>::Nh;

    const KEM_ID: u16 = 0x0020;

    fn sk_to_pk(private_key: &PrivateKey) -> PublicKey {
        private_key.public_key()
    }

    /// `DeriveKeyPair` (RFC 9180 7.1.3).
    fn derive_keypair(ikm: &[u8]) -> (PrivateKey, PublicKey) {
        let bytes = Zeroizing::new(HkdfSha256::derive_x25519_sk_eph_bytes(SUITE_ID, ikm));
        let private_key = PrivateKey::new(bytes);
        let public_key = private_key.public_key();
        (private_key, public_key)
    }

    /// `Decap` (RFC 9180 4.1).
    fn decap(
        recipient: &PrivateKey,
        sender: Option<&PublicKey>,
        enc: &EncappedKey,
    ) -> Result<SharedSecret<Self>, HpkeError> {
        if sender.is_some() {
            return Err(HpkeError::DecapError);
        }
        let context = [*enc.as_bytes(), *recipient.public_key().as_bytes()];
        shared_secret(recipient, enc.as_bytes(), context).ok_or(HpkeError::DecapError)
    }

    /// `Encap` (RFC 9180 4.1).
    fn encap_with_rng(
        recipient: &PublicKey,
        sender: Option<(&PrivateKey, &PublicKey)>,
        rng: &mut impl CryptoRng,
    ) -> Result<(SharedSecret<Self>, EncappedKey), HpkeError> {
        if sender.is_some() {
            return Err(HpkeError::EncapError);
        }
        let (ephemeral, public_key) = Self::gen_keypair_with_rng(rng);
        let enc = EncappedKey::from(public_key);
        let context = [*enc.as_bytes(), *recipient.as_bytes()];
        let secret = shared_secret(&ephemeral, recipient.as_bytes(), context).ok_or(HpkeError::EncapError)?;
        Ok((secret, enc))
    }
}

/// `ExtractAndExpand(DH(ours, theirs), context)`; nothing when the product is all zeros.
fn shared_secret(
    ours: &PrivateKey,
    theirs: &[u8; LENGTH],
    context: [[u8; LENGTH]; 2],
) -> Option<SharedSecret<X25519HkdfSha256>> {
    let context = context.as_flattened();
    let mut secret = SharedSecret::default();
    ours.agree(theirs, |product| HkdfSha256::extract_and_expand(product, SUITE_ID, context, &mut secret.0))?;
    Some(secret)
}

/// `"KEM"` and the identifier.
const SUITE_ID: &[u8; 5] = b"KEM\x00\x20";
