//! The helper's aggregate share (DAP 4.6.4): checked against the leader's count, released once, the same ever after.
//!
//! The request that was answered is found by its digest before anything is checked, or a batch that is closed would be
//! refused to the very leader that closed it. A request that is refused changes nothing and closes nothing.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use mica_dap::codec::Decode as _;
use mica_dap::collection::{AggregateShareReq, QueriedBatch, SelectedBatch};
use mica_dap::id::AggregateShareId;
use mica_dap::media::Media;
use mica_dap::problem::Problem;
use mica_dap::resource;
use mica_service::store::{StoreError, Tx};
use sha2::{Digest as _, Sha256};

use crate::error::{self, Abort, ServerError};
use crate::extract::{self, Authorized, Resource};
use crate::open;
use crate::release::{self, Batch, BatchTotals, Reference};
use crate::shared::Shared;
use crate::store::releases::{self, ReleaseRow};
use crate::store::{Scope, closed_intervals, tasks};
use crate::task::Task;

/// `POST /tasks/{task}/aggregate_shares`
pub(crate) async fn create(
    State(shared): State<Arc<Shared>>,
    Authorized(task): Authorized,
    request: Request,
) -> Result<Response, ServerError> {
    let bytes = extract::body(request, Media::AggregateShareReq, REQUEST_BYTES).await?;
    let digest = Sha256::digest(&bytes).into();
    let wanted = Wanted::parse(&task, &bytes)?;
    let (shared, task, wanted) = (&*shared, &task, &wanted);
    let share = shared.store.tx("aggregate_share", move |mut tx| async move {
        let outcome = wanted.answer(&mut tx, shared, task, digest).await;
        error::settle(tx, outcome)
    });
    Ok(share.await??.response(task))
}

/// `GET /tasks/{task}/aggregate_shares/{id}`
pub(crate) async fn poll(
    State(shared): State<Arc<Shared>>,
    Authorized(task): Authorized,
    Resource(id): Resource<AggregateShareId>,
) -> Result<Response, ServerError> {
    let share = find(&shared, &task, id).await?;
    Ok(share.response(&task))
}

/// `DELETE /tasks/{task}/aggregate_shares/{id}`: what is left by now must be kept, or the batch could be drawn for twice.
pub(crate) async fn delete(
    State(shared): State<Arc<Shared>>,
    Authorized(task): Authorized,
    Resource(id): Resource<AggregateShareId>,
) -> Result<StatusCode, ServerError> {
    find(&shared, &task, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A request that makes sense by itself.
struct Wanted {
    request: AggregateShareReq,
    /// What is summed.
    selected: Scope,
    /// What is closed: all of the query, of which the leader may have selected a part.
    queried: Scope,
}

/// What the leader is told.
struct Share {
    id: AggregateShareId,
    body: Vec<u8>,
}

impl Wanted {
    fn parse(task: &Task, bytes: &[u8]) -> Result<Self, Abort> {
        let abort = |problem, detail| Abort::new(problem, detail).in_task(&task.id);
        let request = AggregateShareReq::decoded(bytes)
            .map_err(|wrong| Abort::new(Problem::InvalidMessage, wrong.to_string()).in_task(&task.id))?;
        let (queried, selected) = request
            .batch(task.configuration.batch_mode())
            .map_err(|problem| abort(problem, "query and selector name no batch of this task"))?;
        if task.vdaf.check_aggregation_parameter(request.collection_job_req.agg_param()).is_err() {
            return Err(abort(
                Problem::InvalidMessage,
                "nothing was aggregated under this aggregation parameter",
            ));
        }
        request
            .collection_job_req
            .check_extensions()
            .map_err(|problem| abort(problem, "an extension this server does not know"))?;
        let selected = match selected {
            SelectedBatch::TimeInterval(interval) => Scope::Interval(interval),
            SelectedBatch::LeaderSelected(batch) => Scope::Batch(batch),
        };
        let queried = match queried {
            QueriedBatch::TimeInterval(interval) => Scope::Interval(interval),
            QueriedBatch::LeaderSelected => selected,
        };
        Ok(Self { request, selected, queried })
    }

    async fn answer(
        &self,
        tx: &mut Tx,
        shared: &Shared,
        task: &Arc<Task>,
        digest: [u8; 32],
    ) -> Result<Share, ServerError> {
        tasks::lock_task(tx, task.key).await?;
        if let Some(row) = releases::by_digest(tx, task.key, &digest).await? {
            return Ok(Share::of(row)?);
        }
        if closed_intervals::overlapping(tx, task.key, self.queried).await? {
            return Err(abort(task, Problem::BatchOverlap, "a part of the batch was collected before"));
        }
        if let Scope::Interval(queried) = self.queried {
            open::check_end(task, queried, shared.clock.now())?;
        }
        let totals =
            release::totals(tx, &shared.compute, task, self.selected).await.map_err(|e| e.answer(task))?;
        let totals = self.agreed(task, totals)?;
        let batch = Batch {
            task,
            closes: self.queried,
            request: &self.request.collection_job_req,
            totals: &totals,
            now: shared.clock.now(),
            compute: &shared.compute,
        };
        let id = AggregateShareId::random(&mut rand::rng());
        let body = release::commit_now(tx, &batch, Reference { digest, share_id: id }).await;
        Ok(Share { id, body: body.map_err(|e| e.answer(task))? })
    }

    /// Enough reports, and the same ones that the leader counted.
    fn agreed(&self, task: &Task, totals: Option<BatchTotals>) -> Result<BatchTotals, ServerError> {
        let enough = |totals: &BatchTotals| totals.report_count >= task.configuration.min_batch_size();
        let totals = totals
            .filter(enough)
            .ok_or_else(|| abort(task, Problem::InvalidBatchSize, "the batch has too few reports"))?;
        let leaders = (self.request.report_count, self.request.checksum);
        if leaders != (totals.report_count, totals.checksum) {
            return Err(abort(
                task,
                Problem::BatchMismatch,
                "leader and helper have counted different reports",
            ));
        }
        Ok(totals)
    }
}

impl Share {
    fn of(row: ReleaseRow) -> Result<Self, StoreError> {
        let id = row.release.share_id.ok_or_else(|| StoreError::corrupt("releases", "share_id"))?;
        Ok(Self { id, body: row.release.sealed_share })
    }

    fn response(self, task: &Task) -> Response {
        let resource = resource::Resource::AggregateShare(task.id, self.id);
        // An `AggregateShare` is the sealed share and nothing else.
        extract::located(extract::message(Media::AggregateShare, self.body), task, &resource)
    }
}

async fn find(shared: &Shared, task: &Task, id: AggregateShareId) -> Result<Share, ServerError> {
    let key = task.key;
    let row = shared.store.read("aggregate_share_by_id", move |mut tx| async move {
        let row = releases::by_share_id(&mut tx, key, &id).await?;
        Ok((tx, row))
    });
    let row = row.await?.ok_or_else(|| {
        Abort::plain(StatusCode::NOT_FOUND, "there is no such aggregate share").in_task(&task.id)
    })?;
    Ok(Share::of(row)?)
}

fn abort(task: &Task, problem: Problem, detail: &'static str) -> ServerError {
    Abort::new(problem, detail).in_task(&task.id).into()
}

/// An `AggregateShareReq` is some two hundred bytes; extensions and aggregation parameters may come to some more.
const REQUEST_BYTES: usize = 128 << 10;
