//! A job that is larger than the helper takes becomes two, again and again until it fits.
//!
//! Safe because the helper refused it for its size before it read a report. Only the reports that the job included are
//! kept; the others were counted as refused when it was frozen.

use mica_dap::codec::Reader;
use mica_dap::id::BatchId;
use mica_dap::report::Report;
use mica_dap::time::Time;
use mica_service::store::{StoreError, Tx};

use crate::jobs::{AGGREGATION, Held, JobError, Reason};
use crate::shared::Shared;
use crate::store::aggregation_jobs::{self, JobRow};
use crate::store::collection_jobs;
use crate::store::job_limits;
use crate::store::segments::{self, NewSegment, Segment};
use crate::store::tasks;
use crate::task::Task;

/// Replaces the job by two of half its reports each, in one transaction. `refused` is the size that the helper did not
/// take, where it said so.
pub(super) async fn split(
    shared: &Shared,
    task: &Task,
    job: &Held<JobRow>,
    (included, refused): (&[bool], Option<u64>),
) -> Result<(), JobError> {
    if included.iter().filter(|included| **included).count() < 2 {
        return Err(JobError::because(
            Reason::TooLarge,
            "the helper takes not even a single report of this size",
        ));
    }
    let now = shared.clock.now();
    let done = shared
        .store
        .tx("split_aggregation_job", move |mut tx| async move {
            tasks::share_task(&mut tx, task.key).await?;
            if let Some(bytes) = refused {
                // The next jobs are formed as large as these halves are.
                job_limits::learn(&mut tx, task.key, bytes / 2, now).await?;
            }
            let old = segments::of_job(&mut tx, job.row.id).await?;
            if !aggregation_jobs::finish(&mut tx, job.row.id, job.token).await? {
                tx.abandon();
                return Ok((tx, false));
            }
            segments::delete_of_job(&mut tx, job.row.id).await?;
            let not_before = old.iter().map(|segment| segment.not_before).max().unwrap_or(0);
            let kept = reports(&old, included)?;
            let (first, second) = kept.split_at(kept.len() / 2);
            for half in [first, second] {
                form(&mut tx, task, job.row.batch.as_ref(), half, (now, not_before)).await?;
            }
            // Whoever waited for the old segments waits for the new ones.
            let newest = segments::newest(&mut tx, task.key).await?;
            collection_jobs::raise_fences(&mut tx, task.key, newest).await?;
            tx.wake(AGGREGATION);
            Ok((tx, true))
        })
        .await?;
    tracing::info!(job = job.row.id, "a job was too large and became two");
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
    batch: Option<&BatchId>,
    reports: &[(Time, &[u8])],
    (now, not_before): (u64, u64),
) -> Result<(), StoreError> {
    let Some(segment) = NewSegment::of(task.key, reports, now) else { return Ok(()) };
    let report_count = segment.report_count;
    let segment = segments::insert_segment(tx, &segment).await?;
    if not_before > 0 {
        segments::postpone(tx, segment, not_before).await?;
    }
    let job = aggregation_jobs::create(tx, task.key, batch, report_count, now).await?;
    segments::assign(tx, job, &[segment]).await?;
    Ok(())
}
