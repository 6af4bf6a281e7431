//! What a verified job leaves behind, in one transaction: report identifiers, one summed update per bucket, tallies and
//! the answer (DAP 4.5.4.3). All of it or nothing; whoever asks with the same bytes at the same time gets this answer.
//!
//! Here a valid report can still be refused: when it was counted before, or when its batch has been collected.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use mica_dap::aggregation::{AggregationJobResp, VerifyResp, VerifyResult};
use mica_dap::batch::{BucketId, Checksum};
use mica_dap::codec::Encode as _;
use mica_dap::id::{AggregationJobId, BatchId, ReportId};
use mica_dap::report_error::ReportError;
use mica_dap::time::Interval;
use mica_dap::vdaf::{OutputShare, Vdaf};
use mica_service::store::{StoreError, Tx};

use super::aggregate::{Answer, stored};
use super::verify::{Report, Verified};
use crate::error::{Fault, ServerError};
use crate::store::buckets::{self, BucketDelta};
use crate::store::helper_jobs::{self, HelperJobRow};
use crate::store::{Scope, closed_intervals, report_ids, tallies, tasks};
use crate::task::Task;

impl Verified {
    /// Counts the reports that may be counted, and stores the answer.
    pub(super) async fn commit(self) -> Result<Answer, ServerError> {
        let hopes: Vec<Verdict> =
            self.reports.iter().map(|report| report.outcome.as_ref().err().copied()).collect();
        let sums = self.sums(hopes.clone()).await?;
        let job = &self;
        let (hopes, sums) = (&hopes, &sums);
        let answer = self.shared.store.tx("helper_job", move |mut tx| async move {
            tasks::share_task(&mut tx, job.task.key).await?;
            let verdicts = job.settle(&mut tx, hopes).await?;
            let sums = if verdicts == *hopes {
                Cow::Borrowed(sums)
            } else {
                match job.sums(verdicts.clone()).await {
                    Ok(fewer) => Cow::Owned(fewer),
                    Err(fault) => {
                        tx.abandon();
                        return Ok((tx, Err(fault)));
                    }
                }
            };
            let answer = job.write(&mut tx, &verdicts, &sums).await?;
            if answer.is_none() {
                tx.abandon();
            }
            Ok((tx, Ok(answer)))
        });
        match answer.await?? {
            Some(answer) => Ok(answer),
            None => self.stored_meanwhile().await,
        }
    }

    /// The reports that were counted before, or whose batch is closed, are refused after all.
    async fn settle(&self, tx: &mut Tx, hopes: &[Verdict]) -> Result<Vec<Verdict>, StoreError> {
        let closed = Closed::load(tx, &self.task, self.batch, &self.reports).await?;
        let mut verdicts: Vec<Verdict> = hopes
            .iter()
            .zip(self.reports.iter())
            .map(|(hope, report)| {
                hope.or_else(|| closed.holds(report).then_some(ReportError::BatchCollected))
            })
            .collect();
        let counted: Vec<ReportId> = self
            .reports
            .iter()
            .zip(&verdicts)
            .filter(|(_, v)| v.is_none())
            .map(|(report, _)| report.id)
            .collect();
        let mut new = report_ids::insert_new(tx, self.task.key, &counted).await?.into_iter();
        for verdict in verdicts.iter_mut().filter(|verdict| verdict.is_none()) {
            *verdict = (new.next() != Some(true)).then_some(ReportError::ReportReplayed);
        }
        Ok(verdicts)
    }

    /// Nothing when somebody else has answered the same request meanwhile.
    async fn write(
        &self,
        tx: &mut Tx,
        verdicts: &[Verdict],
        sums: &[BucketDelta],
    ) -> Result<Option<Answer>, StoreError> {
        let vdaf = &self.task.vdaf;
        let merge = |left: &[u8], right: &[u8]| {
            vdaf.merge(&[], left, right).map_err(|_| StoreError::corrupt("buckets", "share"))
        };
        buckets::add(tx, self.task.key, sums, &merge).await?;
        let outcomes: Vec<(&str, u64)> =
            verdicts.iter().map(|verdict| (verdict.map_or(AGGREGATED, ReportError::label), 1)).collect();
        tallies::add(tx, self.task.key, &outcomes).await?;
        let row = HelperJobRow {
            id: AggregationJobId::random(&mut rand::rng()),
            task: self.task.key,
            request_digest: self.digest,
            response: self.response(verdicts),
            created_at: self.shared.clock.now(),
        };
        let first = helper_jobs::insert(tx, &row).await?;
        Ok(first.then_some(Answer { id: row.id, body: row.response }))
    }

    fn response(&self, verdicts: &[Verdict]) -> Vec<u8> {
        let resps = self.reports.iter().zip(verdicts).map(|(report, verdict)| {
            let result = match (verdict, &report.outcome) {
                (None, Ok(valid)) => VerifyResult::Continue(valid.message.clone()),
                (Some(error), _) | (None, Err(error)) => VerifyResult::Reject(error.code(self.task.draft)),
            };
            VerifyResp { report_id: report.id, result }
        });
        AggregationJobResp { verify_resps: resps.collect() }.encoded()
    }

    async fn sums(&self, verdicts: Vec<Verdict>) -> Result<Vec<BucketDelta>, Fault> {
        let (task, batch, reports) = (Arc::clone(&self.task), self.batch, Arc::clone(&self.reports));
        self.shared.compute.run(move || sums(&*task.vdaf, batch, &reports, &verdicts)).await
    }

    async fn stored_meanwhile(&self) -> Result<Answer, ServerError> {
        let (task, digest) = (self.task.key, self.digest);
        let answer = self.shared.store.read("helper_job", move |mut tx| async move {
            let answer = stored(&mut tx, task, &digest).await?;
            Ok((tx, answer))
        });
        answer
            .await?
            .ok_or_else(|| Fault::new(anyhow::anyhow!("a job was deleted while it was answered")).into())
    }
}

/// Why a report is not counted, if it is not.
type Verdict = Option<ReportError>;

/// What is closed of the job's batches.
enum Closed {
    Intervals(Vec<Interval>),
    Batch(bool),
}

impl Closed {
    async fn load(
        tx: &mut Tx,
        task: &Task,
        batch: Option<BatchId>,
        reports: &[Report],
    ) -> Result<Self, StoreError> {
        if let Some(batch) = batch {
            return Ok(Self::Batch(closed_intervals::overlapping(tx, task.key, Scope::Batch(batch)).await?));
        }
        let times = || reports.iter().filter(|report| report.outcome.is_ok()).map(|report| report.time);
        let (Some(first), Some(last)) = (times().min(), times().max()) else {
            return Ok(Self::Intervals(Vec::new()));
        };
        Ok(Self::Intervals(closed_intervals::closed_times(tx, task.key, first, last).await?))
    }

    fn holds(&self, report: &Report) -> bool {
        match self {
            Self::Intervals(intervals) => intervals.iter().any(|interval| interval.contains(report.time)),
            Self::Batch(closed) => *closed,
        }
    }
}

/// The sums of what is counted, one per bucket.
fn sums(
    vdaf: &dyn Vdaf,
    batch: Option<BatchId>,
    reports: &[Report],
    verdicts: &[Verdict],
) -> Result<Vec<BucketDelta>, Fault> {
    let mut counted: BTreeMap<BucketId, Vec<(&Report, &OutputShare)>> = BTreeMap::new();
    for (report, verdict) in reports.iter().zip(verdicts) {
        if let (None, Ok(valid)) = (verdict, &report.outcome) {
            let bucket = batch.map_or(BucketId::TimeInterval(report.time), BucketId::LeaderSelected);
            counted.entry(bucket).or_default().push((report, &valid.output));
        }
    }
    counted.into_iter().filter_map(|(bucket, reports)| delta(vdaf, bucket, &reports)).collect()
}

fn delta(
    vdaf: &dyn Vdaf,
    bucket: BucketId,
    reports: &[(&Report, &OutputShare)],
) -> Option<Result<BucketDelta, Fault>> {
    let outputs: Vec<&OutputShare> = reports.iter().map(|(_, output)| *output).collect();
    let times = || reports.iter().map(|(report, _)| report.time);
    let (min_time, max_time) = (times().min()?, times().max()?);
    let share = vdaf.aggregate(&[], None, &outputs).map_err(Fault::new);
    Some(share.map(|share| BucketDelta {
        bucket,
        share,
        report_count: reports.len() as u64,
        checksum: reports.iter().map(|(report, _)| Checksum::of(&report.id)).collect(),
        min_time,
        max_time,
    }))
}

/// The outcome of a report that counts.
const AGGREGATED: &str = "aggregated";
