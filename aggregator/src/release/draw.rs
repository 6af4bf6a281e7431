//! Noise, and the seal on what is noised.
//!
//! A draw is used once and forgotten. Sealing takes a [`Noised`] share and nothing else, so that code which forgets
//! the budget or the noise does not compile.

use mica_dap::codec::Encode as _;
use mica_dap::hpke::{self, AggregateShareAad, HpkeError};
use mica_dp::{Grant, Noise, Noised, perturb};
use zeroize::Zeroizing;

use super::ReleaseError;
use crate::task::{Role, Task};

/// The noised share, sealed to the collector: an encoded `HpkeCiphertext` (DAP 4.6.7).
///
/// # Privacy
/// One draw, used up under the grant that paid for it. It is there before; adding it takes the same few steps for every
/// draw.
pub(super) fn draw(
    task: &Task,
    (grant, noise): (Grant, Option<Noise>),
    share: Zeroizing<Vec<u8>>,
    request: &[u8],
) -> Result<Vec<u8>, ReleaseError> {
    let noised = perturb(grant, noise, share, &*task.vdaf).map_err(ReleaseError::fault)?;
    seal(task, &noised, request).map_err(ReleaseError::fault)
}

fn seal(task: &Task, share: &Noised, request: &[u8]) -> Result<Vec<u8>, HpkeError> {
    let role = match task.role {
        Role::Leader => hpke::Role::Leader,
        Role::Helper => hpke::Role::Helper,
    };
    let aad = AggregateShareAad {
        task_id: &task.id,
        task_configuration: task.configuration.bytes(),
        collection_job_req: request,
    };
    let sealed = hpke::seal_aggregate_share(&task.collector, role, task.draft, &aad.encoded(), share)?;
    Ok(sealed.encoded())
}
