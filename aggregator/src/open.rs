//! Opening one input share and the checks that come before verification (DAP 4.5.3.3 and 4.5.3.4), in their order.
//!
//! The same code for both aggregators. It learns one share of a measurement, which alone tells nothing, and must never
//! log or print it.

use mica_dap::Draft;
use mica_dap::codec::Decode as _;
use mica_dap::hpke::{self, HpkeCiphertext, Label};
use mica_dap::report::{PlaintextInputShare, ReportMetadata, check_extensions};
use mica_dap::report_error::ReportError;
use mica_dap::time::Time;
use zeroize::Zeroizing;

use crate::hpke_keys::KeyRing;
use crate::task::{Role, Task};

/// An input share as the client made it; still to be verified.
pub(crate) struct OpenedShare {
    /// The encoded share.
    pub(crate) input_share: Zeroizing<Vec<u8>>,
}

/// Where in its life a report is looked at: the codes differ (DAP 4.4.2.2 and 4.5.3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// At the leader, when it arrives.
    Upload,
    /// At either aggregator, in a job.
    Aggregation,
}

/// Opens the share of this aggregator and reads it as far as DAP goes.
///
/// # Errors
/// The code to refuse the report with.
pub(crate) fn open_share(
    task: &Task,
    keys: &KeyRing,
    metadata: &ReportMetadata,
    public_share: &[u8],
    ciphertext: &HpkeCiphertext,
) -> Result<OpenedShare, ReportError> {
    let keypair = keys.find(ciphertext.config_id).ok_or(unknown_key(task, Stage::Aggregation))?;
    let role = match task.role {
        Role::Leader => hpke::Role::Leader,
        Role::Helper => hpke::Role::Helper,
    };
    let info = Label::InputShare(role).info(task.draft);
    let aad = hpke::input_share_aad(&task.id, &task.configuration, metadata, public_share);
    let plaintext = hpke::open(keypair, &info, &aad, ciphertext).map_err(|_| ReportError::HpkeDecryptError)?;
    let plaintext = Zeroizing::new(plaintext);
    let share = PlaintextInputShare::decoded(&plaintext).map_err(|_| ReportError::InvalidMessage)?;
    check_extensions(&metadata.public_extensions, &share.private_extensions, task.draft)?;
    Ok(OpenedShare { input_share: Zeroizing::new(share.payload) })
}

/// Whether a report of this time is taken now.
///
/// # Errors
/// The code to refuse the report with.
pub(crate) fn check_time(task: &Task, stage: Stage, time: Time, now: u64) -> Result<(), ReportError> {
    let latest = task.configuration.time_precision().time_of(now.saturating_add(LEEWAY_SECONDS));
    if time > latest {
        return Err(ReportError::ReportTooEarly);
    }
    let Some(interval) = task.configuration.task_interval() else { return Ok(()) };
    if interval.contains(time) {
        return Ok(());
    }
    Err(match (stage, task.draft) {
        (Stage::Upload, _) | (_, Draft::V19) => ReportError::ReportDropped,
        (Stage::Aggregation, Draft::V18) if time < interval.start() => ReportError::TaskNotStarted,
        (Stage::Aggregation, Draft::V18) => ReportError::TaskExpired,
    })
}

/// The code for a share that is sealed to no key of ours.
pub(crate) fn unknown_key(task: &Task, stage: Stage) -> ReportError {
    match (task.draft, stage) {
        (Draft::V18, Stage::Upload) => ReportError::OutdatedConfig,
        (Draft::V18, Stage::Aggregation) => ReportError::HpkeDecryptError,
        (Draft::V19, _) => ReportError::HpkeUnknownConfigId,
    }
}

/// How far the clock of a client may be ahead of ours.
pub(crate) const LEEWAY_SECONDS: u64 = 300;
