//! Which algorithms a key may be for. All use HKDF-SHA256.

use std::fmt;
use std::str::FromStr;

use crate::hpke_config::HpkeConfig;

/// A KEM, a KDF and an AEAD that this program has (RFC 9180 7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Suite {
    /// The one that everybody has (DAP 7).
    #[default]
    X25519Aes128Gcm,
    /// X25519 and AES-256-GCM.
    X25519Aes256Gcm,
    /// X25519 and ChaCha20-Poly1305.
    X25519ChaCha20Poly1305,
    /// P-256 and AES-128-GCM.
    P256Aes128Gcm,
    /// P-256 and AES-256-GCM.
    P256Aes256Gcm,
    /// P-256 and ChaCha20-Poly1305.
    P256ChaCha20Poly1305,
}

/// The name of no suite.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no HPKE suite `{0}`; there are {names}", names = names())]
pub struct UnknownSuite(String);

impl Suite {
    /// Every one, the mandatory one first.
    pub const ALL: [Self; 6] = [
        Self::X25519Aes128Gcm,
        Self::X25519Aes256Gcm,
        Self::X25519ChaCha20Poly1305,
        Self::P256Aes128Gcm,
        Self::P256Aes256Gcm,
        Self::P256ChaCha20Poly1305,
    ];

    /// The one that every party must have (DAP 7).
    pub const MANDATORY: Self = Self::X25519Aes128Gcm;

    /// The name in configuration files and on screen.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X25519Aes128Gcm => "x25519-aes128gcm",
            Self::X25519Aes256Gcm => "x25519-aes256gcm",
            Self::X25519ChaCha20Poly1305 => "x25519-chacha20poly1305",
            Self::P256Aes128Gcm => "p256-aes128gcm",
            Self::P256Aes256Gcm => "p256-aes256gcm",
            Self::P256ChaCha20Poly1305 => "p256-chacha20poly1305",
        }
    }

    /// The numbers of KEM, KDF and AEAD.
    pub const fn ids(self) -> (u16, u16, u16) {
        let aead = match self {
            Self::X25519Aes128Gcm | Self::P256Aes128Gcm => HpkeConfig::AEAD_AES_128_GCM,
            Self::X25519Aes256Gcm | Self::P256Aes256Gcm => HpkeConfig::AEAD_AES_256_GCM,
            Self::X25519ChaCha20Poly1305 | Self::P256ChaCha20Poly1305 => HpkeConfig::AEAD_CHACHA20_POLY1305,
        };
        let kem = if self.is_p256() { HpkeConfig::KEM_P256 } else { HpkeConfig::KEM_X25519 };
        (kem, HpkeConfig::KDF_SHA256, aead)
    }

    /// The suite of a configuration, if this program has it.
    pub fn of(config: &HpkeConfig) -> Option<Self> {
        let ids = (config.kem_id, config.kdf_id, config.aead_id);
        Self::ALL.into_iter().find(|suite| suite.ids() == ids)
    }

    /// The length of a public key.
    pub const fn public_key_length(self) -> usize {
        if self.is_p256() { 65 } else { 32 }
    }

    pub(super) const fn is_p256(self) -> bool {
        matches!(self, Self::P256Aes128Gcm | Self::P256Aes256Gcm | Self::P256ChaCha20Poly1305)
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Suite {
    type Err = UnknownSuite;

    fn from_str(text: &str) -> Result<Self, UnknownSuite> {
        Self::ALL.into_iter().find(|suite| suite.name() == text).ok_or_else(|| UnknownSuite(text.to_owned()))
    }
}

fn names() -> String {
    Suite::ALL.map(Suite::name).join(", ")
}
