//! The gate: a permission that is used once, and a share that may leave.
//!
//! A [`Grant`] comes from the ledger only (or from a written exception of the policy), and only once the charge is
//! stored; noising consumes it, and only what comes out can be sealed to the collector. Code that forgets the budget
//! or the noise does not compile:
//!
//! ```compile_fail,E0451
//! use mica_dp::{Grant, Protection, ReleaseKey};
//! fn forge(key: ReleaseKey, protection: Protection) -> Grant {
//!     Grant { key, protection }
//! }
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
//! fn twice(grant: mica_dp::Grant, first: mica_dp::Noise, second: mica_dp::Noise) {
//!     let vdaf = mica_dap::vdaf_config::VdafConfig::Count.instantiate().unwrap();
//!     let first = mica_dp::perturb(grant, Some(first), vec![0; 8].into(), &*vdaf);
//!     let second = mica_dp::perturb(grant, Some(second), vec![0; 8].into(), &*vdaf);
//! }
//! ```
//!
//! Nor is noise that was used once used again, copied, printed, or made by anybody else:
//!
//! ```compile_fail,E0382
//! fn reused(first: mica_dp::Grant, second: mica_dp::Grant, noise: mica_dp::Noise) {
//!     let vdaf = mica_dap::vdaf_config::VdafConfig::Count.instantiate().unwrap();
//!     let one = mica_dp::perturb(first, Some(noise), vec![0; 8].into(), &*vdaf);
//!     let two = mica_dp::perturb(second, Some(noise), vec![0; 8].into(), &*vdaf);
//! }
//! ```
//!
//! ```compile_fail,E0599
//! fn copied(noise: mica_dp::Noise) -> [mica_dp::Noise; 2] {
//!     [noise.clone(), noise]
//! }
//! ```
//!
//! ```compile_fail,E0277
//! fn printed(noise: mica_dp::Noise) -> String {
//!     format!("{noise:?}")
//! }
//! ```
//!
//! ```compile_fail,E0451
//! fn nothing(mechanism: mica_dp::Mechanism) -> mica_dp::Noise {
//!     mica_dp::Noise { mechanism, values: vec![num_bigint::BigInt::ZERO] }
//! }
//! ```
//!
//! The charge must be stored; its grant cannot be taken out:
//!
//! ```compile_fail,E0616
//! fn forgetful(charged: mica_dp::Charged) -> mica_dp::Grant {
//!     charged.grant
//! }
//! ```
//!
//! The noise is added by a VDAF of the library, not by code of the caller:
//!
//! ```compile_fail,E0308
//! fn skips(grant: mica_dp::Grant, noise: mica_dp::Noise, share: Vec<u8>) {
//!     let _ = mica_dp::perturb(grant, Some(noise), share.into(), |share: &[u8], _| share.to_vec());
//! }
//! ```
//!
//! ```compile_fail,E0423
//! let share = mica_dp::Noised(vec![0u8; 16].into());
//! ```
//!
//! ```compile_fail,E0277
//! use mica_dap::hpke::{Role, seal_aggregate_share};
//! fn exact(config: &mica_dap::hpke_config::HpkeConfig, total: zeroize::Zeroizing<Vec<u8>>) {
//!     let _ = seal_aggregate_share(config, Role::Leader, mica_dap::Draft::V18, b"aad", &total);
//! }
//! ```

use mica_dap::hpke::NoisedShare;
use mica_dap::vdaf::{Vdaf, VdafError};
use zeroize::Zeroizing;

use crate::ledger::ReleaseKey;
use crate::mechanism::Mechanism;
use crate::noise::Noise;
use crate::plan::{NotYetInForce, ReleasePlan, WithoutDp};

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

/// A written exception does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoException {
    /// Its day is over.
    #[error(transparent)]
    Expired(#[from] Expired),
    /// The policy that makes it holds from a later day on.
    #[error(transparent)]
    NotYetInForce(#[from] NotYetInForce),
}

/// A written exception no longer holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("E042: the decision of policy \"{policy}\" to release without noise has expired; review it")]
pub struct Expired {
    /// The policy.
    pub policy: String,
}

impl Grant {
    /// Minted by [`crate::ledger::charge`] alone, and handed out by [`crate::Charged::recorded`].
    pub(crate) fn charged(key: ReleaseKey, plan: &ReleasePlan) -> Self {
        let length = plan.terms().shape.length();
        Self { key, protection: Protection::Noise { mechanism: plan.mechanism().clone(), length } }
    }

    /// The grant of a written exception, while it holds. `now` is in seconds since 1970.
    pub fn without_dp(exception: &WithoutDp, key: ReleaseKey, now: u64) -> Result<Self, NoException> {
        exception.in_force(now)?;
        if now >= exception.expires() {
            return Err(Expired { policy: exception.policy().id.clone() }.into());
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

/// An aggregate share that may be sealed to the collector. Made only by [`perturb`], read only to be sealed.
#[must_use = "a noised share that is not stored cannot be drawn again"]
pub struct Noised(Zeroizing<Vec<u8>>);

impl NoisedShare for Noised {
    fn for_sealing(&self) -> &[u8] {
        &self.0
    }
}

/// Why a share was not noised. The grant and the noise are gone: roll the transaction back.
#[derive(Debug, thiserror::Error)]
pub enum PerturbError {
    /// The noise is not of the mechanism and the length that were granted, or there is none.
    #[error("the noise at hand is not what was granted")]
    OtherNoise,
    /// The share is none of its VDAF.
    #[error(transparent)]
    Vdaf(#[from] VdafError),
}

/// Adds the granted noise to an encoded aggregate share, in the field of its VDAF. Under a written exception there is no
/// noise to bring.
///
/// # Privacy
/// Uses a draw once: the grant is gone, and the noise with it. Adding modulo the field is post-processing. The guarantee
/// is that of the mechanism, which must be the granted one, if the generator that the noise is from cannot be predicted.
/// A share of another length than the grant's is an error.
pub fn perturb(
    grant: Grant,
    noise: Option<Noise>,
    share: Zeroizing<Vec<u8>>,
    vdaf: &dyn Vdaf,
) -> Result<Noised, PerturbError> {
    match (grant.protection, noise) {
        (Protection::Noise { mechanism, length }, Some(noise)) if noise.is(&mechanism, length) => {
            let noised = vdaf.add_noise(&share, noise.values())?;
            Ok(Noised(Zeroizing::new(noised)))
        }
        (Protection::WithoutDp(_), None) => Ok(Noised(share)),
        _ => Err(PerturbError::OtherNoise),
    }
}
