//! Private keys: held by the recipient alone, scrubbed from memory when dropped, never printed.

use rand::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{HpkeError, Suite, backend};
use crate::hpke_config::HpkeConfig;

/// What opens the shares that were sealed to one configuration.
///
/// It cannot be printed:
/// ```compile_fail
/// fn printable<T: std::fmt::Debug>() {}
/// printable::<mica_dap::hpke::HpkePrivateKey>();
/// ```
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct HpkePrivateKey([u8; backend::KEY_LENGTH]);

impl HpkePrivateKey {
    pub(super) fn new(bytes: [u8; backend::KEY_LENGTH]) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8; backend::KEY_LENGTH] {
        &self.0
    }

    /// The key of these bytes; for X25519 any 32 will do.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HpkeError> {
        bytes.try_into().map(Self).map_err(|_| HpkeError::InvalidKey)
    }

    /// The bytes, for storage under encryption.
    pub fn to_bytes(&self) -> Zeroizing<[u8; backend::KEY_LENGTH]> {
        Zeroizing::new(self.0)
    }
}

/// A private key and what is published of it.
///
/// It cannot be printed:
/// ```compile_fail
/// fn printable<T: std::fmt::Debug>() {}
/// printable::<mica_dap::hpke::HpkeKeypair>();
/// ```
#[derive(Clone)]
pub struct HpkeKeypair {
    /// The public half, to be published.
    pub config: HpkeConfig,
    /// The private half.
    pub private_key: HpkePrivateKey,
    /// The same, ready to open with.
    pub(super) recipient: backend::Recipient,
}

impl HpkeKeypair {
    /// A fresh pair of the mandatory suite, from a cryptographic generator.
    pub fn generate<R: CryptoRng>(id: u8, rng: &mut R) -> Self {
        Self::generate_for(Suite::MANDATORY, id, rng)
    }

    /// A fresh pair of this suite, from a cryptographic generator.
    pub fn generate_for<R: CryptoRng>(suite: Suite, id: u8, rng: &mut R) -> Self {
        Self::new(suite, id, backend::generate(suite, rng)).expect("a generated key is one of its suite")
    }

    /// The pair of a stored private key, of the mandatory suite.
    pub fn from_private_key(id: u8, private_key: HpkePrivateKey) -> Self {
        Self::new(Suite::MANDATORY, id, private_key).expect("any 32 bytes are a private key of X25519")
    }

    fn new(suite: Suite, id: u8, private_key: HpkePrivateKey) -> Result<Self, HpkeError> {
        let recipient = backend::Recipient::new(suite, &private_key)?;
        let config = HpkeConfig::of_suite(id, suite, recipient.public_key());
        Ok(Self { config, private_key, recipient })
    }

    /// A pair that was stored as its two halves, if they belong together.
    pub fn from_parts(config: HpkeConfig, private_key: HpkePrivateKey) -> Result<Self, HpkeError> {
        let recipient = backend::Recipient::new(super::suite_of(&config)?, &private_key)?;
        if config.public_key != recipient.public_key() {
            return Err(HpkeError::InvalidKey);
        }
        Ok(Self { config, private_key, recipient })
    }
}
