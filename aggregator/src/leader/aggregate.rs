//! One aggregation job at the leader (DAP 4.5.3): open, begin the verification, ask the helper, conclude.
//!
//! Everything before the request is a function of the stored segments, so that a job that is taken up again sends the
//! same bytes. Which reports it includes is frozen in its row before anything is sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use mica_dap::aggregation::{
    AggregationJobInitReq, AggregationJobResp, ReportShare, VerifyInit, VerifyResult,
};
use mica_dap::codec::{Decode as _, Encode as _, Reader};
use mica_dap::id::BatchId;
use mica_dap::media::Media;
use mica_dap::report::Report;
use mica_dap::report_error::ReportError;
use mica_dap::resource::Resource;
use mica_dap::time::{Interval, Time};
use mica_dap::vdaf::{InputShareRef, LeaderInit, LeaderStep, VerifyState};
use mica_service::store::StoreError;

use super::finish::{self, Verified};
use super::peer::{self, Answer};
use super::split;
use crate::jobs::{Held, JobError};
use crate::open;
use crate::shared::Shared;
use crate::store;
use crate::store::aggregation_jobs::JobRow;
use crate::task::Task;

/// Takes a leased job from its segments to its sums.
pub(crate) async fn run(shared: &Arc<Shared>, job: &Held<JobRow>) -> Result<(), JobError> {
    let task = shared
        .tasks
        .by_key(job.row.task)
        .ok_or_else(|| JobError::retry("its task is not among those that this process serves"))?;
    let opened = open_all(shared, &task, job).await?;
    if opened
        .iter()
        .any(|report| shared.keys.find(report.report.leader_encrypted_input_share.config_id).is_none())
    {
        // It was there when the report was taken. Refusing the report for good would be our fault, not the client's.
        return Err(JobError::retry(
            "a report of the job is sealed to a key that this process has not loaded",
        ));
    }
    let included = freeze(shared, &task, job, &opened).await?;
    let (inits, sent) = begin(opened, &included)?;
    if inits.is_empty() {
        return finish::finish(shared, &task, job, &[], &[]).await;
    }
    let request = AggregationJobInitReq {
        verification_key_id: task.verification_key_id,
        agg_param: Vec::new(),
        extensions: AggregationJobInitReq::extensions_for(job.row.batch),
        verify_inits: inits,
    };
    let Some(response) = ask(shared, &task, job, request.encoded(), sent.len()).await? else {
        return split::split(shared, &task, job, &included).await;
    };
    if !response.answers(sent.iter().map(|report| report.report.metadata.report_id)) {
        return Err(JobError::retry("the helper answered about other reports, or in another order"));
    }
    let (concluding, batch) = (Arc::clone(&task), job.row.batch);
    let concluded = shared.compute.run(move || conclude(&concluding, batch, sent, response)).await?;
    let deltas = concluded.deltas;
    let tallies: Vec<(&str, u64)> = concluded.tallies.into_iter().collect();
    finish::finish(shared, &task, job, &deltas, &tallies).await
}

/// A report of the job, and the leader's first step over it or why it was refused.
struct Opened {
    report: Report,
    outcome: Result<LeaderInit, ReportError>,
}

/// A report that the helper was asked about.
struct Sent {
    report: Report,
    state: VerifyState,
}

async fn open_all(
    shared: &Arc<Shared>,
    task: &Arc<Task>,
    job: &Held<JobRow>,
) -> Result<Vec<Opened>, JobError> {
    let id = job.row.id;
    let segments = shared
        .store
        .read("segments_of_job", move |mut tx| async move {
            let segments = store::segments::of_job(&mut tx, id).await?;
            Ok((tx, segments))
        })
        .await?;
    let mut reports = Vec::new();
    for segment in &segments {
        let mut reader = Reader::new(&segment.reports);
        while !reader.is_empty() {
            reports
                .push(Report::decode(&mut reader).map_err(|_| StoreError::corrupt("segments", "reports"))?);
        }
    }
    let (shared_too, task) = (Arc::clone(shared), Arc::clone(task));
    let opened = shared.compute.map(reports, CHUNK, move |report| {
        let outcome = open_one(&shared_too, &task, &report);
        Opened { report, outcome }
    });
    Ok(opened.await)
}

fn open_one(shared: &Shared, task: &Task, report: &Report) -> Result<LeaderInit, ReportError> {
    let share = open::open_share(
        task,
        &shared.keys,
        &report.metadata,
        &report.public_share,
        &report.leader_encrypted_input_share,
    )?;
    let share = InputShareRef {
        nonce: &report.metadata.report_id,
        public_share: &report.public_share,
        input_share: &share.input_share,
    };
    task.vdaf.leader_init(&task.verify_key, &task.context, &[], &share).map_err(|error| error.report_error())
}

/// The reports this job asks the helper about: decided once, and counted once if they are refused.
async fn freeze(
    shared: &Shared,
    task: &Task,
    job: &Held<JobRow>,
    opened: &[Opened],
) -> Result<Vec<bool>, JobError> {
    if let Some(bitmap) = &job.row.included {
        return Ok((0..opened.len()).map(|at| bit(bitmap, at)).collect());
    }
    let token = job.token;
    let frozen = shared
        .store
        .tx("freeze_aggregation_job", move |mut tx| async move {
            store::tasks::share_task(&mut tx, task.key).await?;
            let closed = closed_around(&mut tx, task, opened).await?;
            let verdicts: Vec<Option<ReportError>> =
                opened.iter().map(|report| verdict(report, &closed)).collect();
            let included: Vec<bool> = verdicts.iter().map(Option::is_none).collect();
            if !store::aggregation_jobs::freeze(&mut tx, job.row.id, token, &bitmap(&included)).await? {
                tx.abandon();
                return Ok((tx, None));
            }
            let mut tally: BTreeMap<&str, u64> = BTreeMap::new();
            for error in verdicts.into_iter().flatten() {
                *tally.entry(error.label()).or_default() += 1;
            }
            store::tallies::add(&mut tx, task.key, &tally.into_iter().collect::<Vec<_>>()).await?;
            Ok((tx, Some(included)))
        })
        .await?;
    frozen.ok_or(JobError::LeaseLost)
}

async fn closed_around(
    tx: &mut store::Tx,
    task: &Task,
    opened: &[Opened],
) -> Result<Vec<Interval>, StoreError> {
    let times = || opened.iter().map(|report| report.report.metadata.time);
    let (Some(first), Some(last)) = (times().min(), times().max()) else { return Ok(Vec::new()) };
    // A batch that is closing waits for this job, so that its reports belong to it.
    store::closed_intervals::released_times(tx, task.key, first, last).await
}

fn verdict(opened: &Opened, closed: &[Interval]) -> Option<ReportError> {
    let time: Time = opened.report.metadata.time;
    match &opened.outcome {
        Err(error) => Some(*error),
        Ok(_) if closed.iter().any(|interval| interval.contains(time)) => Some(ReportError::BatchCollected),
        Ok(_) => None,
    }
}

/// Splits what is included into what the helper is sent and what is kept for its answer.
fn begin(opened: Vec<Opened>, included: &[bool]) -> Result<(Vec<VerifyInit>, Vec<Sent>), JobError> {
    let mut inits = Vec::new();
    let mut sent = Vec::new();
    for (opened, _) in opened.into_iter().zip(included).filter(|(_, included)| **included) {
        let Ok(init) = opened.outcome else {
            // Frozen as included by an earlier attempt, so it could be opened then.
            return Err(JobError::retry("a report of the job cannot be opened any more: is a key missing?"));
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
        sent.push(Sent { report, state: init.state });
    }
    Ok((inits, sent))
}

/// Posts the job, or polls for it where the helper deferred it in an earlier attempt. Nothing: it is too large.
async fn ask(
    shared: &Shared,
    task: &Task,
    job: &Held<JobRow>,
    request: Vec<u8>,
    reports: usize,
) -> Result<Option<AggregationJobResp>, JobError> {
    let answer = if let Some(location) = &job.row.helper_location {
        peer::poll(shared, task, location, Media::AggregationJobResp).await?
    } else {
        let url = Resource::AggregationJobs(task.id).url(task.configuration.helper_url());
        let message = (Media::AggregationJobInitReq, request);
        peer::post(shared, task, &url, message, Media::AggregationJobResp).await?
    };
    match answer {
        Answer::Ready(body) => AggregationJobResp::decode_limited(&body, reports)
            .map(Some)
            .map_err(|error| JobError::retry(format!("the helper's answer: {error}"))),
        Answer::TooLarge => Ok(None),
        Answer::Gone => {
            // Posted again, the same bytes find what the helper made of them, or make it.
            remember(shared, job, None).await?;
            Err(JobError::retry("the helper does not know the job any more"))
        }
        // Its type only: what a peer writes beside it could name a report.
        Answer::Refused(abort) => {
            Err(JobError::retry(format!("the helper refused the job: {}", abort.known_type())))
        }
        Answer::Deferred { location, seconds } => {
            if location.is_some() {
                remember(shared, job, location).await?;
            }
            Err(JobError::Deferred(seconds))
        }
    }
}

/// Where the helper keeps the job, for the next attempt.
async fn remember(shared: &Shared, job: &Held<JobRow>, location: Option<String>) -> Result<(), JobError> {
    if location == job.row.helper_location {
        return Ok(());
    }
    let (location, token) = (location.as_deref(), job.token);
    shared
        .store
        .tx("set_helper_location", move |mut tx| async move {
            store::aggregation_jobs::set_location(&mut tx, job.row.id, token, location).await?;
            Ok((tx, ()))
        })
        .await?;
    Ok(())
}

struct Concluded {
    deltas: Vec<store::buckets::BucketDelta>,
    tallies: BTreeMap<&'static str, u64>,
}

/// The leader's last step over each report that the helper continued (DAP 4.5.3.1).
fn conclude(
    task: &Task,
    batch: Option<BatchId>,
    sent: Vec<Sent>,
    response: AggregationJobResp,
) -> Result<Concluded, JobError> {
    let mut verified = Vec::with_capacity(sent.len());
    let mut tallies = BTreeMap::new();
    for (sent, resp) in sent.into_iter().zip(response.verify_resps) {
        let step = match resp.result {
            VerifyResult::Continue(message) => {
                task.vdaf.leader_continued(&task.context, &[], sent.state, &message)
            }
            VerifyResult::Reject(code) => {
                *tallies.entry(ReportError::from_code(code, task.draft).label()).or_default() += 1;
                continue;
            }
            VerifyResult::Finish => {
                return Err(JobError::retry("the helper finished a report that was not at its end"));
            }
        };
        match step {
            Ok(LeaderStep::Finished(output)) => {
                let metadata = &sent.report.metadata;
                verified.push(Verified { id: metadata.report_id, time: metadata.time, output });
                *tallies.entry(finish::AGGREGATED).or_default() += 1;
            }
            Ok(_) => return Err(JobError::retry("the helper continued a report that was at its end")),
            Err(_) => *tallies.entry(ReportError::VdafVerifyError.label()).or_default() += 1,
        }
    }
    let deltas =
        finish::sum(&*task.vdaf, batch, &verified).map_err(|fault| JobError::retry(fault.to_string()))?;
    Ok(Concluded { deltas, tallies })
}

fn bit(bitmap: &[u8], at: usize) -> bool {
    bitmap.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1)
}

fn bitmap(bits: &[bool]) -> Vec<u8> {
    bits.chunks(8)
        .map(|byte| byte.iter().enumerate().fold(0, |byte, (at, bit)| byte | u8::from(*bit) << at))
        .collect()
}

/// Reports per piece of work on the compute pool: some milliseconds.
const CHUNK: usize = 32;

#[cfg(test)]
mod tests {
    use super::{bit, bitmap};

    #[test]
    fn a_bitmap_reads_what_it_writes() {
        let bits: Vec<bool> = (0..21).map(|at| at % 3 == 0).collect();
        let written = bitmap(&bits);
        assert_eq!(written.len(), 3);
        assert_eq!((0..21).map(|at| bit(&written, at)).collect::<Vec<_>>(), bits);
        assert!(!bit(&written, 21) && !bit(&written, 1_000));
    }
}
