//! The gate at the helper: one draw, one charge, and a refusal that changes nothing.

use std::sync::Arc;

use http::{Method, StatusCode};
use mica_dap::codec::Encode as _;
use mica_dap::time::Time;
use mica_dap::vdaf::Measurement;
use mica_dap::vdaf_config::VdafConfig;
use mica_service::testing::databases;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::leader::{ids, now, share_request};
use crate::support::task::Kind;
use crate::support::{Flaw, NOW, ScriptedLeader, Server, TestTask};

#[tokio::test]
async fn a_noised_share_is_drawn_once_and_charged_once_however_often_it_is_asked_for() {
    for database in databases().await {
        let task = TestTask::noised();
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let reports = leader.reports(&[10, 20]);
        let counted = ids(&reports);
        let outputs = leader.count(reports).await;
        let request = share_request(now(), 1, &counted);
        assert!(server.unscrubbed().await > 0, "the sum is kept until it is released");
        let post = || leader.post_share(request.encoded());
        let replies = tokio::join!(post(), post(), post(), post());
        assert_eq!(replies.0.status, StatusCode::OK, "{}: {:?}", database.kind, replies.0);
        for reply in [replies.1, replies.2, replies.3] {
            assert_eq!(reply, replies.0);
        }
        assert_eq!(server.unscrubbed().await, 0, "{}: no sum without noise is kept", database.kind);
        // One charge and its commit; the budget lasts for ten.
        assert_eq!(server.spent().await, [(100_000_000_000, 2)]);
        let first = leader.unshard(&replies.0.body, &request, &outputs);
        server.kill();
        let again = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &again);
        let reply = leader.post_share(request.encoded()).await;
        assert_eq!(reply, replies.0, "a restart draws nothing");
        assert_eq!(leader.unshard(&reply.body, &request, &outputs), first);
        assert_eq!(again.spent().await, [(100_000_000_000, 2)]);
    }
}

#[tokio::test]
async fn an_exception_that_has_run_out_is_refused_by_name() {
    let database = mica_service::testing::sqlite();
    let task = TestTask::plain();
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let reports = leader.reports(&[10, 20]);
    let request = share_request(now(), 1, &ids(&reports));
    leader.count(reports).await;
    // In the year 2201; the exception of the tests lasts until 2199.
    server.clock.set(7_300_000_000);
    let refused = leader.post_share(request.encoded()).await;
    assert_eq!((refused.status, refused.problem().as_str()), (StatusCode::FORBIDDEN, "exception-expired"));
    server.clock.set(NOW);
    assert_eq!(leader.post_share(request.encoded()).await.status, StatusCode::OK, "nothing was closed");
}

#[tokio::test]
async fn an_exception_of_a_policy_of_a_later_day_does_not_hold_before() {
    let database = mica_service::testing::sqlite();
    let begins = mica_dp::accountant::format_second(i64::try_from(NOW + 3_600).expect("a second"));
    let mut task = TestTask::plain();
    let dated = format!("version = 1\neffective_from = {begins}\n");
    task.policy = task.policy.replacen("version = 1\n", &dated, 1);
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let reports = leader.reports(&[10, 20]);
    let request = share_request(now(), 1, &ids(&reports));
    leader.count(reports).await;
    let refused = leader.post_share(request.encoded()).await;
    assert_eq!((refused.status, refused.problem().as_str()), (StatusCode::FORBIDDEN, "policy-not-in-force"));
    let document: Value = serde_json::from_slice(&refused.body).expect("a problem document");
    assert!(document["detail"].as_str().is_some_and(|detail| detail.contains(&begins)), "{document}");
    server.clock.set(NOW + 3_600);
    assert_eq!(leader.post_share(request.encoded()).await.status, StatusCode::OK, "nothing was closed");
}

#[tokio::test]
async fn noise_of_the_scale_that_the_policy_says_is_in_the_share() {
    let database = mica_service::testing::sqlite();
    // Replacing a report moves two buckets by one: the scale is 2 over 1/10, in each of a hundred buckets.
    let scale = 20.0;
    let buckets = 100;
    let vdaf = VdafConfig::histogram(buckets);
    let task = TestTask::new(&Kind { epsilon: Some("1/10"), vdaf, ..Kind::default() });
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let mut noises = Vec::new();
    for hour in 0..2 {
        let time = Time(now().0 - hour);
        let reports = Vec::from([0, 1].map(|bucket| leader.report_of(&Measurement::Bucket(bucket), time)));
        let counted = ids(&reports);
        let outputs = leader.count(reports).await;
        let request = share_request(time, 1, &counted);
        let reply = leader.post_share(request.encoded()).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        let mut noise = leader.unshard(&reply.body, &request, &outputs);
        noise[0] -= 1;
        noise[1] -= 1;
        assert_eq!(noise.len(), 100);
        let sum: u128 = noise.iter().map(|noise| noise.unsigned_abs()).sum();
        let mean = f64::from(u32::try_from(sum).expect("noise is small")) / f64::from(buckets);
        // The mean of a hundred exponential magnitudes is not in there once in 10^8 runs (Chernoff:
        // e^-19.3 below, e^-30.6 above).
        assert!((scale / 2.0..=scale * 2.0).contains(&mean), "{mean}: {noise:?}");
        noises.push(noise);
    }
    assert_ne!(noises[0], noises[1], "every batch has noise of its own");
}

#[tokio::test]
async fn an_exhausted_budget_refuses_and_changes_nothing() {
    for database in databases().await {
        let task = TestTask::noised();
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let mut requests = Vec::new();
        for hour in 0..11 {
            let time = Time(now().0 - hour);
            let reports = [1, 2].map(|value| leader.report_at(value, time, Flaw::None));
            leader.aggregate(&reports).await;
            requests.push(share_request(time, 1, &ids(&reports)).encoded());
        }
        for request in &requests[..10] {
            assert_eq!(leader.post_share(request.clone()).await.status, StatusCode::OK);
        }
        let spent = server.spent().await;
        assert_eq!(spent, [(1_000_000_000_000, 20)], "{}", database.kind);
        let refused = leader.post_share(requests[10].clone()).await;
        assert_eq!((refused.status, refused.problem().as_str()), (StatusCode::FORBIDDEN, "budget-exhausted"));
        let document: Value = serde_json::from_slice(&refused.body).expect("JSON");
        assert_eq!(document["type"], "urn:x-mica:problem:budget-exhausted");
        assert_eq!(document["remaining"], "0");
        assert_eq!(document["requested"], "0.1");
        assert_eq!(document["spent"], "1");
        assert_eq!(document["taskid"], task.id.to_string());
        assert_eq!(server.spent().await, spent);
        // Not closed either: the hour still takes reports.
        let late = [leader.report_at(3, Time(now().0 - 10), Flaw::None)];
        assert_eq!(leader.errors(&leader.aggregate(&late).await), [None]);
        // What was released before is answered as before.
        assert_eq!(leader.post_share(requests[0].clone()).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_refused_release_is_granted_once_the_limit_allows_it() {
    let database = mica_service::testing::sqlite();
    let mut task = TestTask::noised();
    let generous = task.policy.replace("version = 1 ", "version = 2 ");
    task.policy = task.policy.replace("\nepsilon = \"1\"", "\nepsilon = \"1/10\"");
    assert_ne!(task.policy, generous, "the limit is lowered: {generous}");
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let mut requests = Vec::new();
    for hour in 0..2 {
        let reports = [1, 2].map(|value| leader.report_at(value, Time(now().0 - hour), Flaw::None));
        leader.aggregate(&reports).await;
        requests.push(share_request(Time(now().0 - hour), 1, &ids(&reports)).encoded());
    }
    let first = leader.post_share(requests[0].clone()).await;
    assert_eq!(first.status, StatusCode::OK);
    assert_eq!(leader.post_share(requests[1].clone()).await.problem(), "budget-exhausted");
    server.kill();
    task.policy = generous;
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    assert_eq!(leader.post_share(requests[1].clone()).await.status, StatusCode::OK);
    assert_eq!(leader.post_share(requests[0].clone()).await, first);
    assert_eq!(server.spent().await, [(200_000_000_000, 4)]);
}

#[tokio::test]
async fn a_mismatch_is_not_charged() {
    let database = mica_service::testing::sqlite();
    let task = TestTask::noised();
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let reports = leader.reports(&[1, 2]);
    leader.aggregate(&reports).await;
    let mut request = share_request(now(), 1, &ids(&reports));
    request.report_count = 3;
    assert_eq!(leader.post_share(request.encoded()).await.problem(), "batchMismatch");
    assert!(server.spent().await.iter().all(|(units, entries)| (*units, *entries) == (0, 0)));
}

#[tokio::test]
async fn ten_grants_are_given_to_thirty_who_ask_at_once() {
    for database in databases().await {
        let task = TestTask::noised();
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let mut requests = Vec::new();
        let mut reports = Vec::new();
        for hour in 0..30 {
            let time = Time(now().0 - hour);
            let batch = [1, 2].map(|value| leader.report_at(value, time, Flaw::None));
            requests.push(share_request(time, 1, &ids(&batch)).encoded());
            reports.extend(batch);
        }
        leader.aggregate(&reports).await;
        let leader = Arc::new(leader);
        let mut asked = JoinSet::new();
        for request in requests {
            let leader = Arc::clone(&leader);
            asked.spawn(async move { leader.post_share(request).await });
        }
        let replies = asked.join_all().await;
        let granted = replies.iter().filter(|reply| reply.status == StatusCode::OK).count();
        assert_eq!(granted, 10, "{}", database.kind);
        assert!(
            replies.iter().filter(|r| r.status != StatusCode::OK).all(|r| r.problem() == "budget-exhausted")
        );
        assert_eq!(server.spent().await, [(1_000_000_000_000, 20)]);
    }
}

#[tokio::test]
async fn a_helper_with_another_statement_does_not_start() {
    let database = mica_service::testing::sqlite();
    let mut task = TestTask::noised();
    let started = Server::helper(&task, &database).await;
    assert_eq!(
        ScriptedLeader::of(&task, &started).follow(Method::GET, "/health").await.status,
        StatusCode::OK
    );
    started.kill();
    task.policy = task.policy.replace("epsilon_per_release = \"1/10\"", "epsilon_per_release = \"1/20\"");
    task.policy = task.policy.replace("version = 1 ", "version = 2 ");
    let error = Server::refusal(&task, &database).await;
    assert!(error.contains("bound to the release statement"), "{error}");
}

/// S126: the same people through two tasks are charged to one budget where both tasks name it.
#[tokio::test]
async fn two_tasks_that_name_one_budget_spend_it_together() {
    for database in databases().await {
        let mut granted = Vec::new();
        for task in [TestTask::noised(), TestTask::noised()] {
            let server = Server::helper(&task, &database).await;
            let leader = ScriptedLeader::of(&task, &server);
            let mut shares = 0;
            for hour in 0..7 {
                let time = Time(now().0 - hour);
                let reports = [1, 2].map(|value| leader.report_at(value, time, Flaw::None));
                leader.aggregate(&reports).await;
                let reply = leader.post_share(share_request(time, 1, &ids(&reports)).encoded()).await;
                shares += usize::from(reply.status == StatusCode::OK);
                assert!(reply.status == StatusCode::OK || reply.problem() == "budget-exhausted", "{reply:?}");
            }
            granted.push(shares);
            server.kill();
        }
        assert_eq!(granted, [7, 3], "{}: the budget lasts for ten", database.kind);
    }
}
