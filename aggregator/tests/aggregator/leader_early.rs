//! Reports that the helper finds to be too early: they come again in another job, when their time has come.

use http::Method;
use mica_aggregator::metrics::Figures;
use mica_aggregator::shared::Limits;
use mica_aggregator::store::{self, segments::NewSegment};
use mica_dap::aggregation::AggregationJobInitReq;
use mica_dap::codec::Encode as _;
use mica_dap::report_error::ReportError;
use mica_dap::task::BatchMode;
use mica_service::testing::{databases, sqlite};

use crate::support::task::Kind;
use crate::support::{Act, NOW, PRECISION, World};

const JOBS: &str = "/aggregation_jobs";

/// How many reports are in each request.
fn sent(world: &World) -> Vec<usize> {
    let count = |body: &bytes::Bytes| {
        AggregationJobInitReq::decode_limited(body, 100).expect("a job").verify_inits.len()
    };
    world.helper.posted(JOBS).iter().map(count).collect()
}

/// S70.
#[tokio::test]
async fn a_report_that_is_too_early_for_the_helper_comes_again_in_another_job_and_not_before_its_time() {
    for database in databases().await {
        let world = World::plain(&database).await;
        // Five minutes ahead, in the next hour: the leader takes it.
        let start = NOW - NOW % PRECISION + PRECISION;
        world.leader.clock.set(start - 200);
        world.helper.honest().finds_early(&[1, 3]);
        let mut reports = world.reports(&[1, 2, 3, 4]);
        reports[1] = world.report_at(2, start + 10);
        assert_eq!(world.upload(&reports).await, []);
        soon("two reports that count", async || world.leader.counted().await >= 2).await;
        assert_eq!(world.leader.unsettled().await, (1, 0), "{}", database.kind);
        assert_eq!(world.leader.next_try().await, Some(start), "not sooner than the clock says");
        world.leader.clock.set(start - 1);
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        assert_eq!(sent(&world), [4]);
        world.settled().await;
        assert_eq!(sent(&world), [4, 3], "a blank makes it another job in any case");
        assert_eq!((world.leader.counted().await, world.helper.honest().counted()), (4, 4));
        assert_eq!(world.leader.tallies().await, [("aggregated".to_owned(), 4), ("uploaded".to_owned(), 4)]);
        assert_eq!(world.total(&world.collected().await), (3, 8), "the other is of the next hour");
    }
}

/// S70: one that is left out of the request makes no other job of it.
#[tokio::test]
async fn a_report_that_comes_again_beside_one_that_nobody_can_open_is_in_another_job() {
    for database in databases().await {
        let world = World::plain(&database).await;
        world.helper.honest().finds_early(&[0]);
        assert_eq!(world.upload(&world.reports(&[1])).await, []);
        soon("report that is put off", async || {
            world.helper.posted(JOBS).len() == 1 && world.leader.unsettled().await == (1, 0)
        })
        .await;
        // It is there in the moment when the other is due, so that both are in one job.
        let mut junk = world.reports(&[1]);
        let last = junk[0].leader_encrypted_input_share.payload.len() - 1;
        junk[0].leader_encrypted_input_share.payload[last] ^= 1;
        let due = world.leader.next_try().await.expect("it is put off");
        let (time, bytes, clock) = (junk[0].metadata.time, &junk[0].encoded(), &world.leader.clock);
        let inserted = world.leader.store.tx("insert_segment", move |mut tx| async move {
            let task = store::tasks::all_tasks(&mut tx).await?[0].key;
            let segment = NewSegment::of(task, &[(time, bytes)], NOW).expect("a report");
            store::segments::insert_segment(&mut tx, &segment).await?;
            clock.set(due);
            Ok((tx, ()))
        });
        inserted.await.expect("a segment");
        world.settled().await;
        let bodies = world.helper.posted(JOBS);
        assert_eq!((sent(&world), bodies[0] == bodies[1]), (vec![1, 2], false), "{}", database.kind);
        assert_eq!((world.leader.counted().await, world.helper.honest().counted()), (1, 1));
    }
}

/// S70.
#[tokio::test]
async fn a_report_that_is_too_early_for_ever_is_refused_in_the_end() {
    let database = sqlite();
    let world = World::plain(&database).await;
    (0..100).for_each(|_| world.helper.honest().finds_early(&[0]));
    assert_eq!(world.upload(&world.reports(&[1])).await, []);
    world.settled().await;
    let bodies = world.helper.posted(JOBS);
    assert!(bodies.iter().enumerate().all(|(at, body)| !bodies[..at].contains(body)), "each is another job");
    let tries = bodies.len();
    assert!((2..=61).contains(&tries), "{tries}");
    assert!(world.leader.clock.now() >= NOW - NOW % PRECISION + 3_600);
    let tallies = [("report_too_early".to_owned(), 1), ("uploaded".to_owned(), 1)];
    assert_eq!(world.leader.tallies().await, tallies);
}

/// S70: found by the simulation. The hour counts until the report is sent: an answer that is late, or fetched late, costs
/// nobody a report.
#[tokio::test]
async fn a_report_that_was_too_early_when_it_was_sent_comes_again_however_late_the_answer_is() {
    for database in databases().await {
        let world = World::plain(&database).await;
        world.helper.honest().finds_early(&[1]);
        world.helper.will([Act::defer(2 * 3_600)]);
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        let tallies = [("aggregated", 2), ("uploaded", 2)];
        assert_eq!(
            world.leader.tallies().await,
            tallies.map(|(name, n)| (name.to_owned(), n)),
            "{}",
            database.kind
        );
        assert_eq!(sent(&world), [2, 2], "with a blank");
    }
}

/// S70: found by the simulation. A helper with the same limit refuses a job of one report too many, and one that may have
/// left before is cut no more.
#[tokio::test]
async fn a_job_of_reports_that_come_again_is_with_its_blank_no_larger_than_any_other() {
    for database in databases().await {
        for batch_mode in [BatchMode::TimeInterval, BatchMode::LeaderSelected] {
            let kind = Kind { batch_mode, batch_target_size: Some(6), ..Kind::default() };
            let kind = Kind {
                batch_target_size: kind.batch_target_size.filter(|_| batch_mode == BatchMode::LeaderSelected),
                ..kind
            };
            let limits = Limits { job_reports: 3, ..Limits::default() };
            let world = World::limited(kind, &database, limits).await;
            world.helper.honest().finds_early(&[0, 1, 2]);
            assert_eq!(world.upload(&world.reports(&[1, 2, 3])).await, []);
            world.settled().await;
            let jobs = sent(&world);
            assert!(
                jobs.len() >= 3 && jobs.iter().all(|reports| *reports <= 3),
                "{}: {jobs:?}",
                database.kind
            );
            assert_eq!((world.leader.counted().await, world.helper.honest().counted()), (3, 3));
        }
    }
}

/// S78.
#[tokio::test]
async fn a_report_whose_batch_was_collected_meanwhile_is_not_sent() {
    for database in databases().await {
        let world = World::plain(&database).await;
        world.helper.honest().finds_early(&[2]);
        assert_eq!(world.upload(&world.reports(&[1, 2, 3])).await, []);
        soon("two reports that count", async || world.leader.counted().await >= 2).await;
        // The helper finds it too early again and again; a collection does not wait for it for ever.
        (0..20).for_each(|_| world.helper.honest().finds_early(&[0]));
        assert_eq!(world.total(&world.collected().await), (2, 3), "{}", database.kind);
        world.settled().await;
        let jobs = sent(&world);
        assert!((2..=4).contains(&jobs.len()) && jobs[1..].iter().all(|reports| *reports == 2), "{jobs:?}");
        let tallies = [("aggregated", 2), ("batch_collected", 1), ("uploaded", 3)];
        assert_eq!(world.leader.tallies().await, tallies.map(|(name, n)| (name.to_owned(), n)));
    }
}

/// S78: the helper would count it, and its collection does not wait for it.
#[tokio::test]
async fn a_report_that_is_too_early_for_an_interval_that_closes_is_in_no_other_job() {
    for database in databases().await {
        let world = World::plain(&database).await;
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        world.helper.will([Act::busy(503, 600), Act::busy(503, 1_200)]);
        assert_eq!(world.upload(&world.reports(&[4])).await, []);
        world.put_off().await;
        let location = world.collect().await.location.expect("a job has a place");
        assert_eq!(world.upload(&world.reports(&[8])).await, []);
        soon("two jobs with a reason", async || world.leader.reasons().await.len() >= 2).await;
        // What it waited for is there, and more is under way: the interval closes.
        world.leader.clock.advance(601);
        let closing = async || {
            let figures = Figures::read(&world.leader.store).await.expect("the database answers");
            figures.collections == [("closing".to_owned(), 1)]
        };
        soon("a collection that closes", closing).await;
        world.helper.honest().finds_early(&[0]);
        world.leader.clock.advance(600);
        soon("the end of every job", async || world.leader.unsettled().await == (0, 0)).await;
        let tallies = [("aggregated", 3), ("batch_collected", 1), ("uploaded", 4)];
        assert_eq!(world.leader.tallies().await, tallies.map(|(name, n)| (name.to_owned(), n)));
        assert_eq!(world.total(&world.concluded(&location).await), (3, 7), "{}", database.kind);
        assert_eq!(world.helper.honest().counted(), 3);
    }
}

/// An interval that is closing may be opened again: of a report that is not there nobody is told that it is.
#[tokio::test]
async fn a_report_for_an_interval_that_is_closing_is_dropped_and_taken_when_it_is_open_again() {
    for database in databases().await {
        let world = World::plain(&database).await;
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        world.helper.will([Act::busy(503, 600), Act::busy(503, 1_200)]);
        let early = world.reports(&[4]);
        assert_eq!(world.upload(&early).await, []);
        world.put_off().await;
        let location = world.collect().await.location.expect("a job has a place");
        assert_eq!(world.upload(&world.reports(&[8])).await, []);
        soon("two jobs with a reason", async || world.leader.reasons().await.len() >= 2).await;
        world.leader.clock.advance(601);
        let closing = async || {
            let figures = Figures::read(&world.leader.store).await.expect("the database answers");
            figures.collections == [("closing".to_owned(), 1)]
        };
        soon("a collection that closes", closing).await;
        let late = world.reports(&[16]);
        let both = [early, late.clone()].concat();
        let told = [ReportError::ReportReplayed, ReportError::ReportDropped];
        assert_eq!(world.upload(&both).await, told, "{}: one is there, the other is not", database.kind);
        assert!(world.follow(Method::DELETE, &location).await.status.is_success());
        assert_eq!(world.upload(&late).await, [], "{}: it is open again", database.kind);
        world.settled().await;
        assert_eq!(world.total(&world.collected().await), (5, 31));
        assert_eq!(world.upload(&world.reports(&[32])).await, [ReportError::ReportReplayed], "it is over");
    }
}

/// Waits, but not for ever: unlike the world's own waiting, this moves no clock.
async fn soon(what: &str, done: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while !done().await {
        assert!(tokio::time::Instant::now() < deadline, "no {what}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
