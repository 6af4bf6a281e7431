//! The end of an aggregation job at the leader: its sums go to the buckets, its segments are dropped, once.

use std::collections::BTreeMap;

use mica_dap::batch::{BucketId, Checksum};
use mica_dap::codec::Encode as _;
use mica_dap::id::{BatchId, ReportId};
use mica_dap::report::Report;
use mica_dap::report_error::ReportError;
use mica_dap::time::Time;
use mica_dap::vdaf::OutputShare;
use mica_service::store::{StoreError, Tx};

use super::form_jobs::most_reports;
use crate::error::Fault;
use crate::jobs::{self, Held, JobError};
use crate::shared::Shared;
use crate::store;
use crate::store::aggregation_jobs::JobRow;
use crate::store::buckets::BucketDelta;
use crate::store::segments::NewSegment;
use crate::task::Task;
use crate::taskprov::trial;

/// A report that both aggregators found valid, and the leader's share of what it adds.
pub(crate) struct Verified {
    pub(crate) id: ReportId,
    pub(crate) time: Time,
    pub(crate) output: OutputShare,
}

/// What becomes of the reports of a job.
#[derive(Default)]
pub(crate) struct Settlement {
    /// What is added to the buckets.
    pub(crate) deltas: Vec<BucketDelta>,
    /// How many reports met which end.
    pub(crate) tallies: BTreeMap<&'static str, u64>,
    /// Reports that the helper finds to be too early, for another job.
    pub(crate) later: Vec<Report>,
    /// Where the helper keeps the job, which it may forget then.
    pub(crate) left_at: Option<String>,
}

/// Sums per bucket: per unit of time, or all in the batch that the leader selected. The order of the reports does not
/// matter.
pub(crate) fn sum(
    task: &Task,
    batch: Option<BatchId>,
    verified: &[Verified],
) -> Result<Vec<BucketDelta>, Fault> {
    let mut buckets: BTreeMap<BucketId, Vec<&Verified>> = BTreeMap::new();
    for report in verified {
        let bucket = batch.map_or(BucketId::TimeInterval(report.time), BucketId::LeaderSelected);
        buckets.entry(bucket).or_default().push(report);
    }
    buckets.into_iter().filter_map(|(bucket, reports)| delta(task, bucket, &reports)).collect()
}

fn delta(task: &Task, bucket: BucketId, reports: &[&Verified]) -> Option<Result<BucketDelta, Fault>> {
    let outputs: Vec<&OutputShare> = reports.iter().map(|report| &report.output).collect();
    let times = || reports.iter().map(|report| report.time);
    let (min_time, max_time) = (times().min()?, times().max()?);
    let share = task.vdaf.aggregate(&task.aggregation_parameter, None, &outputs).map_err(Fault::new);
    Some(share.map(|share| BucketDelta {
        bucket,
        share,
        report_count: reports.len() as u64,
        checksum: reports.iter().map(|report| Checksum::of(&report.id)).collect(),
        min_time,
        max_time,
    }))
}

/// Commits the job's sums and drops its segments, if the lease still holds.
pub(crate) async fn finish(
    shared: &Shared,
    task: &Task,
    job: &Held<JobRow>,
    settlement: Settlement,
) -> Result<(), JobError> {
    let merge = |left: &[u8], right: &[u8]| {
        task.vdaf
            .merge(&task.aggregation_parameter, left, right)
            .map_err(|_| StoreError::corrupt("buckets", "share"))
    };
    let (merge, now) = (&merge, shared.clock.now());
    let most = usize::try_from(most_reports(&shared.limits, true)).unwrap_or(usize::MAX);
    let Settlement { deltas, mut tallies, later, left_at } = settlement;
    let formed_at = job.row.created_at;
    let (later, lost) =
        later.into_iter().partition::<Vec<_>, _>(|report| may_come_later(task, report, formed_at));
    if !lost.is_empty() {
        *tallies.entry(ReportError::ReportTooEarly.label()).or_default() += lost.len() as u64;
    }
    let tallies: Vec<(&str, u64)> = tallies.into_iter().collect();
    let (deltas, tallies, later, left_at) = (&deltas[..], &tallies[..], &later[..], left_at.as_deref());
    let settled = shared
        .store
        .tx("finish_aggregation_job", move |mut tx| async move {
            trial::lock(&mut tx, task).await?;
            if !store::aggregation_jobs::finish(&mut tx, job.row.id, job.token).await? {
                tx.abandon();
                return Ok((tx, None));
            }
            store::buckets::add(&mut tx, task.key, deltas, merge).await?;
            let (later, over) = still_open(&mut tx, task, later).await?;
            let over = (ReportError::BatchCollected.label(), over);
            store::tallies::add(&mut tx, task.key, &[tallies, &[over]].concat()).await?;
            store::segments::delete_of_job(&mut tx, job.row.id).await?;
            for part in later.chunks(most) {
                put_off(&mut tx, task, part, now).await?;
            }
            let trial = trial::settled(&mut tx, task, !deltas.is_empty()).await?;
            store::aggregation_jobs::sweep_finished(&mut tx, now.saturating_add(1), SWEPT).await?;
            if let Some(url) = left_at {
                store::leftovers::insert(&mut tx, task.key, url, now).await?;
            }
            Ok((tx, Some(trial)))
        })
        .await?;
    task.set_trial(settled.ok_or(JobError::LeaseLost)?);
    shared.noise.stock(task);
    jobs::batch_changed(shared, task.key);
    Ok(())
}

/// Whether a report that the helper finds to be too early is worth sending again: not if its time was long past here when
/// the job was formed, because then the clocks of the two differ for good. How late the answer is tells nothing of them.
fn may_come_later(task: &Task, report: &Report, formed_at: u64) -> bool {
    let precision = task.configuration.time_precision();
    formed_at < precision.start_of(report.metadata.time).saturating_add(TOO_EARLY_SECONDS)
}

/// The reports whose interval takes more, and how many the others are. An interval that is closing does not: it waits
/// for the jobs that were under way, and one of its reports in another job would be counted by the helper, perhaps, and
/// not by us, once it is released. The caller shares the lock of the task, so that no interval closes meanwhile.
async fn still_open<'r>(
    tx: &mut Tx,
    task: &Task,
    later: &'r [Report],
) -> Result<(Vec<&'r Report>, u64), StoreError> {
    let times = || later.iter().map(|report| report.metadata.time);
    let (Some(first), Some(last)) = (times().min(), times().max()) else { return Ok((Vec::new(), 0)) };
    let closed = store::closed_intervals::closed_times(tx, task.key, first, last).await?;
    let is_open = |report: &&Report| !closed.iter().any(|interval| interval.contains(report.metadata.time));
    let open: Vec<&Report> = later.iter().filter(is_open).collect();
    let over = later.len() - open.len();
    Ok((open, over as u64))
}

/// Puts reports back among those that wait for a job, which is another one (DAP 4.5.3.1), and not before their time has
/// come by our own clock.
///
/// The segment is a new one, so that no collection that waits for the old one waits for it.
async fn put_off(tx: &mut Tx, task: &Task, later: &[&Report], now: u64) -> Result<(), StoreError> {
    let encoded: Vec<(Time, Vec<u8>)> =
        later.iter().map(|report| (report.metadata.time, report.encoded())).collect();
    let reports: Vec<(Time, &[u8])> = encoded.iter().map(|(time, bytes)| (*time, bytes.as_slice())).collect();
    let Some(segment) = NewSegment::of(task.key, &reports, now) else { return Ok(()) };
    let max_time = segment.max_time;
    let segment = store::segments::insert_segment(tx, &segment).await?;
    let come = task.configuration.time_precision().start_of(max_time);
    store::segments::postpone(tx, segment, come.max(now.saturating_add(AGAIN_SECONDS))).await
}

/// The tally of reports that both aggregators found valid.
pub(crate) const AGGREGATED: &str = "aggregated";

/// For how long after its time a report is sent again that the helper finds to be too early.
const TOO_EARLY_SECONDS: u64 = 3_600;

/// How long a report that came too early waits at least.
const AGAIN_SECONDS: u64 = 60;

/// How many settled jobs are forgotten when one is settled: this one, and some that a crash may have left.
const SWEPT: u64 = 4;
