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
use mica_dap::id::to_base64url;
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

/// T8, T9, T10: the client tells the leader, the leader tells the helper, and the total is that of the reports. The task
/// outlives its trial, because reports of it were accepted.
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
        let collector = Collector::new(
            CollectorTask {
                task_id: configuration.derived_task_id(),
                draft: Draft::V18,
                configuration: configuration.clone(),
                token: Secret::new(COLLECTOR_TOKEN.to_owned()),
                keypair: agreement.collector,
                mechanism: None,
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
