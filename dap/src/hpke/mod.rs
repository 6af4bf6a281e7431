//! Sealing a share so that only its recipient can open it (RFC 9180 base mode, DAP 4.4.2.1 and 4.6.7).
//!
//! A client seals one input share to each aggregator; each aggregator seals its aggregate share to the
//! collector. The leader carries the helper's sealed shares and must never learn what is in them; whoever
//! opens one learns nothing of it unless task, report and public share are the ones it was sealed for.
//!
//! Two functions seal, one per kind of share, and no other bytes can be sealed under their labels: an aggregate
//! share must be a [`NoisedShare`], which `mica_dp` alone makes. Raw bytes do not compile:
//!
//! ```compile_fail,E0277
//! use mica_dap::Draft;
//! use mica_dap::hpke::{Role, seal_aggregate_share};
//! fn exact(config: &mica_dap::hpke_config::HpkeConfig, total: Vec<u8>) {
//!     let _ = seal_aggregate_share(config, Role::Helper, Draft::V18, b"aad", &total);
//! }
//! ```
//!
//! The arithmetic is in `backend` alone, which can be exchanged.

mod aad;
mod backend;
mod key;
mod suite;

#[cfg(test)]
mod suite_tests;
#[cfg(test)]
mod tests;

use crate::draft::Draft;
use crate::hpke_config::{HpkeCiphertext, HpkeConfig};

pub use aad::{AggregateShareAad, InputShareAad};
pub use key::{HpkeKeypair, HpkePrivateKey};
pub use suite::{Suite, UnknownSuite};

/// Who takes part in a task, by its number on the wire (DAP 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// Learns the result.
    Collector = 0,
    /// Measures.
    Client = 1,
    /// Holds the first share, and drives.
    Leader = 2,
    /// Holds the second share, and answers.
    Helper = 3,
}

/// What is sealed, from whom to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Label {
    /// A client's share to this aggregator.
    InputShare(Role),
    /// This aggregator's share to the collector.
    AggregateShare(Role),
}

impl Label {
    /// The HPKE `info` that separates every use from every other.
    pub fn info(self, draft: Draft) -> Vec<u8> {
        let (name, sender, receiver) = match self {
            Self::InputShare(receiver) => (" input share", Role::Client, receiver),
            Self::AggregateShare(sender) => (" aggregate share", sender, Role::Collector),
        };
        [draft.tag().as_bytes(), name.as_bytes(), &[sender as u8, receiver as u8]].concat()
    }
}

/// Sealing or opening failed; the reason says nothing about keys or contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HpkeError {
    /// The recipient's algorithms are not among those of [`Suite`].
    #[error("unsupported HPKE suite: KEM {kem_id:#06x}, KDF {kdf_id:#06x}, AEAD {aead_id:#06x}")]
    UnsupportedSuite {
        /// The key encapsulation mechanism.
        kem_id: u16,
        /// The key derivation function.
        kdf_id: u16,
        /// The cipher.
        aead_id: u16,
    },
    /// A public or private key is not one of the suite, or the two are not a pair.
    #[error("not a usable HPKE key")]
    InvalidKey,
    /// The ciphertext names another key than the one at hand.
    #[error("sealed to another HPKE configuration")]
    WrongConfig,
    /// The plaintext could not be sealed.
    #[error("HPKE sealing failed")]
    Seal,
    /// The ciphertext is not what was sealed, or not for this key, label or additional data.
    #[error("HPKE opening failed")]
    Open,
}

/// An aggregate share that may leave its aggregator.
///
/// # Privacy
/// Implemented by `mica_dp::Noised`, which only a granted release makes. Another implementation in a program that
/// aggregates is a way around the budget and the noise, and `cargo xtask lint` refuses it; tests that play a peer have one.
pub trait NoisedShare {
    /// The encoded share, noise included.
    fn for_sealing(&self) -> &[u8];
}

/// Seals a client's input share to the aggregator `receiver` (DAP 4.4.2.1). `plaintext` is an encoded
/// `PlaintextInputShare`, `aad` an encoded [`InputShareAad`].
pub fn seal_input_share(
    config: &HpkeConfig,
    receiver: Role,
    draft: Draft,
    aad: &[u8],
    plaintext: &[u8],
) -> Result<HpkeCiphertext, HpkeError> {
    seal(config, &Label::InputShare(receiver).info(draft), aad, plaintext)
}

/// Seals the aggregate share of the aggregator `sender` to the collector (DAP 4.6.7). `aad` is an encoded
/// [`AggregateShareAad`].
///
/// # Privacy
/// The only way to an aggregate share that the collector can open, and it takes a noised one.
pub fn seal_aggregate_share(
    config: &HpkeConfig,
    sender: Role,
    draft: Draft,
    aad: &[u8],
    share: &impl NoisedShare,
) -> Result<HpkeCiphertext, HpkeError> {
    seal(config, &Label::AggregateShare(sender).info(draft), aad, share.for_sealing())
}

/// Seals `plaintext` to the holder of the private key of `config`, with fresh randomness.
fn seal(config: &HpkeConfig, info: &[u8], aad: &[u8], plaintext: &[u8]) -> Result<HpkeCiphertext, HpkeError> {
    let suite = suite_of(config)?;
    let (enc, payload) = backend::seal(suite, &config.public_key, info, aad, plaintext)?;
    Ok(HpkeCiphertext { config_id: config.id, enc, payload })
}

/// Opens what was sealed to `keypair` with the same `info` and `aad`.
pub fn open(
    keypair: &HpkeKeypair,
    info: &[u8],
    aad: &[u8],
    ciphertext: &HpkeCiphertext,
) -> Result<Vec<u8>, HpkeError> {
    if ciphertext.config_id != keypair.config.id {
        return Err(HpkeError::WrongConfig);
    }
    let suite = suite_of(&keypair.config)?;
    backend::open(suite, &keypair.recipient, info, aad, (&ciphertext.enc, &ciphertext.payload))
}

fn suite_of(config: &HpkeConfig) -> Result<Suite, HpkeError> {
    let HpkeConfig { kem_id, kdf_id, aead_id, .. } = *config;
    Suite::of(config).ok_or(HpkeError::UnsupportedSuite { kem_id, kdf_id, aead_id })
}
