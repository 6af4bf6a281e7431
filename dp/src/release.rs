//! The gate: a permission that is used once, and a share that may leave.
//!
//! A [`Grant`] comes from the ledger only (or from a written exception of the policy), noising consumes it, and
//! only what comes out can be sealed to the collector. Code that forgets the budget or the noise does not compile:
//!
//! ```compile_fail
//! use mica_dp::{Grant, ReleaseKey};
//! let grant = Grant { key: ReleaseKey::new([0; 32], b"batch", b"") };
//! ```
//!
//! ```compile_fail,E0624
//! fn mint(key: mica_dp::ReleaseKey, plan: &mica_dp::ReleasePlan) -> mica_dp::Grant {
//!     mica_dp::Grant::charged(key, plan)
//! }
//! ```
//!
//! ```compile_fail,E0599
//! fn twice(grant: mica_dp::Grant) -> [mica_dp::Grant; 2] {
//!     [grant.clone(), grant]
//! }
//! ```
//!
//! ```compile_fail,E0382
//! fn twice(grant: mica_dp::Grant, rng: &mut impl rand::CryptoRng) {
//!     let first = mica_dp::perturb(grant, rng, 0, |share, _| Ok::<i32, ()>(*share));
//!     let second = mica_dp::perturb(grant, rng, 0, |share, _| Ok::<i32, ()>(*share));
//! }
//! ```
//!
//! ```compile_fail,E0423
//! let share = mica_dp::Noised(vec![0u8; 16]);
//! ```

use num_bigint::BigInt;
use rand::CryptoRng;

use crate::ledger::ReleaseKey;
use crate::mechanism::Mechanism;
use crate::plan::{ReleasePlan, WithoutDp};

/// The permission to draw noise for one release, once. Neither `Clone` nor `Copy`.
#[derive(Debug)]
#[must_use = "the budget is charged: a grant that is dropped is a release paid for and lost"]
pub struct Grant {
    key: ReleaseKey,
    protection: Protection,
}

/// What stands between a total and the collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protection {
    /// This noise on each of so many coordinates.
    Noise {
        /// The noise of this aggregator.
        mechanism: Mechanism,
        /// The coordinates of the total.
        length: usize,
    },
    /// Nothing, by a written exception of the policy.
    WithoutDp(WithoutDp),
}

/// A written exception no longer holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("E042: the decision of policy \"{policy}\" to release without noise has expired; review it")]
pub struct Expired {
    /// The policy.
    pub policy: String,
}

impl Grant {
    /// Minted by [`crate::ledger::charge`] alone.
    pub(crate) fn charged(key: ReleaseKey, plan: &ReleasePlan) -> Self {
        let length = plan.terms().shape.length();
        Self { key, protection: Protection::Noise { mechanism: plan.mechanism().clone(), length } }
    }

    /// The grant of a written exception, while it holds. `now` is in seconds since 1970.
    pub fn without_dp(exception: &WithoutDp, key: ReleaseKey, now: u64) -> Result<Self, Expired> {
        if now >= exception.expires() {
            return Err(Expired { policy: exception.policy().id.clone() });
        }
        Ok(Self { key, protection: Protection::WithoutDp(exception.clone()) })
    }

    /// What is released.
    pub fn key(&self) -> &ReleaseKey {
        &self.key
    }

    /// What stands between the total and the collector.
    pub fn protection(&self) -> &Protection {
        &self.protection
    }
}

/// An aggregate share that may be sealed to the collector. Made only by [`perturb`].
#[must_use = "a noised share that is not stored cannot be drawn again"]
pub struct Noised<S>(S);

impl<S> Noised<S> {
    /// The share, to be stored in the transaction that charged for it and sealed from there.
    pub fn into_inner_for_sealing(self) -> S {
        self.0
    }
}

/// Adds the granted noise to a share, with `add` doing the addition in the field, one draw per coordinate.
///
/// # Privacy
/// Draws once and uses the draw once: the grant is gone, and the noise with it. Adding modulo the field is
/// post-processing. The guarantee is that of the mechanism if `rng` cannot be predicted and `add` adds. If `add`
/// fails the grant is gone too: roll the transaction back.
pub fn perturb<S, E, R, A>(grant: Grant, rng: &mut R, share: S, add: A) -> Result<Noised<S>, E>
where
    R: CryptoRng + ?Sized,
    A: FnOnce(&S, &[BigInt]) -> Result<S, E>,
{
    match grant.protection {
        Protection::Noise { mechanism, length } => add(&share, &mechanism.sample(length, rng)).map(Noised),
        Protection::WithoutDp(_) => Ok(Noised(share)),
    }
}
