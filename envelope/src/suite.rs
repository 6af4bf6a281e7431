//! The symmetric half of a suite: HKDF-SHA256 and one of two AEADs. The other half is [`Kem`](crate::Kem).

use aws_lc_rs::aead::{AES_128_GCM, Algorithm, CHACHA20_POLY1305};

/// A KDF and an AEAD that we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    Aes128Gcm,
    ChaCha20Poly1305,
}

impl Suite {
    /// Every one, in the order in which we offer them.
    pub(crate) const ALL: [Self; 2] = [Self::Aes128Gcm, Self::ChaCha20Poly1305];

    /// The registered numbers of KDF and AEAD (RFC 9180 7.2 and 7.3).
    pub(crate) const fn ids(self) -> (u16, u16) {
        match self {
            Self::Aes128Gcm => (1, 1),
            Self::ChaCha20Poly1305 => (1, 3),
        }
    }

    /// The suite with these numbers, if we speak it.
    pub(crate) fn of(kdf: u16, aead: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.ids() == (kdf, aead))
    }

    pub(crate) fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Aes128Gcm => &AES_128_GCM,
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        }
    }

    /// Bytes of a response nonce: the larger of nonce and key of the AEAD (RFC 9458 4.4).
    pub(crate) fn response_nonce(self) -> usize {
        self.algorithm().key_len().max(self.algorithm().nonce_len())
    }
}
