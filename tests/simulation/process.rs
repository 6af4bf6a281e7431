//! The processes of a run: each with a database that outlives it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use mica_aggregator::aggregator::Options;
use mica_aggregator::config::Answers;
use mica_aggregator::hpke_keys::Schedule;
use mica_aggregator::shared::Limits;
use mica_aggregator::{Aggregator, ByHand, Role, store};
use mica_dap::codec::Decode as _;
use mica_dap::hpke::Suite;
use mica_dap::hpke_config::{HpkeConfig, HpkeConfigList};
use mica_service::clock::Clock;
use mica_service::compute::ComputePool;
use mica_service::store::{Store, StoreOptions};

use crate::gate::{Gate, Watcher};
use crate::network::{Door, Wires};
use crate::plan::{KeyLives, Party, Setting};
use crate::task::Task;

/// What all processes of a run share.
pub(crate) struct Surroundings {
    pub(crate) setting: Setting,
    pub(crate) clock: Clock,
    /// The helper's clock, which may be behind.
    pub(crate) helper_clock: Clock,
    pub(crate) gate: Arc<Gate>,
    pub(crate) wires: Arc<Wires>,
    pub(crate) task: Task,
}

impl Surroundings {
    /// Time passes for everybody.
    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(seconds);
        self.helper_clock.advance(seconds);
    }
}

/// One process, from its start to its death.
pub(crate) struct Process {
    pub(crate) party: Party,
    url: String,
    alive: Arc<AtomicBool>,
    pub(crate) aggregator: ByHand,
    pub(crate) config: HpkeConfig,
}

impl Process {
    /// Starts one on the database at `url`, as after any death.
    pub(crate) async fn start(around: &Surroundings, party: Party, url: &str) -> Self {
        let role = match party {
            Party::Leader(_) => Role::Leader,
            Party::Helper => Role::Helper,
        };
        let alive = Arc::new(AtomicBool::new(true));
        let options = Options {
            role,
            store: open(url).await.watched_by(Arc::new(Watcher::new(&around.gate, &alive))),
            clock: match role {
                Role::Leader => around.clock.clone(),
                Role::Helper => around.helper_clock.clone(),
            },
            compute: compute(),
            http: around.wires.client(&alive),
            policy: around.task.policy(),
            tasks: around.task.files(role),
            limits: Limits {
                job_reports: match role {
                    Role::Leader => around.setting.job_reports,
                    Role::Helper => around.setting.helper_takes,
                },
                answers: if around.setting.deferred { Answers::Deferred } else { Answers::AtOnce },
                ..Limits::default()
            },
        };
        let aggregator = Aggregator::build_with_keys(options, schedule(around.setting.keys)).await;
        let aggregator = aggregator.expect("a task that it can serve").with_taskprov(around.task.terms(role));
        let list = HpkeConfigList::decoded(&aggregator.hpke_configs()).expect("its own list");
        let config = list.preferred().expect("at least one").clone();
        let aggregator = aggregator.by_hand();
        around.wires.connect(party, Door { router: aggregator.router(), alive: Arc::clone(&alive) });
        Self { party, url: url.to_owned(), alive, aggregator, config }
    }

    /// Whether it has not died yet.
    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::SeqCst)
    }

    /// As SIGKILL: nothing of it is written or sent any more.
    pub(crate) fn kill(&self) {
        self.alive.store(false, Ordering::SeqCst);
    }

    /// Another process in its place, on the same database.
    pub(crate) async fn restarted(&self, around: &Surroundings) -> Self {
        Self::start(around, self.party, &self.url).await
    }
}

/// How long clients may keep a list of keys, in seconds.
pub(crate) const CACHE_SECONDS: u64 = 3_600;

fn schedule(keys: KeyLives) -> Schedule {
    match keys {
        KeyLives::Long => Schedule::default(),
        KeyLives::Short => Schedule::new(CACHE_SECONDS, CACHE_SECONDS, vec![Suite::MANDATORY])
            .expect("the shortest there is"),
    }
}

/// Opens the database of a run. Few connections, for a server has a hundred for all runs together.
pub(crate) async fn open(url: &str) -> Store {
    let options = StoreOptions { max_connections: 4, ..StoreOptions::default() };
    Store::open_with(url, store::migrator(), &options).await.expect("the database of the run")
}

/// All runs share their threads, or each would start its own.
fn compute() -> ComputePool {
    static POOL: OnceLock<ComputePool> = OnceLock::new();
    POOL.get_or_init(ComputePool::new).clone()
}
