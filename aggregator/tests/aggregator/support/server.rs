//! An aggregator on a port of its own, with threads of its own, so that it can be stopped dead.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mica_aggregator::aggregator::Options;
use mica_aggregator::config::Answers;
use mica_aggregator::policy::PolicyReload;
use mica_aggregator::shared::Limits;
use mica_aggregator::store::{self, migrator};
use mica_aggregator::{Aggregator, Role};
use mica_dap::time::{Duration, Interval, Time};
use mica_dp::ledger::verify_chain;
use mica_dp::{Mechanism, Noise};
use mica_service::clock::Clock;
use mica_service::compute::ComputePool;
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::shutdown::Shutdown;
use mica_service::store::{Store, Watch};
use mica_service::testing::TestDatabase;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::{NOW, TestTask};

/// What few servers have.
#[derive(Default)]
struct Extras {
    /// The file of how far the ledger had come.
    mark: Option<PathBuf>,
    /// Who watches the transactions.
    watch: Option<Arc<dyn Watch>>,
    /// How it draws its noise.
    sampler: Option<Sampler>,
}

type Sampler = fn(&Mechanism, usize) -> Noise;

pub(crate) struct Server {
    /// Where it answers, up to and without the first slash of the path.
    pub(crate) origin: String,
    pub(crate) clock: Clock,
    /// The same database, seen from the test.
    pub(crate) store: Store,
    /// The encoded list of its HPKE configurations.
    pub(crate) hpke_configs: Vec<u8>,
    /// What brings another policy into force.
    pub(crate) reload: PolicyReload,
    runtime: Option<Runtime>,
}

impl Server {
    pub(crate) async fn helper(task: &TestTask, database: &TestDatabase) -> Self {
        Self::start(Role::Helper, task, database).await
    }

    /// A helper that answers later.
    pub(crate) async fn deferring(task: &TestTask, database: &TestDatabase) -> Self {
        let limits = Limits { answers: Answers::Deferred, helper_jobs: 32, ..Limits::default() };
        Self::limited(Role::Helper, task, database, limits).await
    }

    pub(crate) async fn start(role: Role, task: &TestTask, database: &TestDatabase) -> Self {
        Self::limited(role, task, database, Limits::default()).await
    }

    pub(crate) async fn limited(
        role: Role,
        task: &TestTask,
        database: &TestDatabase,
        limits: Limits,
    ) -> Self {
        Self::with(role, task, database, limits, Extras::default()).await
    }

    /// One that remembers in a file how far its ledger had come.
    pub(crate) async fn marked(
        role: Role,
        task: &TestTask,
        database: &TestDatabase,
        limits: Limits,
        mark: Option<&Path>,
    ) -> Self {
        let extras = Extras { mark: mark.map(Path::to_owned), ..Extras::default() };
        Self::with(role, task, database, limits, extras).await
    }

    /// One whose transactions a test watches.
    pub(crate) async fn watched(
        role: Role,
        task: &TestTask,
        database: &TestDatabase,
        limits: Limits,
        watch: Arc<dyn Watch>,
    ) -> Self {
        let extras = Extras { watch: Some(watch), ..Extras::default() };
        Self::with(role, task, database, limits, extras).await
    }

    /// One that draws its noise in a way of the test.
    pub(crate) async fn drawing(
        role: Role,
        task: &TestTask,
        database: &TestDatabase,
        sampler: Sampler,
    ) -> Self {
        let extras = Extras { sampler: Some(sampler), ..Extras::default() };
        Self::with(role, task, database, Limits::default(), extras).await
    }

    async fn with(
        role: Role,
        task: &TestTask,
        database: &TestDatabase,
        limits: Limits,
        Extras { mark, watch, sampler }: Extras,
    ) -> Self {
        let runtime = Runtime::new().expect("threads for a server");
        let clock = Clock::manual(NOW);
        let store = database.open(migrator()).await.expect("the database of the test");
        let options = Options {
            role,
            store: store.clone(),
            clock: clock.clone(),
            compute: ComputePool::with_threads(2),
            http: HttpClient::new(HttpOptions::default()),
            policy: task.policy(),
            tasks: vec![task.file(role)],
            limits,
        };
        let url = database.url.clone();
        let (origin, hpke_configs, reload) = runtime
            .spawn(async move {
                let mut store = Store::open(&url, migrator()).await.expect("the database of the test");
                if let Some(watch) = watch {
                    store = store.watched_by(watch);
                }
                let server =
                    Aggregator::build(Options { store, ..options }).await.expect("the task can be served");
                let server = match mark {
                    Some(mark) => server.with_high_water_mark(&mark).await.expect("a folder of our own"),
                    None => server,
                };
                let server = match sampler {
                    Some(sampler) => server.with_sampler(sampler),
                    None => server,
                };
                let (hpke_configs, reload) = (server.hpke_configs(), server.policy_reload());
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                let origin = format!("http://{}", listener.local_addr().expect("it is bound"));
                tokio::spawn(server.run(listener, Shutdown::new()));
                (origin, hpke_configs, reload)
            })
            .await
            .expect("the server starts");
        Self { origin, clock, store, hpke_configs, reload, runtime: Some(runtime) }
    }

    /// Why a helper does not start.
    pub(crate) async fn refusal(task: &TestTask, database: &TestDatabase) -> String {
        let options = Options {
            role: Role::Helper,
            store: database.open(migrator()).await.expect("the database of the test"),
            clock: Clock::manual(NOW),
            compute: ComputePool::with_threads(1),
            http: HttpClient::new(HttpOptions::default()),
            policy: task.policy(),
            tasks: vec![task.file(Role::Helper)],
            limits: Limits::default(),
        };
        match Aggregator::build(options).await {
            Ok(_) => panic!("it starts"),
            Err(error) => error.to_string(),
        }
    }

    /// Ends every task of the server wherever it is, as a power cut would.
    pub(crate) fn kill(mut self) {
        self.stop();
    }

    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a store knows, read the way an operator would.
impl Server {
    /// How many reports met which end.
    pub(crate) async fn tallies(&self) -> Vec<(String, u64)> {
        let tallies = self.store.read("tallies", |mut tx| async move {
            let tasks = store::tasks::all_tasks(&mut tx).await?;
            let tallies = store::tallies::of_task(&mut tx, tasks[0].key).await?;
            Ok((tx, tallies))
        });
        tallies.await.expect("the database answers")
    }

    /// Whether anything is kept of the reports of a job for its next step.
    pub(crate) async fn keeps_states_of(&self, location: &str) -> bool {
        let id =
            location.rsplit('/').next().expect("a path has parts").parse().expect("the identifier of a job");
        let kept = self.store.read("states", move |mut tx| async move {
            let kept = store::helper_states::of_job(&mut tx, &id).await?;
            Ok((tx, kept.is_some()))
        });
        kept.await.expect("the database answers")
    }

    /// How many requests wait at a helper, or are being worked on.
    pub(crate) async fn waiting_work(&self) -> u64 {
        let waiting = self.store.read("waiting", |mut tx| async move {
            let tasks = store::tasks::all_tasks(&mut tx).await?;
            let waiting = store::helper_work::waiting(&mut tx, tasks[0].key).await?;
            Ok((tx, waiting))
        });
        waiting.await.expect("the database answers")
    }

    /// How many reports of any time are summed in the buckets.
    pub(crate) async fn counted(&self) -> u64 {
        let all = Interval::new(Time(0), Duration(u64::MAX)).expect("all of time");
        let counted = self.store.read("counted", move |mut tx| async move {
            let tasks = store::tasks::all_tasks(&mut tx).await?;
            let counted = store::report_count(&mut tx, tasks[0].key, all).await?;
            Ok((tx, counted))
        });
        counted.await.expect("the database answers")
    }

    /// What is spent of the only budget, after the whole ledger was checked.
    pub(crate) async fn spent(&self) -> Vec<(i64, usize)> {
        let ledger = self.store.read("ledger", |mut tx| async move {
            let entries = store::ledger::entries(&mut tx).await?;
            let uses = store::ledger_uses::all(&mut tx).await?;
            Ok((tx, (entries, uses)))
        });
        let (entries, uses) = ledger.await.expect("the database answers");
        let books = verify_chain(&entries).expect("the ledger follows its own rules");
        assert_eq!(books.iter().map(|book| book.uses.len()).sum::<usize>(), uses.len());
        assert!(books.iter().flat_map(|book| &book.uses).all(|usage| uses.contains(usage)), "{uses:?}");
        books.iter().map(|book| (book.fullest().spent, entries.len())).collect()
    }
}
