//! The helper's aggregate share (DAP 4.6.4): checked against the leader's count, released once, the same ever after.
//!
//! The request that was answered is found by its digest before anything is checked, or a batch that is closed would be
//! refused to the very leader that closed it. A request that is refused changes nothing and closes nothing, also when it
//! was taken in and refused later: the same request is a new one then.

use std::sync::Arc;
use std::time::Instant;

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

use super::answer;
use crate::config::Answers;
use crate::error::{self, Abort, Fault, ServerError};
use crate::extract::{self, Authorized, Resource};
use crate::jobs::HELPER_WORK;
use crate::open;
use crate::release::{self, Batch, BatchTotals, Portion, Reference};
use crate::shared::Shared;
use crate::store::helper_shares::{self, HelperShareRow, HelperShareState};
use crate::store::helper_work::{self, NewWork, WorkKind, WorkRow};
use crate::store::releases::{self, ReleaseRow};
use crate::store::{LeaseToken, Scope, bucket_parameters, closed_intervals, tasks};
use crate::task::Task;

/// The identifier of a share in a path; one that is none names no share.
type Named = Result<Resource<AggregateShareId>, ServerError>;

/// `POST /tasks/{task}/aggregate_shares`
pub(crate) async fn create(
    State(shared): State<Arc<Shared>>,
    Authorized(task): Authorized,
    request: Request,
) -> Result<Response, ServerError> {
    let bytes = extract::body(request, Media::AggregateShareReq, REQUEST_BYTES).await?;
    let wanted = Wanted::parse(&task, &bytes)?;
    let started = Instant::now();
    // What others have released meanwhile counts too when it is asked how far the ledger had come.
    shared.high_water.follow(&shared.store).await.map_err(Fault::new)?;
    let noise = match shared.limits.answers {
        Answers::AtOnce => shared.noise.portion(&task).await,
        Answers::Deferred => shared.noise.no_portion(),
    };
    let digest = Sha256::digest(&bytes).into();
    let asked = Asked { shared: &shared, task: &task, digest, wanted: &wanted, noise: &noise };
    let (asked, bytes) = (&asked, &bytes);
    let share = shared.store.tx("aggregate_share", move |mut tx| async move {
        let outcome = asked.answer(&mut tx, bytes).await;
        error::settle(tx, outcome)
    });
    let share = match share.await?? {
        Some(share) => share,
        None => asked.taken_in_meanwhile().await?,
    };
    shared.paces.shares.measure(1, started.elapsed());
    share.leave(&shared, &task).await
}

/// `GET /tasks/{task}/aggregate_shares/{id}`
pub(crate) async fn poll(
    State(shared): State<Arc<Shared>>,
    Authorized(task): Authorized,
    named: Named,
) -> Result<Response, ServerError> {
    let Resource(id) = named.map_err(|_| unknown(&task))?;
    let key = task.key;
    let found = shared.store.read("aggregate_share_by_id", move |mut tx| async move {
        let share = match releases::by_share_id(&mut tx, key, &id).await? {
            Some(row) => Share::released(row)?,
            None => match helper_shares::by_id(&mut tx, key, &id).await? {
                Some(row) => Some(Share::unreleased(&mut tx, key, row).await?),
                None => None,
            },
        };
        Ok((tx, share))
    });
    found.await?.ok_or_else(|| unknown(&task))?.leave(&shared, &task).await
}

/// `DELETE /tasks/{task}/aggregate_shares/{id}`: the share goes, and with it what was not worked on yet. That the batch
/// was released stays, so that nobody draws for it again.
pub(crate) async fn delete(
    State(shared): State<Arc<Shared>>,
    Authorized(task): Authorized,
    named: Named,
) -> Result<StatusCode, ServerError> {
    let Resource(id) = named.map_err(|_| unknown(&task))?;
    let key = task.key;
    let deleted = shared.store.tx("delete_aggregate_share", move |mut tx| async move {
        // The lock under which shares are released: whoever is about to does it before or not at all.
        tasks::lock_task(&mut tx, key).await?;
        let released = releases::forget_share(&mut tx, key, &id).await?;
        let unreleased = !released && helper_shares::delete(&mut tx, key, &id).await?;
        if unreleased {
            helper_work::cancel(&mut tx, id.as_bytes()).await?;
        }
        Ok((tx, released || unreleased))
    });
    if deleted.await? { Ok(StatusCode::NO_CONTENT) } else { Err(unknown(&task).into()) }
}

/// Releases a share that was taken in before. The caller holds the lease; where it is lost, nothing happens.
///
/// # Errors
/// The problem with which the share is refused, or a fault of ours.
pub(super) async fn work(
    shared: &Arc<Shared>,
    task: &Arc<Task>,
    row: &WorkRow,
    token: LeaseToken,
) -> Result<(), ServerError> {
    let wanted = Wanted::parse(task, &row.request)?;
    let digest = Sha256::digest(&row.request).into();
    shared.high_water.follow(&shared.store).await.map_err(Fault::new)?;
    let noise = &shared.noise.portion(task).await;
    let asked = &Asked { shared, task, digest, wanted: &wanted, noise };
    let released = shared.store.tx("release_helper_work", move |mut tx| async move {
        let outcome = asked.release_leased(&mut tx, row, token).await;
        error::settle(tx, outcome)
    });
    released.await?
}

/// A request that makes sense by itself.
struct Wanted {
    request: AggregateShareReq,
    /// What is summed.
    selected: Scope,
    /// What is closed: all of the query, of which the leader may have selected a part.
    queried: Scope,
}

/// A request, and who asks.
struct Asked<'a> {
    shared: &'a Shared,
    task: &'a Arc<Task>,
    digest: [u8; 32],
    wanted: &'a Wanted,
    noise: &'a Portion,
}

/// What the leader is told.
struct Share {
    id: AggregateShareId,
    state: ShareState,
}

enum ShareState {
    /// The encoded `AggregateShare`.
    Ready(Vec<u8>),
    /// So many requests wait, this one among them.
    Waiting(u64),
    /// The problem document.
    Failed(String),
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
            return Err(abort(Problem::InvalidMessage, OTHER_PARAMETER));
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
}

impl Asked<'_> {
    /// Nothing when somebody else has taken in the same request meanwhile.
    async fn answer(&self, tx: &mut Tx, bytes: &[u8]) -> Result<Option<Share>, ServerError> {
        let Self { shared, task, digest, .. } = self;
        tasks::lock_task(tx, task.key).await?;
        if let Some(row) = releases::by_digest(tx, task.key, digest).await? {
            return Ok(Some(Share::released(row)?.ok_or_else(|| self.collected())?));
        }
        if let Some(row) = helper_shares::waiting(tx, task.key, digest).await? {
            return Ok(Some(Share::unreleased(tx, task.key, row).await?));
        }
        let id = AggregateShareId::random(&mut rand::rng());
        if shared.limits.answers == Answers::Deferred {
            return self.defer(tx, id, bytes).await;
        }
        let body = self.release(tx, id).await?;
        Ok(Some(Share { id, state: ShareState::Ready(body) }))
    }

    async fn defer(
        &self,
        tx: &mut Tx,
        id: AggregateShareId,
        request: &[u8],
    ) -> Result<Option<Share>, ServerError> {
        let (task, now) = (self.task.key, self.shared.clock.now());
        if let Some(full) = answer::check_queue(tx, self.shared, (task, request)).await? {
            return Err(full.in_task(&self.task.id).into());
        }
        if !helper_shares::insert(tx, task, &id, &self.digest, now).await? {
            tx.abandon();
            return Ok(None);
        }
        let work = NewWork { id: *id.as_bytes(), task, kind: WorkKind::Share, request, created_at: now };
        helper_work::insert(tx, &work).await?;
        tx.wake(HELPER_WORK);
        let waiting = helper_work::waiting(tx, task).await?;
        Ok(Some(Share { id, state: ShareState::Waiting(waiting) }))
    }

    async fn taken_in_meanwhile(&self) -> Result<Share, ServerError> {
        let (task, digest) = (self.task.key, self.digest);
        let found = self.shared.store.read("waiting_helper_share", move |mut tx| async move {
            let share = match helper_shares::waiting(&mut tx, task, &digest).await? {
                Some(row) => Some(Share::unreleased(&mut tx, task, row).await?),
                None => None,
            };
            Ok((tx, share))
        });
        let missing = || Fault::new(anyhow::anyhow!("a share was settled while it was asked for"));
        Ok(found.await?.ok_or_else(missing)?)
    }

    async fn release_leased(&self, tx: &mut Tx, row: &WorkRow, token: LeaseToken) -> Result<(), ServerError> {
        let (task, id) = (self.task.key, AggregateShareId::new(row.id));
        tasks::lock_task(tx, task).await?;
        if !helper_work::finish(tx, &row.id, token).await? {
            tx.abandon();
            return Ok(());
        }
        helper_shares::delete(tx, task, &id).await?;
        self.release(tx, id).await?;
        Ok(())
    }

    /// The checks that look at what is stored, and the release. Returns the encoded share.
    async fn release(&self, tx: &mut Tx, share_id: AggregateShareId) -> Result<Vec<u8>, ServerError> {
        let Self { shared, task, wanted, digest, noise } = *self;
        if closed_intervals::overlapping(tx, task.key, wanted.queried).await? {
            return Err(self.collected());
        }
        if let Scope::Interval(queried) = wanted.queried {
            open::check_end(task, queried, shared.clock.now())?;
        }
        let parameter = wanted.request.collection_job_req.agg_param();
        // VDAFs without a parameter have nothing to look for.
        if !parameter.is_empty()
            && !bucket_parameters::all_under(tx, task.key, wanted.selected, parameter).await?
        {
            return Err(abort(task, Problem::InvalidMessage, OTHER_PARAMETER));
        }
        let totals = release::totals(tx, &shared.compute, task, wanted.selected, parameter)
            .await
            .map_err(|e| e.answer(task))?;
        let totals = wanted.agreed(task, totals)?;
        let batch = Batch {
            task,
            closes: wanted.queried,
            request: &wanted.request.collection_job_req,
            totals: &totals,
            now: shared.clock.now(),
            compute: &shared.compute,
            noise,
            high_water: &shared.high_water,
        };
        let body = release::commit_now(tx, &batch, Reference { digest, share_id }).await;
        body.map_err(|e| e.answer(task))
    }

    fn collected(&self) -> ServerError {
        abort(self.task, Problem::BatchOverlap, "a part of the batch was collected before")
    }
}

impl Wanted {
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
    /// Nothing when the leader has deleted it.
    fn released(row: ReleaseRow) -> Result<Option<Self>, StoreError> {
        let id = row.release.share_id.ok_or_else(|| StoreError::corrupt("releases", "share_id"))?;
        let body = row.release.sealed_share;
        Ok((!body.is_empty()).then_some(Self { id, state: ShareState::Ready(body) }))
    }

    async fn unreleased(tx: &mut Tx, task: i64, row: HelperShareRow) -> Result<Self, StoreError> {
        let state = match row.state {
            HelperShareState::Waiting => ShareState::Waiting(helper_work::waiting(tx, task).await?),
            HelperShareState::Failed => {
                let problem = row.problem.ok_or_else(|| StoreError::corrupt("helper_shares", "problem"))?;
                ShareState::Failed(problem)
            }
        };
        Ok(Self { id: row.id, state })
    }

    /// The answer, once the mark of the ledger is as far as the charge that paid for it.
    async fn leave(self, shared: &Shared, task: &Task) -> Result<Response, ServerError> {
        if matches!(self.state, ShareState::Ready(_)) {
            shared.high_water.follow(&shared.store).await.map_err(Fault::new)?;
        }
        self.response(shared, task)
    }

    fn response(self, shared: &Shared, task: &Task) -> Result<Response, ServerError> {
        let resource = resource::Resource::AggregateShare(task.id, self.id);
        let response = match self.state {
            // An `AggregateShare` is the sealed share and nothing else.
            ShareState::Ready(body) => extract::message(Media::AggregateShare, body),
            ShareState::Waiting(waiting) => {
                extract::not_ready(shared.paces.shares.seconds_for(answer::ahead(shared, waiting)))
            }
            ShareState::Failed(problem) => return Err(answer::failed(&problem, "helper_shares")),
        };
        Ok(extract::located(response, task, &resource))
    }
}

fn unknown(task: &Task) -> Abort {
    Abort::plain(StatusCode::NOT_FOUND, "there is no such aggregate share").in_task(&task.id)
}

fn abort(task: &Task, problem: Problem, detail: &'static str) -> ServerError {
    Abort::new(problem, detail).in_task(&task.id).into()
}

/// An `AggregateShareReq` is some two hundred bytes; extensions and aggregation parameters may come to some more.
const REQUEST_BYTES: usize = 128 << 10;

const OTHER_PARAMETER: &str = "nothing was aggregated under this aggregation parameter";
