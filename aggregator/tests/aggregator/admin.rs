//! The admin API over a socket, beside a running leader that follows what is done there.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use mica_aggregator::Role;
use mica_aggregator::admin::{self, Desk};
use mica_aggregator::auth::TokenHash;
use mica_aggregator::high_water::HighWater;
use mica_dap::codec::Encode as _;
use mica_dap::report_error::ReportError;
use mica_dap::task::TaskParameters;
use mica_dap::vdaf_config::VdafConfig;
use mica_dp::Policy;
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::listener;
use mica_service::shutdown::Shutdown;
use mica_service::testing::{databases, sqlite};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::leader::{ids, now, share_request};
use crate::support::task::Kind;
use crate::support::{Flaw, ScriptedLeader, Server, TestTask, World};

const TOKEN: &str = "shown-by-the-operator";

/// The admin listener of a server, and its operator.
struct Operator {
    origin: String,
    http: HttpClient,
}

impl Operator {
    /// On the database of `server`, as another process would be.
    async fn of(server: &Server, task: &TestTask, role: Role) -> Self {
        let desk = Desk {
            store: server.store.clone(),
            clock: server.clock.clone(),
            role,
            policy: task.policy().into(),
            min_batch_size_floor: 2,
            http: HttpClient::new(HttpOptions::default()),
            high_water: HighWater::default(),
            paces: None,
        };
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let origin = format!("http://{}", socket.local_addr().expect("it is bound"));
        let router = admin::router(desk, TokenHash::of(TOKEN));
        tokio::spawn(listener::serve(socket, router, listener::Limits::default(), Shutdown::new()));
        Self { origin, http: HttpClient::new(HttpOptions::default()) }
    }

    async fn send(&self, method: Method, rest: &str, token: &str, body: Vec<u8>) -> (StatusCode, Value) {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}/admin/v1/{rest}", self.origin))
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let answer = self.http.send(request.body(Bytes::from(body)).expect("a request")).await;
        let answer = answer.expect("the admin listener answers");
        if !answer.status().is_success() {
            assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json");
        }
        (answer.status(), serde_json::from_slice(answer.body()).expect("every answer is JSON"))
    }

    async fn get(&self, rest: &str) -> (StatusCode, Value) {
        self.send(Method::GET, rest, TOKEN, Vec::new()).await
    }

    async fn create(&self, task: &TestTask, role: Role) -> (StatusCode, Value) {
        let body = serde_json::to_vec(&task.file(role).to_text()).expect("a task is JSON");
        self.send(Method::POST, "tasks", TOKEN, body).await
    }

    async fn retire(&self, task: &TestTask) -> (StatusCode, Value) {
        self.send(Method::POST, &format!("tasks/{}/retire", task.id), TOKEN, Vec::new()).await
    }
}

/// A task whose leader is found under another path.
fn elsewhere(path: &str) -> TestTask {
    let mut task = TestTask::plain();
    let parameters = TaskParameters {
        leader_url: format!("https://leader.example{path}"),
        ..task.configuration.parameters().clone()
    };
    task.configuration = parameters.build(task.draft).expect("a configuration");
    task
}

#[tokio::test]
async fn a_task_that_is_added_is_served_by_a_leader_that_runs_under_its_own_base_path() {
    for database in databases().await {
        let world = World::plain(&database).await;
        let operator = Operator::of(&world.leader, &world.task, Role::Leader).await;
        let task = elsewhere("/other/dap");
        let url = |rest: &str| format!("{}/other/dap/{rest}", world.leader.origin);
        let keys =
            || async { operator.http.send(get(&url("hpke_config"))).await.expect("an answer").status() };
        assert_eq!(keys().await, StatusCode::NOT_FOUND, "nothing lives there yet");
        let (status, shown) = operator.create(&task, Role::Leader).await;
        assert_eq!((status, &shown["summary"]["state"]), (StatusCode::CREATED, &json!("active")));
        world.until("the leader to follow", async || keys().await == StatusCode::OK).await;
        let upload = Request::post(url(&format!("tasks/{}/reports", task.id)))
            .header(header::CONTENT_TYPE, "application/ppm-dap;message=upload-req")
            .body(Bytes::from_static(b"no report"))
            .expect("a request");
        let refused = operator.http.send(upload).await.expect("an answer");
        let problem: Value = serde_json::from_slice(refused.body()).expect("a problem");
        assert_eq!(problem["type"], "urn:ietf:params:ppm:dap:error:invalidMessage", "the task is known");
    }
}

#[tokio::test]
async fn the_same_task_again_is_the_same_task_and_another_of_its_name_is_a_conflict() {
    for database in databases().await {
        let world = World::plain(&database).await;
        let operator = Operator::of(&world.leader, &world.task, Role::Leader).await;
        let task = TestTask::plain();
        let (first, one) = operator.create(&task, Role::Leader).await;
        let (second, two) = operator.create(&task, Role::Leader).await;
        assert_eq!((first, second), (StatusCode::CREATED, StatusCode::OK));
        assert_eq!(one, two);
        let other = TestTask { verify_key: [9; 32], ..task };
        let (status, problem) = operator.create(&other, Role::Leader).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert_eq!(problem["type"], "urn:x-mica:problem:task-conflict");
        let (_, list) = operator.get("tasks").await;
        assert_eq!(list["tasks"].as_array().map(Vec::len), Some(2));
        let (_, page) = operator.get("tasks?limit=1").await;
        let rest = format!("tasks?after={}", page["next"].as_str().expect("there are more"));
        let (_, next) = operator.get(&rest).await;
        assert_eq!([&page["tasks"][0], &next["tasks"][0]], [&list["tasks"][0], &list["tasks"][1]]);
    }
}

#[tokio::test]
async fn a_task_that_breaks_the_rules_is_refused_with_the_reason() {
    let database = sqlite();
    let world = World::plain(&database).await;
    let operator = Operator::of(&world.leader, &world.task, Role::Leader).await;
    let quadratic = VdafConfig::Histogram { length: 10_000, chunk_length: 2 };
    let huge = VdafConfig::Histogram { length: 1_000_000, chunk_length: 1_000 };
    let kind = |vdaf| TestTask::new(&Kind { vdaf, ..Kind::default() });
    let small = TestTask::new(&Kind { min_batch_size: 1, ..Kind::default() });
    for (task, reason) in
        [(kind(quadratic), "quadratic"), (kind(huge), "at most"), (small, "min_batch_size_floor")]
    {
        let (status, problem) = operator.create(&task, Role::Leader).await;
        assert_eq!(
            (status, &problem["type"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!("urn:x-mica:problem:task-refused"))
        );
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(reason)), "{problem}");
    }
    let mut far = TestTask::plain();
    let parameters = far.configuration.parameters().clone();
    let helper_url = "http://helper.example/".to_owned();
    far.configuration =
        TaskParameters { helper_url, ..parameters }.build(far.draft).expect("a configuration");
    let (status, problem) = operator.create(&far, Role::Leader).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("plain HTTP")), "{problem}");
    let (status, _) = operator.create(&TestTask::plain(), Role::Helper).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "a file of the other role");
    let body = |body: Vec<u8>| operator.send(Method::POST, "tasks", TOKEN, body);
    let (status, problem) = body(br#"{"schema":"mica-task/1","verify_key":"do-not-repeat"}"#.to_vec()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(!problem.to_string().contains("do-not-repeat"), "{problem}");
    assert_eq!(body(vec![b' '; 600 << 10]).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    for (rest, status) in [
        ("tasks?limit=many", StatusCode::BAD_REQUEST),
        ("tasks?other=1", StatusCode::BAD_REQUEST),
        ("tasks/none", StatusCode::NOT_FOUND),
        ("elsewhere", StatusCode::NOT_FOUND),
        ("openapi.json", StatusCode::OK),
    ] {
        assert_eq!(operator.get(rest).await.0, status, "{rest}");
    }
    let (status, problem) = operator.send(Method::DELETE, "tasks", TOKEN, Vec::new()).await;
    assert_eq!((status, &problem["status"]), (StatusCode::METHOD_NOT_ALLOWED, &405.into()));
    let (_, list) = operator.get("tasks").await;
    assert_eq!(list["tasks"].as_array().map(Vec::len), Some(1), "nothing was added");
}

#[tokio::test]
async fn who_does_not_show_the_admin_token_learns_nothing_and_locks_nobody_out() {
    let database = sqlite();
    let world = World::plain(&database).await;
    let operator = Operator::of(&world.leader, &world.task, Role::Leader).await;
    let existing = format!("tasks/{}", world.task.id);
    for rest in ["tasks", existing.as_str(), "tasks/none", "elsewhere", "openapi.json"] {
        for token in ["wrong", "shown-by-the-collector"] {
            let (status, _) = operator.send(Method::GET, rest, token, Vec::new()).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{rest}");
        }
    }
    let mut told = Vec::new();
    for _ in 0..15 {
        told.push(operator.send(Method::GET, "tasks", "wrong", Vec::new()).await.0);
    }
    assert_eq!(told.last(), Some(&StatusCode::TOO_MANY_REQUESTS), "{told:?}");
    assert_eq!(operator.get("tasks").await.0, StatusCode::OK);
}

#[tokio::test]
async fn secrets_are_shown_to_who_asks_for_them_by_name_and_an_export_can_be_imported_again() {
    for database in databases().await {
        let world = World::plain(&database).await;
        let operator = Operator::of(&world.leader, &world.task, Role::Leader).await;
        let id = world.task.id;
        let text = serde_json::to_value(world.task.file(Role::Leader).to_text()).expect("a task is JSON");
        let secrets =
            ["verify_key", "peer_token"].map(|key| text[key].as_str().expect("a secret").to_owned());
        for rest in ["tasks".to_owned(), format!("tasks/{id}"), format!("tasks/{id}/export")] {
            let (status, answer) = operator.get(&rest).await;
            assert_eq!(status, StatusCode::OK);
            assert!(secrets.iter().all(|secret| !answer.to_string().contains(secret)), "{rest}");
        }
        let (_, shown) = operator.get(&format!("tasks/{id}?secrets=true")).await;
        assert_eq!(
            [&shown["secrets"]["verify_key"], &shown["secrets"]["peer_token"]],
            [&secrets[0], &secrets[1]]
        );
        let (_, export) = operator.get(&format!("tasks/{id}/export?secrets=true")).await;
        assert_eq!(export["files"]["leader"], text);
        let helper = serde_json::to_value(world.task.file(Role::Helper).to_text()).expect("a task is JSON");
        assert_eq!(export["files"]["helper"], helper);
        let again = serde_json::to_vec(&export["files"]["leader"]).expect("JSON");
        assert_eq!(operator.send(Method::POST, "tasks", TOKEN, again).await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_retired_task_takes_no_report_and_what_it_took_is_collected() {
    for database in databases().await {
        let world = World::plain(&database).await;
        let operator = Operator::of(&world.leader, &world.task, Role::Leader).await;
        assert_eq!(world.upload(&world.reports(&[3, 4])).await, []);
        let (status, shown) = operator.retire(&world.task).await;
        assert_eq!((status, &shown["summary"]["state"]), (StatusCode::OK, &json!("retired")));
        let (_, again) = operator.retire(&world.task).await;
        assert_eq!(again["summary"]["retired_at"], shown["summary"]["retired_at"], "it was ended once");
        let taken = std::cell::Cell::new(0_u8);
        let dropped = async || {
            let refused = world.upload(&world.reports(&[100])).await;
            taken.set(taken.get() + u8::from(refused.is_empty()));
            refused == [ReportError::ReportDropped]
        };
        world.until("the leader to follow", dropped).await;
        world.settled().await;
        let taken = taken.get();
        let expected = (2 + u64::from(taken), 7 + 100 * i128::from(taken));
        assert_eq!(world.total(&world.collected().await), expected, "all that was accepted, and no more");
        assert_eq!(operator.retire(&TestTask::plain()).await.0, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_helper_refuses_new_reports_of_a_retired_task_and_answers_old_jobs_as_before() {
    for database in databases().await {
        let task = TestTask::plain();
        let server = Server::helper(&task, &database).await;
        let operator = Operator::of(&server, &task, Role::Helper).await;
        let leader = ScriptedLeader::of(&task, &server);
        let job = crate::support::leader::job(&leader.reports(&[1, 2]));
        let before = leader.post_job(job.clone()).await;
        operator.retire(&task).await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            let late = [leader.flawed(Flaw::None)];
            let verdicts = leader.aggregate(&late).await;
            if leader.errors(&verdicts) == [Some(ReportError::TaskExpired)] {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "the helper never follows");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(leader.post_job(job).await, before);
    }
}

fn get(url: &str) -> Request<Bytes> {
    Request::get(url).body(Bytes::new()).expect("a request")
}

/// A policy is shown word for word, with what is left of its budgets; the budgets are those that `mica budget show` prints.
#[tokio::test]
async fn policies_are_shown_with_what_is_left_of_their_budgets() {
    for database in databases().await {
        let task = TestTask::noised();
        let server = Server::helper(&task, &database).await;
        let second = task
            .policy
            .replace("version = 1 ", "version = 2 ")
            .replace("\nepsilon = \"1\"", "\nepsilon = \"2\"");
        let leader = ScriptedLeader::of(&task, &server);
        let reports = leader.reports(&[1, 2]);
        leader.aggregate(&reports).await;
        let share = share_request(now(), 1, &ids(&reports)).encoded();
        assert_eq!(leader.post_share(share).await.status, StatusCode::OK, "a tenth is spent");
        let parsed = Policy::parse("policy.toml", &second).expect("a policy");
        server.reload.adopt(parsed.clone()).await.expect("a higher limit");
        let operator =
            Operator::of(&server, &TestTask { policy: second.clone(), ..task.clone() }, Role::Helper).await;

        let (status, list) = operator.get("policies").await;
        assert_eq!(status, StatusCode::OK, "{list}");
        let versions: Vec<_> = list["policies"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|it| (&it["id"], &it["version"], &it["in_force"]))
            .collect();
        assert_eq!(
            versions,
            [(&json!("demo"), &json!(1), &json!(false)), (&json!("demo"), &json!(2), &json!(true))]
        );
        assert_eq!(list["policies"][1]["sha256"], hex::encode(parsed.sha256()));
        for (query, text, limit, left, in_force) in
            [("", &second, "2", "1.9", true), ("?version=1", &task.policy, "1", "0.9", false)]
        {
            let (status, shown) = operator.get(&format!("policies/demo{query}")).await;
            assert_eq!((status, &shown["text"]), (StatusCode::OK, &json!(text)), "{shown}");
            let budget = &shown["budgets"][0];
            assert_eq!(
                (&budget["now"]["spent"], &budget["limit"], &budget["remaining"]),
                (&json!("0.1"), &json!(limit), &json!(left))
            );
            assert_eq!(
                (&shown["summary"]["in_force"], &budget["in_force"]),
                (&json!(in_force), &json!(in_force))
            );
        }
        let (_, all) = operator.get("budgets").await;
        assert_eq!(all["budgets"], operator.get("policies/demo").await.1["budgets"]);
        for (wrong, status) in
            [("policies/other", 404), ("policies/demo?version=3", 404), ("policies/demo?version=x", 400)]
        {
            assert_eq!(operator.get(wrong).await.0.as_u16(), status, "{wrong}");
        }
        let (status, _) = operator.send(Method::GET, "budgets", "another", Vec::new()).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
    }
}
