//! The checks of an upload one by one (DAP 4.4.2), for both drafts: at the edges of what is taken, and beyond them.

use http::{Method, StatusCode};
use mica_aggregator::shared::Limits;
use mica_dap::Draft;
use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::extension::Extension;
use mica_dap::hpke::{InputShareAad, Role, seal_input_share};
use mica_dap::hpke_config::HpkeConfigList;
use mica_dap::media::Media;
use mica_dap::report::{PlaintextInputShare, Report, UploadRequest};
use mica_dap::report_error::ReportError;
use mica_service::testing::sqlite;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::task::Kind;
use crate::support::{NOW, Server, TestTask, World};

/// S18.
#[tokio::test]
async fn a_report_five_minutes_ahead_is_taken_and_one_second_more_is_too_early() {
    for draft in [Draft::V18, Draft::V19] {
        let database = sqlite();
        let world = World::start(Kind { draft, precision: 1, ..Kind::default() }, &database).await;
        let reports = [NOW + 300, NOW + 301].map(|time| world.report_at(1, time));
        assert_eq!(world.upload(&reports).await, [ReportError::ReportTooEarly], "{draft}");
    }
}

/// S22.
#[tokio::test]
async fn a_task_without_an_end_takes_reports_of_any_age() {
    let database = sqlite();
    let world = World::plain(&database).await;
    let old = world.report_at(1, NOW - 10 * 365 * 86_400);
    assert_eq!(world.upload(&[old, world.report_at(2, 0)]).await, []);
    world.settled().await;
    assert_eq!(world.leader.counted().await, 2);
}

/// S14.
#[tokio::test]
async fn the_identifier_of_a_report_that_was_counted_is_not_taken_with_other_bytes() {
    let database = sqlite();
    let world = World::plain(&database).await;
    let reports = world.reports(&[1, 2]);
    assert_eq!(world.upload(&reports).await, []);
    world.settled().await;
    let mut other = world.report_at(9, NOW - 7_200);
    other.metadata.report_id = reports[0].metadata.report_id;
    assert_eq!(world.upload(&[other.clone()]).await, [ReportError::ReportReplayed]);
    assert_eq!(world.total(&world.collected().await), (2, 3));
    assert_eq!(world.upload(&[other]).await, [ReportError::ReportReplayed], "nor after the release");
}

/// S26, S27.
#[tokio::test]
async fn a_public_extension_that_nobody_knows_or_that_is_out_of_order_costs_its_report() {
    for draft in [Draft::V18, Draft::V19] {
        let database = sqlite();
        let world = World::start(Kind { draft, ..Kind::default() }, &database).await;
        let lists: [&[u16]; 5] = [&[0], &[9], &[5, 3], &[3, 3], &[0xffff]];
        let reports: Vec<Report> = lists
            .iter()
            .map(|types| {
                let mut report = world.report_at(1, NOW);
                report.metadata.public_extensions = types.iter().map(|code| extension(*code)).collect();
                report
            })
            .collect();
        let refused = world.upload(&reports).await;
        assert_eq!(refused.len(), lists.len(), "{draft}: {refused:?}");
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        assert_eq!(world.total(&world.collected().await), (2, 3));
    }
}

/// S24, S27, S29: what is wrong inside the leader's share is found when it is opened, and never counted.
#[tokio::test]
async fn a_private_extension_that_nobody_knows_costs_its_report_when_it_is_opened() {
    for draft in [Draft::V18, Draft::V19] {
        let database = sqlite();
        let world = World::start(Kind { draft, ..Kind::default() }, &database).await;
        let flawed = [vec![extension(9)], vec![extension(0)], vec![extension(5), extension(3)]];
        let reports: Vec<Report> = flawed.into_iter().map(|private| with_private(&world, private)).collect();
        assert_eq!(world.upload(&reports).await, [], "{draft}: it is sealed");
        world.settled().await;
        assert_eq!(world.helper.received().len(), 0, "S78: it is not sent");
        assert_eq!(world.leader.counted().await, 0);
        let tallies = world.leader.tallies().await;
        let refused: u64 =
            tallies.iter().filter(|(end, _)| end != "uploaded").map(|(_, reports)| reports).sum();
        assert_eq!(refused, 3, "{tallies:?}");
    }
}

/// L18: what opens and is none of the VDAF's shares is refused at the first step of the leader.
#[tokio::test]
async fn a_share_that_opens_and_cannot_be_verified_never_gets_to_the_helper() {
    let database = sqlite();
    let world = World::plain(&database).await;
    assert_eq!(world.upload(&[with_private(&world, Vec::new())]).await, []);
    world.settled().await;
    assert_eq!((world.helper.received().len(), world.leader.counted().await), (0, 0));
    let tallies = [("invalid_message".to_owned(), 1), ("uploaded".to_owned(), 1)];
    assert_eq!(world.leader.tallies().await, tallies);
}

/// S29.
#[tokio::test]
async fn a_sealed_share_without_a_key_or_a_payload_spoils_the_request() {
    let database = sqlite();
    let world = World::plain(&database).await;
    let spoils: [fn(&mut Report); 3] = [
        |report| report.leader_encrypted_input_share.enc.clear(),
        |report| report.leader_encrypted_input_share.payload.clear(),
        |report| report.helper_encrypted_input_share.enc.clear(),
    ];
    for spoil in spoils {
        let mut reports = world.reports(&[1, 2]);
        spoil(&mut reports[1]);
        let body = UploadRequest { reports }.encoded();
        let url = world.url(&world.leader, "reports");
        let reply = world.send(Method::POST, &url, Some(Media::UploadReq), body).await;
        assert_eq!(reply.problem(), "invalidMessage");
    }
    assert_eq!((world.leader.unsettled().await, world.leader.tallies().await.len()), ((0, 0), 0));
}

/// S32.
#[tokio::test]
async fn an_upload_of_more_reports_than_are_taken_is_too_large_and_not_wrong() {
    let database = sqlite();
    let limits = Limits { upload_reports: 2, ..Limits::default() };
    let world = World::limited(Kind::default(), &database, limits).await;
    let url = world.url(&world.leader, "reports");
    let body = UploadRequest { reports: world.reports(&[1, 2, 3]) }.encoded();
    let reply = world.send(Method::POST, &url, Some(Media::UploadReq), body).await;
    assert_eq!((reply.status, reply.problem().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "blank"));
    assert_eq!((world.leader.unsettled().await, world.leader.tallies().await.len()), ((0, 0), 0));
    assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
}

/// S32.
#[tokio::test]
async fn an_upload_without_a_length_is_read_no_further_than_the_limit() {
    let database = sqlite();
    let world = World::plain(&database).await;
    let authority = world.leader.origin.strip_prefix("http://").expect("it is http").to_owned();
    let head = format!(
        "POST /api/dap/tasks/{}/reports HTTP/1.1\r\nhost: {authority}\r\ncontent-type: {}\r\n\
         transfer-encoding: chunked\r\n\r\n",
        world.task.id,
        Media::UploadReq.header(),
    );
    let mut stream = TcpStream::connect(&authority).await.expect("it listens");
    stream.write_all(head.as_bytes()).await.expect("it reads");
    let (mut answer, mut to) = stream.into_split();
    let sending = tokio::spawn(async move {
        let chunk = [b"10000\r\n".as_slice(), &vec![0; 65_536], b"\r\n"].concat();
        let mut sent = 0_usize;
        // Ten times what is taken; the server stops reading long before.
        while sent < 640 && to.write_all(&chunk).await.is_ok() {
            sent += 1;
        }
        sent
    });
    let mut status = [0; 12];
    answer.read_exact(&mut status).await.expect("an answer");
    assert_eq!(&status, b"HTTP/1.1 413");
    drop(answer);
    let sent = tokio::time::timeout(std::time::Duration::from_secs(30), sending).await;
    assert!(sent.is_ok(), "whoever sends is not kept waiting");
    assert_eq!((world.leader.unsettled().await, world.leader.tallies().await.len()), ((0, 0), 0));
}

/// S36.
#[tokio::test]
async fn a_helper_takes_no_uploads() {
    let (task, database, another) = (TestTask::plain(), sqlite(), sqlite());
    let helper = Server::helper(&task, &database).await;
    let world = World::plain(&another).await;
    let url = format!("{}/api/dap/tasks/{}/reports", helper.origin, task.id);
    let body = UploadRequest { reports: world.reports(&[1]) }.encoded();
    let reply = world.send(Method::POST, &url, Some(Media::UploadReq), body).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
}

fn extension(extension_type: u16) -> Extension {
    Extension { extension_type, data: Vec::new() }
}

/// A report whose leader's share has these private extensions.
fn with_private(world: &World, private_extensions: Vec<Extension>) -> Report {
    let mut report = world.report_at(1, NOW);
    let list = HpkeConfigList::decoded(&world.leader.hpke_configs).expect("its own list");
    let aad = InputShareAad {
        task_id: &world.task.id,
        task_configuration: world.task.configuration.bytes(),
        metadata: &report.metadata.encoded(),
        public_share: &report.public_share,
    };
    let plaintext = PlaintextInputShare { private_extensions, payload: vec![1; 48] }.encoded();
    let config = list.preferred().expect("at least one");
    let sealed = seal_input_share(config, Role::Leader, world.task.draft, &aad.encoded(), &plaintext);
    report.leader_encrypted_input_share = sealed.expect("it seals");
    report
}
