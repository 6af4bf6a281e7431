//! The one file that knows which implementation of RFC 9180 is underneath.
//!
//! X25519 is `mica_kem`'s, where opening needs one multiplication; all the rest is the crate `hpke`.

use hpke::aead::{Aead, AesGcm128, AesGcm256, ChaCha20Poly1305};
use hpke::kdf::HkdfSha256;
use hpke::kem::DhP256HkdfSha256;
use hpke::{Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _};
use mica_kem::X25519HkdfSha256;
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::{HpkeError, HpkePrivateKey, Suite};

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

/// A private key as its KEM keeps it: made once for many openings. Scrubbed from memory when dropped.
#[derive(Clone)]
pub(super) enum Recipient {
    X25519(<X25519HkdfSha256 as Kem>::PrivateKey),
    P256(<DhP256HkdfSha256 as Kem>::PrivateKey),
}

impl Recipient {
    /// Any 32 bytes are a private key of X25519, almost any ones of P-256.
    pub(super) fn new(suite: Suite, private_key: &HpkePrivateKey) -> Result<Self, HpkeError> {
        if suite.is_p256() {
            decode::<DhP256HkdfSha256>(private_key).map(Self::P256)
        } else {
            decode::<X25519HkdfSha256>(private_key).map(Self::X25519)
        }
    }

    pub(super) fn public_key(&self) -> Vec<u8> {
        match self {
            Self::X25519(private_key) => X25519HkdfSha256::sk_to_pk(private_key).to_bytes().to_vec(),
            Self::P256(private_key) => DhP256HkdfSha256::sk_to_pk(private_key).to_bytes().to_vec(),
        }
    }
}

fn decode<K: Kem>(private_key: &HpkePrivateKey) -> Result<K::PrivateKey, HpkeError> {
    K::PrivateKey::from_bytes(private_key.as_bytes()).map_err(|_| HpkeError::InvalidKey)
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
    recipient: &Recipient,
    info: &[u8],
    aad: &[u8],
    (enc, payload): (&[u8], &[u8]),
) -> Result<Vec<u8>, HpkeError> {
    type Open<K> = fn(&<K as Kem>::PrivateKey, &[u8], &[u8], &[u8], &[u8]) -> Result<Vec<u8>, HpkeError>;
    match recipient {
        Recipient::X25519(private_key) => {
            let open: Open<X25519HkdfSha256> = match suite {
                Suite::X25519Aes128Gcm => open_with::<X25519HkdfSha256, AesGcm128>,
                Suite::X25519Aes256Gcm => open_with::<X25519HkdfSha256, AesGcm256>,
                Suite::X25519ChaCha20Poly1305 => open_with::<X25519HkdfSha256, ChaCha20Poly1305>,
                _ => return Err(HpkeError::InvalidKey),
            };
            open(private_key, info, aad, enc, payload)
        }
        Recipient::P256(private_key) => {
            let open: Open<DhP256HkdfSha256> = match suite {
                Suite::P256Aes128Gcm => open_with::<DhP256HkdfSha256, AesGcm128>,
                Suite::P256Aes256Gcm => open_with::<DhP256HkdfSha256, AesGcm256>,
                Suite::P256ChaCha20Poly1305 => open_with::<DhP256HkdfSha256, ChaCha20Poly1305>,
                _ => return Err(HpkeError::InvalidKey),
            };
            open(private_key, info, aad, enc, payload)
        }
    }
}

fn open_with<K: Kem, A: Aead>(
    private_key: &K::PrivateKey,
    info: &[u8],
    aad: &[u8],
    enc: &[u8],
    payload: &[u8],
) -> Result<Vec<u8>, HpkeError> {
    let enc = K::EncappedKey::from_bytes(enc).map_err(|_| HpkeError::Open)?;
    hpke::single_shot_open::<A, HkdfSha256, K>(&OpModeR::Base, private_key, &enc, info, payload, aad)
        .map_err(|_| HpkeError::Open)
}
