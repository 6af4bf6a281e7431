//! The helper's aggregation jobs as resources (DAP 4.5.3.2, 4.5.4.2, 4.5.5): begin, go on, ask, delete.
//!
//! One request, one transaction, one answer for ever. The helper learns one share of each report and which reports were
//! valid, never a value and never who sent it.

use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::response::Response;
use http::StatusCode;
use mica_dap::id::AggregationJobId;
use mica_dap::media::Media;
use mica_service::telemetry;

use super::answer::{Answer, State as JobState, invalid, step_mismatch, unknown_job};
use super::init::Received;
use super::proceed::Next;
use crate::error::{Fault, ServerError};
use crate::extract::{self, Authorized, Resource};
use crate::shared::Shared;
use crate::store::{helper_jobs, helper_states, helper_work};
use crate::task::Task;

/// The identifier of a job in a path; one that is none names no job.
type Named = Result<Resource<AggregationJobId>, ServerError>;

/// `POST /tasks/{task}/aggregation_jobs`
pub(crate) async fn create(
    State(shared): State<Arc<Shared>>,
    Authorized(task): Authorized,
    request: Request,
) -> Result<Response, ServerError> {
    let (bytes, place) = extract::admitted_job(request, Media::AggregationJobInitReq, &shared, &task).await?;
    let received = Received::new(Arc::clone(&shared), Arc::clone(&task), bytes);
    // A leader that hangs up asks again, and then finds the answer: the work is not thrown away half-way.
    let answering = telemetry::spawn(async move {
        let _taken = place;
        received.answer().await
    });
    let answer = answering.await.map_err(Fault::new)??;
    answer.response(&shared, &task)
}

/// `GET /tasks/{task}/aggregation_jobs/{id}?step=N`
pub(crate) async fn poll(
    State(shared): State<Arc<Shared>>,
    Authorized(task): Authorized,
    named: Named,
    RawQuery(query): RawQuery,
) -> Result<Response, ServerError> {
    let answer = find(&shared, &task, named).await?;
    let Some(step) = step(query.as_deref()) else {
        return Err(invalid(&task, "the query must say which step").into());
    };
    // What has failed or is deleted has no step any more.
    if step != answer.step && matches!(answer.state, JobState::Ready(_) | JobState::Waiting(_)) {
        return Err(step_mismatch(&task, answer.step).into());
    }
    answer.response(&shared, &task)
}

/// `POST /tasks/{task}/aggregation_jobs/{id}`
pub(crate) async fn advance(
    State(shared): State<Arc<Shared>>,
    Authorized(task): Authorized,
    named: Named,
    request: Request,
) -> Result<Response, ServerError> {
    let (bytes, place) =
        extract::admitted_job(request, Media::AggregationJobContinueReq, &shared, &task).await?;
    let Resource(id) = named.map_err(|_| unknown_job(&task))?;
    let next = Next::new(Arc::clone(&shared), Arc::clone(&task), id, bytes);
    let answering = telemetry::spawn(async move {
        let _taken = place;
        next.answer().await
    });
    let answer = answering.await.map_err(Fault::new)??;
    answer.response(&shared, &task)
}

/// `DELETE /tasks/{task}/aggregation_jobs/{id}`: the answer goes, and with it what was not worked on yet; what protects
/// from replays stays, and so does the digest of the request.
pub(crate) async fn delete(
    State(shared): State<Arc<Shared>>,
    Authorized(task): Authorized,
    named: Named,
) -> Result<StatusCode, ServerError> {
    let Resource(id) = named.map_err(|_| unknown_job(&task))?;
    let key = task.key;
    let deleted = shared.store.tx("delete_helper_job", move |mut tx| async move {
        if helper_jobs::by_id(&mut tx, key, &id).await?.is_none() {
            return Ok((tx, false));
        }
        // In the order in which a worker settles, so that the two do not wait for each other.
        helper_work::cancel(&mut tx, id.as_bytes()).await?;
        helper_states::delete(&mut tx, &id).await?;
        let deleted = helper_jobs::delete(&mut tx, key, &id).await?;
        Ok((tx, deleted))
    });
    if deleted.await? { Ok(StatusCode::NO_CONTENT) } else { Err(unknown_job(&task).into()) }
}

async fn find(shared: &Shared, task: &Task, named: Named) -> Result<Answer, ServerError> {
    let Resource(id) = named.map_err(|_| unknown_job(task))?;
    let key = task.key;
    let found = shared.store.read("helper_job_by_id", move |mut tx| async move {
        let answer = match helper_jobs::by_id(&mut tx, key, &id).await? {
            Some(row) => Some(Answer::of(&mut tx, row).await?),
            None => None,
        };
        Ok((tx, answer))
    });
    found.await?.ok_or_else(|| unknown_job(task).into())
}

/// The step that a query names, if it names one.
fn step(query: Option<&str>) -> Option<u16> {
    let mut steps = query?.split('&').filter_map(|pair| pair.strip_prefix("step="));
    let step = steps.next()?.parse().ok()?;
    steps.next().is_none().then_some(step)
}
