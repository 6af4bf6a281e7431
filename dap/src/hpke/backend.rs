//! The one file that knows which implementation of RFC 9180 is underneath.
//!
//! X25519 is nine tenths of the cost of an opening, and opening is most of the cost of a report. The
//! implementation underneath computes the recipient's public key anew for every opening, a fifth of the
//! whole; `open` is handed the pair, so that another one need not.

use hpke::aead::AesGcm128;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem as _, OpModeR, OpModeS, Serializable as _};
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::{HpkeError, HpkeKeypair, HpkePrivateKey};
use crate::hpke_config::HpkeConfig;

type Kem = X25519HkdfSha256;
type PublicKey = <Kem as hpke::Kem>::PublicKey;
type PrivateKey = <Kem as hpke::Kem>::PrivateKey;
type EncappedKey = <Kem as hpke::Kem>::EncappedKey;

/// The KEM, the KDF and the AEAD that this file implements.
pub(super) const SUITE: (u16, u16, u16) =
    (HpkeConfig::KEM_X25519, HpkeConfig::KDF_SHA256, HpkeConfig::AEAD_AES_128_GCM);

/// The length of a private and of a public key.
pub(super) const KEY_LENGTH: usize = 32;

/// A fresh private key.
pub(super) fn generate<R: CryptoRng>(rng: &mut R) -> HpkePrivateKey {
    let (private_key, _) = Kem::gen_keypair_with_rng(rng);
    let mut bytes = Zeroizing::new([0; KEY_LENGTH]);
    private_key.write_exact(bytes.as_mut_slice());
    HpkePrivateKey::new(*bytes)
}

/// The public key of a private key.
pub(super) fn public_key(private_key: &HpkePrivateKey) -> [u8; KEY_LENGTH] {
    let mut bytes = [0; KEY_LENGTH];
    Kem::sk_to_pk(&decode(private_key)).write_exact(&mut bytes);
    bytes
}

/// `SealBase` (RFC 9180 6.1): the encapsulated key and the ciphertext.
pub(super) fn seal(
    public_key: &[u8],
    info: &[u8],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<(Vec<u8>, Vec<u8>), HpkeError> {
    let public_key = PublicKey::from_bytes(public_key).map_err(|_| HpkeError::InvalidKey)?;
    let (enc, payload) = hpke::single_shot_seal_with_rng::<AesGcm128, HkdfSha256, Kem>(
        &OpModeS::Base,
        &public_key,
        info,
        plaintext,
        aad,
        &mut rand::rng(),
    )
    .map_err(|_| HpkeError::Seal)?;
    Ok((enc.to_bytes().to_vec(), payload))
}

/// `OpenBase` (RFC 9180 6.1).
pub(super) fn open(
    keypair: &HpkeKeypair,
    info: &[u8],
    aad: &[u8],
    enc: &[u8],
    payload: &[u8],
) -> Result<Vec<u8>, HpkeError> {
    let private_key = decode(&keypair.private_key);
    let enc = EncappedKey::from_bytes(enc).map_err(|_| HpkeError::Open)?;
    hpke::single_shot_open::<AesGcm128, HkdfSha256, Kem>(
        &OpModeR::Base,
        &private_key,
        &enc,
        info,
        payload,
        aad,
    )
    .map_err(|_| HpkeError::Open)
}

fn decode(private_key: &HpkePrivateKey) -> PrivateKey {
    PrivateKey::from_bytes(private_key.as_bytes()).expect("any 32 bytes are a private key of X25519")
}
