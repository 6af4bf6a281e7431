//! What is too much is refused before it is read; what was taken in is finished.

use std::time::Duration;

use http::{Method, StatusCode};
use mica_aggregator::Role;
use mica_aggregator::shared::Limits;
use mica_dap::media::Media;
use mica_dap::report_error::ReportError;
use mica_dap::vdaf::Measurement;
use mica_dap::vdaf_config::VdafConfig;
use mica_service::listener::BodyPace;
use mica_service::testing::{databases, sqlite};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
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

/// What the server says before it hangs up.
async fn answer_to(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A connection that is closed with unread bytes in it may end in a reset.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).to_ascii_lowercase()
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
    let [first, second] = [job(&leader.reports(&[1, 2])), job(&leader.reports(&[3]))];
    // While the only writer of the database is busy, a job that has begun does not end.
    let (server, task, leader, first, second) = (&server, &task, &leader, &first, &second);
    let busy = server.store.tx("busy", move |tx| async move {
        let open = begin(server, task, Media::AggregationJobInitReq, first.len(), first).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(leader.post_job(second.clone()).await.status, StatusCode::SERVICE_UNAVAILABLE);
        Ok((tx, open))
    });
    // Kept open: a leader that hangs up before it was heard has asked for nothing.
    let _open = busy.await.expect("it has the database for itself");
    until(StatusCode::OK, || leader.post_job(second.clone())).await;
    assert_eq!(server.counted().await, 3);
}

#[tokio::test]
async fn jobs_and_uploads_that_are_announced_and_not_sent_are_in_nobodys_way() {
    let (task, database) = (TestTask::plain(), sqlite());
    let limits = Limits { queued_bytes: 8_000, helper_jobs: 1, queued_reports: 1, ..Limits::default() };
    let helper = Server::limited(Role::Helper, &task, &database, limits.clone()).await;
    let leader = ScriptedLeader::of(&task, &helper);
    let mut idle = Vec::new();
    for _ in 0..70 {
        idle.push(begin(&helper, &task, Media::AggregationJobInitReq, 8_000, b"").await);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(leader.post_job(job(&leader.reports(&[1]))).await.status, StatusCode::OK);

    let database = sqlite();
    let server = Server::limited(Role::Leader, &task, &database, limits).await;
    let client = ScriptedLeader::of(&task, &server);
    for _ in 0..70 {
        idle.push(begin(&server, &task, Media::UploadReq, 8_000, b"").await);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let answer = client.post("reports", Media::UploadReq, vec![0; 200]).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "it was read");
}

#[tokio::test]
async fn a_leader_without_room_asks_for_patience_before_it_reads() {
    let (task, database) = (TestTask::plain(), sqlite());
    let limits = Limits { queued_bytes: 1_000, ..Limits::default() };
    let server = Server::limited(Role::Leader, &task, &database, limits).await;
    let client = ScriptedLeader::of(&task, &server);
    let upload = || client.post("reports", Media::UploadReq, vec![0; 200]);
    let filled = async {
        for _ in 0..500 {
            // One that comes in the moment in which an upload has its room is refused itself.
            let half_sent = begin(&server, &task, Media::UploadReq, 1_001, &[0; 1_000]).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            if upload().await.status == StatusCode::SERVICE_UNAVAILABLE {
                return half_sent;
            }
        }
        panic!("there is always room");
    };
    drop(filled.await);
    until(StatusCode::BAD_REQUEST, upload).await;
}

#[tokio::test]
async fn many_who_send_much_and_slowly_do_not_refuse_small_uploads_and_are_given_up() {
    let (task, database) = (TestTask::plain(), sqlite());
    let body_pace = BodyPace { grace: Duration::from_secs(3), ..BodyPace::default() };
    let limits = Limits { queued_bytes: 4 << 20, body_pace, ..Limits::default() };
    let server = Server::limited(Role::Leader, &task, &database, limits).await;
    let client = ScriptedLeader::of(&task, &server);
    let much = vec![0; 1 << 20];
    let mut slow = Vec::new();
    for _ in 0..10 {
        slow.push(begin(&server, &task, Media::UploadReq, 2 << 20, &much).await);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..10 {
        let small = client.post("reports", Media::UploadReq, vec![0; 60 << 10]).await;
        assert_eq!(small.status, StatusCode::BAD_REQUEST, "it was read");
    }
    let mut given_up = 0;
    for stream in slow {
        let answer = answer_to(stream).await;
        if answer.starts_with("http/1.1 408") {
            assert!(answer.contains("application/problem+json"), "{answer}");
            assert!(answer.contains(&task.id.to_string().to_ascii_lowercase()), "{answer}");
            given_up += 1;
        }
    }
    assert!((1..=3).contains(&given_up), "{given_up}: no more have room");
    let large = client.post("reports", Media::UploadReq, vec![0; 3 << 20]).await;
    assert_eq!(large.status, StatusCode::BAD_REQUEST, "the room was given back, and it was read");
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
