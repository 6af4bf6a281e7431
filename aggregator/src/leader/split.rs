//! A job that is larger than the helper takes becomes several, each as large as the helper is known to take.
//!
//! Safe because the helper refused it for its size before it read a report, or never got it. Only the reports that the job
//! included are kept; the others were counted as refused when it was frozen. What was decided about the kept ones stays
//! decided: a part is not younger than the job.

use mica_dap::codec::Reader;
use mica_dap::report::Report;
use mica_dap::time::Time;
use mica_service::store::{StoreError, Tx};

use super::included;
use crate::jobs::{AGGREGATION, Held, JobError, Reason};
use crate::shared::Shared;
use crate::store::aggregation_jobs::{self, JobRow};
use crate::store::collection_jobs;
use crate::store::job_limits;
use crate::store::segments::{self, NewSegment, Segment};
use crate::store::tasks;
use crate::task::Task;

/// How a job is to be cut.
pub(super) struct Cut<'c> {
    /// Which of its reports the job included.
    pub(super) included: &'c [bool],
    /// How many bytes of the request each of these takes.
    pub(super) sizes: &'c [u64],
    /// The whole request.
    pub(super) bytes: u64,
    /// The most that the request of a part may have.
    pub(super) most: u64,
    /// Whether the helper did not take the whole.
    pub(super) refused: bool,
}

impl Cut<'_> {
    /// How many reports each part has: as few parts as may be, of about one size.
    fn parts(&self) -> Vec<usize> {
        let total: u64 = self.sizes.iter().sum();
        let around = self.bytes.saturating_sub(total);
        let most = if self.refused { self.most.min(self.bytes / 2) } else { self.most };
        let room = most.saturating_sub(around).max(1);
        let each = total.div_ceil(total.div_ceil(room).max(2));
        let mut parts: Vec<usize> = Vec::new();
        let mut filled = 0;
        for size in self.sizes {
            if let Some(last) = parts.last_mut().filter(|_| filled < each && filled + size <= room) {
                *last += 1;
                filled += size;
            } else {
                parts.push(1);
                filled = *size;
            }
        }
        parts
    }
}

/// Replaces the job by its parts, in one transaction.
pub(super) async fn split(
    shared: &Shared,
    task: &Task,
    job: &Held<JobRow>,
    cut: &Cut<'_>,
) -> Result<(), JobError> {
    if cut.sizes.len() < 2 {
        return Err(JobError::because(
            Reason::TooLarge,
            "the helper takes not even a single report of this size",
        ));
    }
    let (now, parts) = (shared.clock.now(), &cut.parts());
    let done = shared
        .store
        .tx("split_aggregation_job", move |mut tx| async move {
            tasks::share_task(&mut tx, task.key).await?;
            if cut.refused {
                // The next jobs are formed no larger.
                job_limits::learn(&mut tx, task.key, cut.bytes / 2, now).await?;
            }
            let old = segments::of_job(&mut tx, job.row.id).await?;
            if !aggregation_jobs::finish(&mut tx, job.row.id, job.token).await? {
                tx.abandon();
                return Ok((tx, false));
            }
            segments::delete_of_job(&mut tx, job.row.id).await?;
            let not_before = old.iter().map(|segment| segment.not_before).max().unwrap_or(0);
            let accepted_at = old.iter().map(|segment| segment.created_at).min().unwrap_or(now);
            let kept = reports(&old, cut.included)?;
            let mut rest = kept.as_slice();
            for count in parts {
                let (part, others) = rest
                    .split_at_checked(*count)
                    .ok_or_else(|| StoreError::corrupt("aggregation_jobs", "included"))?;
                rest = others;
                form(&mut tx, task, &job.row, part, (accepted_at, not_before)).await?;
            }
            // Whoever waited for the old segments waits for the new ones.
            let newest = segments::newest(&mut tx, task.key).await?;
            collection_jobs::raise_fences(&mut tx, task.key, newest).await?;
            tx.wake(AGGREGATION);
            Ok((tx, true))
        })
        .await?;
    tracing::info!(job = job.row.id, parts = parts.len(), "a job was too large and was cut");
    if done { Ok(()) } else { Err(JobError::LeaseLost) }
}

/// The encodings and times of the included reports.
fn reports<'s>(segments: &'s [Segment], included: &[bool]) -> Result<Vec<(Time, &'s [u8])>, StoreError> {
    let mut reports = Vec::new();
    for segment in segments {
        let mut reader = Reader::new(&segment.reports);
        while !reader.is_empty() {
            let (report, bytes) =
                reader.with_bytes::<Report>().map_err(|_| StoreError::corrupt("segments", "reports"))?;
            reports.push((report.metadata.time, bytes));
        }
    }
    let kept = reports.into_iter().zip(included).filter(|(_, included)| **included);
    Ok(kept.map(|(report, _)| report).collect())
}

async fn form(
    tx: &mut Tx,
    task: &Task,
    whole: &JobRow,
    reports: &[(Time, &[u8])],
    (accepted_at, not_before): (u64, u64),
) -> Result<(), StoreError> {
    let Some(segment) = NewSegment::of(task.key, reports, accepted_at) else { return Ok(()) };
    let report_count = segment.report_count;
    let segment = segments::insert_segment(tx, &segment).await?;
    if not_before > 0 {
        segments::postpone(tx, segment, not_before).await?;
    }
    let batch = whole.batch.as_ref();
    let job = aggregation_jobs::create(tx, task.key, batch, report_count, whole.created_at).await?;
    segments::assign(tx, job, &[segment]).await?;
    aggregation_jobs::inherit(tx, job, &included::bitmap(&vec![true; reports.len()])).await
}

#[cfg(test)]
mod tests {
    use super::Cut;

    fn parts(sizes: &[u64], most: u64, refused: bool) -> Vec<usize> {
        let bytes = sizes.iter().sum::<u64>() + 10;
        Cut { included: &[], sizes, bytes, most, refused }.parts()
    }

    #[test]
    fn a_job_is_cut_to_the_size_that_is_known_in_one_step() {
        assert_eq!(parts(&[10; 100], 110, false), [10; 10]);
        assert_eq!(parts(&[10; 100], 111, true), [10; 10], "what was known before is smaller than the half");
        assert_eq!(parts(&[10; 12], 80, false), [6, 6], "of about one size");
        assert_eq!(parts(&[1; 1_000], 600, true), [334, 334, 332], "the half, with what is around it");
    }

    #[test]
    fn parts_are_never_one_and_never_too_large_unless_they_are_a_single_report() {
        assert_eq!(parts(&[10, 10], u64::MAX, true), [1, 1]);
        assert_eq!(parts(&[1_000, 1, 1, 1_000], 500, false), [1, 2, 1]);
        assert_eq!(parts(&[10; 5], 1, false), [1; 5], "not even what is around fits");
    }
}
