//! Collection jobs as the collector sees them (DAP 4.6.1 to 4.6.3): ask, poll, delete.
//!
//! The same bytes are the same job while it lives, so a collector that lost an answer asks again. A job that failed does
//! not count as living: the batch may be complete by then. Where the leader selects the batches all requests are the
//! same bytes, and a collector gets to the next batch by deleting the job of the last.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};
use mica_dap::codec::Decode as _;
use mica_dap::collection::{CollectionJobReq, QueriedBatch};
use mica_dap::id::CollectionJobId;
use mica_dap::media::Media;
use mica_dap::problem::Problem;
use mica_dap::resource;

use super::refusal;
use crate::error::{Abort, ServerError};
use crate::extract::{self, Authorized, Resource};
use crate::jobs::{self, COLLECTION};
use crate::open;
use crate::release;
use crate::shared::Shared;
use crate::store::collection_jobs::{self, CollectionJobRow, CollectionState, NewCollectionJob};
use crate::store::{StoreError, closed_intervals, segments, tasks};
use crate::task::Task;

/// `POST /tasks/{task}/collection_jobs`.
pub(crate) async fn create(
    State(shared): State<Arc<Shared>>,
    Authorized(task): Authorized,
    request: Request,
) -> Result<Response, ServerError> {
    let body = extract::body(request, Media::CollectionJobReq, LARGEST_REQUEST).await?;
    let queried = check(&task, &body)?;
    let now = shared.clock.now();
    if let QueriedBatch::TimeInterval(query) = queried {
        open::check_end(&task, query, now)?;
        // Here as well as at the gate: no job is to wait for what can never be released.
        release::one_batch(&task, query).map_err(|refused| refused.abort(&task))?;
    }
    let fresh = CollectionJobId::random(&mut rand::rng());
    let (task_too, body, most) = (&task, &body, shared.limits.open_collections);
    let found = shared
        .store
        .tx("create_collection_job", move |mut tx| async move {
            if let Some(job) = collection_jobs::live_by_request(&mut tx, task_too.key, body).await? {
                return Ok((tx, Found::Job(Box::new(job))));
            }
            if let QueriedBatch::TimeInterval(query) = queried
                && closed_intervals::overlapping(&mut tx, task_too.key, query).await?
            {
                return Ok((tx, Found::Overlap));
            }
            if collection_jobs::open_jobs(&mut tx, task_too.key).await? >= most {
                return Ok((tx, Found::TooMany));
            }
            let fence = segments::newest(&mut tx, task_too.key).await?;
            let request = body.to_vec();
            let job = NewCollectionJob { id: fresh, task: task_too.key, request, fence, created_at: now };
            collection_jobs::insert(&mut tx, &job).await?;
            tx.wake(COLLECTION);
            // Ours, or that of the same request that came at the same time and was faster.
            let job = collection_jobs::live_by_request(&mut tx, task_too.key, body).await?;
            // Neither: that one has ended since. Again, then.
            let job = job.ok_or(StoreError::Contended)?;
            Ok((tx, Found::Job(Box::new(job))))
        })
        .await?;
    let job = match found {
        Found::Job(job) => *job,
        Found::Overlap => {
            let detail = "a part of this interval was collected";
            return Err(refuse(&task, Problem::BatchOverlap, detail).into());
        }
        Found::TooMany => return Err(too_many(&task, most).into()),
    };
    let mut response = answer(&shared, &job)?;
    let location =
        resource::Resource::CollectionJob(task.id, job.id).absolute_path(task.configuration.leader_url());
    let location = HeaderValue::from_str(&location).map_err(|_| {
        refuse(&task, Problem::InvalidMessage, "the leader's endpoint cannot be written in a header")
    })?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// What came of a request to collect.
enum Found {
    /// The job, new or not.
    Job(Box<CollectionJobRow>),
    /// A part of the batch was collected.
    Overlap,
    /// The task has as many jobs as it may have.
    TooMany,
}

/// `GET /tasks/{task}/collection_jobs/{id}`.
pub(crate) async fn poll(
    State(shared): State<Arc<Shared>>,
    Authorized(task): Authorized,
    Resource(id): Resource<CollectionJobId>,
) -> Result<Response, ServerError> {
    let key = task.key;
    let job = shared
        .store
        .read("collection_job", move |mut tx| async move {
            let job = collection_jobs::by_id(&mut tx, key, &id).await?;
            Ok((tx, job))
        })
        .await?;
    answer(&shared, &job.ok_or_else(|| unknown(&task))?)
}

/// `DELETE /tasks/{task}/collection_jobs/{id}`. What was collected stays collected; what was not is free for others.
pub(crate) async fn delete(
    State(shared): State<Arc<Shared>>,
    Authorized(task): Authorized,
    Resource(id): Resource<CollectionJobId>,
) -> Result<Response, ServerError> {
    let (key, task_too) = (task.key, &task);
    let deleted = shared
        .store
        .tx("delete_collection_job", move |mut tx| async move {
            tasks::lock_task(&mut tx, key).await?;
            if let Some(job) = collection_jobs::by_id(&mut tx, key, &id).await? {
                refusal::withdraw(&mut tx, task_too, &job).await?;
            }
            let deleted = collection_jobs::delete(&mut tx, key, &id).await?;
            Ok((tx, deleted))
        })
        .await?;
    jobs::batch_changed(&shared, key);
    if deleted { Ok(StatusCode::OK.into_response()) } else { Err(unknown(&task).into()) }
}

/// The checks of DAP 4.6.1 that need no database, in its order.
fn check(task: &Task, body: &[u8]) -> Result<QueriedBatch, ServerError> {
    let request = CollectionJobReq::decoded(body).map_err(|error| {
        refuse(task, Problem::InvalidMessage, &format!("the request cannot be read: {error}"))
    })?;
    let queried = request
        .query()
        .queried(task.configuration.batch_mode())
        .map_err(|problem| refuse(task, problem, "the query does not fit the batch mode of the task"))?;
    task.vdaf.check_aggregation_parameter(request.agg_param()).map_err(|_| {
        refuse(task, Problem::InvalidAggregationParameter, "this task takes no such aggregation parameter")
    })?;
    if request.agg_param() != task.aggregation_parameter {
        let detail = "the reports of this task are aggregated under another parameter";
        return Err(refuse(task, Problem::InvalidMessage, detail).into());
    }
    request
        .check_extensions()
        .map_err(|problem| refuse(task, problem, "no extension of collection jobs is known here"))?;
    Ok(queried)
}

/// The state of a job, as an answer.
fn answer(shared: &Shared, job: &CollectionJobRow) -> Result<Response, ServerError> {
    match job.state {
        CollectionState::Pending | CollectionState::Closing | CollectionState::Reserved => {
            // As long as it takes otherwise, or until the helper is asked again.
            let put_off = job.next_try_at.saturating_sub(shared.clock.now()).min(LONGEST_WAIT);
            let seconds = shared.paces.collections.seconds_for(1).max(put_off);
            let retry_after = [(header::RETRY_AFTER, HeaderValue::from(seconds))];
            Ok((StatusCode::OK, retry_after).into_response())
        }
        CollectionState::Released => {
            let response = job.response.clone().ok_or_else(|| corrupt("response"))?;
            Ok(extract::message(Media::CollectionJobResp, response))
        }
        CollectionState::Failed => {
            let abort =
                job.problem.as_deref().and_then(Abort::from_json).ok_or_else(|| corrupt("problem"))?;
            Err(abort.into())
        }
        CollectionState::Abandoned | CollectionState::Deleted => {
            Err(Abort::plain(StatusCode::NOT_FOUND, "the collection job was deleted").into())
        }
    }
}

fn corrupt(column: &str) -> ServerError {
    StoreError::corrupt("collection_jobs", column).into()
}

fn too_many(task: &Task, most: u64) -> Abort {
    let detail = format!("{most} collections of this task are open already: wait for one, or delete one");
    Abort::plain(StatusCode::TOO_MANY_REQUESTS, detail).in_task(&task.id).retry_after(LONGEST_WAIT)
}

fn unknown(task: &Task) -> Abort {
    Abort::plain(StatusCode::NOT_FOUND, "there is no such collection job").in_task(&task.id)
}

fn refuse(task: &Task, problem: Problem, detail: &str) -> Abort {
    Abort::new(problem, detail.to_owned()).in_task(&task.id)
}

/// No collector is told to stay away for longer, in seconds: the helper may be back before.
const LONGEST_WAIT: u64 = 60;

/// A request is a query, a parameter and extensions: far less than this.
const LARGEST_REQUEST: usize = 1 << 20;
