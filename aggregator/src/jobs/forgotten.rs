//! What waits of a task that is forgotten: nobody can collect it any more, so jobs, collections and what the helper was
//! still to forget are given up, and the reports are counted.
//!
//! A task is forgotten thirty days after its end. What is not settled by then is most often of a task that the helper never
//! took part in. A task that is there, and that this process cannot serve, is left alone.

use mica_service::store::StoreError;

use crate::shared::Shared;
use crate::store::{leftovers, refused_releases, refused_windows, stuck, tallies, tasks};

/// Gives up what waits of this task, if it is forgotten.
pub(super) async fn give_up(shared: &Shared, task: i64) {
    match drop_all(shared, task).await {
        Ok(None) => return,
        Ok(Some(0)) => {}
        Ok(Some(reports)) => {
            tracing::warn!(task, reports, "the task is forgotten: what waited of it is given up");
        }
        Err(error) => {
            return tracing::error!(%error, "could not give up what waits of a task that is forgotten");
        }
    }
    shared.looks.forget_task(task);
}

/// How many reports waited, if the task is forgotten.
async fn drop_all(shared: &Shared, task: i64) -> Result<Option<u64>, StoreError> {
    let now = shared.clock.now();
    let is_forgotten = shared.store.read("task_is_forgotten", move |mut tx| async move {
        let is_forgotten = tasks::is_forgotten(&mut tx, task, now).await?;
        Ok((tx, is_forgotten))
    });
    if !is_forgotten.await? {
        return Ok(None);
    }
    shared
        .store
        .tx("give_up_forgotten_task", move |mut tx| async move {
            tasks::lock_task(&mut tx, task).await?;
            if !tasks::is_forgotten(&mut tx, task, now).await? {
                return Ok((tx, None));
            }
            stuck::drop_jobs(&mut tx, task, now).await?;
            stuck::drop_collections(&mut tx, task, now).await?;
            leftovers::delete_of_task(&mut tx, task).await?;
            refused_releases::delete_of_task(&mut tx, task).await?;
            refused_windows::delete_of_task(&mut tx, task).await?;
            let reports = stuck::drop_reports(&mut tx, task).await?;
            tallies::add(&mut tx, task, &[(FORGOTTEN, reports)]).await?;
            Ok((tx, Some(reports)))
        })
        .await
}

/// The tally of reports that waited when their task was forgotten.
const FORGOTTEN: &str = "task_forgotten";
