//! What the helper may forget: it is told so, a few times, and whether it does changes nothing here (DAP 4.5.5, 4.6.5).
//!
//! Nothing waits for this. A helper that knows no such resource, or no such method, is not asked again.

use std::sync::Arc;

use mica_service::shutdown::Shutdown;
use mica_service::store::StoreError;

use super::JobError;
use super::backoff;
use crate::leader::peer::{self, Forgotten};
use crate::shared::Shared;
use crate::store::leftovers::{self, Leftover};
use crate::task::Task;

/// Tells the helper of one task about everything that is due. Whether there may be more that it would listen to.
pub(super) async fn clear(shared: &Arc<Shared>, task: i64, shutdown: &Shutdown) -> Result<bool, StoreError> {
    let Some(task) = shared.tasks.by_key(task) else { return Ok(false) };
    loop {
        let page = due(shared, task.key).await?;
        for leftover in &page {
            if shutdown.is_triggered() || !tell(shared, &task, leftover).await? {
                return Ok(false);
            }
        }
        if (page.len() as u64) < PAGE {
            return Ok(!page.is_empty());
        }
    }
}

/// Tells the helper about one. Whether it listens.
async fn tell(shared: &Shared, task: &Task, leftover: &Leftover) -> Result<bool, StoreError> {
    let told = peer::delete(shared, task, &leftover.url).await;
    let (id, attempts) = (leftover.id, leftover.attempts + 1);
    let rest = match &told {
        Ok(Forgotten::Yes | Forgotten::NotKnown) => None,
        Err(_) if attempts >= ATTEMPTS => None,
        Err(error) => {
            let asked_for = if let JobError::Retry { seconds, .. } = error { *seconds } else { None };
            Some(backoff::patient_seconds(attempts, &shared.clock).max(asked_for.unwrap_or(0)))
        }
    };
    if let Err(why) = &told {
        tracing::debug!(%why, attempts, given_up = rest.is_none(), "the helper did not forget what it may");
    }
    let now = shared.clock.now();
    shared
        .store
        .tx("settle_leftover", move |mut tx| async move {
            match rest {
                Some(seconds) => leftovers::put_off(&mut tx, id, now.saturating_add(seconds)).await?,
                None => leftovers::delete(&mut tx, id).await?,
            }
            Ok((tx, ()))
        })
        .await?;
    Ok(told.is_ok())
}

async fn due(shared: &Shared, task: i64) -> Result<Vec<Leftover>, StoreError> {
    let now = shared.clock.now();
    shared
        .store
        .read("due_leftovers", move |mut tx| async move {
            let due = leftovers::due(&mut tx, task, now, PAGE).await?;
            Ok((tx, due))
        })
        .await
}

/// How often the helper is asked to forget one thing: over some hours.
const ATTEMPTS: u64 = 8;

/// So many are read at once.
const PAGE: u64 = 32;
