//! Opening one input share and the checks that come before verification (DAP 4.5.3.3 and 4.5.3.4), in their order.
//!
//! The same code for both aggregators. It learns one share of a measurement, which alone tells nothing, and must never
//! log or print it.

use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::hpke::{self, InputShareAad, Label};
use mica_dap::hpke_config::HpkeCiphertext;
use mica_dap::problem::Problem;
use mica_dap::report::{PlaintextInputShare, ReportMetadata, check_extensions};
use mica_dap::report_error::ReportError;
pub(crate) use mica_dap::report_error::Stage;
use mica_dap::time::{Interval, Time};
use zeroize::Zeroizing;

use crate::error::Abort;
use crate::hpke_keys::Openers;
use crate::task::{Role, Task};

/// An input share as the client made it; still to be verified.
pub(crate) struct OpenedShare {
    /// The encoded share.
    pub(crate) input_share: Zeroizing<Vec<u8>>,
}

/// Opens the share of this aggregator and reads it as far as DAP goes.
///
/// # Errors
/// The code to refuse the report with.
pub(crate) fn open_share(
    task: &Task,
    keys: Openers<'_>,
    metadata: &ReportMetadata,
    public_share: &[u8],
    ciphertext: &HpkeCiphertext,
) -> Result<OpenedShare, ReportError> {
    let keypair =
        keys.find(ciphertext.config_id).ok_or(task.draft.unknown_hpke_config(Stage::Aggregation))?;
    let role = match task.role {
        Role::Leader => hpke::Role::Leader,
        Role::Helper => hpke::Role::Helper,
    };
    let info = Label::InputShare(role).info(task.draft);
    let aad = InputShareAad {
        task_id: &task.id,
        task_configuration: task.configuration.bytes(),
        metadata: &metadata.encoded(),
        public_share,
    };
    let plaintext =
        hpke::open(keypair, &info, &aad.encoded(), ciphertext).map_err(|_| ReportError::HpkeDecryptError)?;
    let plaintext = Zeroizing::new(plaintext);
    let mut share = PlaintextInputShare::decoded(&plaintext).map_err(|_| ReportError::InvalidMessage)?;
    check_extensions(&metadata.public_extensions, &share.private_extensions, task.draft)?;
    Ok(OpenedShare { input_share: Zeroizing::new(std::mem::take(&mut share.payload)) })
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
    // What the leader took before its operator ended the task is still added.
    if task.is_retired() && (stage == Stage::Upload || task.role == Role::Helper) {
        return Err(task.draft.after_the_task(stage));
    }
    let Some(interval) = task.configuration.task_interval() else { return Ok(()) };
    if interval.contains(time) {
        return Ok(());
    }
    let early = time < interval.start();
    Err(if early { task.draft.before_the_task(stage) } else { task.draft.after_the_task(stage) })
}

/// Whether a batch may be collected that ends then. What is collected is closed for ever, so that a slip of the pen in a
/// query could close all of a task's future.
///
/// # Errors
/// `batchInvalid` for a batch that ends more than a day from now.
pub(crate) fn check_end(task: &Task, batch: Interval, now: u64) -> Result<(), Abort> {
    let latest = task.configuration.time_precision().time_of(now.saturating_add(FUTURE_SECONDS));
    if batch.end().0 <= latest.0.saturating_add(1) {
        return Ok(());
    }
    Err(Abort::new(Problem::BatchInvalid, "the batch ends more than a day from now").in_task(&task.id))
}

/// How far into the future a batch may reach.
const FUTURE_SECONDS: u64 = 86_400;

/// How far the clock of a client may be ahead of ours.
pub(crate) const LEEWAY_SECONDS: u64 = 300;
