//! Requests that are refused as a whole: the right problem, and nothing stored.

use http::{Method, StatusCode};
use mica_dap::codec::Encode as _;
use mica_dap::extension::Extension;
use mica_dap::media::Media;

use crate::support::leader::{self, job};
use crate::support::{Crafted, ScriptedLeader, Server, TestTask};

fn extension(code: u16) -> Extension {
    Extension { extension_type: code, data: vec![0; 32] }
}

fn with_extensions(reports: &[Crafted], codes: &[u16]) -> Vec<u8> {
    let mut request = leader::request(reports);
    request.extensions = codes.iter().copied().map(extension).collect();
    request.encoded()
}

#[tokio::test]
async fn a_job_that_makes_no_sense_is_refused_and_leaves_nothing() {
    let database = mica_service::testing::sqlite();
    let task = TestTask::plain();
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let reports = leader.reports(&[1, 2]);
    let good = job(&reports);
    let mut twice = leader::request(&reports);
    twice.verify_inits.push(twice.verify_inits[0].clone());
    let mut with_parameter = leader::request(&reports);
    with_parameter.agg_param = vec![1];
    let mut other_key = leader::request(&reports);
    other_key.verification_key_id = 7;
    let empty = leader::request(&[]).encoded();
    let bad = [
        ("truncated", good[..good.len() - 1].to_vec(), "invalidMessage"),
        ("trailing", [good.as_slice(), &[0]].concat(), "invalidMessage"),
        ("no bytes", Vec::new(), "invalidMessage"),
        ("no report", empty, "invalidMessage"),
        ("a report twice", twice.encoded(), "invalidMessage"),
        ("an aggregation parameter", with_parameter.encoded(), "invalidAggregationParameter"),
        ("another key", other_key.encoded(), "invalidMessage"),
        ("an unknown extension", with_extensions(&reports, &[9]), "unsupportedExtension"),
        ("the reserved extension", with_extensions(&reports, &[0]), "unsupportedExtension"),
        ("extensions twice", with_extensions(&reports, &[1, 1]), "invalidMessage"),
        ("extensions out of order", with_extensions(&reports, &[2, 1]), "invalidMessage"),
        ("a batch of the leader's choice", with_extensions(&reports, &[1]), "invalidMessage"),
    ];
    for (what, body, problem) in bad {
        assert_eq!(leader.post_job(body).await.problem(), problem, "{what}");
    }
    assert_eq!(server.counted().await, 0);
    assert!(server.tallies().await.is_empty());
    assert_eq!(leader.errors(&leader.aggregate(&reports).await), [None, None]);
}

#[tokio::test]
async fn every_cut_of_a_job_is_refused() {
    let database = mica_service::testing::sqlite();
    let task = TestTask::plain();
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let good = job(&leader.reports(&[1]));
    for length in 0..good.len() {
        let reply = leader.post_job(good[..length].to_vec()).await;
        assert_eq!(reply.problem(), "invalidMessage", "{length} bytes");
    }
    assert_eq!(server.counted().await, 0);
}

#[tokio::test]
async fn who_does_not_show_the_token_gets_nothing_done() {
    let database = mica_service::testing::sqlite();
    let task = TestTask::plain();
    let server = Server::helper(&task, &database).await;
    let mut leader = ScriptedLeader::of(&task, &server);
    let body = job(&leader.reports(&[1, 2]));
    leader.token = "shown-by-the-collector";
    let reply = leader.post_job(body.clone()).await;
    assert_eq!((reply.status, reply.problem().as_str()), (StatusCode::FORBIDDEN, "blank"));
    leader.token = "";
    let reply = leader.post_job(body.clone()).await;
    assert_eq!((reply.status, reply.problem().as_str()), (StatusCode::UNAUTHORIZED, "blank"));
    let reply = leader.post_share(Vec::new()).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    assert_eq!(server.counted().await, 0);
}

#[tokio::test]
async fn another_task_another_media_type_and_another_place_are_told_apart() {
    let database = mica_service::testing::sqlite();
    let task = TestTask::plain();
    let stranger = TestTask::plain();
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let body = job(&leader.reports(&[1, 2]));
    let unknown = ScriptedLeader::of(&stranger, &server);
    assert_eq!(unknown.post_job(body.clone()).await.problem(), "unrecognizedTask");
    assert_eq!(unknown.post_share(body.clone()).await.problem(), "unrecognizedTask");
    let reply = leader.post("aggregation_jobs", Media::AggregateShareReq, body.clone()).await;
    assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let reply = leader.send(Method::POST, &leader.job_url(), None, body.clone()).await.expect("an answer");
    assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let reply = leader.post("reports", Media::UploadReq, body).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    assert_eq!(server.counted().await, 0);
}

#[tokio::test]
async fn a_body_longer_than_the_limit_is_not_read() {
    let database = mica_service::testing::sqlite();
    let task = TestTask::plain();
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let reply = leader.post_share(vec![0; 200 << 10]).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_job_of_one_round_has_no_second_step() {
    let database = mica_service::testing::sqlite();
    let task = TestTask::plain();
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let reports = leader.reports(&[1]);
    let location = leader.post_job(job(&reports)).await.location.expect("a job has a place");
    assert_eq!(leader.follow(Method::GET, &location).await.problem(), "invalidMessage");
    assert_eq!(leader.follow(Method::GET, &format!("{location}?step=1")).await.problem(), "stepMismatch");
    let id = location.rsplit('/').next().expect("a path");
    let resource = format!("aggregation_jobs/{id}");
    let step =
        |step: u16| [&step.to_be_bytes(), reports[0].id.as_bytes().as_slice(), &[0, 0, 0, 1, 9]].concat();
    for (number, problem) in [(0, "invalidMessage"), (1, "invalidMessage"), (2, "stepMismatch")] {
        let reply = leader.post(&resource, Media::AggregationJobContinueReq, step(number)).await;
        assert_eq!(reply.problem(), problem, "step {number}");
    }
    let unknown = "aggregation_jobs/AAAAAAAAAAAAAAAAAAAAAA";
    let reply = leader.post(unknown, Media::AggregationJobContinueReq, step(1)).await;
    assert_eq!(reply.problem(), "unrecognizedAggregationJob");
}

#[tokio::test]
async fn keys_are_served_to_anyone_and_may_be_kept() {
    let database = mica_service::testing::sqlite();
    let task = TestTask::plain();
    let server = Server::helper(&task, &database).await;
    let mut leader = ScriptedLeader::of(&task, &server);
    leader.token = "";
    for path in ["/api/dap/hpke_config", "/hpke_config"] {
        let reply = leader.follow(Method::GET, path).await;
        assert_eq!(reply.media.as_deref(), Some(Media::HpkeConfigList.header()));
        assert_eq!(reply.body, server.hpke_configs);
    }
    server.kill();
    let again = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &again);
    let reply = leader.follow(Method::GET, "/api/dap/hpke_config").await;
    assert_eq!(reply.body, again.hpke_configs, "the key outlives the process");
}
