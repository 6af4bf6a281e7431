//! What every handler and every job of one aggregator shares: one process, one role, one database.

use std::sync::Arc;

use mica_service::clock::Clock;
use mica_service::compute::ComputePool;
use mica_service::http::HttpClient;
use mica_service::listener::{self, BodyPace};
use mica_service::room::Room;
use mica_service::store::Store;
use mica_service::wake::Wake;

use crate::agreement::Agreements;
use crate::config::Answers;
use crate::crowd::Crowd;
use crate::high_water::HighWater;
use crate::hpke_keys::Keys;
use crate::jobs::Looks;
use crate::leader::segment_writer::SegmentWriter;
use crate::pace::Paces;
use crate::registry::Tasks;
use crate::release::NoiseReserve;
use crate::task::Role;

/// The parts of one running aggregator.
pub struct Shared {
    /// Which of the two it is.
    pub role: Role,
    /// Its database, which nobody else uses.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// Where cryptography runs.
    pub compute: ComputePool,
    /// How peers are reached.
    pub http: HttpClient,
    /// The tasks it takes part in.
    pub tasks: Tasks,
    /// The keys clients seal to.
    pub keys: Keys,
    /// How much of anything it takes.
    pub limits: Limits,
    /// What may be in memory at once: uploads at the leader, aggregation jobs at the helper.
    pub room: Room,
    /// Whose aggregation jobs the helper works on right now.
    pub(crate) crowd: Arc<Crowd>,
    /// How long work takes here.
    pub paces: Arc<Paces>,
    /// Which collections were looked at and have nothing to do.
    pub(crate) looks: Looks,
    /// What is known of the helper's statements.
    pub(crate) agreements: Agreements,
    /// Noise for the releases to come.
    pub(crate) noise: NoiseReserve,
    /// How far the ledger had come, as somebody outside the database knows.
    pub high_water: HighWater,
    /// Where the leader's uploads are written.
    pub uploads: SegmentWriter,
}

impl Shared {
    /// The wake-ups of this process.
    pub fn wake(&self) -> &Wake {
        self.store.wake()
    }

    /// After how many seconds a large request that found no room is worth another try.
    pub(crate) fn when_full(&self) -> u64 {
        self.paces.when_full(self.role, self.limits.requests(self.role))
    }
}

/// How much of anything is taken before the rest is refused.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest upload, in bytes.
    pub upload_bytes: usize,
    /// The most reports in one upload.
    pub upload_reports: usize,
    /// The most reports in one aggregation job.
    pub job_reports: usize,
    /// The most bytes of reports in one aggregation job. The helper takes jobs up to twice this, so that a leader
    /// with the same setting never writes one that is refused.
    pub job_bytes: usize,
    /// How many reports may wait to be written before uploads are refused.
    pub queued_reports: usize,
    /// How many bytes of uploads or aggregation jobs may be in memory before more are refused.
    pub queued_bytes: usize,
    /// How fast the bodies of requests must come.
    pub body_pace: BodyPace,
    /// How many aggregation jobs the helper works on at the same time before more are refused.
    pub helper_jobs: usize,
    /// How many collections of one task may be open at the leader before more are refused.
    pub open_collections: u64,
    /// How many jobs are driven at the same time.
    pub workers: usize,
    /// When the helper answers what the leader asks for.
    pub answers: Answers,
    /// How many requests of one task may wait at the helper before more are refused.
    pub waiting_jobs: usize,
    /// How many bytes of requests of one task may wait at the helper before more are refused. One alone may be larger.
    pub waiting_bytes: usize,
    /// No new task with a smaller minimum batch size is taken.
    pub min_batch_size_floor: u64,
}

impl Limits {
    /// Room for the large requests of this role; an upload has at least one report.
    pub(crate) fn room(&self, role: Role) -> Room {
        Room::new(self.requests(role), self.queued_bytes)
    }

    /// What the listeners allow.
    #[must_use]
    pub fn listener(&self) -> listener::Limits {
        listener::Limits { body_pace: self.body_pace, ..listener::Limits::default() }
    }

    /// How many large requests there is room for at once.
    fn requests(&self, role: Role) -> usize {
        match role {
            Role::Leader => self.queued_reports,
            Role::Helper => self.helper_jobs,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            upload_bytes: 4 << 20,
            upload_reports: 1_000,
            job_reports: 1_000,
            job_bytes: 16 << 20,
            queued_reports: 10_000,
            queued_bytes: 128 << 20,
            body_pace: BodyPace::default(),
            helper_jobs: 16,
            open_collections: 256,
            workers: 2,
            answers: Answers::AtOnce,
            waiting_jobs: 1_000,
            waiting_bytes: 1 << 30,
            min_batch_size_floor: 1,
        }
    }
}
