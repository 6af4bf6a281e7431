//! The request that begins an aggregation job (DAP 4.5.3.2): known already, worked on at once, or taken in for later.
//!
//! A job goes through [`Received`], [`Parsed`], [`Verified`](super::verify::Verified) to an [`Answer`]. The same bytes
//! again find the job in the database; a request that is refused at once leaves nothing behind.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use mica_dap::aggregation::AggregationJobInitReq;
use mica_dap::id::{AggregationJobId, BatchId};
use mica_dap::problem::Problem;
use mica_service::store::{StoreError, Tx};
use sha2::{Digest as _, Sha256};

use super::answer::{self, Answer, State, invalid, unreadable};
use super::commit::Origin;
use crate::config::Answers;
use crate::error::{self, Abort, Fault, ServerError};
use crate::jobs::HELPER_WORK;
use crate::shared::Shared;
use crate::store::helper_jobs::{self, HelperJobRow};
use crate::store::helper_work::{self, NewWork, WorkKind};
use crate::task::Task;

/// A request as it came, from a leader that has shown its token.
pub(super) struct Received {
    shared: Arc<Shared>,
    task: Arc<Task>,
    digest: [u8; 32],
    bytes: Bytes,
}

/// A request that makes sense as a whole.
pub(super) struct Parsed {
    pub(super) shared: Arc<Shared>,
    pub(super) task: Arc<Task>,
    /// Of the leader's choice, where the task leaves it the choice.
    pub(super) batch: Option<BatchId>,
    pub(super) request: AggregationJobInitReq,
    pub(super) origin: Origin,
}

impl Received {
    pub(super) fn new(shared: Arc<Shared>, task: Arc<Task>, bytes: Bytes) -> Self {
        let digest = Sha256::digest(&bytes).into();
        Self { shared, task, digest, bytes }
    }

    pub(super) async fn answer(self) -> Result<Answer, ServerError> {
        match self.known().await? {
            Some(answer) => Ok(answer),
            None if self.shared.limits.answers == Answers::Deferred => self.defer().await,
            None => self.work().await,
        }
    }

    /// What these very bytes have come to.
    async fn known(&self) -> Result<Option<Answer>, StoreError> {
        let (task, digest) = (self.task.key, self.digest);
        self.shared
            .store
            .read("helper_job", move |mut tx| async move {
                let answer = by_digest(&mut tx, task, &digest).await?;
                Ok((tx, answer))
            })
            .await
    }

    async fn work(self) -> Result<Answer, ServerError> {
        let (started, origin) = (Instant::now(), Origin::New(self.digest));
        let request = read(&self.shared, &self.task, &self.bytes)?;
        let (shared, task) = (Arc::clone(&self.shared), Arc::clone(&self.task));
        let answer = Parsed::judge(shared, task, request, origin)?.verify().await.commit().await?;
        self.shared.paces.jobs.measure(1, started.elapsed());
        match answer {
            Some(answer) => Ok(answer),
            None => self.known().await?.ok_or_else(vanished),
        }
    }

    /// Takes the request in, to be worked on later. That it can be read at all is seen at once.
    async fn defer(self) -> Result<Answer, ServerError> {
        read(&self.shared, &self.task, &self.bytes)?;
        let fresh = AggregationJobId::random(&mut rand::rng());
        let received = &self;
        let stored = self
            .shared
            .store
            .tx("defer_helper_job", move |mut tx| async move {
                let outcome = received.keep(&mut tx, fresh).await;
                error::settle(tx, outcome)
            })
            .await??;
        match stored {
            Some(answer) => Ok(answer),
            None => self.known().await?.ok_or_else(vanished),
        }
    }

    /// Nothing when somebody else has taken in the same request meanwhile.
    async fn keep(&self, tx: &mut Tx, id: AggregationJobId) -> Result<Option<Answer>, ServerError> {
        if let Some(full) = answer::check_queue(tx, &self.shared, (self.task.key, &self.bytes)).await? {
            return Err(full.in_task(&self.task.id).into());
        }
        let (task, now) = (self.task.key, self.shared.clock.now());
        let row = HelperJobRow::new(task, id, self.digest, Vec::new(), now);
        if !helper_jobs::insert(tx, &row).await? {
            return Ok(None);
        }
        let (id_bytes, request) = (*id.as_bytes(), self.bytes.as_ref());
        let work = NewWork { id: id_bytes, task, kind: WorkKind::Init, request, created_at: now };
        helper_work::insert(tx, &work).await?;
        tx.wake(HELPER_WORK);
        Ok(Some(Answer { id, step: 0, state: State::Waiting(helper_work::waiting(tx, task).await?) }))
    }
}

impl Parsed {
    /// Everything else that is wrong with a job as a whole, before any report is looked at.
    pub(super) fn judge(
        shared: Arc<Shared>,
        task: Arc<Task>,
        request: AggregationJobInitReq,
        origin: Origin,
    ) -> Result<Self, Abort> {
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
        Ok(Self { shared, task, batch, request, origin })
    }
}

/// The request, if it is one.
pub(super) fn read(shared: &Shared, task: &Task, bytes: &[u8]) -> Result<AggregationJobInitReq, Abort> {
    AggregationJobInitReq::decode_limited(bytes, shared.limits.job_reports)
        .map_err(|wrong| unreadable(task, wrong))
}

/// The job that the request of this digest began.
async fn by_digest(tx: &mut Tx, task: i64, digest: &[u8; 32]) -> Result<Option<Answer>, StoreError> {
    match helper_jobs::by_digest(tx, task, digest).await? {
        Some(row) => Answer::of(tx, row).await.map(Some),
        None => Ok(None),
    }
}

/// Rows of jobs stay for ever, so that this is ours.
fn vanished() -> ServerError {
    Fault::new(anyhow::anyhow!("a job is gone that was there a moment ago")).into()
}
