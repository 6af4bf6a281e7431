//! Uploads that go to the leader together: each client is told what it would have been told alone.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::{Router, body::Body, extract::State, response::Response};
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use mica_dap::{
    codec::Encode as _,
    hpke_config::HpkeCiphertext,
    id::ReportId,
    report::{Report, ReportMetadata, ReportUploadStatus, UploadErrors, UploadRequest},
    time::Time,
};
use mica_envelope::{InnerRequest, InnerResponse};
use mica_gateway::{Config, MergeConfig, Mounted, Outcome};
use mica_service::{clock::Clock, testing::sqlite};

use crate::world::{Door, World, routes, upload};

/// Reports of this kind are refused with the code 5.
const BAD: u8 = 0xbb;
/// Of this kind: the whole upload is refused.
const POISON: u8 = 0xee;
/// Of this kind: the answer speaks of a report that nobody sent.
const STRANGE: u8 = 0xff;

/// A leader that remembers how many reports each upload had, and which it has taken.
#[derive(Clone, Default)]
struct Leader {
    uploads: Arc<Mutex<Vec<usize>>>,
    taken: Arc<Mutex<Vec<ReportId>>>,
    busy: bool,
}

impl Leader {
    fn router(&self) -> Router {
        Router::new().fallback(answer).with_state(self.clone())
    }

    fn uploads(&self) -> Vec<usize> {
        self.uploads.lock().unwrap().clone()
    }
}

async fn answer(State(leader): State<Leader>, request: Request<Body>) -> Response {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let Ok(reports) = UploadRequest::decode_reports(&body, 1000) else { return refused(400) };
    leader.uploads.lock().unwrap().push(reports.len());
    if leader.busy {
        return refused(503);
    }
    let ids: Vec<ReportId> = reports.iter().map(|it| it.report.metadata.report_id).collect();
    if ids.iter().any(|id| id.as_bytes()[0] == POISON) {
        return refused(400);
    }
    let mut taken = leader.taken.lock().unwrap();
    let mut statuses = Vec::new();
    for id in ids {
        if id.as_bytes()[0] == STRANGE {
            statuses.push(ReportUploadStatus { report_id: ReportId::new([1; 16]), error: 5 });
        } else if id.as_bytes()[0] == BAD {
            statuses.push(ReportUploadStatus { report_id: id, error: 5 });
        } else if taken.contains(&id) {
            statuses.push(ReportUploadStatus { report_id: id, error: 2 });
        } else {
            taken.push(id);
        }
    }
    if statuses.is_empty() {
        return Response::new(Body::empty());
    }
    let errors = UploadErrors { statuses }.encoded();
    Response::builder()
        .header("content-type", "application/ppm-dap;message=upload-errors")
        .body(Body::from(errors))
        .unwrap()
}

fn refused(status: u16) -> Response {
    Response::builder().status(status).body(Body::from("refused")).unwrap()
}

fn id(kind: u8, number: u8) -> ReportId {
    let mut id = [number; 16];
    id[0] = kind;
    ReportId::new(id)
}

fn request(ids: &[ReportId]) -> InnerRequest {
    let sealed = || HpkeCiphertext { config_id: 1, enc: vec![2; 32], payload: vec![3; 50] };
    let report = |&report_id| Report {
        metadata: ReportMetadata { report_id, time: Time(7), public_extensions: vec![] },
        public_share: vec![],
        leader_encrypted_input_share: sealed(),
        helper_encrypted_input_share: sealed(),
    };
    let body = UploadRequest { reports: ids.iter().map(report).collect() }.encoded();
    InnerRequest { body: body.into(), ..upload() }
}

/// The codes that the answer has, by report.
fn codes(answer: &InnerResponse) -> Vec<(ReportId, u8)> {
    assert_eq!(answer.status, 200);
    if answer.body.is_empty() {
        assert_eq!(answer.header("content-type"), None);
        return vec![];
    }
    assert_eq!(answer.header("content-type"), Some(&b"application/ppm-dap;message=upload-errors"[..]));
    let errors = <UploadErrors as mica_dap::codec::Decode>::decoded(&answer.body).unwrap();
    errors.statuses.iter().map(|status| (status.report_id, status.error)).collect()
}

async fn world(leader: &Leader, reports: usize, wait: u64) -> (World, mica_service::testing::TestDatabase) {
    let database = sqlite();
    // Nobody listens there: whatever is answered was handed over in the process.
    let nowhere = "127.0.0.1:9".parse().unwrap();
    let mut config = Config::new("127.0.0.1:0", database.url.clone(), routes(nowhere));
    config.routes[0].max_bytes = 4_000;
    config.routes[0].merge = Some(MergeConfig { reports, wait: Duration::from_millis(wait) });
    let mounted = Mounted::default().with("http://127.0.0.1:9", leader.router());
    (World::beside(config, Clock::manual(1_700_000_000), mounted).await, database)
}

/// All at once; the answers in the order of the requests.
async fn all(world: &World, requests: Vec<InnerRequest>) -> Vec<InnerResponse> {
    let sent: Vec<_> = requests
        .iter()
        .map(|request| {
            let (sealed, opener) = world.seal(request);
            let (http, gateway) = (world.http.clone(), world.gateway);
            tokio::spawn(async move {
                let request = Request::post(format!("http://{gateway}/"))
                    .header("content-type", "message/ohttp-req")
                    .body(Bytes::from(sealed))
                    .unwrap();
                opener.open(http.send(request).await.unwrap().body()).unwrap()
            })
        })
        .collect();
    let mut answers = Vec::new();
    for one in sent {
        answers.push(one.await.unwrap());
    }
    answers
}

#[tokio::test]
async fn uploads_that_arrive_together_are_one_for_the_leader_and_each_client_gets_its_own_answer() {
    let leader = Leader::default();
    let (world, _database) = world(&leader, 5, 1_000).await;
    let requests = vec![
        request(&[id(0, 1)]),
        request(&[id(BAD, 2), id(0, 3)]),
        request(&[id(0, 4)]),
        request(&[id(BAD, 5)]),
    ];
    let answers = all(&world, requests).await;
    assert_eq!(leader.uploads(), [5], "full before its time");
    assert_eq!(
        answers.iter().map(codes).collect::<Vec<_>>(),
        [vec![], vec![(id(BAD, 2), 5)], vec![], vec![(id(BAD, 5), 5)]]
    );
    assert_eq!(world.count(Outcome::Forwarded), 4);
}

#[tokio::test]
async fn uploads_that_went_nowhere_together_are_sent_on_when_they_are_sent_again() {
    let (leader, door) = (Leader::default(), Door::shut());
    let merge = Some(MergeConfig { reports: 2, wait: Duration::from_secs(1) });
    let world = World::start_with(door.address, |config| {
        config.routes[0].max_bytes = 4_000;
        config.routes[0].merge = merge;
    })
    .await;
    let sealed = [1, 2].map(|number| world.seal(&request(&[id(0, number)])).0);
    let both = || {
        let [one, two] = sealed.clone();
        async { tokio::join!(world.post(world.gateway, one), world.post(world.gateway, two)) }
    };
    both().await;
    assert_eq!((world.count(Outcome::Unreached), leader.uploads().len()), (2, 0));
    door.open(leader.router());
    both().await;
    both().await;
    assert_eq!(leader.uploads().iter().sum::<usize>(), 2, "each report once");
    assert_eq!((world.count(Outcome::Forwarded), world.count(Outcome::Again)), (2, 2));
}

#[tokio::test]
async fn one_upload_that_spoils_the_whole_harms_nobody_else() {
    let leader = Leader::default();
    let (world, _database) = world(&leader, 3, 1_000).await;
    let requests = vec![request(&[id(0, 1)]), request(&[id(POISON, 2)]), request(&[id(BAD, 3)])];
    let answers = all(&world, requests).await;
    assert_eq!(leader.uploads(), [3, 1, 1, 1]);
    assert_eq!(codes(&answers[0]), []);
    assert_eq!((answers[1].status, &answers[1].body[..]), (400, &b"refused"[..]));
    assert_eq!(codes(&answers[2]), [(id(BAD, 3), 5)]);
}

#[tokio::test]
async fn the_same_report_from_two_clients_goes_in_two_uploads() {
    let leader = Leader::default();
    let (world, _database) = world(&leader, 10, 200).await;
    let answers = all(&world, vec![request(&[id(0, 1)]), request(&[id(0, 1)])]).await;
    assert_eq!(leader.uploads(), [1, 1]);
    let mut told: Vec<_> = answers.iter().map(codes).collect();
    told.sort();
    assert_eq!(told, [vec![], vec![(id(0, 1), 2)]]);
    // Twice in one upload is for the leader to judge.
    let answers = all(&world, vec![request(&[id(0, 2), id(0, 2)])]).await;
    assert_eq!(codes(&answers[0]), [(id(0, 2), 2)]);
}

#[tokio::test]
async fn a_lonely_upload_waits_no_longer_than_it_must_and_what_cannot_be_read_goes_alone() {
    let leader = Leader::default();
    let (world, _database) = world(&leader, 10, 50).await;
    let answers = all(&world, vec![request(&[id(0, 1)])]).await;
    assert_eq!((codes(&answers[0]), leader.uploads()), (vec![], vec![1]));
    let many: Vec<ReportId> = (0..11).map(|number| id(0, 100 + number)).collect();
    let answers = all(&world, vec![upload(), request(&many)]).await;
    assert_eq!((answers[0].status, codes(&answers[1])), (400, vec![]));
    assert_eq!(leader.uploads(), [1, 11], "as many as one brings go as one");
}

#[tokio::test]
async fn a_leader_that_is_busy_or_talks_nonsense_is_so_for_all() {
    let leader = Leader { busy: true, ..Leader::default() };
    let (world_of_the_busy, _database) = world(&leader, 2, 1_000).await;
    let answers = all(&world_of_the_busy, vec![request(&[id(0, 1)]), request(&[id(0, 2)])]).await;
    assert_eq!(answers.iter().map(|it| it.status).collect::<Vec<_>>(), [503, 503]);
    assert_eq!(leader.uploads(), [2], "nobody asks a busy leader more often than before");

    let leader = Leader::default();
    let (world, _database) = world(&leader, 2, 1_000).await;
    let answers = all(&world, vec![request(&[id(STRANGE, 1)]), request(&[id(0, 2)])]).await;
    assert_eq!(answers.iter().map(|it| it.status).collect::<Vec<_>>(), [502, 502]);
}

/// RFC 9458 6.3: whoever sees how long an answer is cannot tell how many reports of an upload were refused.
#[tokio::test]
async fn an_answer_is_as_long_when_all_reports_of_a_large_upload_are_refused_as_when_all_are_taken() {
    let leader = Leader::default();
    let database = sqlite();
    let mut config = Config::new("127.0.0.1:0", database.url.clone(), routes("127.0.0.1:9".parse().unwrap()));
    config.routes[0].max_bytes = 100_000;
    let mounted = Mounted::default().with("http://127.0.0.1:9", leader.router());
    let world = World::beside(config, Clock::manual(1_700_000_000), mounted).await;
    let full = |kind| {
        let small = || HpkeCiphertext { config_id: 1, enc: vec![2], payload: vec![3] };
        let report = |number| Report {
            metadata: ReportMetadata {
                report_id: id(kind, number),
                time: Time(7),
                public_extensions: vec![],
            },
            public_share: vec![],
            leader_encrypted_input_share: small(),
            helper_encrypted_input_share: small(),
        };
        let body = UploadRequest { reports: (0..200).map(report).collect() }.encoded();
        InnerRequest { body: body.into(), ..upload() }
    };
    let nowhere = InnerRequest { path: "/nowhere".into(), ..full(0) };
    let mut seen = Vec::new();
    for (request, refused) in
        [(full(0), 0), (full(0), 200), (full(BAD), 200), (full(POISON), 0), (nowhere, 0)]
    {
        let (sealed, opener) = world.seal(&request);
        let first = world.post(world.relay, sealed.clone()).await;
        let again = world.post(world.relay, sealed.clone()).await;
        seen.extend([(sealed.len(), first.body().len()), (sealed.len(), again.body().len())]);
        let answer = opener.open(first.body()).unwrap();
        assert_eq!(if answer.status == 200 { codes(&answer).len() } else { 0 }, refused);
    }
    assert!(seen.iter().all(|sizes| *sizes == seen[0]), "{seen:?}");
}

/// What a target saw of one upload: where it went, with which task configuration, and the kinds of its reports.
type Arrived = (String, String, Vec<u8>);

async fn note(State(arrived): State<Arc<Mutex<Vec<Arrived>>>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let reports = UploadRequest::decode_reports(&body, 1000).unwrap();
    let kinds = reports.iter().map(|it| it.report.metadata.report_id.as_bytes()[0]).collect();
    let taskprov = head.headers.get("dap-taskprov").map_or("", |value| value.to_str().unwrap());
    arrived.lock().unwrap().push((head.uri.to_string(), taskprov.to_owned(), kinds));
    Response::new(Body::empty())
}

#[tokio::test]
async fn uploads_to_different_tasks_targets_or_task_configurations_stay_apart() {
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let router = Router::new().fallback(note).with_state(Arc::clone(&arrived));
    let database = sqlite();
    let mut config = Config::new("127.0.0.1:0", database.url.clone(), routes("127.0.0.1:9".parse().unwrap()));
    config.routes[0].max_bytes = 4_000;
    config.routes[0].merge = Some(MergeConfig { reports: 100, wait: Duration::from_millis(300) });
    config.routes[0].forward_headers = vec!["dap-taskprov".to_owned()];
    let mut elsewhere = config.routes[0].clone();
    (elsewhere.authority, elsewhere.target) = ("other.example".into(), "http://127.0.0.1:10/inside".into());
    config.routes.push(elsewhere);
    let mounted =
        Mounted::default().with("http://127.0.0.1:9", router.clone()).with("http://127.0.0.1:10", router);
    let world = World::beside(config, Clock::manual(1_700_000_000), mounted).await;
    // By kind: where it is to arrive.
    let kinds = [
        ("leader.example", "one", "", "http://127.0.0.1:9/inside/tasks/one/reports"),
        ("leader.example", "two", "", "http://127.0.0.1:9/inside/tasks/two/reports"),
        ("other.example", "one", "", "http://127.0.0.1:10/inside/tasks/one/reports"),
        ("leader.example", "one", "this", "http://127.0.0.1:9/inside/tasks/one/reports"),
        ("leader.example", "one", "that", "http://127.0.0.1:9/inside/tasks/one/reports"),
    ];
    let mut requests = Vec::new();
    for number in 0..4 {
        for (kind, (authority, task, taskprov, _)) in (0_u8..).zip(kinds) {
            let mut one = request(&[id(kind, number)]);
            (one.authority, one.path) = (authority.into(), format!("/tasks/{task}/reports"));
            if !taskprov.is_empty() {
                one.headers.push(("dap-taskprov".into(), taskprov.into()));
            }
            requests.push(one);
        }
    }
    let answers = all(&world, requests).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    let arrived = arrived.lock().unwrap().clone();
    assert_eq!(arrived.iter().map(|(.., reports)| reports.len()).sum::<usize>(), 20);
    for (uri, taskprov, reports) in arrived {
        for kind in reports {
            let (_, _, expected_taskprov, expected_uri) = kinds[usize::from(kind)];
            assert_eq!((uri.as_str(), taskprov.as_str()), (expected_uri, expected_taskprov));
        }
    }
}
