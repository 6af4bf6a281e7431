//! What is too much is refused before it is read; what was taken in is finished.

use std::time::Duration;

use http::{Method, StatusCode};
use mica_aggregator::Role;
use mica_aggregator::shared::Limits;
use mica_dap::media::Media;
use mica_dap::report_error::ReportError;
use mica_dap::vdaf::Measurement;
use mica_dap::vdaf_config::VdafConfig;
use mica_service::testing::{databases, sqlite};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::leader::{Reply, job};
use crate::support::pair::{Setting, on_each};
use crate::support::task::LEADER_TOKEN;
use crate::support::{ScriptedLeader, Server, TestTask};

/// Begins a request and sends no more of its body than this, of a length that may be larger.
async fn begin(server: &Server, task: &TestTask, media: Media, length: usize, body: &[u8]) -> TcpStream {
    let authority = server.origin.strip_prefix("http://").expect("it is http");
    let resource = if media == Media::UploadReq { "reports" } else { "aggregation_jobs" };
    let head = format!(
        "POST /api/dap/tasks/{}/{resource} HTTP/1.1\r\nhost: {authority}\r\nauthorization: Bearer {LEADER_TOKEN}\r\n\
         content-type: {}\r\ncontent-length: {length}\r\n\r\n",
        task.id,
        media.header(),
    );
    let mut stream = TcpStream::connect(authority).await.expect("it listens");
    stream.write_all(&[head.as_bytes(), body].concat()).await.expect("it reads");
    stream
}

/// Asks beside a request that stalls, until there is no room for both. Sometimes it is the other that is refused.
async fn refused_beside<Stalled, Asked>(stalled: impl Fn() -> Stalled, ask: impl Fn() -> Asked)
where
    Stalled: Future<Output = TcpStream>,
    Asked: Future<Output = Reply>,
{
    for _ in 0..100 {
        let _stalled = stalled().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        if ask().await.status == StatusCode::SERVICE_UNAVAILABLE {
            return;
        }
    }
    panic!("there is always room");
}

/// Asks until the answer has this status.
async fn until<Fut: Future<Output = Reply>>(status: StatusCode, ask: impl Fn() -> Fut) {
    for _ in 0..500 {
        if ask().await.status == status {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never answers {status}");
}

#[tokio::test]
async fn a_helper_with_as_many_jobs_as_it_takes_asks_for_patience() {
    let (task, database) = (TestTask::plain(), sqlite());
    let limits = Limits { helper_jobs: 1, ..Limits::default() };
    let server = Server::limited(Role::Helper, &task, &database, limits).await;
    let leader = ScriptedLeader::of(&task, &server);
    let body = job(&leader.reports(&[1, 2]));
    let stalled = || begin(&server, &task, Media::AggregationJobInitReq, 1_000, b"");
    refused_beside(stalled, || leader.post_job(body.clone())).await;
    until(StatusCode::OK, || leader.post_job(body.clone())).await;
    assert_eq!(server.counted().await, 2);
}

#[tokio::test]
async fn a_leader_without_room_asks_for_patience_before_it_reads() {
    let (task, database) = (TestTask::plain(), sqlite());
    let limits = Limits { queued_bytes: 1_000, ..Limits::default() };
    let server = Server::limited(Role::Leader, &task, &database, limits).await;
    let client = ScriptedLeader::of(&task, &server);
    let upload = || client.post("reports", Media::UploadReq, vec![0; 200]);
    refused_beside(|| begin(&server, &task, Media::UploadReq, 900, b""), upload).await;
    until(StatusCode::BAD_REQUEST, upload).await;
}

#[tokio::test]
async fn a_job_whose_leader_hangs_up_is_finished_and_its_answer_kept() {
    let (task, database) = (TestTask::plain(), sqlite());
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let body = job(&leader.reports(&[1, 2, 3]));
    // While the only writer of the database is busy, the job comes as far as its commit.
    let (server, task, body) = (&server, &task, &body);
    let busy = server.store.tx("busy", move |tx| async move {
        let stream = begin(server, task, Media::AggregationJobInitReq, body.len(), body).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(stream);
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok((tx, ()))
    });
    busy.await.expect("it has the database for itself");
    for _ in 0..500 {
        if server.counted().await == 3 {
            assert_eq!(leader.post_job(body.clone()).await.status, StatusCode::OK);
            assert_eq!(server.tallies().await, [("aggregated".to_owned(), 3)]);
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the work was thrown away");
}

#[tokio::test]
async fn a_job_of_more_reports_than_are_taken_is_too_large_and_not_wrong() {
    for database in databases().await {
        let task = TestTask::plain();
        let limits = Limits { job_reports: 2, ..Limits::default() };
        let server = Server::limited(Role::Helper, &task, &database, limits).await;
        let leader = ScriptedLeader::of(&task, &server);
        let reports = leader.reports(&[1, 2, 3]);
        let reply = leader.post_job(job(&reports)).await;
        assert_eq!((reply.status, reply.problem().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "blank"));
        assert_eq!(leader.post_job(job(&reports[..2])).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_refusal_names_its_task_whatever_is_refused() {
    let (task, database) = (TestTask::plain(), sqlite());
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let nowhere = format!("{}/nothing", leader.job_url());
    let replies = [
        leader.post("aggregation_jobs", Media::UploadReq, Vec::new()).await,
        leader.post("aggregate_shares", Media::UploadReq, Vec::new()).await,
        leader.send(Method::GET, &nowhere, None, Vec::new()).await.expect("an answer"),
        // The last one: what is not read ends the connection.
        leader.post_share(vec![0; 200 << 10]).await,
    ];
    for (reply, status) in replies.iter().zip([415, 415, 404, 413]) {
        assert_eq!(reply.status, status);
        let document: Value = serde_json::from_slice(&reply.body).expect("a problem document");
        assert_eq!(document["taskid"], task.id.to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_longer_than_any_of_its_task_is_refused_at_upload() {
    on_each(Setting::without_noise(VdafConfig::Count), async |pair| {
        let good = pair.report(&Measurement::Bool(true));
        let mut reports = [0; 3].map(|_| pair.report(&Measurement::Bool(true)));
        reports[0].public_share.push(0);
        reports[1].leader_encrypted_input_share.payload.resize(4_096, 0);
        reports[2].helper_encrypted_input_share.payload.resize(4_096, 0);
        assert_eq!(pair.upload(&reports).await, [ReportError::InvalidMessage; 3]);
        assert_eq!(pair.upload(&[good]).await, []);
    })
    .await;
}
