//! A leader and a helper over real sockets, on both databases: what clients upload is what the collector reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, header};
use mica_aggregator::aggregator::Options;
use mica_aggregator::auth::{Bearer, TokenHash};
use mica_aggregator::shared::Limits;
use mica_aggregator::task_file::Tokens;
use mica_aggregator::{Aggregator, Role, TaskFile, store};
use mica_client::{ReportBuilder, TaskBundle};
use mica_collector::{CollectError, Collector, CollectorTask, Outcome, Poll};
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
use mica_dap::vdaf::Measurement;
use mica_dap::vdaf_config::VdafConfig;
use mica_dap::{Draft, problem};
use mica_dp::{Decision, Policy, TaskFacts};
use mica_service::clock::Clock;
use mica_service::compute::ComputePool;
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::listener;
use mica_service::secret::Secret;
use mica_service::shutdown::Shutdown;
use mica_service::testing::{TestDatabase, databases};
use mica_envelope::{GatewayKey, GatewayKeys, Kem, KeyConfigList};
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

const NOW: u64 = 1_790_000_000;
const LABEL: &str = "pair";

/// One leader, one helper, one collector, one task.
struct Pair {
    task_id: TaskId,
    configuration: TaskConfiguration,
    http: HttpClient,
    collector: Collector,
    builder: ReportBuilder,
    clock: Clock,
    shutdown: Shutdown,
    servers: Vec<JoinHandle<()>>,
    /// Dropped, they are gone.
    _databases: Vec<TestDatabase>,
}

struct Setting {
    vdaf: VdafConfig,
    draft: Draft,
    policy: String,
}

impl Setting {
    fn without_noise(vdaf: VdafConfig) -> Self {
        let policy = Policy::for_release_without_dp("a test compares exact totals", "2099-01-01");
        Self { vdaf, draft: Draft::V18, policy }
    }

    fn with_noise(vdaf: VdafConfig, epsilon: &str) -> Self {
        let policy = Policy::for_demo(LABEL, &vdaf, MIN_BATCH, epsilon);
        Self { vdaf, draft: Draft::V18, policy }
    }
}

const MIN_BATCH: u64 = 3;

impl Pair {
    async fn start(setting: &Setting, leader_db: TestDatabase, helper_db: TestDatabase) -> Self {
        let _ = mica_service::telemetry::init(mica_service::telemetry::LogFormat::Text, "info", std::io::stderr());
        let leader_listener = listener::bind("127.0.0.1:0").await.expect("a free port");
        let helper_listener = listener::bind("127.0.0.1:0").await.expect("a free port");
        let url = |listener: &tokio::net::TcpListener| {
            format!("http://{}/dap/", listener.local_addr().expect("it is bound"))
        };
        let parse = || Policy::parse("policy.toml", &setting.policy).expect("a valid policy");
        let facts = TaskFacts { label: LABEL, vdaf: &setting.vdaf, min_batch_size: MIN_BATCH };
        let (task_info, mechanism) = match parse().release_for(&facts).expect("the policy covers the task") {
            Decision::Release(plan) => {
                (plan.statement().task_info(LABEL).expect("a short label"), Some(plan.mechanism().clone()))
            }
            Decision::WithoutDp(_) => (LABEL.as_bytes().to_vec(), None),
        };
        let configuration = TaskParameters {
            task_info,
            leader_url: url(&leader_listener),
            helper_url: url(&helper_listener),
            time_precision: TimePrecision::new(60).expect("not zero"),
            min_batch_size: MIN_BATCH,
            batch_mode: BatchMode::TimeInterval,
            vdaf: setting.vdaf.clone(),
            task_interval: None,
        }
        .build(setting.draft)
        .expect("a valid configuration");
        let task_id = TaskId::random(&mut rand::rng());
        let keypair = HpkeKeypair::generate(9, &mut rand::rng());
        let file = |role: Role, tokens: Tokens| TaskFile {
            role,
            task_id,
            draft: setting.draft,
            configuration: configuration.clone(),
            verify_key: Zeroizing::new([7; 32]),
            verification_key_id: 0,
            collector: keypair.config.clone(),
            tokens,
        };
        let clock = Clock::manual(NOW);
        let shutdown = Shutdown::new();
        let http = HttpClient::new(HttpOptions::default());
        let mut servers = Vec::new();
        let mut configs = Vec::new();
        let mut databases = Vec::new();
        let leader_tokens = Tokens::Leader {
            to_helper: Bearer::new("leader-token").expect("plain letters"),
            of_collector: TokenHash::of("collector-token"),
        };
        let helper_tokens = Tokens::Helper { of_leader: TokenHash::of("leader-token") };
        for (database, listener, file) in [
            (leader_db, leader_listener, file(Role::Leader, leader_tokens)),
            (helper_db, helper_listener, file(Role::Helper, helper_tokens)),
        ] {
            let aggregator = Aggregator::build(Options {
                role: file.role,
                store: database.open(store::migrator()).await.expect("an empty database"),
                clock: clock.clone(),
                compute: ComputePool::new(),
                http: http.clone(),
                policy: parse(),
                tasks: vec![file],
                limits: Limits::default(),
            })
            .await
            .expect("a task it can serve");
            let list = HpkeConfigList::decoded(aggregator.hpke_configs()).expect("its own list");
            configs.push(list.preferred().expect("at least one").clone());
            servers.push(tokio::spawn(aggregator.run(listener, shutdown.clone())));
            databases.push(database);
        }
        let ohttp_keys = GatewayKeys::new(vec![GatewayKey::generate(1, Kem::X25519HkdfSha256).expect("a key")]).expect("one");
        let bundle = TaskBundle {
            task_id,
            draft: setting.draft,
            configuration: configuration.clone(),
            relay: "http://127.0.0.1:1/".to_owned(),
            ohttp_keys: KeyConfigList::parse(ohttp_keys.config_list().to_vec()).expect("its own list"),
        };
        let helper_config = configs.pop().expect("two servers");
        let leader_config = configs.pop().expect("two servers");
        let builder = ReportBuilder::new(&bundle, leader_config, helper_config).expect("a VDAF it can run");
        let collector_task = CollectorTask {
            task_id,
            draft: setting.draft,
            configuration: configuration.clone(),
            token: Secret::new("collector-token".to_owned()),
            keypair,
            mechanism,
        };
        let collector = Collector::new(collector_task, http.clone());
        Self { task_id, configuration, http, collector, builder, clock, shutdown, servers, _databases: databases }
    }

    fn report(&self, measurement: &Measurement) -> Report {
        self.builder.report(measurement, self.clock.now()).expect("a fitting measurement")
    }

    async fn post(&self, media: &str, body: Vec<u8>) -> Response<Bytes> {
        let url = Resource::Reports(self.task_id).url(self.configuration.leader_url());
        let request = Request::builder()
            .method(Method::POST)
            .uri(url)
            .header(header::CONTENT_TYPE, media)
            .body(Bytes::from(body))
            .expect("a request");
        self.http.send(request).await.expect("the leader answers")
    }

    /// Uploads, and returns the refused ones.
    async fn upload(&self, reports: &[Report]) -> Vec<ReportError> {
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

    fn all(&self) -> Interval {
        let now = self.configuration.time_precision().time_of(self.clock.now());
        Interval::new(now, Duration(1)).expect("one unit")
    }

    async fn collect(&self) -> Result<Outcome, CollectError> {
        let collection = self.collector.collect(self.all()).await?;
        let waiting = self.collector.wait(&collection, || {});
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
async fn on_each<Fut: Future<Output = ()>>(setting: Setting, body: impl Fn(Arc<Pair>) -> Fut) {
    let second: BTreeMap<&str, TestDatabase> =
        databases().await.into_iter().map(|database| (database.kind, database)).collect();
    let mut second = second;
    for first in databases().await {
        let other = second.remove(first.kind).expect("the same kinds twice");
        let pair = Arc::new(Pair::start(&setting, first, other).await);
        body(Arc::clone(&pair)).await;
        Arc::into_inner(pair).expect("the body let go of it").stop().await;
    }
}

fn five() -> Vec<(VdafConfig, Vec<Measurement>, Vec<i128>)> {
    vec![
        (VdafConfig::Count, [true, true, false, true].map(Measurement::Bool).to_vec(), vec![3]),
        (
            VdafConfig::Sum { max_measurement: 100 },
            [1, 2, 99, 100].map(Measurement::Integer).to_vec(),
            vec![202],
        ),
        (
            VdafConfig::sum_vec(3, 10),
            [[1, 2, 3], [0, 0, 10], [4, 5, 6]].map(|vector| Measurement::Vector(vector.to_vec())).to_vec(),
            vec![5, 7, 19],
        ),
        (VdafConfig::histogram(4), [0, 2, 2, 3].map(Measurement::Bucket).to_vec(), vec![1, 0, 2, 1]),
        (
            VdafConfig::multihot(4, 2),
            [[true, false, true, false], [false; 4], [true, false, false, true]]
                .map(|set| Measurement::Set(set.to_vec()))
                .to_vec(),
            vec![2, 0, 1, 1],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn totals_of_every_type_are_exact_without_noise() {
    for (vdaf, measurements, expected) in five() {
        for draft in Draft::ALL {
            let setting = Setting { draft, ..Setting::without_noise(vdaf.clone()) };
            on_each(setting, async |pair| {
                let reports: Vec<Report> = measurements.iter().map(|it| pair.report(it)).collect();
                assert_eq!(pair.upload(&reports).await, []);
                let outcome = pair.collect().await.expect("a complete batch");
                assert_eq!(outcome.values, expected);
                assert_eq!(outcome.report_count, measurements.len() as u64);
                assert_eq!(outcome.interval, pair.all());
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_report_and_one_from_the_future_are_refused_and_the_others_count() {
    on_each(Setting::without_noise(VdafConfig::Count), async |pair| {
        let good: Vec<Report> = (0..4).map(|_| pair.report(&Measurement::Bool(true))).collect();
        let early = pair.builder.report(&Measurement::Bool(true), NOW + 3_600).expect("it fits");
        assert_eq!(pair.upload(&good).await, []);
        let again = [good[1].clone(), early, pair.report(&Measurement::Bool(true))];
        assert_eq!(pair.upload(&again).await, [ReportError::ReportReplayed, ReportError::ReportTooEarly]);
        let outcome = pair.collect().await.expect("a complete batch");
        assert_eq!((outcome.values, outcome.report_count), (vec![5], 5));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_that_cannot_be_opened_costs_only_its_own_report() {
    on_each(Setting::without_noise(VdafConfig::Count), async |pair| {
        let mut reports: Vec<Report> = (0..6).map(|_| pair.report(&Measurement::Bool(true))).collect();
        let flip = |bytes: &mut Vec<u8>| *bytes.last_mut().expect("not empty") ^= 1;
        flip(&mut reports[0].leader_encrypted_input_share.payload);
        flip(&mut reports[1].helper_encrypted_input_share.payload);
        let helper = reports[2].helper_encrypted_input_share.clone();
        reports[2].leader_encrypted_input_share.payload = helper.payload;
        assert_eq!(pair.upload(&reports).await, []);
        let outcome = pair.collect().await.expect("a complete batch");
        assert_eq!((outcome.values, outcome.report_count), (vec![3], 3));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_upload_is_refused_whole_and_stores_nothing() {
    on_each(Setting::without_noise(VdafConfig::Count), async |pair| {
        let reports: Vec<Report> = (0..3).map(|_| pair.report(&Measurement::Bool(true))).collect();
        let body = UploadRequest { reports: reports.clone() }.encoded();
        let media = Media::UploadReq.header();
        let longer = [body.clone(), vec![0]].concat();
        for wrong in [body[..body.len() - 1].to_vec(), longer, Vec::new()] {
            let response = pair.post(media, wrong).await;
            assert_eq!(response.status(), 400);
            let problem = problem::ProblemDocument::from_json(response.body()).expect("a problem document");
            assert_eq!(problem.problem(), Some(problem::Problem::InvalidMessage));
            assert_eq!(problem.taskid, Some(pair.task_id.to_string()));
        }
        assert_eq!(pair.post("text/plain", body).await.status(), 415);
        assert_eq!(pair.upload(&reports).await, [], "none of them was kept before");
        assert_eq!(pair.collect().await.expect("a complete batch").values, [3]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_released_once_and_the_same_question_gets_the_same_answer() {
    on_each(Setting::with_noise(VdafConfig::histogram(4), "1"), async |pair| {
        let reports: Vec<Report> = (0..50).map(|at| pair.report(&Measurement::Bucket(at % 4))).collect();
        assert_eq!(pair.upload(&reports).await, []);
        let first = pair.collect().await.expect("a complete batch");
        assert_eq!(first.report_count, 50);
        assert_eq!(pair.collect().await.expect("the same collection"), first, "noise is drawn once");
        let late = pair.report(&Measurement::Bucket(0));
        assert_eq!(pair.upload(&[late]).await, [ReportError::ReportReplayed], "its batch was collected");

        let collection = pair.collector.collect(pair.all()).await.expect("still there");
        pair.collector.delete(&collection).await.expect("deleted");
        let refused = |outcome: Result<_, CollectError>| match outcome {
            Err(CollectError::Refused(problem)) => problem.problem(),
            _ => None,
        };
        let again = pair.collector.collect(pair.all()).await;
        assert_eq!(refused(again), Some(problem::Problem::BatchOverlap));
        let wider = Interval::new(pair.all().start(), Duration(2)).expect("two units");
        assert_eq!(refused(pair.collector.collect(wider).await), Some(problem::Problem::BatchOverlap));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_below_the_minimum_waits_for_more() {
    on_each(Setting::without_noise(VdafConfig::Count), async |pair| {
        let reports: Vec<Report> = (0..3).map(|_| pair.report(&Measurement::Bool(true))).collect();
        assert_eq!(pair.upload(&reports[..2]).await, []);
        let collection = pair.collector.collect(pair.all()).await.expect("it waits");
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let poll = pair.collector.poll(&collection).await.expect("it still waits");
        assert!(matches!(poll, Poll::Waiting { .. }));
        assert_eq!(pair.upload(&reports[2..]).await, []);
        assert_eq!(pair.collect().await.expect("a complete batch").values, [3]);
    })
    .await;
}
