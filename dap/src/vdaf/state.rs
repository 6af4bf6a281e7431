//! What passes between the steps of verification. All of it is secret: nothing here can be printed.
//!
//! The library underneath keeps shares in its own vectors, which are freed without being overwritten;
//! only the verification key is scrubbed.

use std::any::Any;

use rand::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::id::ReportId;

/// The secret that the two aggregators share and no client may know (DAP 4.2, 8.6.2).
///
/// It cannot be printed:
/// ```compile_fail
/// fn printable<T: std::fmt::Debug>() {}
/// printable::<mica_dap::vdaf::VerifyKey>();
/// ```
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct VerifyKey([u8; Self::LENGTH]);

impl VerifyKey {
    /// The length in bytes, for every VDAF we speak.
    pub const LENGTH: usize = 32;

    /// The key of these bytes.
    pub const fn new(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// The key that `bytes` spell, if there are exactly as many as it takes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// A fresh key from a cryptographic generator.
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut bytes = [0; Self::LENGTH];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// The bytes, for storage and for the peer.
    pub const fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }
}

/// A measurement that was split.
pub struct Sharded {
    /// What both aggregators see.
    pub public_share: Vec<u8>,
    /// What the leader sees, then what the helper sees. Together they are the measurement.
    pub input_shares: [Vec<u8>; 2],
}

/// How many bytes the shares of any measurement take; the parameters of the task fix it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareLengths {
    /// Of what both aggregators see.
    pub public_share: usize,
    /// Of what the leader sees, then of what the helper sees.
    pub input_shares: [usize; 2],
}

/// One aggregator's view of one report.
#[derive(Clone, Copy)]
pub struct InputShareRef<'a> {
    /// The report identifier, which is the nonce of the sharing.
    pub nonce: &'a ReportId,
    /// What both aggregators see.
    pub public_share: &'a [u8],
    /// What only this one sees.
    pub input_share: &'a [u8],
}

/// What an aggregator keeps of a report between two steps.
///
/// It cannot be printed:
/// ```compile_fail
/// fn printable<T: std::fmt::Debug>() {}
/// printable::<mica_dap::vdaf::VerifyState>();
/// ```
pub struct VerifyState(Box<dyn Any + Send + Sync>);

impl VerifyState {
    pub(super) fn new<T: Send + Sync + 'static>(state: T) -> Self {
        Self(Box::new(state))
    }

    pub(super) fn into_inner<T: 'static>(self) -> Option<T> {
        self.0.downcast().ok().map(|state| *state)
    }

    pub(super) fn inner<T: 'static>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

/// The bytes of a [`VerifyState`], to be kept between two requests. As secret as the share it was made from.
///
/// It cannot be printed:
/// ```compile_fail
/// fn printable<T: std::fmt::Debug>() {}
/// printable::<mica_dap::vdaf::EncodedState>();
/// ```
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct EncodedState(Vec<u8>);

impl EncodedState {
    pub(super) const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes, for storage only.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// One aggregator's share of a verified measurement, ready to be added up.
///
/// It stays decoded, so that a batch is added without parsing a share per report. It cannot be printed:
/// ```compile_fail
/// fn printable<T: std::fmt::Debug>() {}
/// printable::<mica_dap::vdaf::OutputShare>();
/// ```
pub struct OutputShare(Box<dyn Any + Send + Sync>);

impl OutputShare {
    pub(super) fn new<T: Send + Sync + 'static>(share: T) -> Self {
        Self(Box::new(share))
    }

    pub(super) fn inner<T: 'static>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

/// The leader began: it waits for the helper's answer to `message`.
pub struct LeaderInit {
    /// To be kept, or derived again from the same report.
    pub state: VerifyState,
    /// The payload of the `VerifyInit`.
    pub message: Vec<u8>,
}

/// The helper answered the leader's first message.
pub enum HelperStep {
    /// There is another round: keep `state` and answer `message`.
    Continued {
        /// To be kept until the leader's next message.
        state: VerifyState,
        /// The payload of the `VerifyResp`.
        message: Vec<u8>,
    },
    /// The report is valid: commit `output`, then answer `message`.
    Finished {
        /// To be added to its bucket.
        output: OutputShare,
        /// The payload of the `VerifyResp`; it says `continue`, although the helper is done.
        message: Vec<u8>,
    },
}

/// An aggregator took a step after its first.
pub enum Step {
    /// There is another round: keep `state` and send `message`.
    Continued {
        /// To be kept until the peer's next message.
        state: VerifyState,
        /// The payload for the peer.
        message: Vec<u8>,
    },
    /// The report is valid, and the peer needs `message` to see it: the helper commits before it answers,
    /// the leader when the helper says it has finished.
    FinishedWithOutbound {
        /// To be added to its bucket.
        output: OutputShare,
        /// The payload for the peer.
        message: Vec<u8>,
    },
    /// The report is valid, and the peer has finished already: commit.
    Finished(OutputShare),
}

/// What the leader's steps after the first yield.
pub type LeaderStep = Step;
