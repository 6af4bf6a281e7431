//! Collection jobs as the leader works them off (DAP 4.6.1, 4.6.4): wait for the batch, reserve, ask the helper, settle.
//!
//! Reserving charges the ledger and draws the leader's noise in one transaction; from then on the job only repeats
//! itself towards the helper, with the same bytes, until the helper has answered or refused for good.

use std::sync::Arc;

use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::collection::{
    AggregateShare, AggregateShareReq, BatchSelector, CollectionJobReq, CollectionJobResp, QueriedBatch,
};
use mica_dap::hpke_config::HpkeCiphertext;
use mica_dap::media::Media;
use mica_dap::resource::Resource;
use mica_dap::time::Interval;

use super::complete;
use super::peer::{self, Answer};
use crate::error::Abort;
use crate::jobs::{Held, JobError};
use crate::release::{self, Batch, ReleaseError};
use crate::shared::Shared;
use crate::store::collection_jobs::{self, CollectionJobRow, CollectionState};
use crate::store::releases::{self, ReleaseRow};
use crate::store::{StoreError, Tx, closed_intervals, tasks};
use crate::task::Task;

/// How far a step came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The job is at its end.
    Settled,
    /// Its batch is not complete.
    Waiting,
}

/// Takes a leased collection job as far as it goes.
pub(crate) async fn step(shared: &Arc<Shared>, job: &Held<CollectionJobRow>) -> Result<Progress, JobError> {
    let task = shared
        .tasks
        .by_key(job.row.task)
        .ok_or_else(|| JobError::retry("its task is not among those that this process serves"))?;
    let under_way = matches!(job.row.state, CollectionState::Reserved | CollectionState::Abandoned);
    let release = match job.row.release.filter(|_| under_way) {
        Some(release) => release,
        None => match reserve(shared, &task, job).await? {
            Reserved::Release(release) => release,
            Reserved::Not(progress) => return Ok(progress),
        },
    };
    ask(shared, &task, job, release).await
}

enum Reserved {
    Release(i64),
    Not(Progress),
}

/// One transaction: is the batch complete, and does the gate let it pass?
async fn reserve(
    shared: &Shared,
    task: &Arc<Task>,
    job: &Held<CollectionJobRow>,
) -> Result<Reserved, JobError> {
    let request = &stored(&job.row)?;
    if !complete::at_a_glance(shared, task, job, query(task, request)?).await? {
        return Ok(Reserved::Not(Progress::Waiting));
    }
    let outcome = shared
        .store
        .tx("reserve_release", move |mut tx| async move {
            match try_reserve(&mut tx, shared, task, job, request).await {
                Ok(reserved) => Ok((tx, Ok(reserved))),
                Err(ReleaseError::Store(error)) => Err(error),
                Err(error) => {
                    tx.abandon();
                    Ok((tx, Err(error)))
                }
            }
        })
        .await?;
    match outcome {
        Ok(reserved) => Ok(reserved),
        Err(ReleaseError::Refused(refused)) => {
            fail(shared, task, job, &refused.abort(task)).await?;
            Ok(Reserved::Not(Progress::Settled))
        }
        Err(error) => Err(JobError::retry(error.to_string())),
    }
}

async fn try_reserve(
    tx: &mut Tx,
    shared: &Shared,
    task: &Arc<Task>,
    job: &Held<CollectionJobRow>,
    request: &CollectionJobReq,
) -> Result<Reserved, ReleaseError> {
    let query = query(task, request)?;
    tasks::lock_task(tx, task.key).await?;
    if !complete::under_lock(tx, task, job, query).await? {
        return Ok(Reserved::Not(Progress::Waiting));
    }
    let totals = release::totals(tx, &shared.compute, task, query, request.agg_param()).await?;
    let Some(totals) = totals else { return Ok(Reserved::Not(Progress::Waiting)) };
    let batch = Batch {
        task,
        closes: query.into(),
        request,
        totals: &totals,
        now: shared.clock.now(),
        compute: &shared.compute,
    };
    let release = release::reserve(tx, &batch).await?;
    if collection_jobs::set_reserved(tx, &job.row.id, job.token, release).await? {
        return Ok(Reserved::Release(release));
    }
    tx.abandon();
    Ok(Reserved::Not(Progress::Settled))
}

/// Asks the helper for its share of a reserved release.
async fn ask(
    shared: &Shared,
    task: &Task,
    job: &Held<CollectionJobRow>,
    release: i64,
) -> Result<Progress, JobError> {
    let row = shared
        .store
        .read("reserved_release", move |mut tx| async move {
            let row = releases::by_id(&mut tx, release).await?;
            Ok((tx, row))
        })
        .await?
        .ok_or_else(|| StoreError::corrupt("collection_jobs", "release_id"))?;
    let collection_job_req = stored(&job.row)?;
    let request = AggregateShareReq {
        batch_selector: BatchSelector::time_interval(query(task, &collection_job_req)?),
        collection_job_req,
        report_count: row.release.report_count,
        checksum: row.release.checksum,
    };
    let url = Resource::AggregateShares(task.id).url(task.configuration.helper_url());
    let message = (Media::AggregateShareReq, request.encoded());
    match peer::post(shared, task, &url, message, Media::AggregateShare).await? {
        Answer::Ready(body) => {
            let share = AggregateShare::decoded(&body)
                .map_err(|error| JobError::retry(format!("the helper's aggregate share: {error}")))?;
            commit(shared, task, job, &row, share.encrypted_aggregate_share).await
        }
        Answer::Refused(abort) => refund(shared, task, job, release, &abort).await,
        Answer::Deferred { seconds, .. } => Err(JobError::Deferred(seconds)),
        Answer::TooLarge | Answer::Gone => {
            Err(JobError::retry("the helper does not take requests for shares there"))
        }
    }
}

/// Both shares are there: the answer to the collector is written down, once, and the buckets are scrubbed.
async fn commit(
    shared: &Shared,
    task: &Task,
    job: &Held<CollectionJobRow>,
    release: &ReleaseRow,
    helper_share: HpkeCiphertext,
) -> Result<Progress, JobError> {
    let response = CollectionJobResp {
        report_count: release.release.report_count,
        interval: release.release.interval,
        leader_encrypted_agg_share: HpkeCiphertext::decoded(&release.release.sealed_share)
            .map_err(|_| StoreError::corrupt("releases", "sealed_share"))?,
        helper_encrypted_agg_share: helper_share,
    }
    .encoded();
    let (response, now) = (&response, shared.clock.now());
    settle(shared, "commit_release", move |mut tx| async move {
        tasks::lock_task(&mut tx, task.key).await?;
        if !collection_jobs::set_released(&mut tx, &job.row.id, job.token, response).await? {
            tx.abandon();
            return Ok((tx, Ok(())));
        }
        let outcome = release::commit(&mut tx, task, release.id, now).await;
        Ok((tx, outcome))
    })
    .await
}

/// The helper refused for good: the charge is given back, the interval is open again, the collector gets the helper's
/// own problem (DAP 4.6.1).
async fn refund(
    shared: &Shared,
    task: &Task,
    job: &Held<CollectionJobRow>,
    release: i64,
    abort: &Abort,
) -> Result<Progress, JobError> {
    let (problem, now) = (&abort.to_json(), shared.clock.now());
    tracing::warn!(task = %task.id, problem = abort.known_type(), "the helper refused a release");
    settle(shared, "refund_release", move |mut tx| async move {
        tasks::lock_task(&mut tx, task.key).await?;
        if !collection_jobs::set_failed(&mut tx, &job.row.id, job.token, problem).await? {
            tx.abandon();
            return Ok((tx, Ok(())));
        }
        let outcome = release::refund(&mut tx, task, release, now).await;
        Ok((tx, outcome))
    })
    .await
}

/// Runs a settling transaction whose gate operations may fail by themselves; failures undo all of it.
async fn settle<F, Fut>(shared: &Shared, name: &'static str, mut body: F) -> Result<Progress, JobError>
where
    F: FnMut(Tx) -> Fut + Send,
    Fut: Future<Output = Result<(Tx, Result<(), ReleaseError>), StoreError>> + Send,
{
    let outcome = shared
        .store
        .tx(name, move |tx| {
            let running = body(tx);
            async move {
                match running.await? {
                    (tx, Ok(())) => Ok((tx, Ok(()))),
                    (_, Err(ReleaseError::Store(error))) => Err(error),
                    (mut tx, Err(error)) => {
                        tx.abandon();
                        Ok((tx, Err(error)))
                    }
                }
            }
        })
        .await?;
    outcome.map(|()| Progress::Settled).map_err(|error| JobError::retry(error.to_string()))
}

/// The job ends without a release; what it had closed is open again.
async fn fail(
    shared: &Shared,
    task: &Task,
    job: &Held<CollectionJobRow>,
    abort: &Abort,
) -> Result<(), JobError> {
    let (problem, query) = (&abort.to_json(), query(task, &stored(&job.row)?)?);
    shared
        .store
        .tx("fail_collection_job", move |mut tx| async move {
            tasks::lock_task(&mut tx, task.key).await?;
            if !collection_jobs::set_failed(&mut tx, &job.row.id, job.token, problem).await? {
                tx.abandon();
            } else if job.row.state == CollectionState::Closing {
                closed_intervals::withdraw(&mut tx, task.key, query).await?;
            }
            Ok((tx, ()))
        })
        .await?;
    Ok(())
}

/// The collector's request; checked when it came.
fn stored(row: &CollectionJobRow) -> Result<CollectionJobReq, StoreError> {
    CollectionJobReq::decoded(&row.request).map_err(|_| StoreError::corrupt("collection_jobs", "request"))
}

/// The interval that a stored request asks for; checked when it came.
fn query(task: &Task, request: &CollectionJobReq) -> Result<Interval, StoreError> {
    match request.query().queried(task.configuration.batch_mode()) {
        Ok(QueriedBatch::TimeInterval(interval)) => Ok(interval),
        _ => Err(StoreError::corrupt("collection_jobs", "request")),
    }
}
