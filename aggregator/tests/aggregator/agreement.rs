//! Both aggregators show what they promise, and a leader whose helper promises something else collects nothing.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use mica_aggregator::agreement::PEER_STATEMENT;
use mica_dap::id::TaskId;
use mica_dap::report_error::ReportError;
use mica_dp::parse_task_info;
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::testing::{databases, sqlite};
use sha2::{Digest as _, Sha256};

use crate::support::task::{Kind, LEADER_TOKEN};
use crate::support::{ScriptedLeader, Server, TestTask, World};

async fn shown(server: &Server, task: &TaskId, token: Option<&str>) -> Response<Bytes> {
    let mut request = Request::get(format!("{}/api/dap/dp/statement/{task}", server.origin));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Bytes::new()).expect("a request");
    HttpClient::new(HttpOptions::default()).send(request).await.expect("the server answers")
}

fn assert_bound(task: &TestTask, answer: &Response<Bytes>) {
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "application/json");
    let (_, hash) =
        parse_task_info(task.configuration.task_info()).expect("the task is bound to a statement");
    assert_eq!(Sha256::digest(answer.body())[..], hash, "the bytes shown are the bytes that are hashed");
}

#[tokio::test]
async fn a_helper_shows_its_statement_to_the_leader_and_tells_nobody_else_of_the_task() {
    let (task, database) = (TestTask::noised(), sqlite());
    let server = Server::helper(&task, &database).await;
    assert_bound(&task, &shown(&server, &task.id, Some(LEADER_TOKEN)).await);
    let other = TaskId::random(&mut rand::rng());
    for (token, status) in [(None, StatusCode::UNAUTHORIZED), (Some("another"), StatusCode::FORBIDDEN)] {
        let (known, unknown) = (shown(&server, &task.id, token).await, shown(&server, &other, token).await);
        assert_eq!((known.status(), unknown.status()), (status, status));
    }
}

#[tokio::test]
async fn a_leader_shows_its_statement_to_everybody_and_says_what_it_knows_of_the_helpers() {
    let database = sqlite();
    let world = World::noised(&database).await;
    assert_bound(&world.task, &shown(&world.leader, &world.task.id, None).await);
    let agrees = async || {
        let answer = shown(&world.leader, &world.task.id, None).await;
        answer.headers()[PEER_STATEMENT] == "not-verified"
    };
    world.until("word of the helper", agrees).await;
    let unknown = shown(&world.leader, &TaskId::random(&mut rand::rng()), None).await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    assert!(String::from_utf8_lossy(unknown.body()).contains("unrecognizedTask"));
}

#[tokio::test]
async fn a_task_without_noise_has_no_statement() {
    let (task, database) = (TestTask::plain(), sqlite());
    let server = Server::helper(&task, &database).await;
    assert_eq!(shown(&server, &task.id, Some(LEADER_TOKEN)).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_helper_of_another_make_is_collected_from_and_one_with_another_statement_is_not() {
    for database in databases().await {
        let world = World::noised(&database).await;
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        assert_eq!(world.total(&world.collected().await).0, 2, "{}", database.kind);
        assert_eq!(world.leader.entries().await.len(), 2);
    }
    for database in databases().await {
        let kind = Kind { epsilon: Some("1/10"), ..Kind::default() };
        let other = TestTask::new(&Kind { epsilon: Some("1/5"), ..Kind::default() });
        let theirs = statement_of(&other);
        let world = World::beside(kind, &database, theirs).await;
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        let refused = world.collected().await;
        assert_eq!(refused.problem(), "statement-mismatch", "{}", database.kind);
        let said = String::from_utf8_lossy(&refused.body).into_owned();
        let field = r#"loss_per_release.epsilon: here \"1/10\", there \"1/5\""#;
        assert!(said.contains(field) && said.contains("mechanism.scale"), "{said}");
        assert_eq!(world.leader.entries().await, [], "nothing is charged");
        assert!(world.helper.posted("/aggregate_shares").is_empty(), "and the helper is not asked");
        let answer = shown(&world.leader, &world.task.id, None).await;
        assert_eq!(answer.headers()[PEER_STATEMENT], "differs");
    }
}

fn statement_of(task: &TestTask) -> Vec<u8> {
    let vdaf = task.configuration.vdaf();
    let facts = mica_dp::TaskFacts::new("test", vdaf, task.configuration.min_batch_size());
    match task.policy().release_for(&facts) {
        Ok(mica_dp::Decision::Release(plan)) => plan.statement().canonical_json().as_bytes().to_vec(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn aggregators_with_different_statements_cannot_open_each_others_reports() {
    let ours = TestTask::noised();
    let stricter = TestTask::new(&Kind { epsilon: Some("1/20"), ..Kind::default() });
    // The same task in all but the statement.
    let theirs = TestTask { configuration: stricter.configuration, policy: stricter.policy, ..ours.clone() };
    let database = sqlite();
    let server = Server::helper(&theirs, &database).await;
    let leader = ScriptedLeader::of(&ours, &server);
    let reports = leader.reports(&[1, 2]);
    let errors = leader.errors(&leader.aggregate(&reports).await);
    assert_eq!(errors, [Some(ReportError::HpkeDecryptError); 2]);
    assert_eq!(server.counted().await, 0);
}
