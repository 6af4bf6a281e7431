//! The one file that knows which implementation of RFC 9180 is underneath.
//!
//! X25519 is nine tenths of the cost of an opening, and opening is most of the cost of a report. The
//! implementation underneath computes the recipient's public key anew for every opening, a fifth of the
//! whole; `open` is handed the pair, so that another one need not.

use hpke::aead::{Aead, AesGcm128, AesGcm256, ChaCha20Poly1305};
use hpke::kdf::HkdfSha256;
use hpke::kem::{DhP256HkdfSha256, X25519HkdfSha256};
use hpke::{Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _};
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::{HpkeError, HpkeKeypair, HpkePrivateKey, Suite};

/// The length of a private key of every suite.
pub(super) const KEY_LENGTH: usize = 32;

/// A fresh private key.
pub(super) fn generate<R: CryptoRng>(suite: Suite, rng: &mut R) -> HpkePrivateKey {
    if suite.is_p256() {
        generate_with::<DhP256HkdfSha256, R>(rng)
    } else {
        generate_with::<X25519HkdfSha256, R>(rng)
    }
}

fn generate_with<K: Kem, R: CryptoRng>(rng: &mut R) -> HpkePrivateKey {
    let (private_key, _) = K::gen_keypair_with_rng(rng);
    let mut bytes = Zeroizing::new([0; KEY_LENGTH]);
    private_key.write_exact(bytes.as_mut_slice());
    HpkePrivateKey::new(*bytes)
}

/// The public key of a private key. Any 32 bytes are a private key of X25519, almost any one of P-256.
pub(super) fn public_key(suite: Suite, private_key: &HpkePrivateKey) -> Result<Vec<u8>, HpkeError> {
    if suite.is_p256() {
        public_key_with::<DhP256HkdfSha256>(private_key)
    } else {
        public_key_with::<X25519HkdfSha256>(private_key)
    }
}

fn public_key_with<K: Kem>(private_key: &HpkePrivateKey) -> Result<Vec<u8>, HpkeError> {
    Ok(K::sk_to_pk(&decode::<K>(private_key)?).to_bytes().to_vec())
}

/// `SealBase` (RFC 9180 6.1): the encapsulated key and the ciphertext.
pub(super) fn seal(
    suite: Suite,
    public_key: &[u8],
    info: &[u8],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<(Vec<u8>, Vec<u8>), HpkeError> {
    let seal = match suite {
        Suite::X25519Aes128Gcm => seal_with::<X25519HkdfSha256, AesGcm128>,
        Suite::X25519Aes256Gcm => seal_with::<X25519HkdfSha256, AesGcm256>,
        Suite::X25519ChaCha20Poly1305 => seal_with::<X25519HkdfSha256, ChaCha20Poly1305>,
        Suite::P256Aes128Gcm => seal_with::<DhP256HkdfSha256, AesGcm128>,
        Suite::P256Aes256Gcm => seal_with::<DhP256HkdfSha256, AesGcm256>,
        Suite::P256ChaCha20Poly1305 => seal_with::<DhP256HkdfSha256, ChaCha20Poly1305>,
    };
    seal(public_key, info, aad, plaintext)
}

fn seal_with<K: Kem, A: Aead>(
    public_key: &[u8],
    info: &[u8],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<(Vec<u8>, Vec<u8>), HpkeError> {
    let public_key = K::PublicKey::from_bytes(public_key).map_err(|_| HpkeError::InvalidKey)?;
    let (enc, payload) = hpke::single_shot_seal_with_rng::<A, HkdfSha256, K>(
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
    suite: Suite,
    keypair: &HpkeKeypair,
    info: &[u8],
    aad: &[u8],
    (enc, payload): (&[u8], &[u8]),
) -> Result<Vec<u8>, HpkeError> {
    let open = match suite {
        Suite::X25519Aes128Gcm => open_with::<X25519HkdfSha256, AesGcm128>,
        Suite::X25519Aes256Gcm => open_with::<X25519HkdfSha256, AesGcm256>,
        Suite::X25519ChaCha20Poly1305 => open_with::<X25519HkdfSha256, ChaCha20Poly1305>,
        Suite::P256Aes128Gcm => open_with::<DhP256HkdfSha256, AesGcm128>,
        Suite::P256Aes256Gcm => open_with::<DhP256HkdfSha256, AesGcm256>,
        Suite::P256ChaCha20Poly1305 => open_with::<DhP256HkdfSha256, ChaCha20Poly1305>,
    };
    open(keypair, info, aad, enc, payload)
}

fn open_with<K: Kem, A: Aead>(
    keypair: &HpkeKeypair,
    info: &[u8],
    aad: &[u8],
    enc: &[u8],
    payload: &[u8],
) -> Result<Vec<u8>, HpkeError> {
    let private_key = decode::<K>(&keypair.private_key)?;
    let enc = K::EncappedKey::from_bytes(enc).map_err(|_| HpkeError::Open)?;
    hpke::single_shot_open::<A, HkdfSha256, K>(&OpModeR::Base, &private_key, &enc, info, payload, aad)
        .map_err(|_| HpkeError::Open)
}

fn decode<K: Kem>(private_key: &HpkePrivateKey) -> Result<K::PrivateKey, HpkeError> {
    K::PrivateKey::from_bytes(private_key.as_bytes()).map_err(|_| HpkeError::InvalidKey)
}
