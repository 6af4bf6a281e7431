//! The next step of a job, for VDAFs of more than one round (DAP 4.5.4.2): the leader's messages meet the states that
//! were kept, and what is verified by now is counted.
//!
//! A step is taken once. The same bytes again get its answer; other bytes for it are refused, and so is every step but
//! the next one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use mica_dap::aggregation::{AggregationJobContinueReq, VerifyContinue};
use mica_dap::id::AggregationJobId;
use mica_dap::report_error::ReportError;
use mica_dap::vdaf::Step;
use mica_service::store::{StoreError, Tx};
use sha2::{Digest as _, Sha256};

use super::answer::{self, Answer, State, invalid, step_mismatch, unknown_job, unreadable};
use super::commit::Origin;
use super::report::{self, Kept, Report, Valid};
use super::verify::{CHUNK, Verified};
use crate::config::Answers;
use crate::error::{self, Abort, ServerError};
use crate::jobs::HELPER_WORK;
use crate::shared::Shared;
use crate::store::helper_jobs::{self, HelperJobRow, HelperJobState};
use crate::store::helper_states::{self, HelperStatesRow};
use crate::store::helper_work::{self, NewWork, WorkKind};
use crate::task::Task;

/// A request to go on with a job.
pub(super) struct Next {
    shared: Arc<Shared>,
    task: Arc<Task>,
    id: AggregationJobId,
    digest: [u8; 32],
    bytes: Bytes,
}

/// A job with what is kept of it.
struct Found {
    row: HelperJobRow,
    kept: Option<HelperStatesRow>,
}

impl Next {
    pub(super) fn new(shared: Arc<Shared>, task: Arc<Task>, id: AggregationJobId, bytes: Bytes) -> Self {
        let digest = Sha256::digest(&bytes).into();
        Self { shared, task, id, digest, bytes }
    }

    pub(super) async fn answer(self) -> Result<Answer, ServerError> {
        let found = self.find().await?;
        let request = read(&self.shared, &self.task, &self.bytes)?;
        if let Some(answer) = self.taken_before(found.row.clone(), request.step).await? {
            return Ok(answer);
        }
        let Some(kept) = found.kept else {
            return Err(invalid(&self.task, "no report of this job waits for a continuation").into());
        };
        let joined = join(&self.task, &kept, request)?;
        let step = found.row.step;
        let (shared, id) = (Arc::clone(&self.shared), self.id);
        let answer = if shared.limits.answers == Answers::Deferred {
            self.defer(step).await?
        } else {
            let started = Instant::now();
            let origin = Origin::Next(id, step, self.digest);
            let (shared, task) = (Arc::clone(&self.shared), Arc::clone(&self.task));
            let answer = verify(shared, task, kept, joined, origin).await.commit().await?;
            self.shared.paces.jobs.measure(1, started.elapsed());
            answer
        };
        if let Some(answer) = answer {
            return Ok(answer);
        }
        // Somebody took the step meanwhile: this request, or another.
        let row = self.find().await?.row;
        let now = row.step;
        let answer = self.taken_before(row, step + 1).await?;
        answer.ok_or_else(|| step_mismatch(&self.task, now).into())
    }

    /// What the same bytes have come to, if this is the step that the job is at. Nothing if it is the next one.
    async fn taken_before(&self, row: HelperJobRow, step: u16) -> Result<Option<Answer>, ServerError> {
        let ready = row.state != HelperJobState::Waiting;
        match step.checked_sub(row.step) {
            Some(0) if row.step_digest == Some(self.digest) => {
                let store = &self.shared.store;
                let row = &row;
                let answer = store.read("helper_job_state", move |mut tx| async move {
                    let answer = Answer::of(&mut tx, row.clone()).await?;
                    Ok((tx, answer))
                });
                Ok(Some(answer.await?))
            }
            Some(1) if ready => Ok(None),
            _ => Err(step_mismatch(&self.task, row.step).into()),
        }
    }

    /// Takes the request in, to be worked on later. Nothing when somebody else has taken the step meanwhile.
    async fn defer(&self, step: u16) -> Result<Option<Answer>, ServerError> {
        let stored = self.shared.store.tx("defer_helper_step", move |mut tx| async move {
            let outcome = self.keep(&mut tx, step).await;
            error::settle(tx, outcome)
        });
        stored.await?
    }

    async fn keep(&self, tx: &mut Tx, step: u16) -> Result<Option<Answer>, ServerError> {
        if let Some(full) = answer::check_queue(tx, &self.shared, (self.task.key, &self.bytes)).await? {
            return Err(full.in_task(&self.task.id).into());
        }
        if !helper_jobs::advance(tx, &self.id, step, &self.digest, &[]).await? {
            return Ok(None);
        }
        let (id, task, request) = (*self.id.as_bytes(), self.task.key, self.bytes.as_ref());
        let created_at = self.shared.clock.now();
        let work = NewWork { id, task, kind: WorkKind::Continue, request, created_at };
        helper_work::insert(tx, &work).await?;
        tx.wake(HELPER_WORK);
        let state = State::Waiting(helper_work::waiting(tx, task).await?);
        Ok(Some(Answer { id: self.id, step: step + 1, state }))
    }

    async fn find(&self) -> Result<Found, ServerError> {
        let (task, id) = (self.task.key, self.id);
        let found = self.shared.store.read("helper_job_to_continue", move |mut tx| async move {
            let row = helper_jobs::by_id(&mut tx, task, &id).await?;
            let kept = match row {
                Some(_) => helper_states::of_job(&mut tx, &id).await?,
                None => None,
            };
            Ok((tx, row.map(|row| Found { row, kept })))
        });
        let found = found.await?.ok_or_else(|| unknown_job(&self.task))?;
        match (found.row.state, &found.row.problem) {
            (HelperJobState::Deleted, _) => Err(unknown_job(&self.task).into()),
            (HelperJobState::Failed, Some(problem)) => Err(answer::failed(problem, "helper_jobs")),
            _ => Ok(found),
        }
    }
}

/// The request, if it is one.
pub(super) fn read(shared: &Shared, task: &Task, bytes: &[u8]) -> Result<AggregationJobContinueReq, Abort> {
    let request = AggregationJobContinueReq::decode_limited(bytes, shared.limits.job_reports)
        .map_err(|wrong| unreadable(task, wrong))?;
    if request.repeats_a_report() {
        return Err(invalid(task, "a report is in the request twice"));
    }
    Ok(request)
}

/// What is kept of a report, and the leader's message for it; nothing when the leader has dropped the report.
pub(super) struct Joined {
    kept: Kept,
    next: Option<VerifyContinue>,
}

/// Puts the leader's messages beside what is kept. They come in the order of the job, and each has its state.
pub(super) fn join(
    task: &Task,
    kept: &HelperStatesRow,
    request: AggregationJobContinueReq,
) -> Result<Vec<Joined>, ServerError> {
    let kept = report::unpack(&kept.states).map_err(|_| StoreError::corrupt("helper_states", "states"))?;
    let mut messages: HashMap<_, _> =
        request.verify_continues.iter().enumerate().map(|(at, next)| (next.report_id, at)).collect();
    let mut latest = None;
    let mut at = Vec::with_capacity(kept.len());
    for report in &kept {
        let place = messages.remove(&report.id);
        if place.is_some() && place < latest {
            return Err(invalid(task, "the reports are in another order than before").into());
        }
        latest = place.or(latest);
        at.push(place);
    }
    if !messages.is_empty() {
        return Err(invalid(task, "a report of the request does not wait for a continuation").into());
    }
    let mut nexts: Vec<Option<VerifyContinue>> = request.verify_continues.into_iter().map(Some).collect();
    let mut taken = |place: Option<usize>| place.and_then(|place| nexts.get_mut(place)?.take());
    Ok(kept.into_iter().zip(at).map(|(kept, place)| Joined { kept, next: taken(place) }).collect())
}

/// Takes every report one step further. What the leader has dropped is dropped.
pub(super) async fn verify(
    shared: Arc<Shared>,
    task: Arc<Task>,
    row: HelperStatesRow,
    joined: Vec<Joined>,
    origin: Origin,
) -> Verified {
    let parameter: Arc<[u8]> = row.parameter.into();
    let (under, of) = (Arc::clone(&parameter), Arc::clone(&task));
    let reports = shared.compute.map(joined, CHUNK, move |joined| proceed(&of, &under, joined)).await;
    let reports = reports.into_iter().flatten().collect();
    Verified { shared, task, origin, batch: row.batch, parameter, reports: Arc::new(reports) }
}

fn proceed(task: &Task, parameter: &[u8], joined: Joined) -> Option<Report> {
    let Joined { kept, next } = joined;
    let next = next?;
    let step = || {
        let state = task.vdaf.decode_helper_state(&kept.state).map_err(|_| ReportError::ReportDropped)?;
        let step = task
            .vdaf
            .helper_continued(&task.context, parameter, state, &next.payload)
            .map_err(|_| ReportError::VdafVerifyError)?;
        Ok(match step {
            Step::Finished(output) => Valid::Done { output, message: None },
            Step::FinishedWithOutbound { output, message } => Valid::Done { output, message: Some(message) },
            Step::Continued { state, message } => {
                let state = task.vdaf.encode_state(&state).map_err(|_| ReportError::ReportDropped)?;
                Valid::Waits { state, message }
            }
        })
    };
    Some(Report { id: kept.id, time: kept.time, outcome: step() })
}
