//! Tasks that come with a request, at a helper whose leader is scripted.

use std::time::{Duration as RealTime, Instant};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use mica_aggregator::Role;
use mica_aggregator::aggregator::{Aggregator, Options};
use mica_aggregator::auth::TokenHash;
use mica_aggregator::shared::Limits;
use mica_aggregator::store::{migrator, tasks};
use mica_aggregator::taskprov::TaskprovConfig;
use mica_collector::{Collector, CollectorTask};
use mica_dap::codec::Encode as _;
use mica_dap::id::to_base64url;
use mica_dap::media::Media;
use mica_dap::task::{TaskConfiguration, TaskParameters};
use mica_dap::taskprov::{HEADER, header_value};
use mica_dap::time::{Duration, Interval, Time};
use mica_service::clock::Clock;
use mica_service::compute::ComputePool;
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::secret::Secret;
use mica_service::shutdown::Shutdown;
use mica_service::store::Store;
use mica_service::testing::{TestDatabase, databases, sqlite};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::leader_steps;
use crate::support::task::{COLLECTOR_TOKEN, Kind, LEADER_TOKEN};
use crate::support::{Act, NOW, PRECISION, TestTask, World};

pub(crate) struct Helper {
    origin: String,
    pub(crate) store: Store,
    pub(crate) task: TestTask,
    http: HttpClient,
    pub(crate) clock: Clock,
}

impl Helper {
    async fn start(database: &TestDatabase) -> Self {
        Self::of(Role::Helper, database).await
    }

    pub(crate) async fn of(role: Role, database: &TestDatabase) -> Self {
        Self::limited(role, database, Limits::default()).await
    }

    /// Takes at most three new tasks a minute, with sums in batches of two or more.
    async fn limited(role: Role, database: &TestDatabase, limits: Limits) -> Self {
        let min_batch_size = limits.min_batch_size_floor.max(2);
        let task = TestTask::new(&Kind { min_batch_size, ..Kind::default() });
        let folder = tempfile::tempdir().expect("a temporary folder");
        let secret = folder.path().join("secret");
        std::fs::write(&secret, [7; 32]).expect("a file of our own");
        let config = toml::toml! {
            min_batch_size_floor = 2
            vdafs = ["prio3-sum"]
            without_noise = true
            max_tasks_per_minute = 3
        };
        let mut config = config;
        let text = |value: String| toml::Value::String(value);
        config.insert("verify_key_init_file".to_owned(), text(secret.display().to_string()));
        let urls = [task.configuration.helper_url(), task.configuration.leader_url()].map(str::to_owned);
        let (own, other) = match role {
            Role::Helper => {
                config.insert("peer_token_sha256".to_owned(), text(TokenHash::of(LEADER_TOKEN).to_hex()));
                (urls[0].clone(), urls[1].clone())
            }
            Role::Leader => {
                let token = folder.path().join("token");
                std::fs::write(&token, LEADER_TOKEN).expect("a file of our own");
                config.insert("peer_token_file".to_owned(), text(token.display().to_string()));
                let expected = TokenHash::of(COLLECTOR_TOKEN).to_hex();
                config.insert("collector_token_sha256".to_owned(), text(expected));
                (urls[1].clone(), urls[0].clone())
            }
        };
        config.insert("endpoint".to_owned(), text(own));
        config.insert("peers".to_owned(), toml::Value::Array(vec![text(other), text(PLAIN.to_owned())]));
        let collector = to_base64url(&task.collector.config.encoded());
        config.insert("collector_hpke_config".to_owned(), text(collector));
        let config: TaskprovConfig = config.try_into().expect("the table is valid");
        let terms = config.load(role).expect("its files are there");
        let store = database.open(migrator()).await.expect("the database of the test");
        let clock = Clock::manual(NOW);
        let options = Options {
            role,
            store: store.clone(),
            clock: clock.clone(),
            compute: ComputePool::with_threads(1),
            http: HttpClient::new(HttpOptions::default()),
            policy: task.policy(),
            tasks: vec![task.file(role)],
            limits,
        };
        let server = Aggregator::build(options).await.expect("it can be built").with_taskprov(Some(terms));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let origin = format!("http://{}", listener.local_addr().expect("it is bound"));
        tokio::spawn(server.run(listener, Shutdown::new()));
        Self { origin, store, task, http: HttpClient::new(HttpOptions::default()), clock }
    }

    /// The configuration of the test's task with an end, changed by `change`.
    pub(crate) fn configuration(&self, change: impl FnOnce(&mut TaskParameters)) -> TaskConfiguration {
        let mut parameters = self.task.configuration.parameters().clone();
        let interval = Interval::new(Time(NOW / PRECISION), Duration(24)).expect("a day");
        parameters.task_interval = Some(interval);
        change(&mut parameters);
        parameters.build(self.task.draft).expect("a configuration")
    }

    /// An empty aggregation job under `id`; the last part of the problem type says how far it came.
    async fn ask(&self, id: &str, token: &str, advertisement: Option<&str>) -> (StatusCode, String) {
        self.ask_at(&format!("{id}/aggregation_jobs"), Media::AggregationJobInitReq, token, advertisement)
            .await
    }

    /// The same for any resource below the tasks.
    pub(crate) async fn ask_at(
        &self,
        resource: &str,
        media: Media,
        token: &str,
        advertisement: Option<&str>,
    ) -> (StatusCode, String) {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/api/dap/tasks/{resource}", self.origin))
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, media.header());
        if let Some(value) = advertisement {
            request = request.header(HEADER, value);
        }
        let answer = self.http.send(request.body(Bytes::from_static(b"none")).expect("a request")).await;
        let answer = answer.expect("the helper answers");
        let problem: Value = serde_json::from_slice(answer.body()).expect("a problem");
        let urn = problem["type"].as_str().expect("a type");
        (answer.status(), urn.rsplit(':').next().unwrap_or_default().to_owned())
    }

    /// The same for a task that is advertised as it should be.
    async fn advertise(&self, configuration: &TaskConfiguration) -> String {
        let id = configuration.derived_task_id().to_string();
        self.ask(&id, LEADER_TOKEN, Some(&header_value(configuration))).await.1
    }

    pub(crate) async fn tasks(&self) -> usize {
        let all = self.store.read("tasks", |mut tx| async move {
            let all = tasks::all_tasks(&mut tx).await?;
            Ok((tx, all))
        });
        all.await.expect("the database answers").len()
    }
}

/// One of the other aggregators, on another machine and without TLS.
const PLAIN: &str = "http://helper.plain/";

/// The body of the requests is no message, so that a task that is known answers so.
pub(crate) const KNOWN: &str = "invalidMessage";

#[tokio::test]
async fn an_advertised_task_is_taken_once_and_stays() {
    for database in databases().await {
        let helper = Helper::start(&database).await;
        let configuration = helper.configuration(|_| {});
        let id = configuration.derived_task_id().to_string();
        assert_eq!(helper.ask(&id, LEADER_TOKEN, None).await.1, "unrecognizedTask", "nobody told of it");
        let stranger = helper.ask(&id, "stranger", Some(&header_value(&configuration))).await;
        assert_eq!((stranger.0, helper.tasks().await), (StatusCode::FORBIDDEN, 1), "no task for strangers");
        assert_eq!(helper.advertise(&configuration).await, KNOWN);
        assert_eq!(helper.advertise(&configuration).await, KNOWN);
        assert_eq!(helper.ask(&id, LEADER_TOKEN, None).await.1, KNOWN, "it is stored");
        assert_eq!(helper.tasks().await, 2);
    }
}

/// B28.
#[tokio::test]
async fn an_advertised_task_is_there_for_thirty_days_after_its_end() {
    for role in [Role::Helper, Role::Leader] {
        let database = sqlite();
        let aggregator = Helper::of(role, &database).await;
        let task = aggregator.configuration(|_| {});
        let (resource, media, token) = match role {
            Role::Helper => ("aggregation_jobs", Media::AggregationJobInitReq, LEADER_TOKEN),
            Role::Leader => ("collection_jobs", Media::CollectionJobReq, COLLECTOR_TOKEN),
        };
        let place = format!("{}/{resource}", task.derived_task_id());
        let told = header_value(&task);
        assert_eq!(aggregator.ask_at(&place, media, token, Some(&told)).await.1, KNOWN);
        let end = (NOW / PRECISION + 24) * PRECISION;
        aggregator.clock.set(end + 30 * 86_400 - 1);
        // Longer than it takes an aggregator to look for tasks that are to be forgotten.
        tokio::time::sleep(RealTime::from_millis(2_500)).await;
        assert_eq!(aggregator.ask_at(&place, media, token, None).await.1, KNOWN, "{role}");
        aggregator.clock.advance(1);
        let deadline = Instant::now() + RealTime::from_secs(10);
        while aggregator.ask_at(&place, media, token, None).await.1 != "unrecognizedTask" {
            assert!(Instant::now() < deadline, "it is never forgotten");
            tokio::time::sleep(RealTime::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn what_is_no_advertisement_is_ignored_and_one_of_another_task_is_not_recognized() {
    for database in databases().await {
        let helper = Helper::start(&database).await;
        let configuration = helper.configuration(|_| {});
        let id = configuration.derived_task_id().to_string();
        let own = helper.task.id.to_string();
        let value = header_value(&configuration);
        for ignored in ["", ":AAAA:", "token", &format!("{value}, {value}")] {
            assert_eq!(helper.ask(&id, LEADER_TOKEN, Some(ignored)).await.1, "unrecognizedTask");
            assert_eq!(helper.ask(&own, LEADER_TOKEN, Some(ignored)).await.1, KNOWN);
        }
        assert_eq!(helper.ask(&own, LEADER_TOKEN, Some(&value)).await.1, "unrecognizedTask");
        assert_eq!(helper.ask(&id, LEADER_TOKEN, Some(&format!("{value};a=1"))).await.1, KNOWN);
    }
}

#[tokio::test]
async fn a_task_that_breaks_the_terms_is_opted_out_of() {
    for database in databases().await {
        let helper = Helper::start(&database).await;
        let interval = |start, hours| Some(Interval::new(Time(start), Duration(hours)).expect("hours"));
        let now = NOW / PRECISION;
        let opted_out = [
            helper.configuration(|task| task.task_interval = interval(now - 5, 2)),
            helper.configuration(|task| task.task_interval = interval(now, 24 * 365)),
            helper.configuration(|task| task.task_interval = None),
            helper.configuration(|task| task.min_batch_size = 1),
            helper.configuration(|task| task.vdaf = mica_dap::vdaf_config::VdafConfig::Count),
            helper.configuration(|task| "https://leader.other/".clone_into(&mut task.leader_url)),
            helper.configuration(|task| "https://helper.other/".clone_into(&mut task.helper_url)),
        ];
        for configuration in opted_out {
            assert_eq!(helper.advertise(&configuration).await, "invalidTask", "{configuration:?}");
        }
        assert_eq!(helper.tasks().await, 1);
    }
}

/// S138.
#[tokio::test]
async fn a_flood_of_tasks_is_held_up_and_the_others_are_served() {
    for database in databases().await {
        let helper = Helper::start(&database).await;
        let first = helper.configuration(|_| {});
        assert_eq!(helper.advertise(&first).await, KNOWN);
        for number in 0..100 {
            let task = helper.configuration(|task| task.min_batch_size = 10 + number);
            helper.advertise(&task).await;
        }
        assert_eq!(helper.tasks().await, 1 + 3, "three a minute, and the one of the operator");
        let late = helper.configuration(|task| task.min_batch_size = 9);
        let id = late.derived_task_id().to_string();
        let (status, _) = helper.ask(&id, LEADER_TOKEN, Some(&header_value(&late))).await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(helper.advertise(&first).await, KNOWN);
        assert_eq!(helper.ask(&helper.task.id.to_string(), LEADER_TOKEN, None).await.1, KNOWN);
    }
}

/// S138: the same at a leader, where anybody can bring a task with an upload: that leaves room for those who have shown a
/// credential, and nothing is kept of tasks without a report.
#[tokio::test]
async fn strangers_bring_few_tasks_to_a_leader_which_forgets_them_soon() {
    for database in databases().await {
        let leader = Helper::of(Role::Leader, &database).await;
        let upload = async |task: &TaskConfiguration, advertised: bool| {
            let place = format!("{}/reports", task.derived_task_id());
            let header = advertised.then(|| header_value(task));
            leader.ask_at(&place, Media::UploadReq, "stranger", header.as_deref()).await
        };
        let collect = async |task: &TaskConfiguration, advertised: bool| {
            let place = format!("{}/collection_jobs", task.derived_task_id());
            let header = advertised.then(|| header_value(task));
            leader.ask_at(&place, Media::CollectionJobReq, COLLECTOR_TOKEN, header.as_deref()).await.1
        };
        let task = |number| leader.configuration(|task| task.min_batch_size = number);
        assert_eq!(upload(&task(10), true).await.1, KNOWN);
        for number in 0..2_100 {
            let (status, _) = upload(&task(11 + number), true).await;
            assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
        }
        assert_eq!(leader.tasks().await, 1 + 1, "one a minute, and the one of the operator");
        let own = format!("{}/reports", leader.task.id);
        assert_eq!(leader.ask_at(&own, Media::UploadReq, "stranger", None).await.1, KNOWN);
        assert_eq!(collect(&task(5), true).await, KNOWN, "the collector is not held up");
        assert_eq!(leader.tasks().await, 3);
        leader.clock.advance(601);
        let deadline = Instant::now() + RealTime::from_secs(10);
        while upload(&task(10), false).await.1 != "unrecognizedTask" {
            assert!(Instant::now() < deadline, "it is never forgotten");
            tokio::time::sleep(RealTime::from_millis(20)).await;
        }
        assert_eq!(upload(&task(12), true).await.1, KNOWN, "there is room for another");
        assert_eq!(leader.tasks().await, 3, "nothing is left of the first");
        assert_eq!(collect(&task(12), false).await, KNOWN, "the collector vouches for it");
        leader.clock.advance(601);
        assert_eq!(upload(&task(13), true).await.1, KNOWN);
        assert_eq!(leader.tasks().await, 4);
        for kept in [5, 12] {
            assert_eq!(collect(&task(kept), false).await, KNOWN, "{kept}");
        }
    }
}

#[tokio::test]
async fn the_larger_of_the_two_floors_holds_for_tasks_that_come_with_requests() {
    let database = sqlite();
    let limits = Limits { min_batch_size_floor: 50, ..Limits::default() };
    let helper = Helper::limited(Role::Helper, &database, limits).await;
    let task = |size| helper.configuration(|task| task.min_batch_size = size);
    assert_eq!(helper.advertise(&task(49)).await, "invalidTask");
    assert_eq!(helper.advertise(&task(50)).await, KNOWN);
}

#[tokio::test]
async fn a_leader_opts_out_of_a_task_whose_helper_it_would_ask_in_the_clear() {
    let database = sqlite();
    let leader = Helper::of(Role::Leader, &database).await;
    let task = leader.configuration(|task| PLAIN.clone_into(&mut task.helper_url));
    let place = format!("{}/collection_jobs", task.derived_task_id());
    let told = header_value(&task);
    let (_, problem) = leader.ask_at(&place, Media::CollectionJobReq, COLLECTOR_TOKEN, Some(&told)).await;
    assert_eq!(problem, "invalidTask");
    assert_eq!(leader.tasks().await, 1);
}

/// T8: a collection is authenticated before it is told anything of a task, and nothing is stored for strangers.
#[tokio::test]
async fn a_stranger_learns_nothing_of_tasks_by_asking_for_a_collection() {
    let database = sqlite();
    let leader = Helper::of(Role::Leader, &database).await;
    let task = leader.configuration(|_| {});
    let endless = leader.configuration(|task| task.task_interval = None);
    for (about, told) in
        [(&task, Some(&task)), (&task, Some(&endless)), (&endless, Some(&endless)), (&task, None)]
    {
        let place = format!("{}/collection_jobs", about.derived_task_id());
        let told = told.map(header_value);
        let answer = leader.ask_at(&place, Media::CollectionJobReq, "stranger", told.as_deref()).await;
        assert_eq!(answer.0, StatusCode::FORBIDDEN, "{answer:?}");
    }
    assert_eq!(leader.tasks().await, 1);
}

/// T9: with every request of the leader comes the task that it is about, if its identifier is that of its configuration: a
/// job, a question about it, its second step, a share, a question about that, and what may be forgotten.
#[tokio::test]
async fn a_leader_tells_the_helper_of_its_task_with_every_request() {
    for derived_id in [true, false] {
        let database = sqlite();
        let world = World::start(Kind { derived_id, ..leader_steps::kind() }, &database).await;
        world.helper.will([Act::defer(1), Act::Honest, Act::Honest, Act::defer_share(1)]);
        assert_eq!(world.upload(&leader_steps::reports(&world, &["0010", "1011", "1100"])).await, []);
        world.settled().await;
        assert_eq!(world.totals(&world.collected().await).0, 3);
        world.until("both deletions", async || world.helper.deleted().len() == 2).await;
        let received = world.helper.received();
        let asked: Vec<_> = received.iter().map(|one| one.method.clone()).collect();
        assert_eq!(asked, [Method::POST, Method::GET, Method::POST, Method::POST, Method::GET]);
        let told = derived_id.then(|| header_value(&world.task.configuration));
        let all = received.into_iter().chain(world.helper.deleted());
        assert!(all.map(|one| one.advertisement).all(|one| one == told), "{derived_id}");
    }
}

/// T8: a leader takes tasks that come with an upload or a collection, on the same terms.
#[tokio::test]
async fn a_leader_takes_part_in_a_task_that_comes_with_an_upload_or_a_collection() {
    for (resource, media) in [("reports", Media::UploadReq), ("collection_jobs", Media::CollectionJobReq)] {
        let database = sqlite();
        let leader = Helper::of(Role::Leader, &database).await;
        let ask = async |configuration: &TaskConfiguration, advertised: Option<&TaskConfiguration>| {
            let place = format!("{}/{resource}", configuration.derived_task_id());
            let header = advertised.map(header_value);
            leader.ask_at(&place, media, COLLECTOR_TOKEN, header.as_deref()).await.1
        };
        let one = leader.configuration(|_| {});
        let endless = leader.configuration(|task| task.task_interval = None);
        assert_eq!(ask(&one, None).await, "unrecognizedTask");
        assert_eq!(ask(&one, Some(&endless)).await, "unrecognizedTask", "of another task");
        assert_eq!(ask(&endless, Some(&endless)).await, "invalidTask", "opted out");
        assert_eq!(leader.tasks().await, 1);
        for advertised in [Some(&one), None] {
            assert_eq!(ask(&one, advertised).await, KNOWN, "{resource}");
        }
        assert_eq!(leader.tasks().await, 2);
    }
}

/// T11: with a collector's request comes the task, if its identifier is that of its configuration.
#[tokio::test]
async fn a_collector_tells_the_leader_of_its_task() {
    for derived_id in [true, false] {
        let leader = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let task = TestTask::plain();
        let leader_url = format!("http://{}/", leader.local_addr().expect("it is bound"));
        let parameters = TaskParameters { leader_url, ..task.configuration.parameters().clone() };
        let configuration = parameters.build(task.draft).expect("a configuration");
        let told = format!("{HEADER}: {}", header_value(&configuration));
        let task_id = if derived_id { configuration.derived_task_id() } else { task.id };
        let token = Secret::new(COLLECTOR_TOKEN.to_owned());
        let task = CollectorTask {
            task_id,
            draft: task.draft,
            configuration,
            token,
            keypair: task.collector,
            mechanism: None,
            guarantee: None,
            aggregation_parameter: Vec::new(),
        };
        let collector = Collector::new(task, HttpClient::new(HttpOptions::default()));
        let interval = Interval::new(Time(1), Duration(1)).expect("an hour");
        let asking = tokio::spawn(async move { collector.collect(interval).await.is_ok() });
        let (mut stream, _) = leader.accept().await.expect("it asks");
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut head).await.expect("a request"), 0);
        }
        asking.abort();
        let head = String::from_utf8_lossy(&head);
        assert!(head.starts_with(&format!("POST /tasks/{task_id}/collection_jobs ")), "{head}");
        assert_eq!(head.lines().any(|line| line == told), derived_id, "{head}");
    }
}
