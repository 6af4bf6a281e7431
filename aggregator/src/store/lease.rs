//! The right to work on a job, for a while.

use mica_service::store::{StoreError, signed};
use rand::CryptoRng;

/// Shows that its bearer took the job up last: an update by anybody else finds no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseToken([u8; 16]);

impl LeaseToken {
    /// A token that nobody else has.
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// The token of these bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// When a job may be taken up, for how long and by whom.
#[derive(Clone, Copy, Debug)]
pub struct LeaseRequest {
    /// The present, in seconds since the Unix epoch.
    pub now: u64,
    /// How long nobody else takes the job up.
    pub seconds: u64,
    /// Who takes it up.
    pub token: LeaseToken,
}

impl LeaseRequest {
    /// When the lease ends, as a column holds it.
    pub(super) fn until(&self) -> Result<i64, StoreError> {
        signed(self.now.saturating_add(self.seconds))
    }
}
