//! A leader under test with everyone around it: a scripted helper, clients and the collector.

use std::path::Path;
use std::time::Duration as RealTime;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use mica_aggregator::Role;
use mica_aggregator::shared::Limits;
use mica_client::{ReportBuilder, TaskBundle};
use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::collection::{CollectionJobReq, CollectionJobResp, Query};
use mica_dap::hpke::{self, AggregateShareAad, HpkeKeypair, Label};
use mica_dap::hpke_config::{HpkeCiphertext, HpkeConfig, HpkeConfigList};
use mica_dap::media::Media;
use mica_dap::report::{Report, UploadErrors, UploadRequest};
use mica_dap::report_error::ReportError;
use mica_dap::task::BatchMode;
use mica_dap::time::{Duration, Interval};
use mica_dap::vdaf::Measurement;
use mica_envelope::{GatewayKey, GatewayKeys, Kem, KeyConfigList};
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::testing::TestDatabase;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use super::leader::{Reply, now};
use super::task::{Kind, LEADER_TOKEN};
use super::{NOW, ScriptedHelper, Server, TestTask};

pub(crate) struct World {
    pub(crate) task: TestTask,
    pub(crate) helper: ScriptedHelper,
    pub(crate) leader: Server,
    pub(crate) builder: ReportBuilder,
    pub(crate) kind: &'static str,
    helper_config: HpkeConfig,
    http: HttpClient,
}

impl World {
    /// A sum task whose totals leave as they are; a batch has at least two reports.
    pub(crate) async fn plain(database: &TestDatabase) -> Self {
        Self::start(Kind::default(), database).await
    }

    /// A sum task with noise, whose budget lasts for ten releases.
    pub(crate) async fn noised(database: &TestDatabase) -> Self {
        Self::start(Kind { epsilon: Some("1/10"), ..Kind::default() }, database).await
    }

    pub(crate) async fn start(kind: Kind, database: &TestDatabase) -> Self {
        Self::limited(kind, database, Limits::default()).await
    }

    pub(crate) async fn limited(kind: Kind, database: &TestDatabase, limits: Limits) -> Self {
        Self::with(kind, database, limits, (None, None)).await
    }

    /// Beside a helper that shows this release statement.
    pub(crate) async fn beside(kind: Kind, database: &TestDatabase, statement: Vec<u8>) -> Self {
        Self::with(kind, database, Limits::default(), (Some(statement), None)).await
    }

    /// Whose leader remembers in a file how far its ledger had come.
    pub(crate) async fn marked(kind: Kind, database: &TestDatabase, mark: &Path) -> Self {
        Self::with(kind, database, Limits::default(), (None, Some(mark))).await
    }

    async fn with(
        kind: Kind,
        database: &TestDatabase,
        limits: Limits,
        (statement, mark): (Option<Vec<u8>>, Option<&Path>),
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let helper_url =
            format!("http://{}/helper/dap/", listener.local_addr().expect("the listener is bound"));
        let task = TestTask::new(&Kind { helper_url, ..kind });
        let keypair = HpkeKeypair::generate(3, &mut rand::rng());
        let helper_config = keypair.config.clone();
        let helper = ScriptedHelper::serve(listener, &task, keypair);
        if let Some(statement) = statement {
            helper.shows(statement);
        }
        let leader = Server::marked(Role::Leader, &task, database, limits, mark).await;
        let list = HpkeConfigList::decoded(&leader.hpke_configs).expect("its own list");
        let leader_config = list.preferred().expect("at least one").clone();
        let builder = ReportBuilder::new(&bundle(&task), leader_config, helper_config.clone())
            .expect("a VDAF it can run");
        let http = HttpClient::new(HttpOptions::default());
        Self { task, helper, leader, builder, kind: database.kind, helper_config, http }
    }

    /// The power fails and comes back.
    pub(crate) async fn restart(&mut self, database: &TestDatabase) {
        let fresh = Server::start(Role::Leader, &self.task, database);
        // In this order: a database may be used by one process alone.
        let clock = self.leader.clock.now();
        std::mem::replace(&mut self.leader, fresh.await).kill();
        self.leader.clock.set(clock);
    }

    pub(crate) fn reports(&self, values: &[u64]) -> Vec<Report> {
        values.iter().map(|value| self.report_at(*value, NOW)).collect()
    }

    pub(crate) fn report_at(&self, value: u64, unix_seconds: u64) -> Report {
        self.builder.report(&Measurement::Integer(value), unix_seconds).expect("a fitting measurement")
    }

    /// Reports of a client that has this list of the leader's keys.
    pub(crate) fn reports_to(&self, keys: &HpkeConfigList, values: &[u64]) -> Vec<Report> {
        let leader = keys.preferred().expect("at least one").clone();
        let builder = ReportBuilder::new(&bundle(&self.task), leader, self.helper_config.clone());
        let builder = builder.expect("a VDAF it can run");
        let report = |value: &u64| builder.report(&Measurement::Integer(*value), NOW);
        values.iter().map(|value| report(value).expect("a fitting measurement")).collect()
    }

    /// The list that a leader publishes now.
    pub(crate) async fn fetch_keys(&self, leader: &Server) -> HpkeConfigList {
        let url = format!("{}/api/dap/hpke_config", leader.origin);
        let reply = self.send(Method::GET, &url, None, Vec::new()).await;
        HpkeConfigList::decoded(&reply.body).expect("its own list")
    }

    /// Uploads, and returns the refused ones.
    pub(crate) async fn upload(&self, reports: &[Report]) -> Vec<ReportError> {
        self.upload_to(&self.leader, reports).await
    }

    pub(crate) async fn upload_to(&self, leader: &Server, reports: &[Report]) -> Vec<ReportError> {
        let body = UploadRequest { reports: reports.to_vec() }.encoded();
        let reply = self.send(Method::POST, &self.url(leader, "reports"), Some(Media::UploadReq), body).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        if reply.body.is_empty() {
            return Vec::new();
        }
        let errors = UploadErrors::decoded(&reply.body).expect("upload errors").statuses;
        errors.iter().map(|status| ReportError::from_code(status.error, self.task.draft)).collect()
    }

    /// Begins to collect the hour in which the test began.
    pub(crate) async fn collect(&self) -> Reply {
        self.collect_from(&self.leader, hour()).await
    }

    pub(crate) async fn collect_from(&self, leader: &Server, interval: Interval) -> Reply {
        self.collect_by(leader, &self.request(interval)).await
    }

    pub(crate) async fn collect_by(&self, leader: &Server, request: &CollectionJobReq) -> Reply {
        let media = Some(Media::CollectionJobReq);
        self.send(Method::POST, &self.url(leader, "collection_jobs"), media, request.encoded()).await
    }

    /// What the collector of the task asks for; its interval does not matter where the leader selects the batches.
    fn request(&self, interval: Interval) -> CollectionJobReq {
        let query = match self.task.configuration.batch_mode() {
            BatchMode::TimeInterval => Query::time_interval(interval),
            BatchMode::LeaderSelected => Query::leader_selected(),
        };
        CollectionJobReq::new(query, self.task.aggregation_parameter.clone())
    }

    pub(crate) async fn follow(&self, method: Method, location: &str) -> Reply {
        self.send(method, &format!("{}{location}", self.leader.origin), None, Vec::new()).await
    }

    /// Collects that hour to the end.
    pub(crate) async fn collected(&self) -> Reply {
        let begun = self.collect().await;
        assert_eq!(begun.status, StatusCode::OK, "{begun:?}");
        let location = begun.location.expect("a job has a place");
        self.concluded(&location).await
    }

    /// The answer or the refusal that a collection comes to.
    pub(crate) async fn concluded(&self, location: &str) -> Reply {
        let over = async || {
            let reply = self.follow(Method::GET, location).await;
            !reply.body.is_empty()
        };
        self.until("the end of a collection", over).await;
        self.follow(Method::GET, location).await
    }

    /// Opens both shares as the collector: how many reports, and their total.
    pub(crate) fn total(&self, reply: &Reply) -> (u64, i128) {
        let (reports, totals) = self.totals(reply);
        (reports, totals[0])
    }

    /// The same for results of several values.
    pub(crate) fn totals(&self, reply: &Reply) -> (u64, Vec<i128>) {
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        assert_eq!(reply.media.as_deref(), Some(Media::CollectionJobResp.header()));
        let answer = CollectionJobResp::decoded(&reply.body).expect("an answer");
        assert_eq!(answer.interval, hour());
        let request = self.request(hour());
        let open = |role, sealed: &HpkeCiphertext| {
            let aad = AggregateShareAad {
                task_id: &self.task.id,
                task_configuration: self.task.configuration.bytes(),
                collection_job_req: request.bytes(),
            };
            let info = Label::AggregateShare(role).info(self.task.draft);
            hpke::open(&self.task.collector, &info, &aad.encoded(), sealed).expect("sealed to the collector")
        };
        let leader = open(hpke::Role::Leader, &answer.leader_encrypted_agg_share);
        let helper = open(hpke::Role::Helper, &answer.helper_encrypted_agg_share);
        let vdaf = self.task.configuration.vdaf().instantiate().expect("the VDAF of a test");
        let parameter = &self.task.aggregation_parameter;
        let totals = vdaf.unshard_signed(parameter, &leader, &helper, answer.report_count);
        (answer.report_count, totals.expect("aggregate shares"))
    }

    /// Waits for `done`. Whatever the leader has put off meanwhile becomes due at once.
    pub(crate) async fn until(&self, what: &str, done: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + RealTime::from_secs(20);
        while !done().await {
            let troubles = self.leader.troubles().await;
            assert!(Instant::now() < deadline, "{}: no {what}: {troubles:?}", self.kind);
            if let Some(due) = self.leader.next_try().await {
                self.leader.clock.set(due);
            }
            sleep(RealTime::from_millis(20)).await;
        }
    }

    /// Waits until every uploaded report is counted or refused.
    pub(crate) async fn settled(&self) {
        self.until("end of aggregation", async || self.leader.unsettled().await == (0, 0)).await;
    }

    /// Waits until the leader has put off its only aggregation job; returns why, and for how long.
    pub(crate) async fn put_off(&self) -> (String, u64) {
        let deadline = Instant::now() + RealTime::from_secs(10);
        loop {
            if let (Some(due), [why]) = (self.leader.next_try().await, &self.leader.troubles().await[..]) {
                return (why.clone(), due - self.leader.clock.now());
            }
            assert!(Instant::now() < deadline, "{}: nothing is put off", self.kind);
            sleep(RealTime::from_millis(20)).await;
        }
    }

    pub(crate) fn url(&self, leader: &Server, resource: &str) -> String {
        format!("{}/api/dap/tasks/{}/{resource}", leader.origin, self.task.id)
    }

    pub(crate) async fn send(&self, method: Method, url: &str, media: Option<Media>, body: Vec<u8>) -> Reply {
        let mut request = Request::builder().method(method).uri(url).header(header::AUTHORIZATION, TOKEN);
        if let Some(media) = media {
            request = request.header(header::CONTENT_TYPE, media.header());
        }
        self.send_request(request.body(Bytes::from(body)).expect("a request")).await
    }

    pub(crate) async fn send_request(&self, request: Request<Bytes>) -> Reply {
        Reply::of(&self.exchange(request).await)
    }

    pub(crate) async fn exchange(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.http.send(request).await.expect("the leader answers")
    }

    /// What every request to the helper must carry.
    pub(crate) fn assert_authorized(&self) {
        let token = format!("Bearer {LEADER_TOKEN}");
        for received in self.helper.received().into_iter().chain(self.helper.deleted()) {
            assert_eq!(received.authorization.as_ref(), Some(&token), "{}", received.target);
        }
    }
}

impl Reply {
    fn of(reply: &Response<Bytes>) -> Self {
        let text = |name| reply.headers().get(name).map(|value| value.to_str().expect("plain").to_owned());
        Self {
            status: reply.status(),
            location: text(header::LOCATION),
            media: text(header::CONTENT_TYPE),
            retry_after: text(header::RETRY_AFTER).and_then(|seconds| seconds.parse().ok()),
            body: reply.body().clone(),
        }
    }
}

/// What the collector shows; clients need nothing, and it does them no harm.
const TOKEN: &str = "Bearer shown-by-the-collector";

/// The hour in which every test begins.
pub(crate) fn hour() -> Interval {
    Interval::new(now(), Duration(1)).expect("one unit")
}

/// What clients are told; these tests upload without relay and gateway.
fn bundle(task: &TestTask) -> TaskBundle {
    let key = GatewayKey::generate(1, Kem::X25519HkdfSha256).expect("a key");
    let keys = GatewayKeys::new(vec![key]).expect("one key");
    TaskBundle {
        task_id: task.id,
        draft: task.draft,
        configuration: task.configuration.clone(),
        relay: "http://127.0.0.1:1/".to_owned(),
        ohttp_keys: KeyConfigList::parse(keys.config_list().to_vec()).expect("its own list"),
        history_key: None,
    }
}
