//! Collection jobs as the leader works them off (DAP 4.6.1, 4.6.4): wait for the batch, reserve, ask the helper, settle.
//!
//! Where the leader selects the batches, one is picked first; it stays with the job until the job is at its end, and goes
//! to another job if there was no release. Reserving charges the ledger and draws the leader's noise in one transaction; from then on the job only repeats
//! itself towards the helper, with the same bytes, until the helper has answered or refused for good.

use std::sync::Arc;

use bytes::Bytes;
use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::collection::{
    AggregateShare, AggregateShareReq, BatchSelector, CollectionJobReq, CollectionJobResp, QueriedBatch,
};
use mica_dap::hpke_config::HpkeCiphertext;
use mica_dap::media::Media;
use mica_dap::problem::Problem;
use mica_dap::resource::Resource;

use super::complete;
use super::peer::{self, Answer};
use super::refusal;
use crate::agreement;
use crate::error::Abort;
use crate::jobs::{Held, JobError, Reason};
use crate::release::{self, Batch, Portion, ReleaseError};
use crate::shared::Shared;
use crate::store::collection_jobs::{self, CollectionJobRow, CollectionState};
use crate::store::releases::{self, ReleaseRow};
use crate::store::{StoreError, Tx, batches, leftovers, tasks};
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
    let asking = matches!(job.row.state, CollectionState::Reserved | CollectionState::Abandoned);
    if let Some(release) = job.row.release.filter(|_| asking) {
        return ask(shared, &task, job, release).await;
    }
    let Some(job) = &with_batch(shared, &task, job).await? else { return Ok(Progress::Waiting) };
    match reserve(shared, &task, job).await? {
        Reserved::Release(release) => ask(shared, &task, job, release).await,
        Reserved::Not(progress) => Ok(progress),
    }
}

/// Whether a job that is due has anything to do. One that waits for reports has not, and is not even taken up.
pub(crate) async fn worth_a_step(shared: &Shared, job: &CollectionJobRow) -> Result<bool, StoreError> {
    if !matches!(job.state, CollectionState::Pending | CollectionState::Closing) {
        return Ok(true);
    }
    let Some(task) = shared.tasks.by_key(job.task) else { return Ok(false) };
    complete::at_a_glance(shared, &task, job, queried(&task, &stored(job)?)?).await
}

/// The job with a batch, where the leader selects one. Nothing: none is ready.
async fn with_batch(
    shared: &Shared,
    task: &Task,
    job: &Held<CollectionJobRow>,
) -> Result<Option<Held<CollectionJobRow>>, JobError> {
    let mut job = Held { row: job.row.clone(), token: job.token };
    if queried(task, &stored(&job.row)?)? == QueriedBatch::LeaderSelected && job.row.batch.is_none() {
        let Some(batch) = complete::pick(shared, task, &job).await? else { return Ok(None) };
        job.row.batch = Some(batch);
        job.row.state = CollectionState::Closing;
    }
    Ok(Some(job))
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
    if !complete::at_a_glance(shared, task, &job.row, queried(task, request)?).await? {
        return Ok(Reserved::Not(Progress::Waiting));
    }
    if let Some(abort) = agreement::objection(shared, task).await {
        refusal::fail(shared, task, job, &abort).await?;
        return Ok(Reserved::Not(Progress::Settled));
    }
    // What others have released meanwhile counts too when it is asked how far the ledger had come.
    shared.high_water.follow(&shared.store).await.map_err(|error| JobError::retry(error.to_string()))?;
    let noise = &shared.noise.portion(task).await;
    let outcome = shared
        .store
        .tx("reserve_release", move |mut tx| async move {
            match try_reserve(&mut tx, shared, task, (job, request), noise).await {
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
            refusal::fail(shared, task, job, &refused.abort(task)).await?;
            Ok(Reserved::Not(Progress::Settled))
        }
        Err(error) => Err(JobError::retry(error.to_string())),
    }
}

async fn try_reserve(
    tx: &mut Tx,
    shared: &Shared,
    task: &Arc<Task>,
    (job, request): (&Held<CollectionJobRow>, &CollectionJobReq),
    noise: &Portion,
) -> Result<Reserved, ReleaseError> {
    tasks::lock_task(tx, task.key).await?;
    let complete = complete::under_lock(tx, task, job, queried(task, request)?).await?;
    let Some(scope) = complete else { return Ok(Reserved::Not(Progress::Waiting)) };
    let totals = release::totals(tx, &shared.compute, task, scope, request.agg_param()).await?;
    let Some(totals) = totals else { return Ok(Reserved::Not(Progress::Waiting)) };
    let batch = Batch {
        task,
        closes: scope,
        request,
        totals: &totals,
        now: shared.clock.now(),
        compute: &shared.compute,
        noise,
        high_water: &shared.high_water,
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
    // Before anything leaves that the charge has paid for.
    shared.high_water.follow(&shared.store).await.map_err(|error| JobError::retry(error.to_string()))?;
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
        batch_selector: selector(task, &job.row, &collection_job_req)?,
        collection_job_req,
        report_count: row.release.report_count,
        checksum: row.release.checksum,
    };
    let asked = if let Some(location) = &job.row.helper_location {
        let answer = peer::poll(shared, task, location, Media::AggregateShare).await;
        answer.map(|answer| (answer, Some(location.clone())))
    } else {
        let url = Resource::AggregateShares(task.id).url(task.configuration.helper_url());
        let message = (Media::AggregateShareReq, Bytes::from(request.encoded()));
        peer::post(shared, task, &url, message, Media::AggregateShare).await
    };
    let (answer, place) = patient(&job.row, asked)?;
    match answer {
        Answer::Ready(body) => {
            let share = AggregateShare::decoded(&body)
                .map_err(|error| JobError::retry(format!("the helper's aggregate share: {error}")))?;
            fits(&row, &share.encrypted_aggregate_share)?;
            commit(shared, task, (job, &row), (share.encrypted_aggregate_share, place)).await
        }
        Answer::Refused(abort) => refusal::refund(shared, task, job, release, &abort).await,
        Answer::Deferred { location, seconds } => {
            if location.is_some() {
                remember(shared, job, location.as_deref()).await?;
            }
            Err(JobError::Deferred(seconds))
        }
        Answer::Gone => {
            // Posted again, the same bytes find what the helper made of them, or make it.
            remember(shared, job, None).await?;
            Err(JobError::retry("the helper does not know the aggregate share any more"))
        }
        Answer::TooLarge => Err(JobError::retry("the request for a share is larger than the helper takes")),
    }
}

/// Whether the helper's share can be one of this release, as far as that shows without the collector's key: both are
/// sealed to the same key, by the same suite, and are as long as each other. A batch is released once, so that a share
/// that nobody can open would end it for nothing; the helper is asked again instead.
fn fits(release: &ReleaseRow, share: &HpkeCiphertext) -> Result<(), JobError> {
    let ours = HpkeCiphertext::decoded(&release.release.sealed_share)
        .map_err(|_| StoreError::corrupt("releases", "sealed_share"))?;
    let what = if share.config_id != ours.config_id {
        "it is sealed to another key than the collector's"
    } else if share.enc.len() != ours.enc.len() {
        "its encapsulated key has another length than those of the collector's suite"
    } else if share.payload.len() != ours.payload.len() {
        "it has another length than a share of this task"
    } else {
        return Ok(());
    };
    Err(JobError::retry(format!("the helper's aggregate share cannot be opened by the collector: {what}")))
}

/// What the helper answered, and where it keeps its share, if it said so.
type Asked = (Answer, Option<String>);

/// A helper that does not know the task may be told of it soon. After so many such answers in a row it is taken at its
/// word, and the collector is told the same (DAP 4.6.1). Attempts that failed otherwise before do not count.
fn patient(row: &CollectionJobRow, asked: Result<Asked, JobError>) -> Result<Asked, JobError> {
    let in_a_row = row.reason.as_deref() == Some(Reason::UnknownTask.as_str());
    match asked {
        Err(JobError::Retry { reason: Reason::UnknownTask, .. })
            if in_a_row && row.attempts >= UNKNOWN_TASK_ATTEMPTS =>
        {
            let abort = Abort::new(Problem::UnrecognizedTask, "the helper does not know the task");
            Ok((Answer::Refused(Box::new(abort)), None))
        }
        other => other,
    }
}

/// Where the helper keeps its share, for the next attempt.
async fn remember(
    shared: &Shared,
    job: &Held<CollectionJobRow>,
    location: Option<&str>,
) -> Result<(), JobError> {
    if location == job.row.helper_location.as_deref() {
        return Ok(());
    }
    shared
        .store
        .tx("set_share_location", move |mut tx| async move {
            collection_jobs::set_location(&mut tx, &job.row.id, job.token, location).await?;
            Ok((tx, ()))
        })
        .await?;
    Ok(())
}

/// The batch that the helper is asked for.
fn selector(
    task: &Task,
    row: &CollectionJobRow,
    request: &CollectionJobReq,
) -> Result<BatchSelector, StoreError> {
    match (queried(task, request)?, row.batch) {
        (QueriedBatch::TimeInterval(query), _) => Ok(BatchSelector::time_interval(query)),
        (QueriedBatch::LeaderSelected, Some(batch)) => Ok(BatchSelector::leader_selected(batch)),
        (QueriedBatch::LeaderSelected, None) => Err(StoreError::corrupt("collection_jobs", "batch_id")),
    }
}

/// Both shares are there: the answer to the collector is written down, once, and the buckets are scrubbed. From then on
/// the helper need not keep its share: nobody can ask for the batch again.
async fn commit(
    shared: &Shared,
    task: &Task,
    (job, release): (&Held<CollectionJobRow>, &ReleaseRow),
    (helper_share, left_at): (HpkeCiphertext, Option<String>),
) -> Result<Progress, JobError> {
    let response = CollectionJobResp {
        report_count: release.release.report_count,
        interval: release.release.interval,
        leader_encrypted_agg_share: HpkeCiphertext::decoded(&release.release.sealed_share)
            .map_err(|_| StoreError::corrupt("releases", "sealed_share"))?,
        helper_encrypted_agg_share: helper_share,
    }
    .encoded();
    let (response, left_at, now) = (&response, left_at.as_deref(), shared.clock.now());
    settle(shared, "commit_release", move |mut tx| async move {
        tasks::lock_task(&mut tx, task.key).await?;
        if !collection_jobs::set_released(&mut tx, &job.row.id, job.token, response).await? {
            tx.abandon();
            return Ok((tx, Ok(())));
        }
        if let Some(batch) = &job.row.batch {
            batches::set_collected(&mut tx, task.key, batch).await?;
        }
        if let Some(url) = left_at {
            leftovers::insert(&mut tx, task.key, url, now).await?;
        }
        let outcome = release::commit(&mut tx, task, release.id, &shared.high_water, now).await;
        Ok((tx, outcome))
    })
    .await
}

/// Runs a settling transaction whose gate operations may fail by themselves; failures undo all of it.
pub(super) async fn settle<F, Fut>(
    shared: &Shared,
    name: &'static str,
    mut body: F,
) -> Result<Progress, JobError>
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
    outcome.map_err(|error| JobError::retry(error.to_string()))?;
    // What was paid for is marked since before it left; this only brings the mark to the end.
    if let Err(error) = shared.high_water.follow(&shared.store).await {
        tracing::warn!(%error, "the mark of the ledger was not moved");
    }
    Ok(Progress::Settled)
}

/// The collector's request; checked when it came.
pub(super) fn stored(row: &CollectionJobRow) -> Result<CollectionJobReq, StoreError> {
    CollectionJobReq::decoded(&row.request).map_err(|_| StoreError::corrupt("collection_jobs", "request"))
}

/// What a stored request asks for; checked when it came.
pub(super) fn queried(task: &Task, request: &CollectionJobReq) -> Result<QueriedBatch, StoreError> {
    let queried = request.query().queried(task.configuration.batch_mode());
    queried.map_err(|_| StoreError::corrupt("collection_jobs", "request"))
}

/// How often a helper that does not know the task is asked: for some minutes.
const UNKNOWN_TASK_ATTEMPTS: u64 = 8;
