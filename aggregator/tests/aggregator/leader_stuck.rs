//! What is stuck can be seen, counted, and given up by a person; nothing else gives it up.

use mica_aggregator::Reason;
use mica_aggregator::metrics::Figures;
use mica_aggregator::store::stuck::{self, StuckWork, Work};
use mica_dap::problem::Problem;
use mica_dap::time::{Duration, Interval, Time};
use mica_service::testing::databases;

use crate::leader_selected::{self, picked_too_soon};
use crate::support::leader::Reply;
use crate::support::{Act, World};

pub(crate) async fn stuck(world: &World) -> Vec<StuckWork> {
    let all = world.leader.store.read("stuck", |mut tx| async move {
        let all = stuck::between(&mut tx, 0, i64::MAX).await?;
        Ok((tx, all))
    });
    all.await.expect("the database answers")
}

async fn abandon(world: &World, job: i64) -> Option<u64> {
    let done = world.leader.store.tx("abandon", move |mut tx| async move {
        let done = stuck::abandon(&mut tx, job).await?;
        Ok((tx, done))
    });
    done.await.expect("the database answers")
}

/// S73.
#[tokio::test]
async fn a_job_that_is_stuck_is_seen_with_its_reason_and_can_be_given_up_by_its_operator() {
    for database in databases().await {
        let world = World::plain(&database).await;
        assert_eq!(stuck(&world).await, []);
        world.helper.will((0..3).map(|_| Act::problem(Problem::InvalidMessage)));
        assert_eq!(world.upload(&world.reports(&[1, 2, 3])).await, []);
        world.put_off().await;
        let seen = stuck(&world).await;
        let [one] = &seen[..] else { panic!("{}: {seen:?}", database.kind) };
        assert_eq!((one.reason.as_str(), one.attempts, one.since), ("refused", 1, world.leader.clock.now()));
        let Work::Aggregation(job, 3) = one.work else { panic!("{one:?}") };
        let line = format!("job {job} (3 reports) refused, tried 1 times: the helper refused the job: ");
        assert!(one.to_string().starts_with(&line), "{one}");

        let figures = Figures::read(&world.leader.store).await.expect("the database answers");
        assert_eq!(figures.jobs, [("refused".to_owned(), 1)]);
        assert_eq!(figures.reports, [(world.task.id, "uploaded".to_owned(), 3)]);
        assert_eq!(figures.oldest_report_at, Some(world.leader.clock.now()));

        assert_eq!(abandon(&world, job + 1).await, None, "there is no such job");
        assert_eq!(abandon(&world, job).await, Some(3));
        assert_eq!(abandon(&world, job).await, None, "once");
        assert_eq!((stuck(&world).await, world.leader.unsettled().await), (Vec::new(), (0, 0)));
        assert_eq!(world.upload(&world.reports(&[4, 5])).await, []);
        world.settled().await;
        let tallies = [("abandoned", 3), ("aggregated", 2), ("uploaded", 5)];
        assert_eq!(world.leader.tallies().await, tallies.map(|(name, n)| (name.to_owned(), n)));
        assert_eq!(
            world.total(&world.collected().await),
            (2, 9),
            "{}: the batch goes on without them",
            database.kind
        );
    }
}

#[tokio::test]
async fn a_job_that_is_being_tried_is_not_given_up() {
    for database in databases().await {
        let world = World::plain(&database).await;
        world.helper.will([Act::busy(503, 60), Act::Hang]);
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.put_off().await;
        let Work::Aggregation(job, _) = stuck(&world).await[0].work else { panic!("it is a job") };
        world.leader.clock.advance(61);
        while world.helper.received().len() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(abandon(&world, job).await, None, "{}", database.kind);
        assert_eq!(world.leader.unsettled().await, (1, 1));
    }
}

#[tokio::test]
async fn a_collection_that_the_helper_keeps_waiting_is_seen_with_its_reason() {
    for database in databases().await {
        let world = World::plain(&database).await;
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        world.helper.will([Act::busy(503, 3_000)]);
        let location = world.collect().await.location.expect("a job has a place");
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while stuck(&world).await.is_empty() {
            assert!(tokio::time::Instant::now() < deadline, "{}: nothing is seen", database.kind);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let seen = stuck(&world).await;
        assert!(matches!(seen[0].work, Work::Collection(_)) && seen[0].reason == "busy", "{seen:?}");
        let figures = Figures::read(&world.leader.store).await.expect("the database answers");
        assert_eq!(figures.collections, [("reserved".to_owned(), 1)]);
        assert_eq!(world.total(&world.concluded(&location).await), (2, 3));
        assert_eq!(stuck(&world).await, []);
    }
}

/// What is stuck after the first: which collection waits for the first, and with how many reports.
fn waiting(seen: &[StuckWork], begun: &Reply) -> (u64, bool) {
    let [job, held] = seen else { panic!("{seen:?}") };
    let Work::Aggregation(number, _) = job.work else { panic!("{job:?}") };
    let Work::Waiting { collection, job: named, reports, in_doubt } = held.work else { panic!("{held:?}") };
    assert_eq!((named, &held.reason, &held.why), (number, &job.reason, &job.why));
    let location = begun.location.as_deref().expect("a job has a place");
    assert_eq!(location.rsplit('/').next(), Some(collection.to_string().as_str()));
    assert!(
        held.to_string().starts_with(&format!("collection {collection} waits for job {number} (")),
        "{held}"
    );
    let todo = Reason::todo(held, "leader.toml");
    assert!(todo.contains(&format!("`mica doctor --config leader.toml --abandon {number}`")), "{todo}");
    (reports, in_doubt)
}

/// S73.
#[tokio::test]
async fn a_collection_of_an_interval_tells_which_stuck_job_it_waits_for_and_ends_without_it() {
    for database in databases().await {
        let world = World::plain(&database).await;
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        world.helper.will([Act::problem(Problem::InvalidMessage)]);
        assert_eq!(world.upload(&world.reports(&[3])).await, []);
        world.put_off().await;
        let Work::Aggregation(job, 1) = stuck(&world).await[0].work else { panic!("it is a job") };
        let elsewhere = Interval::new(Time(0), Duration(1)).expect("an interval");
        world.collect_from(&world.leader, elsewhere).await;
        assert_eq!(stuck(&world).await.len(), 1, "{}: it waits for nobody's reports", database.kind);
        let begun = world.collect().await;
        assert_eq!(waiting(&stuck(&world).await, &begun), (1, false), "{}", database.kind);
        assert_eq!(abandon(&world, job).await, Some(1));
        assert_eq!(stuck(&world).await, []);
        assert_eq!(world.total(&world.concluded(&begun.location.expect("a place")).await), (2, 3));
    }
}

#[tokio::test]
async fn a_collection_of_a_selected_batch_tells_which_stuck_job_it_waits_for_and_ends_without_it() {
    for database in databases().await {
        let world = leader_selected::world(9, &database).await;
        let begun = picked_too_soon(&world).await;
        let seen = stuck(&world).await;
        assert_eq!(waiting(&seen, &begun).0, 1, "{}", database.kind);
        let Work::Aggregation(job, 1) = seen[0].work else { panic!("{seen:?}") };
        assert_eq!(abandon(&world, job).await, Some(1));
        assert_eq!(stuck(&world).await, []);
        assert_eq!(world.total(&world.concluded(&begun.location.expect("a place")).await), (2, 3));
    }
}

#[tokio::test]
async fn a_hiccup_does_not_leave_a_waiting_collection_stuck() {
    for database in databases().await {
        let world = World::plain(&database).await;
        let location = world.collect().await.location.expect("a job has a place");
        let hiccup = world.leader.store.tx("hiccup", |mut tx| async move {
            sqlx::query(
                "UPDATE collection_jobs SET reason = 'local', last_error = 'a hiccup', waits_since = 1",
            )
            .execute(tx.connection())
            .await?;
            Ok((tx, ()))
        });
        hiccup.await.expect("the database does so");
        assert_eq!(stuck(&world).await.len(), 1);
        // Too few for the collection, which is looked at all the same.
        assert_eq!(world.upload(&world.reports(&[1])).await, []);
        world.until("end of the trouble", async || stuck(&world).await.is_empty()).await;
        assert_eq!(world.upload(&world.reports(&[2])).await, []);
        assert_eq!(world.total(&world.concluded(&location).await), (2, 3), "{}", database.kind);
    }
}

#[tokio::test]
async fn an_outage_does_not_make_one_word_of_the_helper_final() {
    for database in databases().await {
        let world = World::plain(&database).await;
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        world.helper.will((0..9).map(|_| Act::busy(503, 1)));
        world.helper.will([Act::problem(Problem::UnrecognizedTask)]);
        assert_eq!(world.total(&world.collected().await), (2, 3), "{}", database.kind);
        assert_eq!(world.helper.posted("/aggregate_shares").len(), 11);
    }
}

#[tokio::test]
async fn an_operator_can_have_tried_at_once_what_the_helper_has_put_off_for_an_hour() {
    for database in databases().await {
        let world = World::plain(&database).await;
        world.helper.will([Act::busy(503, 99_999_999)]);
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        let (_, seconds) = world.put_off().await;
        assert!((3_600..3_660).contains(&seconds), "{}: {seconds}", database.kind);
        let Work::Aggregation(job, _) = stuck(&world).await[0].work else { panic!("it is a job") };
        let retried = world.leader.store.tx("retry", move |mut tx| async move {
            let one = stuck::retry_job(&mut tx, job).await?;
            let none = stuck::retry_job(&mut tx, job + 1).await?;
            Ok((tx, (one, none)))
        });
        assert_eq!(retried.await.expect("the database does so"), (true, false));
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while world.leader.unsettled().await != (0, 0) {
            assert!(tokio::time::Instant::now() < deadline, "{}: it is not tried", database.kind);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        // The clock of the test has stood still.
        world.helper.will([Act::busy(503, 99_999_999)]);
        let location = world.collect().await.location.expect("a job has a place");
        while stuck(&world).await.is_empty() {
            assert!(tokio::time::Instant::now() < deadline, "{}: nothing is put off", database.kind);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let now = world.leader.clock.now();
        let retried = world.leader.store.tx("retry", move |mut tx| async move {
            let retried = stuck::retry_collections(&mut tx, None, now).await?;
            Ok((tx, retried))
        });
        assert_eq!(retried.await.expect("the database does so"), 1, "{}", database.kind);
        while !stuck(&world).await.is_empty() {
            assert!(tokio::time::Instant::now() < deadline, "{}: it is not tried", database.kind);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(world.total(&world.concluded(&location).await), (2, 3));
    }
}
