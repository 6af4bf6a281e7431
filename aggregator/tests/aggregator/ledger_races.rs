//! Many who ask at once, again and again, of one process and of two: what a budget has is spent once, and what was drawn is
//! drawn once.

use std::sync::Arc;

use http::StatusCode;
use mica_dap::codec::Encode as _;
use mica_dap::time::Time;
use mica_service::testing::databases;
use tokio::task::JoinSet;

use crate::support::leader::{ids, now, share_request};
use crate::support::{Flaw, ScriptedLeader, Server, TestTask};

/// A hundred batches of an hour each, aggregated, and what asks for their shares.
async fn hundred_batches(leader: &ScriptedLeader) -> Vec<Vec<u8>> {
    let (mut requests, mut reports) = (Vec::new(), Vec::new());
    for hour in 0..100 {
        let time = Time(now().0 - hour);
        let batch = [1, 2].map(|value| leader.report_at(value, time, Flaw::None));
        requests.push(share_request(time, 1, &ids(&batch)).encoded());
        reports.extend(batch);
    }
    leader.aggregate(&reports).await;
    requests
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_releases_that_two_processes_are_asked_for_at_once_the_ten_that_fit_are_granted() {
    for database in databases().await {
        let task = TestTask::noised();
        // A file has one process; a server has as many as there are replicas.
        let processes = if database.kind == "sqlite" { 1 } else { 2 };
        let mut servers = Vec::new();
        for _ in 0..processes {
            servers.push(Server::helper(&task, &database).await);
        }
        let leaders: Vec<_> =
            servers.iter().map(|server| Arc::new(ScriptedLeader::of(&task, server))).collect();
        let mut asked = JoinSet::new();
        for (at, request) in hundred_batches(&leaders[0]).await.into_iter().enumerate() {
            let leader = Arc::clone(&leaders[at % processes]);
            asked.spawn(async move { leader.post_share_patiently(request).await });
        }
        let replies = asked.join_all().await;
        let (granted, refused): (Vec<_>, Vec<_>) =
            replies.iter().partition(|reply| reply.status == StatusCode::OK);
        assert_eq!(granted.len(), 10, "{}", database.kind);
        assert!(refused.iter().all(|reply| reply.problem() == "budget-exhausted"), "{refused:?}");
        assert_eq!(servers[0].spent().await, [(1_000_000_000_000, 20)], "{}", database.kind);
    }
}

/// The lock of a task keeps nobody out who releases of another: two tasks that name one budget meet at the ledger.
#[tokio::test(flavor = "multi_thread")]
async fn two_tasks_of_one_budget_that_two_processes_release_at_once_are_granted_what_fits() {
    for database in databases().await {
        let tasks = [TestTask::noised(), TestTask::noised()];
        let first = Server::helper(&tasks[0], &database).await;
        let second = Server::helper(&tasks[1], &database).await;
        let mut asked = JoinSet::new();
        for (task, server) in tasks.iter().zip([&first, &second]) {
            let leader = Arc::new(ScriptedLeader::of(task, server));
            for request in hundred_batches(&leader).await.into_iter().take(25) {
                let leader = Arc::clone(&leader);
                asked.spawn(async move { leader.post_share_patiently(request).await });
            }
        }
        let replies = asked.join_all().await;
        let (granted, refused): (Vec<_>, Vec<_>) =
            replies.iter().partition(|reply| reply.status == StatusCode::OK);
        assert_eq!(granted.len(), 10, "{}", database.kind);
        assert!(refused.iter().all(|reply| reply.problem() == "budget-exhausted"), "{refused:?}");
        assert_eq!(first.spent().await, [(1_000_000_000_000, 20)], "{}", database.kind);
    }
}

/// Fresh noise for each of many answers would average out; there is one draw, so asking again tells nothing.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_again_for_an_average_gets_the_same_bytes_every_time() {
    for database in databases().await {
        let task = TestTask::noised();
        let server = Server::helper(&task, &database).await;
        let leader = Arc::new(ScriptedLeader::of(&task, &server));
        let reports = leader.reports(&[10, 20]);
        let request = share_request(now(), 1, &ids(&reports)).encoded();
        leader.aggregate(&reports).await;
        let mut asked = JoinSet::new();
        for _ in 0..50 {
            let (leader, request) = (Arc::clone(&leader), request.clone());
            asked.spawn(async move { leader.post_share(request).await });
        }
        let answers = asked.join_all().await;
        let first =
            answers.iter().find(|reply| reply.status == StatusCode::OK).expect("somebody was first").clone();
        let is_other = |reply: &&crate::support::leader::Reply| {
            reply.status != StatusCode::SERVICE_UNAVAILABLE && **reply != first
        };
        assert_eq!(answers.iter().find(is_other), None, "{}", database.kind);
        for _ in 0..950 {
            assert_eq!(leader.post_share(request.clone()).await, first);
        }
        server.kill();
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        assert_eq!(leader.post_share(request).await, first, "after a restart");
        assert_eq!(server.spent().await, [(100_000_000_000, 2)], "{}", database.kind);
    }
}

/// A clock that leaps, in either direction, gives nothing back and takes nothing: budgets are counted on data time.
#[tokio::test]
async fn a_clock_that_leaps_changes_nothing_about_what_is_spent() {
    for database in databases().await {
        let task = TestTask::noised();
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let requests = hundred_batches(&leader).await;
        let start = server.clock.now();
        let leaps = [0, 400 * 86_400, 1, 4_000 * 86_400, 2];
        for (request, leap) in requests.iter().zip(leaps.iter().cycle()).take(10) {
            server.clock.set(start + leap);
            assert_eq!(leader.post_share(request.clone()).await.status, StatusCode::OK);
        }
        for leap in leaps {
            server.clock.set(start + leap);
            assert_eq!(leader.post_share(requests[10].clone()).await.problem(), "budget-exhausted");
        }
        assert_eq!(server.spent().await, [(1_000_000_000_000, 20)], "{}", database.kind);
    }
}
