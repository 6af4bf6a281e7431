//! The end of an aggregation job at the leader: its sums go to the buckets, its segments are dropped, once.

use std::collections::BTreeMap;

use mica_dap::batch::{BucketId, Checksum};
use mica_dap::id::{BatchId, ReportId};
use mica_dap::time::Time;
use mica_dap::vdaf::{OutputShare, Vdaf};
use mica_service::store::StoreError;

use crate::error::Fault;
use crate::jobs::{COLLECTION, Held, JobError};
use crate::shared::Shared;
use crate::store;
use crate::store::aggregation_jobs::JobRow;
use crate::store::buckets::BucketDelta;
use crate::task::Task;

/// A report that both aggregators found valid, and the leader's share of what it adds.
pub(crate) struct Verified {
    pub(crate) id: ReportId,
    pub(crate) time: Time,
    pub(crate) output: OutputShare,
}

/// Sums per bucket: per unit of time, or all in the batch that the leader selected. The order of the reports does not
/// matter.
pub(crate) fn sum(
    vdaf: &dyn Vdaf,
    batch: Option<BatchId>,
    verified: &[Verified],
) -> Result<Vec<BucketDelta>, Fault> {
    let mut buckets: BTreeMap<BucketId, Vec<&Verified>> = BTreeMap::new();
    for report in verified {
        let bucket = batch.map_or(BucketId::TimeInterval(report.time), BucketId::LeaderSelected);
        buckets.entry(bucket).or_default().push(report);
    }
    buckets.into_iter().filter_map(|(bucket, reports)| delta(vdaf, bucket, &reports)).collect()
}

fn delta(vdaf: &dyn Vdaf, bucket: BucketId, reports: &[&Verified]) -> Option<Result<BucketDelta, Fault>> {
    let outputs: Vec<&OutputShare> = reports.iter().map(|report| &report.output).collect();
    let times = || reports.iter().map(|report| report.time);
    let (min_time, max_time) = (times().min()?, times().max()?);
    let share = vdaf.aggregate(&[], None, &outputs).map_err(Fault::new);
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
    deltas: &[BucketDelta],
    tallies: &[(&str, u64)],
) -> Result<(), JobError> {
    let merge = |left: &[u8], right: &[u8]| {
        task.vdaf.merge(&[], left, right).map_err(|_| StoreError::corrupt("buckets", "share"))
    };
    let (merge, now) = (&merge, shared.clock.now());
    let settled = shared
        .store
        .tx("finish_aggregation_job", move |mut tx| async move {
            store::tasks::share_task(&mut tx, task.key).await?;
            if !store::aggregation_jobs::finish(&mut tx, job.row.id, job.token).await? {
                tx.abandon();
                return Ok((tx, false));
            }
            store::buckets::add(&mut tx, task.key, deltas, merge).await?;
            store::tallies::add(&mut tx, task.key, tallies).await?;
            store::segments::delete_of_job(&mut tx, job.row.id).await?;
            store::aggregation_jobs::sweep_finished(&mut tx, now.saturating_add(1), SWEPT).await?;
            tx.wake(COLLECTION);
            Ok((tx, true))
        })
        .await?;
    if settled { Ok(()) } else { Err(JobError::LeaseLost) }
}

/// The tally of reports that both aggregators found valid.
pub(crate) const AGGREGATED: &str = "aggregated";

/// How many settled jobs are forgotten when one is settled: this one, and some that a crash may have left.
const SWEPT: u64 = 4;
