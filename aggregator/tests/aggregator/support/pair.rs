//! A leader and a helper over real sockets, and the client and the collector that use them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, header};
use mica_aggregator::aggregator::Options;
use mica_aggregator::auth::{Bearer, TokenHash};
use mica_aggregator::config::Answers;
use mica_aggregator::shared::Limits;
use mica_aggregator::task_file::Tokens;
use mica_aggregator::{Aggregator, Role, TaskFile, store};
use mica_client::{ReportBuilder, TaskBundle};
use mica_collector::{CollectError, Collection, Collector, CollectorTask, Outcome};
use mica_dap::Draft;
use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::hpke::HpkeKeypair;
use mica_dap::hpke_config::HpkeConfigList;
use mica_dap::id::TaskId;
use mica_dap::media::Media;
use mica_dap::report::{Report, UploadErrors, UploadRequest};
use mica_dap::report_error::ReportError;
use mica_dap::resource::Resource;
use mica_dap::task::{BatchMode, TaskConfiguration, TaskParameters};
use mica_dap::time::{Duration, Interval, TimePrecision};
use mica_dap::vdaf::{Measurement, parameter_of};
use mica_dap::vdaf_config::VdafConfig;
use mica_dp::{Decision, Mechanism, Policy, TaskFacts};
use mica_envelope::{GatewayKey, GatewayKeys, Kem, KeyConfigList};
use mica_service::clock::Clock;
use mica_service::compute::ComputePool;
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::listener;
use mica_service::secret::Secret;
use mica_service::shutdown::Shutdown;
use mica_service::store::Store;
use mica_service::testing::{TestDatabase, databases};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::NOW;

const LABEL: &str = "pair";

/// One leader, one helper, one collector, one task.
pub(crate) struct Pair {
    pub(crate) task_id: TaskId,
    configuration: TaskConfiguration,
    http: HttpClient,
    pub(crate) collector: Collector,
    pub(crate) builder: ReportBuilder,
    pub(crate) stuck: Stuck,
    clock: Clock,
    /// Whether the leader has to come back for the helper's answers, for which time must pass.
    deferring: bool,
    shutdown: Shutdown,
    servers: Vec<JoinHandle<()>>,
    /// The helper's own.
    pub(crate) helper: Store,
    /// Dropped, they are gone.
    _databases: [TestDatabase; 2],
}

/// Another task of the same leader, whose helper takes connections and never answers.
pub(crate) struct Stuck {
    task_id: TaskId,
    pub(crate) builder: ReportBuilder,
    _helper: TcpListener,
}

pub(crate) struct Setting {
    pub(crate) vdaf: VdafConfig,
    pub(crate) draft: Draft,
    pub(crate) policy: String,
    pub(crate) batch_mode: BatchMode,
    /// How many reports the leader puts in a batch of its choice; without it, as few as may be.
    pub(crate) batch_target_size: Option<u64>,
    /// How the helper answers.
    pub(crate) answers: Answers,
}

impl Setting {
    pub(crate) fn without_noise(vdaf: VdafConfig) -> Self {
        Self::of(vdaf, Policy::for_release_without_dp("a test compares exact totals", "2099-01-01"))
    }

    /// Of the same kind, with batches of the leader's choice.
    pub(crate) fn by_leader(self) -> Self {
        Self { batch_mode: BatchMode::LeaderSelected, ..self }
    }

    pub(crate) fn with_noise(vdaf: VdafConfig, epsilon: &str) -> Self {
        let policy = Policy::for_demo(LABEL, &vdaf, MIN_BATCH, epsilon);
        Self::of(vdaf, policy)
    }

    fn of(vdaf: VdafConfig, policy: String) -> Self {
        let (batch_mode, answers) = (BatchMode::TimeInterval, Answers::AtOnce);
        Self { vdaf, draft: Draft::V18, policy, batch_mode, batch_target_size: None, answers }
    }
}

const MIN_BATCH: u64 = 3;

/// What is counted of strings.
const PREFIXES: [&str; 3] = ["00", "10", "11"];

/// How long the leader waits for a helper.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// The task before anybody runs it.
struct Task {
    id: TaskId,
    draft: Draft,
    configuration: TaskConfiguration,
    keypair: HpkeKeypair,
    batch_target_size: Option<u64>,
    aggregation_parameter: Vec<u8>,
}

impl Task {
    fn make(setting: &Setting, leader: &TcpListener, helper: &TcpListener) -> (Self, Option<Mechanism>) {
        let url =
            |listener: &TcpListener| format!("http://{}/dap/", listener.local_addr().expect("it is bound"));
        let facts = TaskFacts::new(LABEL, &setting.vdaf, MIN_BATCH);
        let decision = parse(&setting.policy).release_for(&facts).expect("the policy covers the task");
        let (task_info, mechanism) = match decision {
            Decision::Release(plan) => {
                (plan.statement().task_info(LABEL).expect("a short label"), Some(plan.mechanism().clone()))
            }
            Decision::WithoutDp(_) => (LABEL.as_bytes().to_vec(), None),
        };
        let configuration = TaskParameters {
            task_info,
            leader_url: url(leader),
            helper_url: url(helper),
            time_precision: TimePrecision::new(60).expect("not zero"),
            min_batch_size: MIN_BATCH,
            batch_mode: setting.batch_mode,
            vdaf: setting.vdaf.clone(),
            task_interval: None,
        };
        let configuration = configuration.build(setting.draft).expect("a valid configuration");
        let mut rng = rand::rng();
        let (id, keypair) = (TaskId::random(&mut rng), HpkeKeypair::generate(9, &mut rng));
        let batch_target_size = setting.batch_target_size;
        let prefixes = if matches!(setting.vdaf, VdafConfig::Poplar1 { .. }) { &PREFIXES[..] } else { &[] };
        let aggregation_parameter = parameter_of(&setting.vdaf, prefixes).expect("prefixes of a test");
        let draft = setting.draft;
        (Self { id, draft, configuration, keypair, batch_target_size, aggregation_parameter }, mechanism)
    }

    fn leader_file(&self) -> TaskFile {
        let to_helper = Bearer::new("leader-token").expect("plain letters");
        self.file(
            Role::Leader,
            Tokens::Leader {
                to_helper: Some(to_helper),
                of_collector: TokenHash::of("collector-token").into(),
            },
        )
    }

    fn helper_file(&self) -> TaskFile {
        self.file(Role::Helper, Tokens::Helper { of_leader: TokenHash::of("leader-token").into() })
    }

    fn file(&self, role: Role, tokens: Tokens) -> TaskFile {
        TaskFile {
            role,
            task_id: self.id,
            draft: self.draft,
            configuration: self.configuration.clone(),
            verify_key: Zeroizing::new([7; 32]),
            verification_key_id: 0,
            collector: self.keypair.config.clone(),
            tokens,
            batch_target_size: self.batch_target_size.filter(|_| role == Role::Leader),
            aggregation_parameter: match role {
                Role::Leader => self.aggregation_parameter.clone(),
                Role::Helper => Vec::new(),
            },
        }
    }

    /// What clients are told; these tests upload without relay and gateway.
    fn bundle(&self) -> TaskBundle {
        let key = GatewayKey::generate(1, Kem::X25519HkdfSha256).expect("a key");
        let keys = GatewayKeys::new(vec![key]).expect("one key");
        TaskBundle {
            task_id: self.id,
            draft: self.draft,
            configuration: self.configuration.clone(),
            relay: "http://127.0.0.1:1/".to_owned(),
            ohttp_keys: KeyConfigList::parse(keys.config_list().to_vec()).expect("its own list"),
            history_key: None,
        }
    }

    fn into_collector(self, mechanism: Option<Mechanism>) -> CollectorTask {
        CollectorTask {
            task_id: self.id,
            draft: self.draft,
            configuration: self.configuration,
            token: Secret::new("collector-token".to_owned()),
            keypair: self.keypair,
            mechanism,
            guarantee: None,
            aggregation_parameter: self.aggregation_parameter,
        }
    }
}

fn parse(policy: &str) -> Policy {
    Policy::parse("policy.toml", policy).expect("a valid policy")
}

async fn build(store: Store, files: Vec<TaskFile>, setting: &Setting, clock: &Clock) -> Aggregator {
    let options = Options {
        role: files.first().expect("at least one task").role,
        store,
        clock: clock.clone(),
        compute: ComputePool::new(),
        http: HttpClient::new(HttpOptions { timeout: PATIENCE, ..HttpOptions::default() }),
        policy: parse(&setting.policy),
        tasks: files,
        limits: Limits { answers: setting.answers, ..Limits::default() },
    };
    Aggregator::build(options).await.expect("a task it can serve")
}

impl Pair {
    async fn start(setting: &Setting, databases: [TestDatabase; 2]) -> Self {
        let leader_listener = listener::bind("127.0.0.1:0").await.expect("a free port");
        let helper_listener = listener::bind("127.0.0.1:0").await.expect("a free port");
        let (task, mechanism) = Task::make(setting, &leader_listener, &helper_listener);
        let clock = Clock::manual(NOW);
        let shutdown = Shutdown::new();
        let mut servers = Vec::new();
        let (mut configs, mut stores) = (Vec::new(), Vec::new());
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (stuck, _) = Task::make(setting, &leader_listener, &silent);
        let files = [
            (leader_listener, vec![task.leader_file(), stuck.leader_file()]),
            (helper_listener, vec![task.helper_file()]),
        ];
        for (database, (listener, files)) in databases.iter().zip(files) {
            let store = database.open(store::migrator()).await.expect("an empty database");
            let aggregator = build(store.clone(), files, setting, &clock).await;
            stores.push(store);
            let list = HpkeConfigList::decoded(&aggregator.hpke_configs()).expect("its own list");
            configs.push(list.preferred().expect("at least one").clone());
            servers.push(tokio::spawn(aggregator.run(listener, shutdown.clone())));
        }
        let [leader_config, helper_config] = <[_; 2]>::try_from(configs).expect("two servers");
        let builder = |task: &Task| {
            let configs = (leader_config.clone(), helper_config.clone());
            ReportBuilder::new(&task.bundle(), configs.0, configs.1).expect("a VDAF it can run")
        };
        let stuck = Stuck { task_id: stuck.id, builder: builder(&stuck), _helper: silent };
        let builder = builder(&task);
        let http = HttpClient::new(HttpOptions::default());
        let (task_id, configuration) = (task.id, task.configuration.clone());
        let collector = Collector::new(task.into_collector(mechanism), http.clone()).hurried();
        Self {
            task_id,
            configuration,
            http,
            collector,
            builder,
            stuck,
            clock,
            deferring: setting.answers == Answers::Deferred,
            shutdown,
            servers,
            helper: stores.pop().expect("the helper is the second"),
            _databases: databases,
        }
    }

    pub(crate) fn report(&self, measurement: &Measurement) -> Report {
        self.builder.report(measurement, self.clock.now()).expect("a fitting measurement")
    }

    pub(crate) async fn post(&self, media: &str, body: Vec<u8>) -> Response<Bytes> {
        self.post_to(self.task_id, media, body).await
    }

    /// Uploads one report to the task that is stuck.
    pub(crate) async fn upload_to_stuck(&self, report: Report) {
        let body = UploadRequest { reports: vec![report] }.encoded();
        let response = self.post_to(self.stuck.task_id, Media::UploadReq.header(), body).await;
        assert!(response.status().is_success() && response.body().is_empty(), "it is taken");
    }

    async fn post_to(&self, task: TaskId, media: &str, body: Vec<u8>) -> Response<Bytes> {
        let url = Resource::Reports(task).url(self.configuration.leader_url());
        let request = Request::builder()
            .method(Method::POST)
            .uri(url)
            .header(header::CONTENT_TYPE, media)
            .body(Bytes::from(body))
            .expect("a request");
        self.http.send(request).await.expect("the leader answers")
    }

    /// Uploads, and returns the refused ones.
    pub(crate) async fn upload(&self, reports: &[Report]) -> Vec<ReportError> {
        let body = UploadRequest { reports: reports.to_vec() }.encoded();
        let response = self.post(Media::UploadReq.header(), body).await;
        assert!(response.status().is_success(), "{}", response.status());
        if response.body().is_empty() {
            return Vec::new();
        }
        let errors = UploadErrors::decoded(response.body()).expect("upload errors");
        let draft = self.collector.task().draft;
        errors.statuses.iter().map(|status| ReportError::from_code(status.error, draft)).collect()
    }

    pub(crate) fn all(&self) -> Interval {
        let start = self.configuration.time_precision().time_of(NOW);
        Interval::new(start, Duration(1)).expect("one unit")
    }

    /// Asks for all there is, or for the next batch.
    pub(crate) async fn begin(&self) -> Result<Collection, CollectError> {
        match self.configuration.batch_mode() {
            BatchMode::TimeInterval => self.collector.collect(self.all()).await,
            BatchMode::LeaderSelected => self.collector.collect_next().await,
        }
    }

    pub(crate) async fn collect(&self) -> Result<Outcome, CollectError> {
        let collection = self.begin().await?;
        let pass = || self.clock.advance(u64::from(self.deferring));
        let waiting = self.collector.wait(&collection, pass);
        tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await.expect("a batch in time")
    }

    async fn stop(self) {
        self.shutdown.trigger();
        for server in self.servers {
            server.await.expect("it drains");
        }
    }
}

/// Runs `body` with a fresh pair on every database.
pub(crate) async fn on_each<Fut: Future<Output = ()>>(setting: Setting, body: impl Fn(Arc<Pair>) -> Fut) {
    let second: BTreeMap<&str, TestDatabase> =
        databases().await.into_iter().map(|database| (database.kind, database)).collect();
    let mut second = second;
    for first in databases().await {
        let other = second.remove(first.kind).expect("the same kinds twice");
        let pair = Arc::new(Pair::start(&setting, [first, other]).await);
        body(Arc::clone(&pair)).await;
        Arc::into_inner(pair).expect("the body let go of it").stop().await;
    }
}
