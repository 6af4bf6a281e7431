//! The simulated clients: each makes one report and uploads it through the relay, a few of them faulty on purpose.
//!
//! Nothing is simulated from here on. A report is sharded, sealed, padded and wrapped as any client does it, one report in
//! one envelope, and travels over a socket. What clients alone know - identifiers and shares - is remembered, so that the
//! logs and databases of all roles can be searched for it afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mica_client::{Client, ClientError, ReportBuilder, TaskBundle, UploadOutcome};
use mica_dap::Draft;
use mica_dap::id::{ReportId, TaskId};
use mica_dap::report::Report;
use mica_dap::time::Time;
use mica_dap::vdaf::{Measurement, Sharded, Vdaf, vdaf_context};
use mica_service::compute::ComputePool;

use super::search::Traces;
use crate::exit::Failure;
use crate::screen::Progress;

/// What happened on the clients' side.
pub(super) struct Uploads {
    /// Reports that were uploaded, the faulty ones among them.
    pub(super) sent: u64,
    /// Uploads that the leader judged.
    pub(super) judged: u64,
    /// Envelopes that were sent, also for keys and also in vain.
    pub(super) envelopes: u64,
    /// Refused at once, by reason. A wrong proof is found later.
    pub(super) refused: BTreeMap<&'static str, u64>,
    /// What is to be found nowhere.
    pub(super) traces: Traces,
}

/// The clients and what they need to know.
pub(super) struct Crowd {
    pub(super) bundle: TaskBundle,
    pub(super) measurements: Vec<Measurement>,
    /// When the honest clients measured.
    pub(super) time: Time,
    /// A time that has not come.
    pub(super) future: Time,
    pub(super) compute: ComputePool,
}

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Honest,
    /// Sends its report twice, each time in a fresh envelope.
    Twice,
    /// Changed a share after proving it right.
    WrongProof,
    /// Its clock is ahead.
    Early,
}

/// How many of each fault there are, whatever the number of clients.
pub(super) const WRONG_PROOFS: u64 = 5;
pub(super) const REPLAYS: u64 = 4;
pub(super) const EARLY: u64 = 3;

impl Crowd {
    /// Uploads everything, many at a time.
    ///
    /// # Errors
    /// When a report cannot be made or its upload fails for a reason that is not the report's.
    pub(super) async fn upload(self, progress: &Progress) -> Result<Uploads, Failure> {
        // Every envelope is counted here, so none is sent again unseen.
        let client = Client::new(self.bundle.clone()).with_patience(Duration::ZERO);
        let builder = client.builder().await?;
        let jobs = jobs(self.measurements);
        let total = jobs.len();
        let config = &self.bundle.configuration;
        let workshop = Workshop {
            client,
            builder,
            vdaf: config.vdaf().instantiate().map_err(Failure::unexpected)?,
            draft: self.bundle.draft,
            task_id: self.bundle.task_id,
            time: self.time,
            future: self.future,
            compute: self.compute,
            jobs,
            next: AtomicUsize::new(0),
            progress: progress.clone(),
        };
        let workshop = Arc::new(workshop);
        let workers: Vec<_> =
            (0..AT_ONCE.min(total)).map(|_| tokio::spawn(Arc::clone(&workshop).work())).collect();
        let mut uploads = Uploads::none();
        for worker in workers {
            uploads.add(worker.await.map_err(Failure::unexpected)??);
        }
        // The keys of leader and helper, fetched once for the whole crowd.
        uploads.envelopes += 2;
        Ok(uploads)
    }
}

/// The honest ones, with the faulty ones spread among them.
fn jobs(measurements: Vec<Measurement>) -> Vec<(Manner, Measurement)> {
    let faults = [(Manner::WrongProof, WRONG_PROOFS), (Manner::Early, EARLY)];
    let extra: Vec<(Manner, Measurement)> = faults
        .into_iter()
        .flat_map(|(manner, times)| (0..times).map(move |_| manner))
        .zip(measurements.iter().cycle().cloned())
        .collect();
    let apart = measurements.len() / (extra.len() + 1);
    let twice = usize::try_from(REPLAYS).expect("a handful");
    let mut extra = extra.into_iter();
    let mut jobs = Vec::with_capacity(measurements.len() + extra.len());
    for (index, measurement) in measurements.into_iter().enumerate() {
        jobs.push((if index < twice { Manner::Twice } else { Manner::Honest }, measurement));
        if apart > 0 && index % apart == apart - 1 {
            jobs.extend(extra.next());
        }
    }
    jobs.extend(extra);
    jobs
}

struct Workshop {
    client: Client,
    builder: ReportBuilder,
    vdaf: Arc<dyn Vdaf>,
    draft: Draft,
    task_id: TaskId,
    time: Time,
    future: Time,
    compute: ComputePool,
    jobs: Vec<(Manner, Measurement)>,
    next: AtomicUsize,
    progress: Progress,
}

impl Workshop {
    async fn work(self: Arc<Self>) -> Result<Uploads, Failure> {
        let mut uploads = Uploads::none();
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some((manner, _)) = self.jobs.get(index) else { return Ok(uploads) };
            let this = Arc::clone(&self);
            let (report, sharded) = self.compute.run(move || this.make(index)).await?;
            uploads.traces.remember(&report.metadata.report_id, &sharded);
            let times = if *manner == Manner::Twice { 2 } else { 1 };
            for _ in 0..times {
                self.send(&report, &mut uploads).await?;
                self.progress.step();
            }
        }
    }

    fn make(&self, index: usize) -> Result<(Report, Sharded), Failure> {
        let (manner, measurement) = self.jobs.get(index).expect("the index was looked up before");
        let report_id = ReportId::random(&mut rand::rng());
        let context = vdaf_context(self.draft, &self.task_id);
        let mut sharded = self.vdaf.shard(&context, measurement, &report_id).map_err(Failure::unexpected)?;
        if *manner == Manner::WrongProof {
            let [leader, _] = &mut sharded.input_shares;
            if let Some(first) = leader.first_mut() {
                *first ^= 1;
            }
        }
        let time = if *manner == Manner::Early { self.future } else { self.time };
        let report = self.builder.seal(report_id, time, &sharded)?;
        Ok((report, sharded))
    }

    /// Uploads one report; an overloaded server is asked again, as a client would.
    async fn send(&self, report: &Report, uploads: &mut Uploads) -> Result<(), Failure> {
        let mut pause = Duration::from_millis(50);
        uploads.sent += 1;
        for _ in 0..ATTEMPTS {
            uploads.envelopes += 1;
            match self.client.upload(std::slice::from_ref(report)).await {
                Ok(outcome) => {
                    uploads.judge(&outcome);
                    return Ok(());
                }
                Err(ClientError::Refused { status: 429 | 503, .. }) => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::unexpected("the leader stayed overloaded; try fewer clients with --clients"))
    }
}

impl Uploads {
    fn none() -> Self {
        Self { sent: 0, judged: 0, envelopes: 0, refused: BTreeMap::new(), traces: Traces::default() }
    }

    fn judge(&mut self, outcome: &UploadOutcome) {
        self.judged += 1;
        for (_, error) in &outcome.rejected {
            *self.refused.entry(error.label()).or_default() += 1;
        }
    }

    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.judged += other.judged;
        self.envelopes += other.envelopes;
        self.traces.add(other.traces);
        for (reason, reports) in other.refused {
            *self.refused.entry(reason).or_default() += reports;
        }
    }
}

/// Clients that are busy at the same time.
const AT_ONCE: usize = 48;
const ATTEMPTS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faulty_ones_come_on_top_and_replays_are_among_the_honest() {
        for clients in [5_usize, 8, 9, 300] {
            let jobs = jobs(vec![Measurement::Bool(true); clients]);
            let count = |manner| jobs.iter().filter(|(it, _)| *it == manner).count() as u64;
            assert_eq!(count(Manner::WrongProof), WRONG_PROOFS, "{clients}");
            assert_eq!(count(Manner::Early), EARLY, "{clients}");
            assert_eq!(count(Manner::Twice), REPLAYS, "{clients}");
            assert_eq!(count(Manner::Honest) + count(Manner::Twice), clients as u64);
        }
    }
}
