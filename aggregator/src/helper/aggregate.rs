//! The helper's half of an aggregation job (DAP 4.5.3.2): one request, one transaction, one answer for ever.
//!
//! A job goes through [`Received`], [`Parsed`], [`Verified`](super::verify::Verified) to an [`Answer`]. The same bytes
//! again find the answer in the database; a request that is refused as a whole leaves nothing behind. The helper learns
//! one share of each report and which reports were valid, never a value and never who sent it.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{RawQuery, Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use mica_dap::aggregation::{AggregationJobContinueReq, AggregationJobInitReq};
use mica_dap::codec::Malformed;
use mica_dap::id::{AggregationJobId, BatchId};
use mica_dap::media::Media;
use mica_dap::problem::Problem;
use mica_dap::resource;
use mica_service::store::{StoreError, Tx};
use mica_service::telemetry;
use sha2::{Digest as _, Sha256};

use crate::error::{Abort, Fault, ServerError};
use crate::extract::{self, Authorized, Resource};
use crate::shared::Shared;
use crate::store::helper_jobs;
use crate::task::Task;

/// `POST /tasks/{task}/aggregation_jobs`
pub(crate) async fn create(
    State(shared): State<Arc<Shared>>,
    Authorized(task): Authorized,
    request: Request,
) -> Result<Response, ServerError> {
    // A leader with the same settings counts reports, we count the request around them.
    let limit = shared.limits.job_bytes.saturating_mul(2);
    let (bytes, place) = extract::admitted(request, Media::AggregationJobInitReq, limit, &shared).await?;
    let received = Received::new(shared, Arc::clone(&task), bytes);
    // A leader that hangs up asks again, and then finds the answer: the work is not thrown away half-way.
    let answering = telemetry::spawn(async move {
        let _taken = place;
        received.answer().await
    });
    let answer = answering.await.map_err(Fault::new)??;
    Ok(answer.response(&task))
}

/// `GET /tasks/{task}/aggregation_jobs/{id}?step=0`
pub(crate) async fn poll(
    State(shared): State<Arc<Shared>>,
    Authorized(task): Authorized,
    Resource(id): Resource<AggregationJobId>,
    RawQuery(query): RawQuery,
) -> Result<Response, ServerError> {
    let answer = find(&shared, &task, id).await?;
    match step(query.as_deref()) {
        Some(0) => Ok(answer.response(&task)),
        Some(_) => Err(step_mismatch(&task).into()),
        None => Err(invalid(&task, "the query must say which step").into()),
    }
}

/// `POST /tasks/{task}/aggregation_jobs/{id}`: no VDAF of ours takes a second round, so no report waits for one.
pub(crate) async fn advance(
    State(shared): State<Arc<Shared>>,
    Authorized(task): Authorized,
    Resource(id): Resource<AggregationJobId>,
    request: Request,
) -> Result<Response, ServerError> {
    let limit = shared.limits.job_bytes.saturating_mul(2);
    let (bytes, _taken) =
        extract::admitted(request, Media::AggregationJobContinueReq, limit, &shared).await?;
    find(&shared, &task, id).await?;
    let request = AggregationJobContinueReq::decode_limited(&bytes, shared.limits.job_reports)
        .map_err(|wrong| unreadable(&task, wrong))?;
    Err(match request.step {
        1 => invalid(&task, "no report of this job waits for a continuation"),
        _ => step_mismatch(&task),
    }
    .into())
}

/// `DELETE /tasks/{task}/aggregation_jobs/{id}`: the answer goes; what protects from replays stays.
pub(crate) async fn delete(
    State(shared): State<Arc<Shared>>,
    Authorized(task): Authorized,
    Resource(id): Resource<AggregationJobId>,
) -> Result<StatusCode, ServerError> {
    let key = task.key;
    let deleted = shared.store.tx("delete_helper_job", move |mut tx| async move {
        let deleted = helper_jobs::delete(&mut tx, key, &id).await?;
        Ok((tx, deleted))
    });
    if deleted.await? { Ok(StatusCode::NO_CONTENT) } else { Err(unknown_job(&task).into()) }
}

/// A request as it came, from a leader that has shown its token.
struct Received {
    shared: Arc<Shared>,
    task: Arc<Task>,
    digest: [u8; 32],
    bytes: Bytes,
}

/// A request that makes sense as a whole.
pub(super) struct Parsed {
    pub(super) shared: Arc<Shared>,
    pub(super) task: Arc<Task>,
    pub(super) digest: [u8; 32],
    /// Of the leader's choice, where the task leaves it the choice.
    pub(super) batch: Option<BatchId>,
    pub(super) request: AggregationJobInitReq,
}

/// What the leader is told, now and whenever it asks again.
pub(super) struct Answer {
    /// Where the job is found.
    pub(super) id: AggregationJobId,
    /// The encoded `AggregationJobResp`.
    pub(super) body: Vec<u8>,
}

impl Received {
    fn new(shared: Arc<Shared>, task: Arc<Task>, bytes: Bytes) -> Self {
        let digest = Sha256::digest(&bytes).into();
        Self { shared, task, digest, bytes }
    }

    async fn answer(self) -> Result<Answer, ServerError> {
        match self.answered().await? {
            Some(answer) => Ok(answer),
            None => {
                let (paces, started) = (Arc::clone(&self.shared.paces), Instant::now());
                let answer = self.parse()?.verify().await.commit().await?;
                paces.jobs.measure(1, started.elapsed());
                Ok(answer)
            }
        }
    }

    /// The answer that these very bytes got before.
    async fn answered(&self) -> Result<Option<Answer>, ServerError> {
        let (task, digest) = (self.task.key, self.digest);
        let answer = self.shared.store.read("helper_job", move |mut tx| async move {
            let answer = stored(&mut tx, task, &digest).await?;
            Ok((tx, answer))
        });
        Ok(answer.await?)
    }

    /// Everything that is wrong with a job as a whole, before any report is looked at.
    fn parse(self) -> Result<Parsed, Abort> {
        let Self { shared, task, digest, bytes } = self;
        let request = AggregationJobInitReq::decode_limited(&bytes, shared.limits.job_reports)
            .map_err(|wrong| unreadable(&task, wrong))?;
        let batch = request.batch_id(task.configuration.batch_mode()).map_err(|problem| {
            Abort::new(problem, "the extensions do not fit this task").in_task(&task.id)
        })?;
        if task.vdaf.check_aggregation_parameter(&request.agg_param).is_err() {
            let detail = "the VDAF of this task takes no such aggregation parameter";
            return Err(Abort::new(Problem::InvalidAggregationParameter, detail).in_task(&task.id));
        }
        if request.verification_key_id != task.verification_key_id
            && task.draft.unknown_verification_key().is_none()
        {
            return Err(invalid(&task, "there is no verification key of this name"));
        }
        if request.repeats_a_report() {
            return Err(invalid(&task, "a report is in the job twice"));
        }
        Ok(Parsed { shared, task, digest, batch, request })
    }
}

impl Answer {
    fn response(self, task: &Task) -> Response {
        let resource = resource::Resource::AggregationJob(task.id, self.id, None);
        extract::located(extract::message(Media::AggregationJobResp, self.body), task, &resource)
    }
}

/// The stored answer to the request of this digest.
pub(super) async fn stored(tx: &mut Tx, task: i64, digest: &[u8; 32]) -> Result<Option<Answer>, StoreError> {
    let row = helper_jobs::by_digest(tx, task, digest).await?;
    Ok(row.map(|row| Answer { id: row.id, body: row.response }))
}

async fn find(shared: &Shared, task: &Task, id: AggregationJobId) -> Result<Answer, ServerError> {
    let key = task.key;
    let row = shared.store.read("helper_job_by_id", move |mut tx| async move {
        let row = helper_jobs::by_id(&mut tx, key, &id).await?;
        Ok((tx, row))
    });
    let row = row.await?.ok_or_else(|| unknown_job(task))?;
    Ok(Answer { id: row.id, body: row.response })
}

fn step(query: Option<&str>) -> Option<u16> {
    query?.split('&').find_map(|pair| pair.strip_prefix("step="))?.parse().ok()
}

/// A job with more reports than are taken here may be right elsewhere; the leader can cut it in two.
fn unreadable(task: &Task, wrong: Malformed) -> Abort {
    if wrong == Malformed::TOO_MANY {
        let detail = "the job has more reports than this server takes";
        return Abort::plain(StatusCode::PAYLOAD_TOO_LARGE, detail).in_task(&task.id);
    }
    invalid(task, wrong.to_string())
}

fn invalid(task: &Task, detail: impl Into<std::borrow::Cow<'static, str>>) -> Abort {
    Abort::new(Problem::InvalidMessage, detail).in_task(&task.id)
}

fn step_mismatch(task: &Task) -> Abort {
    Abort::new(Problem::StepMismatch, "the job is at step 0").in_task(&task.id)
}

fn unknown_job(task: &Task) -> Abort {
    Abort::new(Problem::UnrecognizedAggregationJob, "there is no such job").in_task(&task.id)
}
