//! From segments to jobs where the leader selects the batches (DAP 5.2): each job puts all its reports in one batch.
//!
//! The oldest batch with room is filled first; where a segment has more reports than there is room for, it is cut. A report
//! that is refused later leaves room again, which the next jobs fill. The batch is in the job's row before anything is
//! sent. One transaction plans and writes, under the lock of the task's batches: replicas never fill the same room twice.

use std::collections::{BTreeMap, VecDeque};

use mica_dap::codec::Reader;
use mica_dap::id::BatchId;
use mica_dap::report::Report;
use mica_dap::time::Time;
use mica_service::store::{StoreError, Tx};

use super::form_jobs::most_reports;
use crate::jobs::AGGREGATION;
use crate::shared::{Limits, Shared};
use crate::store::aggregation_jobs;
use crate::store::batches::{self, Room};
use crate::store::job_limits;
use crate::store::segments::{self, NewSegment, SegmentHead};
use crate::task::Task;

/// Puts what waits in batches, up to [`JOBS`] jobs. False: nothing was waiting.
pub(super) async fn form_some(shared: &Shared, task: &Task) -> Result<bool, StoreError> {
    let (now, limits) = (shared.clock.now(), &shared.limits);
    shared
        .store
        .tx("form_jobs_of_batches", move |mut tx| async move {
            batches::lock_batches(&mut tx, task.key).await?;
            let waiting = segments::unassigned(&mut tx, task.key, now, SEGMENTS).await?;
            if waiting.is_empty() {
                return Ok((tx, false));
            }
            let rooms = batches::with_room(&mut tx, task.key, task.batch_target_size, ROOMS).await?;
            let mut plan = Plan::new(rooms, task.batch_target_size);
            let learnt = job_limits::of_task(&mut tx, task.key, now).await?;
            plan.fill(&waiting, &within(limits, learnt));
            if !plan.begun.is_empty() {
                batches::close_full(&mut tx, task.key, task.batch_target_size).await?;
            }
            let formed = write(&mut tx, task.key, &plan, &waiting, now).await?;
            if formed {
                tx.wake(AGGREGATION);
            } else {
                tx.abandon();
            }
            Ok((tx, formed))
        })
        .await
}

/// Some reports of one segment: which segment, and how many of those that are left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Take {
    segment: i64,
    reports: u64,
    whole: bool,
}

/// A job as it is to be formed.
#[derive(Debug, PartialEq, Eq)]
struct Planned {
    batch: BatchId,
    takes: Vec<Take>,
    reports: u64,
    bytes: u64,
    /// Whether any of its reports was in a job before.
    again: bool,
}

/// Which job takes which reports for which batch.
struct Plan {
    rooms: VecDeque<Room>,
    target: u64,
    begun: Vec<BatchId>,
    jobs: Vec<Planned>,
}

impl Plan {
    fn new(rooms: Vec<Room>, target: u64) -> Self {
        Self { rooms: rooms.into(), target: target.max(1), begun: Vec::new(), jobs: Vec::new() }
    }

    fn fill(&mut self, waiting: &[SegmentHead], limits: &Limits) {
        for segment in waiting {
            let mut left = segment.report_count;
            while left > 0 {
                let Some(taken) = self.take(segment, left, limits) else { return };
                left -= taken;
            }
        }
    }

    /// Takes as much of what is left of `segment` as one job and its batch have room for. Nothing: these are enough jobs.
    fn take(&mut self, segment: &SegmentHead, left: u64, limits: &Limits) -> Option<u64> {
        let room = self.room()?;
        let each = segment.bytes.div_ceil(segment.report_count.max(1)).max(1);
        let space = |job: Option<&Planned>| {
            let (reports, bytes, again) =
                job.map_or((0, 0, false), |job| (job.reports, job.bytes, job.again));
            let by_count = most_reports(limits, again || segment.again).saturating_sub(reports);
            let by_bytes = (limits.job_bytes as u64).saturating_sub(bytes) / each;
            by_count.min(by_bytes)
        };
        let same = self.jobs.last().filter(|job| job.batch == room.batch && space(Some(job)) > 0);
        if same.is_none() && self.jobs.len() >= JOBS {
            return None;
        }
        // A report that is larger than a job is a job by itself.
        let reports = left.min(room.reports).min(space(same).max(1));
        if same.is_none() {
            self.jobs.push(Planned {
                batch: room.batch,
                takes: Vec::new(),
                reports: 0,
                bytes: 0,
                again: false,
            });
        }
        if let (Some(job), Some(room)) = (self.jobs.last_mut(), self.rooms.front_mut()) {
            let whole = reports == segment.report_count;
            job.takes.push(Take { segment: segment.id, reports, whole });
            job.reports += reports;
            job.again |= segment.again;
            job.bytes = job.bytes.saturating_add(reports.saturating_mul(each));
            room.reports -= reports;
        }
        Some(reports)
    }

    /// The first batch with room; a new one where there is none, as long as a job can follow.
    fn room(&mut self) -> Option<Room> {
        while self.rooms.front().is_some_and(|room| room.reports == 0) {
            self.rooms.pop_front();
        }
        if let Some(room) = self.rooms.front() {
            return Some(*room);
        }
        if self.jobs.len() >= JOBS {
            return None;
        }
        let room = Room { batch: BatchId::random(&mut rand::rng()), reports: self.target };
        self.begun.push(room.batch);
        self.rooms.push_back(room);
        Some(room)
    }
}

/// The limits of jobs, as far as the helper takes jobs of that size.
fn within(limits: &Limits, learnt: Option<u64>) -> Limits {
    let most = learnt.map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    Limits { job_bytes: limits.job_bytes.min(most), ..limits.clone() }
}

/// Writes a plan down. False: somebody else had one of the segments meanwhile.
async fn write(
    tx: &mut Tx,
    task: i64,
    plan: &Plan,
    waiting: &[SegmentHead],
    now: u64,
) -> Result<bool, StoreError> {
    for batch in &plan.begun {
        if !batches::begin(tx, task, batch, now).await? {
            return Ok(false);
        }
    }
    // The parts of each segment that is cut, in order: how many reports for which job.
    let mut parts: BTreeMap<i64, Vec<(i64, u64)>> = BTreeMap::new();
    for planned in &plan.jobs {
        let job = aggregation_jobs::create(tx, task, Some(&planned.batch), planned.reports, now).await?;
        let whole: Vec<i64> =
            planned.takes.iter().filter(|take| take.whole).map(|take| take.segment).collect();
        if segments::assign(tx, job, &whole).await? != whole.len() as u64 {
            return Ok(false);
        }
        for take in planned.takes.iter().filter(|take| !take.whole) {
            parts.entry(take.segment).or_default().push((job, take.reports));
        }
    }
    for (segment, parts) in parts {
        let created_at = waiting.iter().find(|head| head.id == segment).map_or(now, |head| head.created_at);
        if !cut(tx, task, segment, &parts, created_at).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Cuts a segment: each part becomes a segment of its job, and what is left keeps its place.
async fn cut(
    tx: &mut Tx,
    task: i64,
    segment: i64,
    parts: &[(i64, u64)],
    created_at: u64,
) -> Result<bool, StoreError> {
    let Some(old) = segments::waiting(tx, segment).await? else { return Ok(false) };
    let reports = reports(&old.reports)?;
    let mut rest = reports.as_slice();
    for (job, count) in parts {
        let count = usize::try_from(*count).unwrap_or(usize::MAX);
        let Some((part, others)) = rest.split_at_checked(count) else {
            return Err(StoreError::corrupt("segments", "report_count"));
        };
        rest = others;
        if let Some(part) = NewSegment::of(task, part, created_at) {
            let part = segments::insert_segment(tx, &part).await?;
            if old.not_before > 0 {
                segments::postpone(tx, part, old.not_before).await?;
            }
            segments::assign(tx, *job, &[part]).await?;
        }
    }
    match NewSegment::of(task, rest, created_at) {
        Some(rest) => segments::cut(tx, segment, &rest).await,
        None => segments::drop_waiting(tx, segment).await,
    }
}

/// The encodings in a segment, each with its time.
fn reports(segment: &[u8]) -> Result<Vec<(Time, &[u8])>, StoreError> {
    let mut reader = Reader::new(segment);
    let mut reports = Vec::new();
    while !reader.is_empty() {
        let (report, bytes) =
            reader.with_bytes::<Report>().map_err(|_| StoreError::corrupt("segments", "reports"))?;
        reports.push((report.metadata.time, bytes));
    }
    Ok(reports)
}

/// The most segments looked at in one transaction.
const SEGMENTS: u64 = 256;

/// The most jobs formed in one transaction.
const JOBS: usize = 64;

/// The most batches filled in one transaction: no more than there are jobs.
const ROOMS: u64 = JOBS as u64;

#[cfg(test)]
mod tests {
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

    fn batch(number: u8) -> BatchId {
        BatchId::new([number; 32])
    }

    fn planned(rooms: &[(u8, u64)], target: u64, counts: &[u64], limits: &Limits) -> Plan {
        let rooms = rooms.iter().map(|(number, reports)| Room { batch: batch(*number), reports: *reports });
        let mut plan = Plan::new(rooms.collect(), target);
        plan.fill(&waiting(counts), limits);
        plan
    }

    fn takes(plan: &Plan) -> Vec<Vec<(i64, u64, bool)>> {
        let of =
            |job: &Planned| job.takes.iter().map(|take| (take.segment, take.reports, take.whole)).collect();
        plan.jobs.iter().map(of).collect()
    }

    #[test]
    fn the_oldest_room_is_filled_first_and_a_segment_is_cut_where_it_ends() {
        let plan = planned(&[(1, 3), (2, 4)], 10, &[2, 4, 5], &Limits::default());
        assert_eq!(
            takes(&plan),
            [vec![(1, 2, true), (2, 1, false)], vec![(2, 3, false), (3, 1, false)], vec![(3, 4, false)]]
        );
        assert_eq!((plan.jobs[0].batch, plan.jobs[1].batch), (batch(1), batch(2)));
        assert_eq!(plan.begun, [plan.jobs[2].batch], "one new batch for what is left");
    }

    #[test]
    fn a_large_segment_becomes_many_batches_and_none_is_overfilled() {
        let plan = planned(&[], 30, &[100], &Limits::default());
        assert_eq!(plan.jobs.iter().map(|job| job.reports).collect::<Vec<_>>(), [30, 30, 30, 10]);
        assert_eq!(plan.begun.len(), 4);
    }

    #[test]
    fn a_job_stays_within_its_limits_and_its_batch_takes_the_next_one() {
        let limits = Limits { job_reports: 4, ..Limits::default() };
        let plan = planned(&[(1, 10)], 10, &[10], &limits);
        assert_eq!(plan.jobs.iter().map(|job| job.reports).collect::<Vec<_>>(), [4, 4, 2]);
        assert!(plan.jobs.iter().all(|job| job.batch == batch(1)));
        let limits = Limits { job_bytes: 5, ..Limits::default() };
        let plan = planned(&[(1, 2)], 10, &[2], &limits);
        assert_eq!(takes(&plan), [[(1, 1, false)], [(1, 1, false)]], "larger than a job, so a job by itself");
    }

    #[test]
    fn a_job_is_no_larger_than_the_helper_is_known_to_take() {
        let limits = Limits { job_bytes: 1_000, ..Limits::default() };
        for (learnt, jobs) in [(None, 1), (Some(2_000), 1), (Some(45), 3)] {
            let plan = planned(&[(1, 10)], 10, &[10], &within(&limits, learnt));
            assert_eq!(plan.jobs.len(), jobs, "{learnt:?}");
        }
    }

    #[test]
    fn a_backlog_of_tiny_batches_is_worked_off_in_bounded_steps() {
        let plan = planned(&[], 1, &[1_000], &Limits::default());
        assert_eq!((plan.jobs.len(), plan.begun.len()), (JOBS, JOBS));
    }

    #[test]
    fn a_target_beyond_all_counts_does_not_wrap() {
        let plan = planned(&[], u64::MAX, &[7, 8], &Limits::default());
        assert_eq!(takes(&plan), [[(1, 7, true), (2, 8, true)]]);
        assert_eq!(plan.rooms.front().map(|room| room.reports), Some(u64::MAX - 15));
    }
}
