//! How a collection ends without a release: what it had closed is open again, and its batch goes to another, or to nobody
//! if no collection could ever release it.
//!
//! The problem that the collector is told is kept with the job, and a batch remembers its type for the operator. Neither
//! holds anything about a report.

use mica_dap::collection::QueriedBatch;
use mica_dap::id::BatchId;
use mica_dap::problem::Problem;
use mica_service::store::{StoreError, Tx};

use super::collection::{self, Progress};
use crate::error::{Abort, BATCH_TOO_WIDE, FIELD_OVERFLOW};
use crate::jobs::{Held, JobError};
use crate::release;
use crate::shared::Shared;
use crate::store::collection_jobs::{self, CollectionJobRow, CollectionState};
use crate::store::{Scope, batches, buckets, closed_intervals, tallies, tasks};
use crate::task::Task;

/// The gate has refused: nothing was charged, and the helper was not asked.
pub(super) async fn fail(
    shared: &Shared,
    task: &Task,
    job: &Held<CollectionJobRow>,
    abort: &Abort,
) -> Result<(), JobError> {
    let problem = &abort.to_json();
    shared
        .store
        .tx("fail_collection_job", move |mut tx| async move {
            tasks::lock_task(&mut tx, task.key).await?;
            if !collection_jobs::set_failed(&mut tx, &job.row.id, job.token, problem).await? {
                tx.abandon();
            } else if let Some(batch) = &job.row.batch {
                put_back(&mut tx, task, batch, abort).await?;
            } else {
                withdraw(&mut tx, task, &job.row).await?;
            }
            Ok((tx, ()))
        })
        .await?;
    Ok(())
}

/// The helper has refused for good: the charge is given back, what was closed is open again, the collector gets the
/// helper's own problem (DAP 4.6.1).
pub(super) async fn refund(
    shared: &Shared,
    task: &Task,
    job: &Held<CollectionJobRow>,
    release: i64,
    abort: &Abort,
) -> Result<Progress, JobError> {
    let (problem, now) = (&abort.to_json(), shared.clock.now());
    tracing::warn!(task = %task.id, problem = abort.known_type(), "the helper refused a release");
    collection::settle(shared, "refund_release", move |mut tx| async move {
        tasks::lock_task(&mut tx, task.key).await?;
        if !collection_jobs::set_failed(&mut tx, &job.row.id, job.token, problem).await? {
            tx.abandon();
            return Ok((tx, Ok(())));
        }
        if let Some(batch) = &job.row.batch {
            put_back(&mut tx, task, batch, abort).await?;
        }
        let outcome = release::refund(&mut tx, task, release, &shared.high_water, now).await;
        if outcome.is_ok() {
            release::remember(&mut tx, task, release, abort, now).await?;
        }
        Ok((tx, outcome))
    })
    .await
}

/// Gives back what a job had closed or picked that was not released. The caller holds the lock of the task.
pub(super) async fn withdraw(tx: &mut Tx, task: &Task, row: &CollectionJobRow) -> Result<(), StoreError> {
    if row.state != CollectionState::Closing {
        return Ok(());
    }
    match (collection::queried(task, &collection::stored(row)?)?, &row.batch) {
        (QueriedBatch::TimeInterval(query), _) => {
            closed_intervals::withdraw(tx, task.key, query).await?;
        }
        (QueriedBatch::LeaderSelected, Some(batch)) => {
            batches::give_back(tx, task.key, batch).await?;
        }
        (QueriedBatch::LeaderSelected, None) => {}
    }
    Ok(())
}

/// Another collection may have the batch, unless the refusal is about the very batch.
async fn put_back(tx: &mut Tx, task: &Task, batch: &BatchId, abort: &Abort) -> Result<(), StoreError> {
    let problem = abort.known_type();
    match Consequence::of(abort) {
        Consequence::Lost => {
            tracing::error!(task = %task.id, %batch, problem, "a batch can never be released");
            let held = buckets::report_count(tx, task.key, Scope::Batch(*batch)).await?;
            if batches::fail(tx, task.key, batch, problem).await? {
                tallies::add(tx, task.key, &[(LOST, held)]).await?;
            }
        }
        Consequence::TooSmall => {
            let held = buckets::report_count(tx, task.key, Scope::Batch(*batch)).await?;
            batches::give_back_refused(tx, task.key, batch, held.saturating_add(1), problem).await?;
        }
        Consequence::Later => {
            batches::give_back_refused(tx, task.key, batch, 0, problem).await?;
        }
    }
    Ok(())
}

/// The tally of reports that were aggregated and whose batch can never be released.
const LOST: &str = "batch_lost";

/// What a refusal means for the batch that it was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Consequence {
    /// It will be refused whenever it is asked for.
    Lost,
    /// It needs more reports.
    TooSmall,
    /// It can be released when something else has changed: a budget, a task, a peer.
    Later,
}

impl Consequence {
    fn of(abort: &Abort) -> Self {
        match Problem::from_urn(abort.problem_type()) {
            Some(Problem::BatchMismatch | Problem::BatchOverlap | Problem::BatchInvalid) => Self::Lost,
            Some(Problem::InvalidBatchSize) => Self::TooSmall,
            None if [FIELD_OVERFLOW, BATCH_TOO_WIDE].contains(&abort.problem_type()) => Self::Lost,
            _ => Self::Later,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::error::BUDGET_EXHAUSTED;

    #[test]
    fn only_a_refusal_of_the_batch_itself_costs_the_batch() {
        let of = |problem| Consequence::of(&Abort::new(problem, "no"));
        assert_eq!(of(Problem::BatchMismatch), Consequence::Lost);
        assert_eq!(of(Problem::BatchOverlap), Consequence::Lost);
        assert_eq!(of(Problem::InvalidBatchSize), Consequence::TooSmall);
        for passing in [Problem::UnrecognizedTask, Problem::InvalidMessage, Problem::UnsupportedExtension] {
            assert_eq!(of(passing), Consequence::Later);
        }
        let named = |name| Consequence::of(&Abort::named(name, "no", StatusCode::FORBIDDEN, String::new()));
        assert_eq!(named(BATCH_TOO_WIDE), Consequence::Lost);
        assert_eq!((named(FIELD_OVERFLOW), named(BUDGET_EXHAUSTED)), (Consequence::Lost, Consequence::Later));
    }
}
