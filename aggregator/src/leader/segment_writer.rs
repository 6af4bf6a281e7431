//! The group commit of uploads: while one commit is on its way to the disk, the next segment fills.
//!
//! There is no timer: a lone report is written at once, and under load a commit carries as many reports as arrived
//! during the one before it. One row per segment, and the answer to a client only after the commit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use mica_dap::id::ReportId;
use mica_dap::report_error::{ReportError, Stage};
use mica_dap::time::Time;
use mica_service::clock::Clock;
use mica_service::room::Place;
use mica_service::store::{Store, StoreError, Tx};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::error::{Abort, ServerError};
use crate::jobs::AGGREGATION;
use crate::pace::Paces;
use crate::shared::Limits;
use crate::store;
use crate::task::Task;
use crate::taskprov::trial;

/// A report that passed the checks of the upload, as it came.
pub(crate) struct Candidate {
    pub(crate) id: ReportId,
    pub(crate) time: Time,
    pub(crate) bytes: Bytes,
}

/// What became of a candidate: written down, or refused.
pub(crate) type Verdict = Result<(), ReportError>;

struct Upload {
    task: Arc<Task>,
    reports: Vec<Candidate>,
    refused: Vec<ReportError>,
    answer: oneshot::Sender<Result<Vec<Verdict>, StoreError>>,
    /// Both are taken until it is written, also when nobody waits for the answer any more.
    _taken: (OwnedSemaphorePermit, Place),
}

impl Upload {
    fn bytes(&self) -> usize {
        self.reports.iter().map(|report| report.bytes.len()).sum()
    }
}

/// Takes uploads from many requests and writes them in groups. One per process.
pub struct SegmentWriter {
    queue: mpsc::Sender<Upload>,
    room: Arc<Semaphore>,
    most: usize,
    paces: Arc<Paces>,
}

impl SegmentWriter {
    /// A writer, and what it does for a living: run it until every `SegmentWriter` is gone.
    pub(crate) fn new(store: Store, clock: Clock, limits: Limits, paces: Arc<Paces>) -> (Self, Writing) {
        let (queue, incoming) = mpsc::channel(limits.queued_reports.max(1));
        let most = limits.queued_reports.max(1);
        let writer = Self { queue, room: Arc::new(Semaphore::new(most)), most, paces: Arc::clone(&paces) };
        (writer, Writing { incoming, paces, store, clock, limits })
    }

    /// Writes the candidates of one request, and counts what was refused before; returns after the commit, with a
    /// verdict for each candidate in order.
    pub(crate) async fn write(
        &self,
        task: Arc<Task>,
        reports: Vec<Candidate>,
        refused: Vec<ReportError>,
        place: Place,
    ) -> Result<Vec<Verdict>, ServerError> {
        let wanted = u32::try_from((reports.len() + refused.len()).min(self.most)).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(wanted) else {
            return Err(self.later().into());
        };
        let (answer, answered) = oneshot::channel();
        let upload = Upload { task, reports, refused, answer, _taken: (room, place) };
        self.queue.send(upload).await.map_err(|_| self.later())?;
        Ok(answered.await.map_err(|_| self.later())??)
    }

    fn later(&self) -> Abort {
        Abort::overloaded(self.paces.uploads.seconds_for(self.most))
    }
}

/// The receiving end of a [`SegmentWriter`].
pub(crate) struct Writing {
    incoming: mpsc::Receiver<Upload>,
    paces: Arc<Paces>,
    store: Store,
    clock: Clock,
    limits: Limits,
}

impl Writing {
    /// Writes group after group until every writer is gone and the queue is empty.
    pub(crate) async fn run(mut self) {
        while let Some(first) = self.incoming.recv().await {
            let group = self.fill(first);
            let reports: usize = group.iter().map(|upload| upload.reports.len()).sum();
            let started = Instant::now();
            let outcome = self.commit(&group).await;
            self.paces.uploads.measure(reports, started.elapsed());
            answer(group, outcome);
        }
    }

    /// Everything that waited while the last commit was under way, up to the size of a group and the bytes of a job.
    fn fill(&mut self, first: Upload) -> Vec<Upload> {
        let (mut reports, mut bytes) = (first.reports.len(), first.bytes());
        let mut group = vec![first];
        while reports < GROUP && bytes < self.limits.job_bytes {
            let Ok(next) = self.incoming.try_recv() else { break };
            reports += next.reports.len();
            bytes += next.bytes();
            group.push(next);
        }
        group
    }

    /// One transaction for the whole group: verdicts per upload, in the order of its reports.
    async fn commit(&self, group: &[Upload]) -> Result<Vec<Vec<Verdict>>, StoreError> {
        let now = self.clock.now();
        let limits = &self.limits;
        self.store
            .tx("upload", move |mut tx| async move {
                let mut verdicts: Vec<Vec<Verdict>> = group.iter().map(|_| Vec::new()).collect();
                for (task, uploads) in by_task(group) {
                    let reports: Vec<&Candidate> =
                        uploads.iter().flat_map(|(_, upload)| &upload.reports).collect();
                    let written = write_task(&mut tx, task, &reports, limits, now).await?;
                    let refused = uploads.iter().flat_map(|(_, upload)| upload.refused.iter().copied());
                    count(&mut tx, task, &written, refused).await?;
                    let mut outcome = written.into_iter();
                    for (at, upload) in uploads {
                        if let Some(verdicts) = verdicts.get_mut(at) {
                            *verdicts = outcome.by_ref().take(upload.reports.len()).collect();
                        }
                    }
                }
                tx.wake(AGGREGATION);
                Ok((tx, verdicts))
            })
            .await
    }
}

fn answer(group: Vec<Upload>, outcome: Result<Vec<Vec<Verdict>>, StoreError>) {
    match outcome {
        Ok(verdicts) => {
            for (upload, verdicts) in group.into_iter().zip(verdicts) {
                // A client that left does not undo what was written.
                let _ = upload.answer.send(Ok(verdicts));
            }
        }
        Err(error) => {
            for upload in group {
                let _ = upload.answer.send(Err(error.clone()));
            }
        }
    }
}

/// A task and its uploads, each with its place in the group.
type OfTask<'g> = (&'g Task, Vec<(usize, &'g Upload)>);

/// The uploads of each task, tasks in the order of their keys so that two writers cannot wait for each other.
fn by_task(group: &[Upload]) -> Vec<OfTask<'_>> {
    let mut tasks: BTreeMap<i64, OfTask<'_>> = BTreeMap::new();
    for (at, upload) in group.iter().enumerate() {
        tasks.entry(upload.task.key).or_insert_with(|| (&upload.task, Vec::new())).1.push((at, upload));
    }
    tasks.into_values().collect()
}

async fn write_task(
    tx: &mut Tx,
    task: &Task,
    reports: &[&Candidate],
    limits: &Limits,
    now: u64,
) -> Result<Vec<Verdict>, StoreError> {
    store::tasks::share_task(tx, task.key).await?;
    let mut verdicts = close_late(tx, task, reports).await?;
    let open: Vec<(&mut Verdict, ReportId)> = verdicts
        .iter_mut()
        .zip(reports)
        .filter(|(verdict, _)| verdict.is_ok())
        .map(|(v, r)| (v, r.id))
        .collect();
    let ids: Vec<ReportId> = open.iter().map(|(_, id)| *id).collect();
    let new = store::report_ids::insert_new(tx, task.key, &ids).await?;
    for ((verdict, _), _) in open.into_iter().zip(new).filter(|(_, new)| !new) {
        *verdict = Err(ReportError::ReportReplayed);
    }
    let accepted: Vec<&Candidate> = reports
        .iter()
        .zip(&verdicts)
        .filter(|(_, verdict)| verdict.is_ok())
        .map(|(report, _)| *report)
        .collect();
    if !accepted.is_empty() && !trial::written(tx, task).await? {
        return Ok(vec![Err(task.draft.after_the_task(Stage::Upload)); reports.len()]);
    }
    for segment in segments(&accepted, limits) {
        insert(tx, task, segment, now).await?;
    }
    Ok(verdicts)
}

/// One summed update for everything that became of the reports of a task in this group.
async fn count(
    tx: &mut Tx,
    task: &Task,
    verdicts: &[Verdict],
    refused: impl Iterator<Item = ReportError>,
) -> Result<(), StoreError> {
    let mut tally: BTreeMap<&str, u64> = BTreeMap::new();
    for verdict in verdicts.iter().copied().chain(refused.map(Err)) {
        *tally.entry(verdict.map_or_else(ReportError::label, |()| UPLOADED)).or_default() += 1;
    }
    store::tallies::add(tx, task.key, &tally.into_iter().collect::<Vec<_>>()).await
}

/// Refuses what belongs to a batch that has been collected (DAP 4.4.2.2), or is about to be: that one may be opened again,
/// so nobody is told that a report is there which is not.
async fn close_late(tx: &mut Tx, task: &Task, reports: &[&Candidate]) -> Result<Vec<Verdict>, StoreError> {
    let mut verdicts = vec![Ok(()); reports.len()];
    let Some(first) = reports.iter().map(|report| report.time).min() else { return Ok(verdicts) };
    let last = reports.iter().map(|report| report.time).max().unwrap_or(first);
    let closed = store::closed_intervals::closed_times(tx, task.key, first, last).await?;
    let is_late = |report: &&&Candidate| closed.iter().any(|interval| interval.contains(report.time));
    let late: Vec<ReportId> = reports.iter().filter(is_late).map(|report| report.id).collect();
    if late.is_empty() {
        return Ok(verdicts);
    }
    let released = store::closed_intervals::released_times(tx, task.key, first, last).await?;
    let known = store::report_ids::known(tx, task.key, &late).await?;
    for (verdict, report) in verdicts.iter_mut().zip(reports).filter(|(_, report)| is_late(report)) {
        let is_over = released.iter().any(|interval| interval.contains(report.time));
        let error = if is_over || known.contains(&report.id) {
            ReportError::ReportReplayed
        } else {
            ReportError::ReportDropped
        };
        *verdict = Err(error);
    }
    Ok(verdicts)
}

/// Cuts accepted reports into segments, none larger than one aggregation job.
fn segments<'r>(accepted: &'r [&'r Candidate], limits: &Limits) -> Vec<&'r [&'r Candidate]> {
    let mut cut = Vec::new();
    let mut rest = accepted;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fitting = rest
            .iter()
            .take(limits.job_reports)
            .take_while(|report| {
                bytes += report.bytes.len();
                bytes <= limits.job_bytes
            })
            .count();
        let (segment, after) = rest.split_at(fitting.max(1));
        cut.push(segment);
        rest = after;
    }
    cut
}

async fn insert(tx: &mut Tx, task: &Task, reports: &[&Candidate], now: u64) -> Result<(), StoreError> {
    let times = || reports.iter().map(|report| report.time);
    let (Some(min_time), Some(max_time)) = (times().min(), times().max()) else { return Ok(()) };
    let mut bytes = Vec::with_capacity(reports.iter().map(|report| report.bytes.len()).sum());
    for report in reports {
        bytes.extend_from_slice(&report.bytes);
    }
    let segment = store::segments::NewSegment {
        task: task.key,
        report_count: reports.len() as u64,
        min_time,
        max_time,
        reports: bytes,
        created_at: now,
    };
    store::segments::insert_segment(tx, &segment).await?;
    Ok(())
}

/// The tally of reports that were written down.
pub(crate) const UPLOADED: &str = "uploaded";

/// Larger groups gain nothing and make the first of them wait longer.
const GROUP: usize = 1_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mica_service::room::Room;
    use mica_service::testing::TestDatabase;

    use super::*;
    use crate::release::tests::task;

    fn candidate(length: usize) -> Candidate {
        Candidate { id: ReportId::new([0; 16]), time: Time(1), bytes: Bytes::from(vec![0; length]) }
    }

    #[test]
    fn segments_stay_within_one_job_and_lose_nothing() {
        let reports: Vec<Candidate> = (0..10).map(|_| candidate(100)).collect();
        let reports: Vec<&Candidate> = reports.iter().collect();
        let limits = Limits { job_reports: 4, job_bytes: 350, ..Limits::default() };
        let lengths: Vec<usize> = segments(&reports, &limits).iter().map(|segment| segment.len()).collect();
        assert_eq!(lengths, [3, 3, 3, 1]);
    }

    #[test]
    fn a_report_larger_than_a_job_gets_a_segment_of_its_own() {
        let (small, large) = (candidate(10), candidate(1_000));
        let limits = Limits { job_bytes: 100, ..Limits::default() };
        assert_eq!(segments(&[&large, &small], &limits).len(), 2);
    }

    async fn writer(limits: Limits) -> (SegmentWriter, Writing, TestDatabase) {
        let database = mica_service::testing::sqlite();
        let store = database.open(store::migrator()).await.expect("a fresh database");
        let (writer, writing) = SegmentWriter::new(store, Clock::manual(1), limits, Arc::default());
        (writer, writing, database)
    }

    /// An upload of these lengths, whose client leaves at once.
    async fn abandoned(writer: &SegmentWriter, room: &Room, lengths: &[usize]) -> bool {
        let place = room.take(lengths.iter().sum()).expect("there is room");
        let reports = lengths.iter().copied().map(candidate).collect();
        let writing = writer.write(task(), reports, Vec::new(), place);
        tokio::time::timeout(Duration::ZERO, writing).await.is_err()
    }

    #[tokio::test]
    async fn an_upload_whose_client_left_takes_its_place_until_it_is_written() {
        let (writer, writing, _database) = writer(Limits { queued_reports: 3, ..Limits::default() }).await;
        let room = Room::new(10, 100);
        assert!(abandoned(&writer, &room, &[10, 20]).await, "it waits");
        assert_eq!((writer.room.available_permits(), room.free_bytes()), (1, 70));
        assert!(!abandoned(&writer, &room, &[1, 1]).await, "it is refused");
        assert_eq!((writer.room.available_permits(), room.free_bytes()), (1, 70));
        let reports = Arc::clone(&writer.room);
        drop(writer);
        writing.run().await;
        assert_eq!((reports.available_permits(), room.free_bytes()), (3, 100));
    }

    #[tokio::test]
    async fn a_group_ends_with_the_bytes_of_one_job() {
        let limits = Limits { job_bytes: 100, ..Limits::default() };
        let (writer, mut writing, _database) = writer(limits).await;
        let room = Room::new(10, 1_000);
        for _ in 0..5 {
            assert!(abandoned(&writer, &room, &[30, 30]).await);
        }
        let mut sizes = Vec::new();
        while let Ok(first) = writing.incoming.try_recv() {
            sizes.push(writing.fill(first).len());
        }
        assert_eq!(sizes, [2, 2, 1]);
    }
}
