//! What a verified step of a job leaves behind, in one transaction: report identifiers, one summed update per bucket,
//! tallies, what is kept for the next step, and the answer (DAP 4.5.4.3). All of it or nothing.
//!
//! Here a valid report can still be refused: when it was counted before, when its batch has been collected, or when its
//! bucket holds shares that were made under another aggregation parameter.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mica_dap::aggregation::{AggregationJobResp, VerifyResp, VerifyResult};
use mica_dap::batch::{BucketId, Checksum};
use mica_dap::codec::Encode as _;
use mica_dap::id::{AggregationJobId, BatchId, ReportId};
use mica_dap::report_error::ReportError;
use mica_dap::time::Interval;
use mica_dap::vdaf::{EncodedState, OutputShare, Vdaf};
use mica_service::store::{StoreError, Tx};

use super::answer::{Answer, State};
use super::report::{self, Report, Valid};
use super::verify::Verified;
use crate::error::{Fault, ServerError};
use crate::store::buckets::{self, BucketDelta};
use crate::store::helper_jobs::{self, HelperJobRow};
use crate::store::helper_states::{self, HelperStatesRow};
use crate::store::{
    LeaseToken, Scope, bucket_parameters, closed_intervals, helper_work, report_ids, tallies, tasks,
};
use crate::task::Task;

/// Which request the work is for, and hence which row shows that it was done.
#[derive(Clone, Copy)]
pub(super) enum Origin {
    /// One of this digest that begins a job and is answered at once.
    New([u8; 32]),
    /// One of this digest that takes a job from its step to the next and is answered at once.
    Next(AggregationJobId, u16, [u8; 32]),
    /// One that was taken in before and is worked on under a lease.
    Leased(AggregationJobId, u16, LeaseToken),
}

impl Verified {
    /// Counts the reports that may be counted, and stores the answer. Nothing when somebody else has answered the same
    /// request meanwhile, or the job is deleted.
    pub(super) async fn commit(self) -> Result<Option<Answer>, ServerError> {
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
        let answer = answer.await??;
        self.shared.noise.stock(&self.task);
        Ok(answer)
    }

    /// The reports that were counted before, or whose batch is closed, are refused after all.
    async fn settle(&self, tx: &mut Tx, hopes: &[Verdict]) -> Result<Vec<Verdict>, StoreError> {
        let mut verdicts = hopes.to_vec();
        self.refuse_known(tx, &mut verdicts).await?;
        let closed = Closed::load(tx, &self.task, self.batch, &self.reports).await?;
        for (verdict, report) in verdicts.iter_mut().zip(self.reports.iter()) {
            *verdict = verdict.or_else(|| closed.holds(report).then_some(ReportError::BatchCollected));
        }
        self.refuse_other_parameters(tx, &mut verdicts).await?;
        let counted: Vec<ReportId> = self.done(&verdicts).map(|report| report.id).collect();
        let mut new = report_ids::insert_new(tx, self.task.key, &counted).await?.into_iter();
        for (verdict, report) in verdicts.iter_mut().zip(self.reports.iter()) {
            if verdict.is_none() && report.is_done() {
                *verdict = (new.next() != Some(true)).then_some(ReportError::ReportReplayed);
            }
        }
        Ok(verdicts)
    }

    /// A report that was counted is not looked at under another parameter either. Those that are done show it when they
    /// are counted.
    async fn refuse_known(&self, tx: &mut Tx, verdicts: &mut [Verdict]) -> Result<(), StoreError> {
        let wait: Vec<ReportId> =
            self.reports.iter().filter(|report| report.waits()).map(|report| report.id).collect();
        if wait.is_empty() {
            return Ok(());
        }
        let known = report_ids::known(tx, self.task.key, &wait).await?;
        for (verdict, report) in verdicts.iter_mut().zip(self.reports.iter()) {
            if report.waits() && known.contains(&report.id) {
                *verdict = Some(ReportError::ReportReplayed);
            }
        }
        Ok(())
    }

    /// Shares that were made under two parameters do not add up. VDAFs without a parameter have nothing to look for.
    async fn refuse_other_parameters(&self, tx: &mut Tx, verdicts: &mut [Verdict]) -> Result<(), StoreError> {
        if self.parameter.is_empty() {
            return Ok(());
        }
        let buckets: BTreeSet<BucketId> =
            self.done(verdicts).map(|report| report.bucket(self.batch)).collect();
        let mut others = BTreeSet::new();
        for bucket in buckets {
            if !bucket_parameters::claim(tx, self.task.key, bucket, &self.parameter).await? {
                others.insert(bucket);
            }
        }
        for (verdict, report) in verdicts.iter_mut().zip(self.reports.iter()) {
            if verdict.is_none() && report.is_done() && others.contains(&report.bucket(self.batch)) {
                *verdict = Some(ReportError::InvalidMessage);
            }
        }
        Ok(())
    }

    /// The reports that are to be counted.
    fn done<'v>(&'v self, verdicts: &'v [Verdict]) -> impl Iterator<Item = &'v Report> {
        let counted = |(report, verdict): &(&'v Report, &Verdict)| verdict.is_none() && report.is_done();
        self.reports.iter().zip(verdicts).filter(counted).map(|(report, _)| report)
    }

    async fn write(
        &self,
        tx: &mut Tx,
        verdicts: &[Verdict],
        sums: &[BucketDelta],
    ) -> Result<Option<Answer>, StoreError> {
        let vdaf = &self.task.vdaf;
        let merge = |left: &[u8], right: &[u8]| {
            vdaf.merge(&self.parameter, left, right).map_err(|_| StoreError::corrupt("buckets", "share"))
        };
        buckets::add(tx, self.task.key, sums, &merge).await?;
        tallies::add(tx, self.task.key, &self.outcomes(verdicts)).await?;
        let body = self.response(verdicts);
        let (id, step) = match self.origin {
            Origin::New(digest) => {
                let id = AggregationJobId::random(&mut rand::rng());
                let now = self.shared.clock.now();
                let row = HelperJobRow::new(self.task.key, id, digest, body.clone(), now);
                if !helper_jobs::insert(tx, &row).await? {
                    return Ok(None);
                }
                (id, 0)
            }
            Origin::Next(id, step, digest) => {
                if !helper_jobs::advance(tx, &id, step, &digest, &body).await? {
                    return Ok(None);
                }
                (id, step + 1)
            }
            Origin::Leased(id, step, token) => {
                let mine = helper_work::finish(tx, id.as_bytes(), token).await?;
                if !(mine && helper_jobs::set_ready(tx, &id, &body).await?) {
                    return Ok(None);
                }
                (id, step)
            }
        };
        self.keep(tx, &id, step, verdicts).await?;
        Ok(Some(Answer { id, step, state: State::Ready(body) }))
    }

    /// What the next step needs; what the last one needed goes.
    async fn keep(
        &self,
        tx: &mut Tx,
        id: &AggregationJobId,
        step: u16,
        verdicts: &[Verdict],
    ) -> Result<(), StoreError> {
        let waiting: Vec<(&Report, &EncodedState)> = self
            .reports
            .iter()
            .zip(verdicts)
            .filter(|(_, verdict)| verdict.is_none())
            .filter_map(|(report, _)| Some((report, report.state()?)))
            .collect();
        if waiting.is_empty() {
            return if step > 0 { helper_states::delete(tx, id).await } else { Ok(()) };
        }
        let states = report::pack(&waiting);
        let row = HelperStatesRow { parameter: self.parameter.to_vec(), batch: self.batch, states };
        helper_states::put(tx, id, &row).await
    }

    /// How many reports met which end; those that wait have met none.
    fn outcomes(&self, verdicts: &[Verdict]) -> Vec<(&'static str, u64)> {
        let ended = self.reports.iter().zip(verdicts).filter(|(report, v)| v.is_some() || report.is_done());
        ended.map(|(_, verdict)| (verdict.map_or(AGGREGATED, ReportError::label), 1)).collect()
    }

    fn response(&self, verdicts: &[Verdict]) -> Vec<u8> {
        let resps = self.reports.iter().zip(verdicts).map(|(report, verdict)| {
            let result = match (verdict, &report.outcome) {
                (Some(error), _) | (None, Err(error)) => VerifyResult::Reject(error.code(self.task.draft)),
                (None, Ok(Valid::Done { message: None, .. })) => VerifyResult::Finish,
                (None, Ok(Valid::Done { message: Some(message), .. } | Valid::Waits { message, .. })) => {
                    VerifyResult::Continue(message.clone())
                }
            };
            VerifyResp { report_id: report.id, result }
        });
        AggregationJobResp { verify_resps: resps.collect() }.encoded()
    }

    async fn sums(&self, verdicts: Vec<Verdict>) -> Result<Vec<BucketDelta>, Fault> {
        let (task, batch, reports) = (Arc::clone(&self.task), self.batch, Arc::clone(&self.reports));
        let parameter = Arc::clone(&self.parameter);
        self.shared.compute.run(move || sums(&*task.vdaf, &parameter, batch, &reports, &verdicts)).await
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
    parameter: &[u8],
    batch: Option<BatchId>,
    reports: &[Report],
    verdicts: &[Verdict],
) -> Result<Vec<BucketDelta>, Fault> {
    let mut counted: BTreeMap<BucketId, Vec<(&Report, &OutputShare)>> = BTreeMap::new();
    for (report, verdict) in reports.iter().zip(verdicts) {
        if let (None, Ok(Valid::Done { output, .. })) = (verdict, &report.outcome) {
            counted.entry(report.bucket(batch)).or_default().push((report, output));
        }
    }
    counted.into_iter().filter_map(|(bucket, reports)| delta(vdaf, parameter, bucket, &reports)).collect()
}

fn delta(
    vdaf: &dyn Vdaf,
    parameter: &[u8],
    bucket: BucketId,
    reports: &[(&Report, &OutputShare)],
) -> Option<Result<BucketDelta, Fault>> {
    let outputs: Vec<&OutputShare> = reports.iter().map(|(_, output)| *output).collect();
    let times = || reports.iter().map(|(report, _)| report.time);
    let (min_time, max_time) = (times().min()?, times().max()?);
    let share = vdaf.aggregate(parameter, None, &outputs).map_err(Fault::new);
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
