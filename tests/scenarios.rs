//! What a hostile or broken peer sends is refused by its name, is not stored, and hurts nobody else.

use std::net::{Ipv4Addr, TcpListener};

use http::Method;
use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::collection::{CollectionJobReq, Query};
use mica_dap::id::{ReportId, TaskId};
use mica_dap::media::Media;
use mica_dap::problem::ProblemDocument;
use mica_dap::report::{UploadErrors, UploadRequest};
use mica_dap::report_error::{ReportError, Stage};
use mica_dap::resource::Resource;
use mica_dap::time::{Interval, Time};
use mica_dap::vdaf::Measurement;
use mica_tests::{Dev, Flaw, Forge, Reply, Wire, interval_of};

const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

fn sum() -> Dev {
    Dev::start(["--no-dp", "--vdaf", "sum", "--max", "1000", "--min-batch-size", "1"])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_cannot_be_read_is_refused_and_nothing_of_it_is_stored() {
    let dev = sum();
    let report = Forge::of(&dev.task).await.good(&Measurement::Integer(7));
    let whole = report.encoded();
    let mut broken: Vec<Vec<u8>> = (0..whole.len()).map(|length| whole[..length].to_vec()).collect();
    broken.push([whole.as_slice(), &[0]].concat());
    broken.push([whole.as_slice(), &whole[..whole.len() - 1]].concat());
    // The length of the public share, after identifier, time and the length of no extensions.
    let mut lying = whole.clone();
    lying[26..30].fill(0xff);
    broken.push(lying);
    for body in broken {
        let length = body.len();
        let reply = upload(&dev, body).await;
        assert_eq!((reply.status, reply.problem().as_str()), (400, "invalidMessage"), "{length} bytes");
        let document = ProblemDocument::from_json(&reply.body).unwrap();
        assert_eq!(document.taskid, Some(dev.task.id.to_string()));
    }
    let mut database = dev.database("leader").await;
    assert_eq!(database.report_ids().await, 0);
    assert_eq!(database.number("SELECT CAST(COUNT(*) AS BIGINT) FROM segments").await, 0);
    // The report itself is as good as before.
    let reply = upload(&dev, whole).await;
    assert_eq!((reply.status, reply.body.len()), (200, 0), "{reply:?}");
    let collected = dev.collect(interval_of([&report])).await;
    assert_eq!((collected.report_count, collected.values), (1, vec![7]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_too_long_is_refused_and_nothing_of_it_is_stored() {
    let dev = sum();
    let forge = Forge::of(&dev.task).await;
    let mut body = Vec::new();
    while body.len() <= 4 << 20 {
        // The same bytes again and again: how many they are is refused before they are looked at.
        let report = forge.good(&Measurement::Integer(1)).encoded();
        (0..500).for_each(|_| body.extend_from_slice(&report));
    }
    let reply = Wire::default()
        .try_send(Method::POST, &dev.task.reports_url(), &[("content-type", Media::UploadReq.header())], body)
        .await;
    // A server that has seen enough may also close the connection.
    assert!(reply.is_err() || reply.is_ok_and(|reply| reply.status == 413));
    assert_eq!(dev.database("leader").await.report_ids().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_report_is_refused_with_its_code_and_the_rest_is_counted() {
    for draft in ["18", "19"] {
        bad_reports(draft).await;
    }
}

/// One upload full of flaws, between good reports.
async fn bad_reports(draft: &str) {
    let dev =
        Dev::start(["--no-dp", "--vdaf", "sum", "--max", "1000", "--min-batch-size", "1", "--draft", draft]);
    let forge = Forge::of(&dev.task).await;
    let value = Measurement::Integer(100);
    let first = forge.good(&value);
    assert_eq!(upload(&dev, first.encoded()).await.body.len(), 0);
    let at_once = [Flaw::Future, Flaw::UnknownLeaderKey].map(|flaw| forge.flawed(&value, flaw));
    // Where the draft has no code of its own, the nearest one.
    let unknown_key = dev.task.draft.unknown_hpke_config(Stage::Aggregation).label();
    let later = [
        (Flaw::BadProof, "vdaf_verify_error"),
        (Flaw::WrongAad, "hpke_decrypt_error"),
        (Flaw::OtherDraft, "hpke_decrypt_error"),
        (Flaw::SwappedShares, "hpke_decrypt_error"),
        (Flaw::DamagedHelperShare, "hpke_decrypt_error"),
        (Flaw::UnknownHelperKey, unknown_key),
        (Flaw::TrailingPlaintext, "invalid_message"),
    ];
    let twice = forge.good(&value);
    let mut reports = vec![first.clone(), twice.clone(), twice.clone()];
    reports.extend(at_once.clone());
    reports.extend(later.map(|(flaw, _)| forge.flawed(&value, flaw)));
    reports.push(forge.good(&Measurement::Integer(11)));
    let reply = upload(&dev, UploadRequest { reports: reports.clone() }.encoded()).await;
    let outdated = if draft == "18" { ReportError::OutdatedConfig } else { ReportError::HpkeUnknownConfigId };
    let expected = [
        (first.metadata.report_id, ReportError::ReportReplayed),
        (twice.metadata.report_id, ReportError::ReportReplayed),
        (at_once[0].metadata.report_id, ReportError::ReportTooEarly),
        (at_once[1].metadata.report_id, outdated),
    ];
    assert_eq!(refused(&dev, &reply), expected);

    let collected = dev.collect(interval_of([&first])).await;
    assert_eq!((collected.report_count, collected.values), (3, vec![211]), "draft {draft}");
    let mut database = dev.database("leader").await;
    assert_eq!(database.tally("aggregated").await, 3);
    for outcome in ["vdaf_verify_error", "hpke_unknown_config_id", "hpke_decrypt_error", "invalid_message"] {
        let late = later.iter().filter(|(_, label)| *label == outcome).count();
        let early = expected.iter().filter(|(_, error)| error.label() == outcome).count();
        assert_eq!(database.tally(outcome).await, (late + early) as u64, "{outcome}, draft {draft}");
    }
    assert_eq!(dev.database("helper").await.tally("aggregated").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_another_kind_than_its_place_takes_is_refused() {
    let dev = sum();
    let report = Forge::of(&dev.task).await.good(&Measurement::Integer(1)).encoded();
    let wire = Wire::default();
    let url = dev.task.reports_url();
    for media in ["", "application/octet-stream", Media::CollectionJobReq.header(), "application/ppm-dap"] {
        let reply = wire.send(Method::POST, &url, &[("content-type", media)], report.clone()).await;
        assert_eq!(reply.status, 415, "{media}");
    }
    assert_eq!(wire.send(Method::POST, &url, &[], report.clone()).await.status, 415);
    assert_eq!(
        wire.send(Method::PUT, &url, &[("content-type", Media::UploadReq.header())], report.clone())
            .await
            .status,
        405
    );
    let at_helper = Resource::Reports(dev.task.id).url(dev.task.configuration.helper_url());
    assert_eq!(wire.post(&at_helper, Media::UploadReq, report.clone()).await.status, 404);
    assert_eq!(dev.database("leader").await.report_ids().await, 0);
    assert_eq!(dev.database("helper").await.report_ids().await, 0);
    // Spelled in another way it is the same media type.
    let media = "Application/PPM-DAP; Message=\"upload-req\"";
    assert_eq!(wire.send(Method::POST, &url, &[("content-type", media)], report).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_nobody_knows_is_refused_everywhere() {
    let dev = sum();
    let unknown = TaskId::random(&mut rand::rng());
    let report = Forge::of(&dev.task).await.good(&Measurement::Integer(1)).encoded();
    let (leader, helper) = (dev.task.configuration.leader_url(), dev.task.configuration.helper_url());
    let wire = Wire::default();
    let query = collection(Interval::unit(dev.task.current_time()).unwrap());
    for (url, media, token, body) in [
        (Resource::Reports(unknown).url(leader), Media::UploadReq, "x", report),
        (
            Resource::CollectionJobs(unknown).url(leader),
            Media::CollectionJobReq,
            dev.task.collector_to_leader.as_str(),
            query,
        ),
        (
            Resource::AggregationJobs(unknown).url(helper),
            Media::AggregationJobInitReq,
            &dev.task.leader_to_helper,
            vec![0],
        ),
        (
            Resource::AggregateShares(unknown).url(helper),
            Media::AggregateShareReq,
            &dev.task.leader_to_helper,
            vec![0],
        ),
    ] {
        let reply = wire.post_with_token(&url, media, token, body).await;
        assert_eq!((reply.status, reply.problem().as_str()), (404, "unrecognizedTask"), "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_to_whoever_has_no_token() {
    let dev = sum();
    let reports = dev.report_all(&dev.task.sample(3).measurements).await;
    let collector = dev.task.collector();
    let interval = interval_of(&reports);
    dev.collect(interval).await;
    let job = collector.collect(interval).await.unwrap();
    let wire = Wire::default();
    let token = &dev.task.collector_to_leader;
    let asked = wire
        .post_with_token(&dev.task.collections_url(), Media::CollectionJobReq, token, collection(interval))
        .await;
    let (leader, helper) = (dev.task.configuration.leader_url(), dev.task.configuration.helper_url());
    let location = asked.header("location").expect("where the collection is");
    let url = format!("{}{location}", leader.trim_end_matches('/'));
    let id = dev.task.id;
    let wrong = format!("Bearer {}x", dev.task.collector_to_leader);
    let others = format!("Bearer {}", dev.task.leader_to_helper);
    let collectors = format!("Bearer {}", dev.task.collector_to_leader);
    let query = Media::CollectionJobReq;
    let places = [
        (Method::POST, dev.task.collections_url(), query, collection(interval), &others),
        (Method::GET, url.clone(), query, Vec::new(), &others),
        (Method::DELETE, url.clone(), query, Vec::new(), &others),
        (
            Method::POST,
            Resource::AggregationJobs(id).url(helper),
            Media::AggregationJobInitReq,
            vec![0],
            &collectors,
        ),
        (
            Method::POST,
            Resource::AggregateShares(id).url(helper),
            Media::AggregateShareReq,
            vec![0],
            &collectors,
        ),
    ];
    for (method, url, media, body, others) in places {
        let content = ("content-type", media.header());
        let reply = wire.send(method.clone(), &url, &[content], body.clone()).await;
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some("Bearer")), "{method} {url}");
        for token in [&wrong, others] {
            let reply =
                wire.send(method.clone(), &url, &[content, ("authorization", token)], body.clone()).await;
            assert_eq!(reply.status, 403, "{method} {url}");
        }
    }
    // Still there: nobody could delete it.
    assert!(collector.poll(&job).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_cannot_be_read_is_refused_and_nothing_of_it_is_stored() {
    let dev = sum();
    let whole = collection(Interval::unit(dev.task.current_time()).unwrap());
    let mut broken: Vec<Vec<u8>> = (0..whole.len()).map(|length| whole[..length].to_vec()).collect();
    broken.push([whole.as_slice(), &[0]].concat());
    let url = dev.task.collections_url();
    for body in broken {
        let token = &dev.task.collector_to_leader;
        let reply = Wire::default().post_with_token(&url, Media::CollectionJobReq, token, body).await;
        assert_eq!((reply.status, reply.problem().as_str()), (400, "invalidMessage"));
    }
    // An interval of no length is a message that is well formed and a batch that is none.
    let mut empty = whole.clone();
    let length = whole.len();
    empty[length - 6 - 8..length - 6].fill(0);
    let token = &dev.task.collector_to_leader;
    let reply = Wire::default().post_with_token(&url, Media::CollectionJobReq, token, empty).await;
    assert_eq!(reply.status, 400, "{reply:?}");
    let mut database = dev.database("leader").await;
    assert_eq!(database.number("SELECT CAST(COUNT(*) AS BIGINT) FROM collection_jobs").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inner_request_to_nowhere_is_refused_in_the_envelope_and_connects_to_nobody() {
    let dev = sum();
    let bait = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    bait.set_nonblocking(true).unwrap();
    let elsewhere = format!("http://{}/", bait.local_addr().unwrap());
    let (leader, helper) = (dev.task.configuration.leader_url(), dev.task.configuration.helper_url());
    let id = dev.task.id;
    let upload = Some((Media::UploadReq.header(), vec![0; 10]));
    let collect = Some((Media::CollectionJobReq.header(), collection(Interval::unit(Time(1)).unwrap())));
    let courier = dev.courier(SOURCE);
    for (method, url, content) in [
        ("GET", Resource::HpkeConfig.url(&elsewhere), None),
        ("POST", Resource::Reports(id).url(&elsewhere), upload.clone()),
        ("POST", Resource::Reports(TaskId::new([1; 32])).url(leader), upload.clone()),
        ("POST", Resource::CollectionJobs(id).url(leader), collect),
        ("GET", format!("{leader}health"), None),
        ("GET", Resource::Reports(id).url(leader), None),
        ("DELETE", Resource::Reports(id).url(leader), None),
        ("POST", Resource::Reports(id).url(helper), upload.clone()),
        ("POST", Resource::AggregationJobs(id).url(helper), upload.clone()),
        ("POST", format!("{}/../collection_jobs", Resource::Reports(id).url(leader)), upload),
    ] {
        let refused = courier.ask(method, &url, content).await.response;
        assert!((400..500).contains(&refused.status), "{method} {url}: {}", refused.status);
        let media = refused.header("content-type").unwrap_or_default();
        assert_eq!(media, b"application/problem+json", "{method} {url}");
    }
    let nobody = bait.accept().map(drop).map_err(|error| error.kind());
    assert_eq!(nobody, Err(std::io::ErrorKind::WouldBlock), "somebody connected");
    for role in ["leader", "helper"] {
        assert_eq!(dev.database(role).await.report_ids().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_leader_comes_back_inside_the_envelope() {
    let dev = sum();
    let courier = dev.courier(SOURCE);
    let content = (Media::UploadReq.header(), vec![1, 2, 3]);
    let refused = courier.ask("POST", &dev.task.reports_url(), Some(content)).await.response;
    assert_eq!(refused.status, 400);
    let problem = ProblemDocument::from_json(&refused.body).unwrap();
    assert_eq!(problem.type_, "urn:ietf:params:ppm:dap:error:invalidMessage");
}

async fn upload(dev: &Dev, body: Vec<u8>) -> Reply {
    Wire::default().post(&dev.task.reports_url(), Media::UploadReq, body).await
}

/// What the leader refused of an upload, in its order.
fn refused(dev: &Dev, reply: &Reply) -> Vec<(ReportId, ReportError)> {
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(reply.header("content-type").is_some_and(|media| Media::UploadErrors.matches(media)));
    let errors = UploadErrors::decoded(&reply.body).expect("a list of errors");
    let read = |status: &mica_dap::report::ReportUploadStatus| {
        (status.report_id, ReportError::from_code(status.error, dev.task.draft))
    };
    errors.statuses.iter().map(read).collect()
}

fn collection(interval: Interval) -> Vec<u8> {
    CollectionJobReq::new(Query::time_interval(interval), Vec::new()).bytes().to_vec()
}
