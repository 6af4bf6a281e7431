//! What a collector may ask for, and what it is told otherwise (DAP 4.6.1, 4.6.3).

use http::{Method, StatusCode};
use mica_dap::codec::Encode as _;
use mica_dap::collection::{CollectionJobReq, Query};
use mica_dap::id::TaskId;
use mica_dap::media::Media;
use mica_dap::task::BatchMode;
use mica_dap::time::{Duration, Interval};
use mica_service::testing::{TestDatabase, databases, sqlite};

use crate::leader_selected;
use crate::support::leader::Reply;
use crate::support::task::Kind;
use crate::support::world::hour;
use crate::support::{NOW, World};

const MEDIA: Option<Media> = Some(Media::CollectionJobReq);

async fn asked(world: &World, body: Vec<u8>) -> Reply {
    world.send(Method::POST, &world.url(&world.leader, "collection_jobs"), MEDIA, body).await
}

/// A request of these parts, whether they fit together or not.
fn request(query: &Query, parameter: &[u8], extensions: &[u8]) -> Vec<u8> {
    let mut bytes = query.encoded();
    bytes.extend(u32::try_from(parameter.len()).expect("short").to_be_bytes());
    bytes.extend(parameter);
    bytes.extend(u16::try_from(extensions.len()).expect("short").to_be_bytes());
    bytes.extend(extensions);
    bytes
}

fn interval(start: u64, units: u64) -> Query {
    let config = [start.to_be_bytes(), units.to_be_bytes()].concat();
    Query { batch_mode: BatchMode::TimeInterval, config }
}

/// L33 to L36, L39, S109: a request is refused for what is wrong with it, and leaves nothing behind.
#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused_by_name() {
    let unknown = [0, 9, 0, 0];
    let reserved = [0, 0, 0, 0];
    let unsorted = [[0, 2, 0, 0], [0, 1, 0, 0]].concat();
    let twice = [unknown, unknown].concat();
    for batch_mode in [BatchMode::TimeInterval, BatchMode::LeaderSelected] {
        let database = sqlite();
        let world = World::start(Kind { batch_mode, ..Kind::default() }, &database).await;
        let (right, wrong) = match batch_mode {
            BatchMode::TimeInterval => (Query::time_interval(hour()), Query::leader_selected()),
            BatchMode::LeaderSelected => (Query::leader_selected(), Query::time_interval(hour())),
        };
        let whole = request(&right, &[], &[]);
        let longer = Query { config: [right.config.clone(), vec![0]].concat(), ..right.clone() };
        let cases = [
            (request(&wrong, &[], &[]), "invalidMessage"),
            (request(&longer, &[], &[]), "invalidMessage"),
            (whole[..whole.len() - 1].to_vec(), "invalidMessage"),
            ([whole.clone(), vec![0]].concat(), "invalidMessage"),
            ([&[3], &whole[1..]].concat(), "invalidMessage"),
            (Vec::new(), "invalidMessage"),
            (request(&right, &[1], &[]), "invalidAggregationParameter"),
            (request(&right, &[], &unknown), "unsupportedExtension"),
            (request(&right, &[], &reserved), "unsupportedExtension"),
            (request(&right, &[], &unsorted), "invalidExtension"),
            (request(&right, &[], &twice), "invalidExtension"),
        ];
        for (at, (body, problem)) in cases.into_iter().enumerate() {
            assert_eq!(asked(&world, body).await.problem(), problem, "{batch_mode} {at}");
        }
        let stranger =
            format!("{}/api/dap/tasks/{}/collection_jobs", world.leader.origin, TaskId::new([9; 32]));
        let reply = world.send(Method::POST, &stranger, MEDIA, whole.clone()).await;
        assert_eq!(reply.problem(), "unrecognizedTask");
        assert_eq!(asked(&world, whole).await.status, StatusCode::OK);
    }
}

/// L36.
#[tokio::test]
async fn an_interval_that_is_none_is_no_batch() {
    let database = sqlite();
    let world = World::plain(&database).await;
    let now = hour().start().0;
    for query in [interval(now, 0), interval(u64::MAX, 1), interval(1, u64::MAX), interval(now + 48, 1)] {
        assert_eq!(asked(&world, request(&query, &[], &[])).await.problem(), "batchInvalid", "{query:?}");
    }
}

/// L37, and the same request before it: whoever asks again for what was collected gets it.
#[tokio::test]
async fn a_part_of_what_was_collected_is_refused_and_the_same_request_is_not() {
    for database in databases().await {
        let world = World::plain(&database).await;
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        let first = world.collected().await;
        assert_eq!(world.collect().await.body, first.body);
        let now = hour().start();
        for (start, units) in [(now.0 - 1, 2), (now.0, 2), (now.0 - 3, 9)] {
            let query = interval(start, units);
            assert_eq!(asked(&world, request(&query, &[], &[])).await.problem(), "batchOverlap");
        }
        let before = Interval::new(mica_dap::time::Time(now.0 - 1), Duration(1)).expect("an hour");
        let body = CollectionJobReq::new(Query::time_interval(before), Vec::new()).encoded();
        assert_eq!(asked(&world, body).await.status, StatusCode::OK, "{}", database.kind);
    }
}

/// L49, S101: deleting is no failure, however often, and what is deleted is not there.
#[tokio::test]
async fn a_job_is_deleted_once_and_gone_ever_after() {
    for database in databases().await {
        for batch_mode in [BatchMode::TimeInterval, BatchMode::LeaderSelected] {
            let world = World::start(Kind { batch_mode, ..Kind::default() }, &database).await;
            let location = world.collect().await.location.expect("a job has a place");
            assert!(world.follow(Method::DELETE, &location).await.status.is_success());
            for method in [Method::GET, Method::DELETE, Method::DELETE, Method::GET] {
                let reply = world.follow(method, &location).await;
                assert_eq!(reply.status, StatusCode::NOT_FOUND, "{} {batch_mode}", database.kind);
            }
            assert_ne!(world.collect().await.location.expect("a new job"), location);
        }
    }
}

/// A collection that waits costs the database nothing: it is looked at, and nothing is written.
#[tokio::test]
async fn a_collection_that_waits_writes_nothing() {
    for database in databases().await {
        let world = World::plain(&database).await;
        world.collect().await;
        assert_eq!(world.upload(&[world.report_at(1, NOW)]).await, []);
        world.settled().await;
        tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
        let before = written(&world, &database).await;
        tokio::time::sleep(std::time::Duration::from_millis(1_800)).await;
        assert_eq!(written(&world, &database).await, before, "{}", database.kind);
        assert_eq!(world.upload(&[world.report_at(2, NOW)]).await, []);
        assert_eq!(world.total(&world.collected().await), (2, 3), "it is looked at when something happens");
    }
}

/// What changes with every write: the journal of an SQLite file, the last change of the row elsewhere.
async fn written(world: &World, database: &TestDatabase) -> String {
    if let Some(path) = database.url.strip_prefix("sqlite:") {
        let journal = std::fs::metadata(format!("{}-wal", path.trim_start_matches("//"))).expect("a journal");
        return format!("{} {:?}", journal.len(), journal.modified().expect("a time"));
    }
    let version = world.leader.store.read("version", |mut tx| async move {
        let row = sqlx::query("SELECT CAST(xmin AS TEXT) AS version FROM collection_jobs")
            .fetch_one(tx.connection())
            .await?;
        Ok((tx, sqlx::Row::get::<String, _>(&row, "version")))
    });
    version.await.expect("the database answers")
}

/// A minimum of one batch of the leader's choice is not below that of the task.
#[tokio::test]
async fn a_target_below_the_minimum_is_the_minimum() {
    let database = sqlite();
    let world = leader_selected::world(1, &database).await;
    assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
    assert_eq!(leader_selected::drained(&world).await, (2, 3));
}
