//! A task that nobody has configured: it comes to the leader with an upload, to the helper with a job of the leader, and
//! is collected like any other.

use bytes::Bytes;
use http::{Method, Request, header};
use mica_aggregator::aggregator::Options;
use mica_aggregator::auth::TokenHash;
use mica_aggregator::shared::Limits;
use mica_aggregator::taskprov::{Taskprov, TaskprovConfig};
use mica_aggregator::{Aggregator, Role, store};
use mica_client::{ReportBuilder, TaskBundle};
use mica_collector::{Collector, CollectorTask};
use mica_dap::Draft;
use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::hpke::HpkeKeypair;
use mica_dap::hpke_config::{HpkeConfig, HpkeConfigList};
use mica_dap::id::{CollectionJobId, to_base64url};
use mica_dap::media::Media;
use mica_dap::report::{Report, UploadRequest};
use mica_dap::resource::Resource;
use mica_dap::task::{BatchMode, TaskConfiguration, TaskParameters};
use mica_dap::taskprov::{HEADER, header_value};
use mica_dap::time::{Duration, Interval, Time, TimePrecision};
use mica_dap::vdaf::Measurement;
use mica_dap::vdaf_config::VdafConfig;
use mica_dp::Policy;
use mica_envelope::{GatewayKey, GatewayKeys, Kem, KeyConfigList};
use mica_service::clock::Clock;
use mica_service::compute::ComputePool;
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::listener;
use mica_service::secret::Secret;
use mica_service::shutdown::Shutdown;
use mica_service::store::Store;
use mica_service::testing::{TestDatabase, databases};

use crate::support::NOW;
use crate::support::task::{COLLECTOR_TOKEN, LEADER_TOKEN};

const MINUTE: u64 = 60;

/// What both aggregators agreed on before there was any task.
struct Agreement {
    leader_url: String,
    helper_url: String,
    collector: HpkeKeypair,
    clock: Clock,
}

impl Agreement {
    fn terms(&self, role: Role) -> Taskprov {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let secret = folder.path().join("secret");
        let token = folder.path().join("token");
        std::fs::write(&secret, [7; 32]).expect("a file of our own");
        std::fs::write(&token, LEADER_TOKEN).expect("a file of our own");
        let (own, other) = match role {
            Role::Leader => (&self.leader_url, &self.helper_url),
            Role::Helper => (&self.helper_url, &self.leader_url),
        };
        let text = format!(
            "endpoint = \"{own}\"\npeers = [\"{other}\"]\nverify_key_init_file = \"{}\"\n\
             peer_token_file = \"{}\"\npeer_token_sha256 = \"{}\"\ncollector_token_sha256 = \"{}\"\n\
             collector_hpke_config = \"{}\"\nmin_batch_size_floor = 2\nwithout_noise = true\n",
            secret.display(),
            token.display(),
            TokenHash::of(LEADER_TOKEN).to_hex(),
            TokenHash::of(COLLECTOR_TOKEN).to_hex(),
            to_base64url(&self.collector.config.encoded()),
        );
        let config: TaskprovConfig = toml::from_str(&text).expect("the table is valid");
        config.load(role).expect("its files are there")
    }

    /// An aggregator without a task; what clients seal to there.
    async fn serve(
        &self,
        role: Role,
        database: &TestDatabase,
        listener: tokio::net::TcpListener,
    ) -> HpkeConfig {
        let policy = Policy::for_release_without_dp("a test compares exact totals", "2099-01-01");
        let options = Options {
            role,
            store: database.open(store::migrator()).await.expect("an empty database"),
            clock: self.clock.clone(),
            compute: ComputePool::with_threads(1),
            http: HttpClient::new(HttpOptions::default()),
            policy: Policy::parse("policy.toml", &policy).expect("a valid policy"),
            tasks: Vec::new(),
            limits: Limits::default(),
        };
        let server = Aggregator::build(options).await.expect("it needs no task");
        let server = server.with_taskprov(Some(self.terms(role)));
        let list = HpkeConfigList::decoded(&server.hpke_configs()).expect("its own list");
        tokio::spawn(server.run(listener, Shutdown::new()));
        list.preferred().expect("at least one").clone()
    }

    fn configuration(&self) -> TaskConfiguration {
        let interval = Interval::new(Time(NOW / MINUTE - 10), Duration(1_440)).expect("a day");
        let parameters = TaskParameters {
            task_info: b"provisioned".to_vec(),
            leader_url: self.leader_url.clone(),
            helper_url: self.helper_url.clone(),
            time_precision: TimePrecision::new(MINUTE).expect("not zero"),
            min_batch_size: 3,
            batch_mode: BatchMode::TimeInterval,
            vdaf: VdafConfig::Sum { max_measurement: 100 },
            task_interval: Some(interval),
        };
        parameters.build(Draft::V18).expect("a valid configuration")
    }
}

fn builder(configuration: &TaskConfiguration, configs: [HpkeConfig; 2]) -> ReportBuilder {
    let key = GatewayKey::generate(1, Kem::X25519HkdfSha256).expect("a key");
    let keys = GatewayKeys::new(vec![key]).expect("one key");
    let bundle = TaskBundle {
        task_id: configuration.derived_task_id(),
        draft: Draft::V18,
        configuration: configuration.clone(),
        relay: "http://127.0.0.1:1/".to_owned(),
        ohttp_keys: KeyConfigList::parse(keys.config_list().to_vec()).expect("its own list"),
        history_key: None,
    };
    let [leader, helper] = configs;
    ReportBuilder::new(&bundle, leader, helper).expect("a VDAF it can run")
}

/// Uploads the way a client does that advertises its task; the status, and whether every report was taken.
async fn upload(configuration: &TaskConfiguration, reports: Vec<Report>) -> (u16, bool) {
    let url = Resource::Reports(configuration.derived_task_id()).url(configuration.leader_url());
    let request = Request::builder()
        .method(Method::POST)
        .uri(url)
        .header(header::CONTENT_TYPE, Media::UploadReq.header())
        .header(HEADER, header_value(configuration))
        .body(Bytes::from(UploadRequest { reports }.encoded()))
        .expect("a request");
    let http = HttpClient::new(HttpOptions::default());
    let answer = http.send(request).await.expect("the leader answers");
    (answer.status().as_u16(), answer.body().is_empty())
}

/// Whether the leader has the task, for somebody who does not advertise it. What is uploaded is no message.
async fn is_known(configuration: &TaskConfiguration) -> bool {
    let request = Request::builder()
        .method(Method::POST)
        .uri(Resource::Reports(configuration.derived_task_id()).url(configuration.leader_url()))
        .header(header::CONTENT_TYPE, Media::UploadReq.header())
        .body(Bytes::from_static(b"none"))
        .expect("a request");
    let answer = HttpClient::new(HttpOptions::default()).send(request).await.expect("the leader answers");
    let problem = String::from_utf8_lossy(answer.body()).into_owned();
    let is_known = problem.contains("invalidMessage");
    assert!(is_known || problem.contains("unrecognizedTask"), "{problem}");
    is_known
}

/// T8, T9, T10: the client tells the leader, the leader tells the helper, and the total is that of the reports. The task
/// outlives its trial, because reports of it were verified.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_nobody_has_configured_is_uploaded_verified_and_collected() {
    for (leader, helper) in databases().await.into_iter().zip(databases().await) {
        let listeners = [
            listener::bind("127.0.0.1:0").await.expect("a free port"),
            listener::bind("127.0.0.1:0").await.expect("a free port"),
        ];
        let [leader_url, helper_url] = listeners
            .each_ref()
            .map(|listener| format!("http://{}/dap/", listener.local_addr().expect("it is bound")));
        let collector = HpkeKeypair::generate(9, &mut rand::rng());
        let agreement = Agreement { leader_url, helper_url, collector, clock: Clock::manual(NOW) };
        let [at_leader, at_helper] = listeners;
        let configs = [
            agreement.serve(Role::Leader, &leader, at_leader).await,
            agreement.serve(Role::Helper, &helper, at_helper).await,
        ];
        let configuration = agreement.configuration();
        let builder = builder(&configuration, configs);
        let reports = [1, 20, 99]
            .map(|value| builder.report(&Measurement::Integer(value), NOW).expect("a fitting measurement"));
        assert_eq!(upload(&configuration, reports.to_vec()).await, (200, true));
        agreement.clock.advance(3_600);
        // Longer than it takes an aggregator to look for tasks that are to be forgotten.
        tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
        assert!(is_known(&configuration).await, "the collector has not spoken yet");
        let collector = Collector::new(
            CollectorTask {
                task_id: configuration.derived_task_id(),
                draft: Draft::V18,
                configuration: configuration.clone(),
                token: Secret::new(COLLECTOR_TOKEN.to_owned()),
                keypair: agreement.collector,
                mechanism: None,
                guarantee: None,
                aggregation_parameter: Vec::new(),
            },
            HttpClient::new(HttpOptions::default()),
        );
        let batch = Interval::new(Time(NOW / MINUTE), Duration(1)).expect("one unit");
        let collection = collector.collect(batch).await.expect("it is taken");
        let waiting = collector.wait(&collection, || {});
        let waited = tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await;
        let outcome = waited.expect("a batch in time").expect("a complete batch");
        assert_eq!((outcome.values, outcome.report_count), (vec![120], 3));
    }
}

/// A leader with nobody at the other end, and a task that nobody has told it of.
async fn alone(database: &TestDatabase) -> (Agreement, TaskConfiguration, ReportBuilder) {
    let listener = listener::bind("127.0.0.1:0").await.expect("a free port");
    let leader_url = format!("http://{}/dap/", listener.local_addr().expect("it is bound"));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let helper_url = format!("http://{}/dap/", nobody.local_addr().expect("it is bound"));
    drop(nobody);
    let collector = HpkeKeypair::generate(9, &mut rand::rng());
    let agreement = Agreement { leader_url, helper_url, collector, clock: Clock::manual(NOW) };
    let at_helper = HpkeKeypair::generate(7, &mut rand::rng()).config;
    let at_leader = agreement.serve(Role::Leader, database, listener).await;
    let configuration = agreement.configuration();
    let builder = builder(&configuration, [at_leader, at_helper]);
    (agreement, configuration, builder)
}

async fn until(what: &str, done: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while !done().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// S138: bytes of the right length that nobody can open prove nothing, however often they are sent.
#[tokio::test]
async fn a_trial_does_not_end_with_reports_that_nobody_can_open() {
    for database in databases().await {
        let (agreement, configuration, builder) = alone(&database).await;
        let garbage = || {
            let report = builder.report(&Measurement::Integer(1), NOW);
            let mut report = report.expect("a fitting measurement");
            report.leader_encrypted_input_share.payload[0] ^= 1;
            report
        };
        let first = garbage();
        assert_eq!(upload(&configuration, vec![first.clone()]).await, (200, true));
        let store = database.open(store::migrator()).await.expect("the same database");
        let refused = async || {
            let tallies = store.read("tallies", |mut tx| async move {
                let tallies = store::tallies::between(&mut tx, 0, i64::MAX).await?;
                Ok((tx, tallies))
            });
            let tallies = tallies.await.expect("the database answers");
            tallies
                .iter()
                .filter(|(_, outcome, _)| outcome == "hpke_decrypt_error")
                .map(|tally| tally.2)
                .sum::<u64>()
        };
        until("it is opened in vain", async || refused().await == 1).await;
        // The trial goes on for as long as it would have, and no longer.
        agreement.clock.advance(599);
        assert!(is_known(&configuration).await, "{}", database.kind);
        assert_eq!(upload(&configuration, vec![garbage()]).await, (200, true));
        until("that too", async || refused().await == 2).await;
        assert_eq!(upload(&configuration, vec![first]).await, (200, false), "a replay is refused");
        agreement.clock.advance(1);
        until("it is forgotten", async || !is_known(&configuration).await).await;
        // What is left of it goes when another comes.
        assert_eq!(upload(&configuration, vec![garbage()]).await, (200, true));
        until("the new one has its own count", async || refused().await == 1).await;
    }
}

/// A collection that never came to its end, and a job that the helper was not asked to forget.
async fn leave_behind(store: &Store, now: u64) {
    let done = store.tx("leave_behind", move |mut tx| async move {
        let task = store::tasks::all_tasks(&mut tx).await?[0].key;
        let (id, request) = (CollectionJobId::new([7; 16]), b"a request".to_vec());
        let job = store::collection_jobs::NewCollectionJob { id, task, request, fence: 0, created_at: now };
        assert!(store::collection_jobs::insert(&mut tx, &job).await?);
        store::leftovers::insert(&mut tx, task, "http://127.0.0.1:1/a-job", now).await?;
        Ok((tx, ()))
    });
    done.await.expect("the database takes it");
}

/// What was accepted waits for the helper for as long as there is a task, and no longer; nor does anything else of it.
#[tokio::test]
async fn a_report_on_trial_waits_for_the_helper_and_is_given_up_with_its_task() {
    for database in databases().await {
        let (agreement, configuration, builder) = alone(&database).await;
        let report = builder.report(&Measurement::Integer(1), NOW).expect("a fitting measurement");
        assert_eq!(upload(&configuration, vec![report]).await, (200, true));
        agreement.clock.advance(86_400);
        tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
        assert!(is_known(&configuration).await, "the report is kept, and so is its task");
        agreement.clock.advance(31 * 86_400);
        let store = database.open(store::migrator()).await.expect("the same database");
        leave_behind(&store, agreement.clock.now()).await;
        until("it is given up", async || {
            // The job may have been tried once more.
            agreement.clock.advance(3_600);
            let look = store.read("what_is_left", |mut tx| async move {
                let task = store::tasks::all_tasks(&mut tx).await?[0].key;
                let active = store::aggregation_jobs::active_count(&mut tx, task).await?;
                let newest = store::segments::newest(&mut tx, task).await?;
                let tallies = store::tallies::of_task(&mut tx, task).await?;
                let collections = store::collection_jobs::open_jobs(&mut tx, task).await?;
                let leftovers = store::leftovers::tasks_with_work(&mut tx, u64::MAX >> 1).await?.len();
                Ok((tx, (active, newest, collections, leftovers, tallies)))
            });
            let (active, newest, collections, leftovers, tallies) = look.await.expect("the database answers");
            (active, newest, collections, leftovers) == (0, 0, 0, 0)
                && tallies.contains(&("task_forgotten".to_owned(), 1))
        })
        .await;
        assert!(!is_known(&configuration).await);
    }
}
