//! Batches of the leader's choice under a scripted helper: how they are filled, and who gets which.

use http::{Method, StatusCode};
use mica_aggregator::store::batches::BatchState::{Collected, Collecting, Open};
use mica_dap::aggregation::AggregationJobInitReq;
use mica_dap::codec::Decode as _;
use mica_dap::collection::{AggregateShareReq, SelectedBatch};
use mica_dap::task::BatchMode;
use mica_dp::EntryKind::{Charge, Commit};
use mica_service::testing::{TestDatabase, databases, sqlite};

use crate::support::leader::Reply;
use crate::support::task::Kind;
use crate::support::{Act, World};

const JOBS: &str = "/aggregation_jobs";
const SHARES: &str = "/aggregate_shares";

/// At least two reports in a batch, and `target` if there are enough.
pub(crate) async fn world(target: u64, database: &TestDatabase) -> World {
    World::start(kind(target), database).await
}

pub(crate) fn kind(target: u64) -> Kind {
    Kind { batch_mode: BatchMode::LeaderSelected, batch_target_size: Some(target), ..Kind::default() }
}

/// How many reports the helper counts in each batch, the largest first: it may meet a later one earlier.
fn at_the_helper(world: &World) -> Vec<u64> {
    let mut batches: Vec<u64> =
        world.helper.honest().batches().into_iter().map(|(_, reports)| reports).collect();
    batches.sort_unstable_by(|left, right| right.cmp(left));
    batches
}

pub(crate) async fn delete(world: &World, collection: &Reply) {
    let location = collection.location.as_ref().expect("a job has a place");
    assert!(world.follow(Method::DELETE, location).await.status.is_success());
}

/// Collects the next batch to its end, and deletes the job: how many reports, and their total.
pub(crate) async fn drained(world: &World) -> (u64, i128) {
    let begun = world.collect().await;
    let answer = world.concluded(begun.location.as_ref().expect("a job has a place")).await;
    let total = world.total(&answer);
    delete(world, &begun).await;
    total
}

/// L20, L48.
#[tokio::test]
async fn every_job_names_one_batch_and_no_batch_gets_more_than_its_target() {
    for database in databases().await {
        let world = world(3, &database).await;
        assert_eq!(world.upload(&world.reports(&[1, 2, 3, 4, 5, 6, 7])).await, []);
        world.settled().await;
        assert_eq!(world.upload(&world.reports(&[8])).await, []);
        world.settled().await;
        assert_eq!(at_the_helper(&world), [3, 3, 2], "{}", database.kind);
        for job in world.helper.posted(JOBS) {
            let job = AggregationJobInitReq::decode_limited(&job, 10).expect("a job");
            assert!(job.batch_id(BatchMode::LeaderSelected).expect("one extension").is_some());
        }
        assert_eq!(world.leader.batches().await, [(Open, 0, 3), (Open, 0, 3), (Open, 0, 2)]);
        assert_eq!(world.leader.tallies().await, [("aggregated".to_owned(), 8), ("uploaded".to_owned(), 8)]);
    }
}

/// L46, A7.
#[tokio::test]
async fn the_same_request_is_the_same_batch_until_its_job_is_deleted() {
    for database in databases().await {
        let world = world(3, &database).await;
        assert_eq!(world.upload(&world.reports(&[1, 2, 3, 10, 20, 30])).await, []);
        world.settled().await;
        let first = world.collected().await;
        assert_eq!(world.total(&first), (3, 6), "{}: the oldest first", database.kind);
        let again = world.collect().await;
        assert_eq!((again.status, &again.body), (StatusCode::OK, &first.body), "answered at once");
        assert_eq!(world.helper.posted(SHARES).len(), 1);
        delete(&world, &again).await;
        assert_eq!(drained(&world).await, (3, 60));
        assert_eq!(world.leader.batches().await, [(Collected, 0, 3), (Collected, 0, 3)]);
        // The jobs of the two may have reached the helper in either order.
        let mut asked: Vec<_> = world.helper.posted(SHARES).iter().map(|share| selected(share)).collect();
        let mut known: Vec<_> = world.helper.honest().batches().iter().map(|(batch, _)| *batch).collect();
        asked.sort_unstable_by_key(|batch| *batch.as_bytes());
        known.sort_unstable_by_key(|batch| *batch.as_bytes());
        assert_eq!(asked, known, "each batch is asked for by its name, once");
        world.assert_authorized();
    }
}

fn selected(share: &[u8]) -> mica_dap::id::BatchId {
    let request = AggregateShareReq::decoded(share).expect("a request for a share");
    match request.batch(BatchMode::LeaderSelected).expect("query and selector of this mode").1 {
        SelectedBatch::LeaderSelected(batch) => batch,
        SelectedBatch::TimeInterval(_) => panic!("another mode"),
    }
}

/// L41, S91.
#[tokio::test]
async fn a_collection_with_no_batch_ready_waits_and_is_answered_when_there_is_one() {
    for database in databases().await {
        let world = world(5, &database).await;
        let begun = world.collect().await;
        let location = begun.location.clone().expect("a job has a place");
        assert_eq!((begun.status, begun.body.len()), (StatusCode::OK, 0));
        assert_eq!(world.upload(&world.reports(&[4])).await, []);
        world.settled().await;
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        assert!(world.follow(Method::GET, &location).await.body.is_empty(), "one is too few");
        assert_eq!(world.upload(&world.reports(&[5])).await, []);
        assert_eq!(world.total(&world.concluded(&location).await), (2, 9), "{}", database.kind);
    }
}

#[tokio::test]
async fn reports_that_are_refused_leave_room_for_others() {
    for database in databases().await {
        let world = world(4, &database).await;
        let mut reports = world.reports(&[1, 2, 3, 4]);
        *reports[0].leader_encrypted_input_share.payload.last_mut().expect("not empty") ^= 1;
        *reports[1].helper_encrypted_input_share.payload.last_mut().expect("not empty") ^= 1;
        assert_eq!(world.upload(&reports).await, []);
        world.settled().await;
        assert_eq!(world.upload(&world.reports(&[10, 20, 30])).await, []);
        world.settled().await;
        assert_eq!(at_the_helper(&world), [4, 1], "{}", database.kind);
        assert_eq!(drained(&world).await, (4, 3 + 4 + 10 + 20));
    }
}

/// A collection that has picked its batch of two reports while the job of a third is put off.
pub(crate) async fn picked_too_soon(world: &World) -> Reply {
    assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
    world.settled().await;
    world.helper.will([Act::busy(503, 600)]);
    assert_eq!(world.upload(&world.reports(&[3])).await, []);
    world.put_off().await;
    let begun = world.collect().await;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while world.leader.batches().await != [(Collecting, 0, 2)] {
        assert!(tokio::time::Instant::now() < deadline, "{}: no batch is picked", world.kind);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    begun
}

/// L40, L45: what is under way for a batch when it is picked is in it, what comes later is not.
#[tokio::test]
async fn a_batch_that_is_picked_takes_no_more_and_waits_for_what_is_under_way() {
    for database in databases().await {
        let world = world(9, &database).await;
        let begun = picked_too_soon(&world).await;
        assert_eq!(world.upload(&world.reports(&[40, 50])).await, []);
        let answer = world.concluded(&begun.location.clone().expect("a job has a place")).await;
        assert_eq!(world.total(&answer), (3, 6), "{}", database.kind);
        delete(&world, &begun).await;
        assert_eq!(drained(&world).await, (2, 90));
    }
}

/// L49, S101.
#[tokio::test]
async fn a_collection_that_is_deleted_before_the_helper_was_asked_gives_its_batch_back() {
    for database in databases().await {
        let world = world(9, &database).await;
        let begun = picked_too_soon(&world).await;
        delete(&world, &begun).await;
        let location = begun.location.expect("a job has a place");
        assert_eq!(world.follow(Method::GET, &location).await.status, StatusCode::NOT_FOUND);
        assert_eq!(world.leader.batches().await, [(Open, 0, 2)]);
        assert_eq!(world.upload(&world.reports(&[4])).await, []);
        world.settled().await;
        assert_eq!(drained(&world).await, (4, 10), "{}: it took more meanwhile", database.kind);
    }
}

/// A7, S101: the helper may have released it, so nobody else gets it.
#[tokio::test]
async fn a_batch_whose_collection_is_deleted_while_the_helper_is_asked_is_gone() {
    for database in databases().await {
        let kind = Kind { epsilon: Some("1/10"), ..kind(2) };
        let world = World::start(kind, &database).await;
        assert_eq!(world.upload(&world.reports(&[1, 2, 10, 20])).await, []);
        world.settled().await;
        world.helper.will([Act::busy(503, 50)]);
        let begun = world.collect().await;
        world.until("request", async || world.helper.posted(SHARES).len() == 1).await;
        delete(&world, &begun).await;
        let next = world.collect().await;
        assert_ne!(next.location, begun.location, "{}: the same bytes, another job", database.kind);
        assert_eq!(world.total(&world.concluded(&next.location.expect("a place")).await).0, 2);
        world.until("end of both", async || world.leader.releases().await == ["committed"; 2]).await;
        assert_eq!(world.leader.batches().await, [(Collected, 0, 2), (Collected, 0, 2)]);
        let mut entries = world.leader.entries().await;
        entries.sort_unstable_by_key(|kind| *kind != Charge);
        assert_eq!(entries, [Charge, Charge, Commit, Commit], "each is charged once");
        assert_eq!(world.leader.unscrubbed().await, 0);
    }
}

#[tokio::test]
async fn a_leader_that_dies_keeps_its_batches_and_asks_with_the_same_bytes() {
    for database in databases().await {
        let mut world = world(2, &database).await;
        assert_eq!(world.upload(&world.reports(&[1, 2, 30, 40])).await, []);
        world.settled().await;
        world.helper.will([Act::Hang]);
        let begun = world.collect().await;
        world.until("request", async || world.helper.posted(SHARES).len() == 1).await;
        world.restart(&database).await;
        world.leader.clock.advance(120);
        let answer = world.concluded(&begun.location.clone().expect("a job has a place")).await;
        assert_eq!(world.total(&answer), (2, 3), "{}", database.kind);
        let posted = world.helper.posted(SHARES);
        assert_eq!((posted.len(), &posted[0]), (2, &posted[1]));
        delete(&world, &begun).await;
        assert_eq!(drained(&world).await, (2, 70));
    }
}

#[tokio::test]
async fn a_job_that_is_too_large_for_the_helper_stays_in_its_batch_in_parts() {
    let database = sqlite();
    let world = world(5, &database).await;
    world.helper.will([Act::status(413), Act::status(413)]);
    assert_eq!(world.upload(&world.reports(&[1, 2, 3, 4, 5])).await, []);
    world.settled().await;
    assert!(world.helper.honest().jobs() >= 3);
    assert_eq!(at_the_helper(&world), [5]);
    assert_eq!(drained(&world).await, (5, 15));
}

/// S145: no count wraps, and nothing is ever ready.
#[tokio::test]
async fn a_minimum_beyond_every_count_is_never_reached() {
    for database in databases().await {
        for batch_mode in [BatchMode::LeaderSelected, BatchMode::TimeInterval] {
            let kind = Kind { min_batch_size: u64::MAX, batch_mode, ..Kind::default() };
            let world = World::start(kind, &database).await;
            assert_eq!(world.upload(&world.reports(&[1, 2, 3])).await, []);
            world.settled().await;
            let location = world.collect().await.location.expect("a job has a place");
            tokio::time::sleep(std::time::Duration::from_millis(700)).await;
            let reply = world.follow(Method::GET, &location).await;
            assert_eq!((reply.status, reply.body.len()), (StatusCode::OK, 0), "{}", database.kind);
            assert_eq!(world.helper.posted(SHARES).len(), 0);
            assert!(world.follow(Method::DELETE, &location).await.status.is_success());
        }
    }
}
