//! One aggregation job at the leader (DAP 4.5.3, 4.5.4): open, begin the verification, ask the helper step by step, add up.
//!
//! Everything before a request is a function of the stored segments and of the helper's earlier answers, so that a job
//! that is taken up again sends the same bytes. Which reports it includes is frozen in its row before anything is sent.

use std::sync::Arc;

use bytes::Bytes;
use mica_dap::aggregation::{AggregationJobInitReq, ReportShare, VerifyInit};
use mica_dap::codec::{Decode as _, Encode as _, Reader};
use mica_dap::report::Report;
use mica_dap::report_error::ReportError;
use mica_dap::vdaf::{InputShareRef, LeaderInit, VerifyState};
use mica_service::store::StoreError;

use super::ask::Exchange;
use super::blank;
use super::finish::{self, Settlement};
use super::included;
use super::rounds::Rounds;
use super::split::{self, Cut};
use crate::hpke_keys::{KeyRing, Openers};
use crate::jobs::{Doubt, Held, JobError, Reason};
use crate::open;
use crate::shared::Shared;
use crate::store;
use crate::store::aggregation_jobs::JobRow;
use crate::task::Task;

/// Takes a leased job from its segments to its sums.
pub(crate) async fn run(shared: &Arc<Shared>, job: &Held<JobRow>, doubt: &Doubt) -> Result<(), JobError> {
    let task = shared.tasks.by_key(job.row.task).ok_or_else(|| {
        JobError::because(Reason::Local, "its task is not among those that this process serves")
    })?;
    // Before a report is looked at: under a parameter that is none, every one would seem to be invalid (DAP 4.5.3.1).
    if task.vdaf.check_aggregation_parameter(&task.aggregation_parameter).is_err() {
        let why = "the task has no aggregation parameter: what is to be counted is not decided";
        return Err(JobError::because(Reason::Local, why));
    }
    let (segments, limit) = load(shared, job).await?;
    let opened = open_all(shared, &task, segments, job.row.included.is_some()).await?;
    let included = included::freeze(shared, &task, job, &opened).await?;
    // Whatever else is in the job may be left out of the request.
    let again = opened.iter().zip(&included).any(|(opened, included)| *included && opened.comes_again);
    let (mut inits, sent) = begin(opened, &included)?;
    let sizes: Vec<u64> = inits.iter().map(|init| init.encoded().len() as u64).collect();
    if inits.is_empty() {
        return finish::finish(shared, &task, job, Settlement::default()).await;
    }
    let blank = inits.first().filter(|_| again).map(|first| blank::beside(&task, job.row.id, first));
    let blank = blank.map(|(init, report)| {
        inits.push(init);
        report
    });
    let request = AggregationJobInitReq {
        verification_key_id: task.verification_key_id,
        agg_param: task.aggregation_parameter.clone(),
        extensions: AggregationJobInitReq::extensions_for(job.row.batch),
        verify_inits: inits,
    }
    .encoded();
    let bytes = request.len() as u64;
    let cut = |refused| Cut { included: &included, sizes: &sizes, bytes, most: limit, refused };
    // What never left is not in doubt, however often it was tried or taken up after a crash.
    if !job.row.in_doubt && sent.len() > 1 && bytes > limit {
        return split::split(shared, &task, job, &cut(false)).await;
    }
    match converse(shared, &task, (job, doubt), (request, Rounds::begin(sent, blank))).await {
        Ok(Some(settlement)) => finish::finish(shared, &task, job, settlement).await,
        Ok(None) if doubt.get() => {
            let why = "the helper takes no job of this size any more, and may have counted it when it did";
            Err(JobError::because(Reason::TooLarge, why))
        }
        Ok(None) => split::split(shared, &task, job, &cut(true)).await,
        // Some refuse a request by its size and break off, so that their answer is never read.
        Err(error)
            if error.reason() == Reason::Interrupted
                && !doubt.get()
                && sizes.len() > 1
                && job.row.attempts >= INTERRUPTIONS =>
        {
            split::split(shared, &task, job, &cut(true)).await
        }
        Err(error) => Err(error),
    }
}

/// Asks the helper step by step, until every report has met its end. Nothing: the job is larger than the helper takes.
async fn converse(
    shared: &Shared,
    task: &Arc<Task>,
    (job, doubt): (&Held<JobRow>, &Doubt),
    (request, rounds): (Vec<u8>, Rounds),
) -> Result<Option<Settlement>, JobError> {
    let (mut request, mut rounds) = (Bytes::from(request), rounds);
    let mut exchange = Exchange::of(shared, task, (job, doubt), request.clone())?;
    loop {
        let Some(response) = exchange.step(rounds.step(), request, rounds.reports()).await? else {
            return Ok(None);
        };
        let taking = Arc::clone(task);
        rounds = shared.compute.run(move || rounds.take(&taking, response)).await?;
        if rounds.reports() == 0 {
            let (settling, batch) = (Arc::clone(task), job.row.batch);
            let settlement = shared.compute.run(move || rounds.settle(&settling, batch)).await?;
            return Ok(Some(Settlement { left_at: exchange.place(), ..settlement }));
        }
        exchange.keep().await?;
        request = Bytes::from(rounds.request().encoded());
    }
}

/// A report of the job, and the leader's first step over it or why it was refused.
pub(super) struct Opened {
    pub(super) report: Report,
    pub(super) outcome: Result<LeaderInit, ReportError>,
    /// Whether it was in another job before.
    pub(super) comes_again: bool,
}

/// The segments of the job, and the most bytes that one request for its task may have.
async fn load(shared: &Shared, job: &Held<JobRow>) -> Result<(Vec<store::segments::Segment>, u64), JobError> {
    let (id, task, now) = (job.row.id, job.row.task, shared.clock.now());
    let (segments, learnt) = shared
        .store
        .read("segments_of_job", move |mut tx| async move {
            let segments = store::segments::of_job(&mut tx, id).await?;
            let learnt = store::job_limits::of_task(&mut tx, task, now).await?;
            Ok((tx, (segments, learnt)))
        })
        .await?;
    let ours = shared.limits.job_bytes as u64;
    Ok((segments, learnt.map_or(ours, |learnt| learnt.min(ours))))
}

async fn open_all(
    shared: &Arc<Shared>,
    task: &Arc<Task>,
    segments: Vec<store::segments::Segment>,
    was_sent: bool,
) -> Result<Vec<Opened>, JobError> {
    let mut reports = Vec::new();
    for segment in &segments {
        let mut reader = Reader::new(&segment.reports);
        while !reader.is_empty() {
            let report =
                Report::decode(&mut reader).map_err(|_| StoreError::corrupt("segments", "reports"))?;
            reports.push((report, segment.not_before > 0));
        }
    }
    let (ring, task) = (keys_of(shared, &reports).await?, Arc::clone(task));
    // What was sent once is sent again, however long the key has been accepted no more.
    let moment = (!was_sent).then(|| shared.keys.moment());
    let opened = shared.compute.map(reports, CHUNK, move |(report, comes_again)| {
        let keys = moment.map_or_else(|| ring.whole(), |moment| ring.at(moment));
        let outcome = open_one(keys, &task, &report);
        Opened { report, outcome, comes_again }
    });
    Ok(opened.await)
}

/// The keys that the reports are sealed to, as far as there still are any. A report whose key is destroyed is refused for
/// good; one whose key this process cannot use, and another can, is not.
async fn keys_of(shared: &Shared, reports: &[(Report, bool)]) -> Result<Arc<KeyRing>, JobError> {
    let ids = || reports.iter().map(|(report, _)| report.leader_encrypted_input_share.config_id);
    let ring = shared.keys.ring();
    if ids().all(|id| ring.whole().find(id).is_some()) {
        return Ok(ring);
    }
    shared.keys.renew().await?;
    let ring = shared.keys.ring();
    if ids().any(|id| ring.is_foreign(id)) {
        let why = "a report of the job is sealed to a key that only a newer version can use";
        return Err(JobError::because(Reason::Local, why));
    }
    Ok(ring)
}

fn open_one(keys: Openers<'_>, task: &Task, report: &Report) -> Result<LeaderInit, ReportError> {
    let share = open::open_share(
        task,
        keys,
        &report.metadata,
        &report.public_share,
        &report.leader_encrypted_input_share,
    )?;
    let share = InputShareRef {
        nonce: &report.metadata.report_id,
        public_share: &report.public_share,
        input_share: &share.input_share,
    };
    task.vdaf
        .leader_init(&task.verify_key, &task.context, &task.aggregation_parameter, &share)
        .map_err(|error| error.report_error())
}

/// A report that the helper is asked about, and where its verification stands.
type Begun = (Report, VerifyState);

/// Splits what is included into what the helper is sent and what is kept for its answer.
fn begin(opened: Vec<Opened>, included: &[bool]) -> Result<(Vec<VerifyInit>, Vec<Begun>), JobError> {
    let mut inits = Vec::new();
    let mut sent = Vec::new();
    for (opened, _) in opened.into_iter().zip(included).filter(|(_, included)| **included) {
        let Ok(init) = opened.outcome else {
            // Frozen as included by an earlier attempt, so it could be opened then.
            let why = "a report of the job cannot be opened any more: is a key missing?";
            return Err(JobError::because(Reason::Local, why));
        };
        let report = opened.report;
        inits.push(VerifyInit {
            report_share: ReportShare {
                metadata: report.metadata.clone(),
                public_share: report.public_share.clone(),
                encrypted_input_share: report.helper_encrypted_input_share.clone(),
            },
            payload: init.message,
        });
        sent.push((report, init.state));
    }
    Ok((inits, sent))
}

/// So often a job is sent as it is although the connection breaks each time before all of it has left.
const INTERRUPTIONS: u64 = 3;

/// Reports per piece of work on the compute pool: some milliseconds.
const CHUNK: usize = 32;
