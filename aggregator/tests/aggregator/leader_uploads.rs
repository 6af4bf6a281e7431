//! What the leader takes from clients and collectors, and what it refuses before anything is written down.

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use mica_dap::codec::Encode as _;
use mica_dap::extension::Extension;
use mica_dap::id::TaskId;
use mica_dap::media::Media;
use mica_dap::report::UploadRequest;
use mica_dap::report_error::ReportError;
use mica_dap::time::{Duration, Interval};
use mica_service::testing::{databases, sqlite};

use crate::support::leader::now;
use crate::support::task::Kind;
use crate::support::world::hour;
use crate::support::{NOW, World};

#[tokio::test]
async fn each_report_is_refused_for_itself_and_in_the_order_of_the_upload() {
    for database in databases().await {
        let world = World::plain(&database).await;
        let mut reports = world.reports(&[1, 2, 3, 4, 5, 6]);
        reports[1].leader_encrypted_input_share.config_id ^= 0x40;
        reports[2] = reports[0].clone();
        reports[3] = world.report_at(4, NOW + 7_200);
        reports[4].metadata.public_extensions = vec![Extension { extension_type: 9, data: Vec::new() }];
        let refused = world.upload(&reports).await;
        assert_eq!(
            refused[..3],
            [ReportError::OutdatedConfig, ReportError::ReportReplayed, ReportError::ReportTooEarly]
        );
        assert_eq!(refused.len(), 4, "{}: the unknown extension as well", database.kind);
        world.settled().await;
        assert_eq!(world.total(&world.collected().await), (2, 7));
    }
}

#[tokio::test]
async fn reports_from_outside_the_life_of_the_task_are_dropped() {
    let database = sqlite();
    let task_interval = Some(Interval::new(now(), Duration(1)).expect("an hour"));
    let world = World::start(Kind { task_interval, ..Kind::default() }, &database).await;
    let reports = [NOW - 3_600, NOW, NOW, NOW - 36_000].map(|time| world.report_at(1, time));
    assert_eq!(world.upload(&reports).await, [ReportError::ReportDropped; 2]);
    world.settled().await;
    assert_eq!(world.total(&world.collected().await), (2, 2));
}

#[tokio::test]
async fn reports_of_many_hours_are_collected_by_the_hour() {
    for database in databases().await {
        let world = World::plain(&database).await;
        let hours = [0, 1, 0, 2, 1, 0].map(|back| world.report_at(10 + back, NOW - back * 3_600));
        assert_eq!(world.upload(&hours).await, []);
        world.settled().await;
        assert_eq!(world.total(&world.collected().await), (3, 30), "{}", database.kind);
        assert_eq!(world.leader.unscrubbed().await, 2, "the other hours are still there");
        let late = [world.report_at(1, NOW), world.report_at(1, NOW - 7_200)];
        assert_eq!(world.upload(&late).await, [ReportError::ReportReplayed], "one hour is over");
        let both = Interval::new(hour().start(), Duration(2)).expect("two hours");
        assert_eq!(world.collect_from(&world.leader, both).await.problem(), "batchOverlap");
    }
}

#[tokio::test]
async fn only_the_collector_may_collect() {
    let database = sqlite();
    let world = World::plain(&database).await;
    let location = world.collect().await.location.expect("a job has a place");
    let ask = async |method: Method, token: Option<&str>| {
        let url = format!("{}{location}", world.leader.origin);
        let mut request = Request::builder().method(method).uri(url);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, token);
        }
        world.send_request(request.body(Bytes::new()).expect("a request")).await.status
    };
    for token in [None, Some("Bearer shown-by-the-leader"), Some("Basic eDp5"), Some("Bearer ")] {
        for method in [Method::GET, Method::DELETE] {
            let status = ask(method, token).await;
            assert!(matches!(status.as_u16(), 401 | 403), "{token:?}: {status}");
        }
    }
    assert_eq!(ask(Method::GET, Some("Bearer shown-by-the-collector")).await, StatusCode::OK);
}

#[tokio::test]
async fn an_upload_to_another_place_is_refused_and_leaves_nothing() {
    let database = sqlite();
    let world = World::plain(&database).await;
    let body = UploadRequest { reports: world.reports(&[1, 2]) }.encoded();
    let other = TaskId::random(&mut rand::rng());
    let base = format!("{}/api/dap/tasks", world.leader.origin);
    let media = Some(Media::UploadReq);
    let post = async |url: &str, media, body| world.send(Method::POST, url, media, body).await;
    let unknown = post(&format!("{base}/{other}/reports"), media, body.clone()).await;
    assert_eq!(unknown.problem(), "unrecognizedTask");
    let here = format!("{base}/{}", world.task.id);
    for (resource, status) in [("aggregation_jobs", 404), ("aggregate_shares", 404), ("nothing", 404)] {
        assert_eq!(
            post(&format!("{here}/{resource}"), media, body.clone()).await.status,
            status,
            "{resource}"
        );
    }
    let reports = format!("{here}/reports");
    assert_eq!(post(&reports, Some(Media::CollectionJobReq), body.clone()).await.status, 415);
    assert_eq!(post(&reports, None, body.clone()).await.status, 415);
    assert_eq!(post(&reports, media, body[1..].to_vec()).await.problem(), "invalidMessage");
    let refused = world.send(Method::GET, &reports, None, Vec::new()).await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (405, "blank"));
    assert_eq!((world.leader.unsettled().await, world.leader.tallies().await.len()), ((0, 0), 0));
    assert_eq!(post(&reports, media, body).await.status, StatusCode::OK);
}
