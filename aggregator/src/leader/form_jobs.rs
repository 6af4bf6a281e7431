//! From segments to jobs: what was written together is verified together.
//!
//! A job takes whole segments of one task, in the order they were written, up to the size that the helper accepts.
//! Nothing waits for a job to be full: under light load every segment is a job, and under heavy load the segments
//! that gathered while other jobs were being driven share one.

use mica_dap::task::BatchMode;
use mica_service::store::StoreError;

use super::fill_batches;
use crate::shared::{Limits, Shared};
use crate::store;
use crate::store::segments::SegmentHead;

/// Gives every waiting segment of `task` a job.
pub(crate) async fn form(shared: &Shared, task: i64) -> Result<(), StoreError> {
    let Some(task) = shared.tasks.by_key(task) else { return Ok(()) };
    match task.configuration.batch_mode() {
        BatchMode::TimeInterval => while form_one(shared, task.key).await? {},
        BatchMode::LeaderSelected => while fill_batches::form_some(shared, &task).await? {},
    }
    Ok(())
}

/// Forms one job of `task`. False: nothing was waiting, or somebody else was faster.
async fn form_one(shared: &Shared, task: i64) -> Result<bool, StoreError> {
    let now = shared.clock.now();
    let limits = &shared.limits;
    shared
        .store
        .tx("form_job", move |mut tx| async move {
            let waiting = store::segments::unassigned(&mut tx, task, now, SEGMENTS).await?;
            let learnt = store::job_limits::of_task(&mut tx, task, now).await?;
            let chosen = choose(&waiting, limits, learnt);
            if chosen.is_empty() {
                return Ok((tx, false));
            }
            let reports = chosen.iter().map(|segment| segment.report_count).sum();
            let ids: Vec<i64> = chosen.iter().map(|segment| segment.id).collect();
            let job = store::aggregation_jobs::create(&mut tx, task, None, reports, now).await?;
            let mine = store::segments::assign(&mut tx, job, &ids).await? == ids.len() as u64;
            if !mine {
                // Another replica took one of them while we looked: it forms the job, we look again later.
                tx.abandon();
            }
            Ok((tx, mine))
        })
        .await
}

/// The first segments that fit into one job together; at least one.
fn choose<'s>(waiting: &'s [SegmentHead], limits: &Limits, learnt: Option<u64>) -> &'s [SegmentHead] {
    let most = learnt.unwrap_or(u64::MAX).min(limits.job_bytes as u64);
    let mut again = false;
    let mut reports = 0;
    let mut bytes = 0;
    let fitting = waiting
        .iter()
        .take_while(|segment| {
            again |= segment.again;
            reports += segment.report_count;
            bytes += job_bytes(segment);
            reports <= most_reports(limits, again) && bytes <= most
        })
        .count();
    waiting.get(..fitting.max(1)).unwrap_or(waiting)
}

/// The most reports of a job. Beside those that come again there may be a blank, which takes a place.
pub(super) fn most_reports(limits: &Limits, again: bool) -> u64 {
    (limits.job_reports as u64).saturating_sub(u64::from(again)).max(1)
}

/// How many bytes of a request the reports of a segment make at the most. The leader's own share stays here, and the
/// message that goes in its place is shorter.
fn job_bytes(segment: &SegmentHead) -> u64 {
    segment.bytes
}

/// The most segments looked at for one job.
const SEGMENTS: u64 = 256;

#[cfg(test)]
mod tests {
    use mica_dap::time::Time;

    use super::*;

    fn waiting(counts: &[u64]) -> Vec<SegmentHead> {
        let head = |(id, count): (i64, &u64)| SegmentHead {
            id,
            report_count: *count,
            bytes: count * 10,
            min_time: Time(1),
            max_time: Time(1),
            created_at: 0,
            again: false,
        };
        (1..).zip(counts).map(head).collect()
    }

    #[test]
    fn a_job_takes_as_many_segments_as_fit() {
        let limits = Limits { job_reports: 10, job_bytes: 1_000, ..Limits::default() };
        assert_eq!(choose(&waiting(&[4, 4, 4]), &limits, None).len(), 2);
        let limits = Limits { job_reports: 100, job_bytes: 45, ..Limits::default() };
        assert_eq!(choose(&waiting(&[4, 4, 4]), &limits, None).len(), 1);
    }

    #[test]
    fn a_place_is_kept_for_the_blank_wherever_in_the_job_the_report_is_that_comes_again() {
        let limits = Limits { job_reports: 8, ..Limits::default() };
        for again in [None, Some(0), Some(1)] {
            let mut waiting = waiting(&[4, 4]);
            waiting.iter_mut().enumerate().for_each(|(at, head)| head.again = Some(at) == again);
            let expected = if again.is_some() { 1 } else { 2 };
            assert_eq!(choose(&waiting, &limits, None).len(), expected, "{again:?}");
        }
    }

    #[test]
    fn a_segment_larger_than_a_job_is_a_job_by_itself() {
        let limits = Limits { job_reports: 10, ..Limits::default() };
        assert_eq!(choose(&waiting(&[50, 1]), &limits, None).len(), 1);
        assert!(choose(&[], &limits, None).is_empty());
    }
}
