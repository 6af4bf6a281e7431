//! The trial of a task that came with an upload, which anybody can make.
//!
//! It ends well when both aggregators have verified a report of the task, or when whoever has the credential for it speaks
//! of it; bytes that nobody has opened prove nothing. As long as reports wait to be aggregated the task is there, however
//! long the helper cannot be asked: what was accepted is not forgotten. Once none waits, and none was verified, the task is
//! forgotten ten minutes after it came.

use mica_dap::problem::Problem;
use mica_service::store::{StoreError, Tx};

use super::opt_in::{HOUR, MINUTE};
use crate::error::{Abort, ServerError};
use crate::shared::Shared;
use crate::store::tasks::{self, Trial};
use crate::task::Task;

/// Keeps a task that came with an upload, if it is one, because whoever has the credential for it speaks of it.
///
/// # Errors
/// `unrecognizedTask` when it was forgotten a moment ago; else when the database fails.
pub(crate) async fn vouch(shared: &Shared, task: &Task) -> Result<(), ServerError> {
    let Some(until) = last_day(task).filter(|_| task.trial() != Trial::None) else { return Ok(()) };
    let kept = shared
        .store
        .tx("keep_uploaded_task", move |mut tx| async move {
            let kept = tasks::keep(&mut tx, task.key, Trial::None, until).await?;
            Ok((tx, kept))
        })
        .await?;
    if let Some(trial) = kept {
        task.set_trial(trial);
        return Ok(());
    }
    Err(Abort::new(Problem::UnrecognizedTask, "there is no such task here").in_task(&task.id).into())
}

/// Reports of the task are being written, in this transaction: it is there as long as they wait. False when it was
/// forgotten a moment ago. The caller shares the lock of the task, so that [`settled`] sees them or comes before.
pub(crate) async fn written(tx: &mut Tx, task: &Task) -> Result<bool, StoreError> {
    let Some(until) = last_day(task).filter(|_| task.trial() == Trial::Running) else { return Ok(true) };
    let kept = tasks::keep(tx, task.key, Trial::Running, until).await?;
    if let Some(trial) = kept {
        // Another replica may have seen the end of the trial.
        task.set_trial(trial);
    }
    Ok(kept.is_some())
}

/// Takes the lock of the task that [`settled`] asks for: of one on trial nobody may write reports meanwhile.
pub(crate) async fn lock(tx: &mut Tx, task: &Task) -> Result<(), StoreError> {
    if task.trial() == Trial::Running {
        tasks::lock_task(tx, task.key).await
    } else {
        tasks::share_task(tx, task.key).await
    }
}

/// A job of the task was settled, in this transaction, and some of its reports were verified or none. What is known of its
/// trial then.
pub(crate) async fn settled(tx: &mut Tx, task: &Task, verified: bool) -> Result<Trial, StoreError> {
    let Some(until) = last_day(task).filter(|_| task.trial() == Trial::Running) else {
        return Ok(task.trial());
    };
    if verified {
        let kept = tasks::keep(tx, task.key, Trial::Passed, until).await?;
        return Ok(kept.unwrap_or(Trial::Running));
    }
    tasks::let_go(tx, task.key, TRIAL_SECONDS).await?;
    Ok(Trial::Running)
}

/// Until when the task is remembered if nothing is wrong with it.
fn last_day(task: &Task) -> Option<u64> {
    let interval = task.configuration.task_interval()?;
    Some(kept_until(task.configuration.time_precision().start_of(interval.end())))
}

/// Until when a task is remembered that ends then.
pub(super) fn kept_until(end: u64) -> u64 {
    end.saturating_add(KEEP_SECONDS)
}

/// How long a task that came with an upload is remembered without a report that is verified, or waits.
pub(super) const TRIAL_SECONDS: u64 = 10 * MINUTE;

/// How long a task is remembered after its end, for late collections.
const KEEP_SECONDS: u64 = 30 * 24 * HOUR;
