//! What the helper keeps and nobody needs any more: it is told to forget it, and whether it does changes nothing.

use std::time::Duration;

use http::Method;
use mica_aggregator::store::StoreError;
use mica_aggregator::store::stuck::{self, Work};
use mica_dap::report::Report;
use mica_dap::vdaf::Measurement;
use mica_dap::vdaf_config::VdafConfig;
use mica_service::store::Fields;
use mica_service::testing::{databases, sqlite};
use tokio::time::{Instant, sleep};

use crate::leader_stuck::stuck;
use crate::support::pair::{Pair, Setting, on_each};
use crate::support::{Act, World};

/// What the helper was told to forget, once it was told `times`.
async fn told(world: &World, times: usize) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let targets: Vec<String> = world.helper.deleted().into_iter().map(|told| told.target).collect();
        if targets.len() >= times {
            assert_eq!(targets.len(), times, "{}: {targets:?}", world.kind);
            return targets;
        }
        assert!(Instant::now() < deadline, "{}: told of {targets:?} only", world.kind);
        sleep(Duration::from_millis(20)).await;
    }
}

/// The drivers look twice a second.
async fn some_looks() {
    sleep(Duration::from_millis(1_200)).await;
}

fn path(world: &World, resource: &str) -> String {
    // Numbers of the scripted helper: its first job, its first share.
    format!("/helper/dap/tasks/{}/{resource}/AAcHBwcHBwcHBwcHBwcHBw", world.task.id)
}

#[tokio::test]
async fn the_helper_may_forget_a_job_once_it_is_counted_and_a_share_once_it_is_stored() {
    for database in databases().await {
        let world = World::plain(&database).await;
        world.helper.will([Act::LoseAnswer, Act::defer(900)]);
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.put_off().await;
        some_looks().await;
        assert!(world.helper.deleted().is_empty(), "{}: its answer is still needed", database.kind);
        world.settled().await;
        assert_eq!(told(&world, 1).await, [path(&world, "aggregation_jobs")]);
        world.helper.will([Act::defer_share(5)]);
        let collected = world.collected().await;
        assert_eq!(world.total(&collected), (2, 3));
        assert_eq!(told(&world, 2).await[1], path(&world, "aggregate_shares"));
        some_looks().await;
        assert_eq!(told(&world, 2).await.len(), 2, "each once");
        let methods = world.helper.deleted().into_iter().map(|told| told.method);
        assert!(methods.into_iter().all(|method| method == Method::DELETE));
        world.assert_authorized();
    }
}

#[tokio::test]
async fn a_helper_that_does_not_want_to_forget_is_asked_a_few_times_and_holds_up_nothing() {
    for database in databases().await {
        let world = World::plain(&database).await;
        world.helper.will_not_forget([503; 20]);
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        told(&world, 1).await;
        some_looks().await;
        for times in 1..=8 {
            told(&world, times).await;
            world.leader.clock.advance(5_401);
        }
        world.leader.clock.advance(1_000_000);
        some_looks().await;
        told(&world, 8).await;
    }
}

#[tokio::test]
async fn a_collection_does_not_wait_for_what_the_helper_forgets() {
    let database = sqlite();
    let world = World::plain(&database).await;
    world.helper.will_not_forget([500, 429, 503]);
    assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
    assert_eq!(world.total(&world.collected().await), (2, 3));
}

#[tokio::test]
async fn a_helper_that_knows_nothing_of_forgetting_is_asked_once() {
    for status in [400, 404, 405, 410, 501] {
        let database = sqlite();
        let world = World::plain(&database).await;
        world.helper.will_not_forget([status]);
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        told(&world, 1).await;
        some_looks().await;
        world.leader.clock.advance(1_000_000);
        some_looks().await;
        told(&world, 1).await;
    }
}

#[tokio::test]
async fn what_the_helper_may_forget_outlives_a_crash() {
    for database in databases().await {
        let mut world = World::plain(&database).await;
        world.helper.will_not_forget([503]);
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        told(&world, 1).await;
        some_looks().await;
        world.restart(&database).await;
        world.leader.clock.advance(5_401);
        assert_eq!(told(&world, 2).await[1], path(&world, "aggregation_jobs"));
    }
}

#[tokio::test]
async fn a_job_that_its_operator_gives_up_is_deleted_at_the_helper() {
    for database in databases().await {
        let world = World::plain(&database).await;
        world.helper.will([Act::defer(900)]);
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.put_off().await;
        let Work::Aggregation(job, _) = stuck(&world).await[0].work else { panic!("it is a job") };
        let given_up = world.leader.store.tx("abandon", move |mut tx| async move {
            let reports = stuck::abandon(&mut tx, job).await?;
            Ok((tx, reports))
        });
        assert_eq!(given_up.await.expect("the database answers"), Some(2));
        assert_eq!(told(&world, 1).await, [path(&world, "aggregation_jobs")]);
    }
}

/// How many answers and shares the helper still has.
async fn kept(pair: &Pair) -> u64 {
    let kept = pair.helper.read("kept", async |mut tx| {
        let row = sqlx::query(
            "SELECT CAST((SELECT COUNT(*) FROM helper_jobs WHERE length(response) > 0)
                       + (SELECT COUNT(*) FROM releases WHERE length(sealed_share) > 0) AS BIGINT) AS kept",
        )
        .fetch_one(tx.connection())
        .await?;
        let kept = Fields::of("helper_jobs", &row).unsigned("kept")?;
        Ok::<_, StoreError>((tx, kept))
    });
    kept.await.expect("the database answers")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helper_keeps_no_answer_and_no_share_of_what_was_collected() {
    on_each(Setting::without_noise(VdafConfig::Count), async |pair| {
        let reports: Vec<Report> =
            [true, false, true].iter().map(|value| pair.report(&Measurement::Bool(*value))).collect();
        assert_eq!(pair.upload(&reports).await, []);
        assert_eq!(pair.collect().await.expect("a complete batch").values, [2]);
        let deadline = Instant::now() + Duration::from_secs(10);
        while kept(&pair).await > 0 {
            assert!(Instant::now() < deadline, "the helper keeps what nobody needs");
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(pair.upload(&reports).await.len(), 3, "what protects from replays stays");
    })
    .await;
}
