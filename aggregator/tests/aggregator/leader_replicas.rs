//! Two leaders on one database: uploads through both, everything counted once.

use std::sync::Arc;

use mica_aggregator::Role;
use mica_dap::report_error::ReportError;
use mica_dp::EntryKind::{Charge, Commit};
use mica_service::testing::postgres;
use tokio::task::JoinSet;

use crate::support::world::hour;
use crate::support::{Act, Server, World};

#[tokio::test]
async fn two_leaders_on_one_database_count_every_report_once() {
    let Some(database) = postgres().await else { return };
    let world = Arc::new(World::plain(&database).await);
    let other = Arc::new(Server::start(Role::Leader, &world.task, &database).await);
    assert_eq!(other.hpke_configs, world.leader.hpke_configs, "clients see one leader");
    world.helper.will((0..6).map(|at| if at % 2 == 0 { Act::LoseAnswer } else { Act::Honest }));
    let mut uploads = JoinSet::new();
    for round in 0..12 {
        let (world, other) = (Arc::clone(&world), Arc::clone(&other));
        uploads.spawn(async move {
            let reports = world.reports(&[1, 2, 3, 4, 5]);
            let (first, second) =
                if round % 2 == 0 { (&world.leader, &*other) } else { (&*other, &world.leader) };
            let fresh = world.upload_to(first, &reports).await;
            let replayed = world.upload_to(second, &reports).await;
            (fresh, replayed)
        });
    }
    for (fresh, replayed) in uploads.join_all().await {
        assert_eq!(fresh, []);
        assert_eq!(replayed, [ReportError::ReportReplayed; 5]);
    }
    settle_both(&world, &other).await;
    assert_eq!((world.leader.counted().await, world.helper.honest().counted()), (60, 60));
    assert_eq!(
        world.leader.tallies().await,
        [("aggregated", 60), ("report_replayed", 60), ("uploaded", 60)].map(|(name, n)| (name.to_owned(), n))
    );
    let (one, two) = tokio::join!(world.collect(), world.collect_from(&other, hour()));
    assert_eq!(one.location, two.location, "one question, one job");
    let answer = world.concluded(&one.location.expect("a job has a place")).await;
    assert_eq!(world.total(&answer), (60, 12 * 15));
}

#[tokio::test]
async fn the_same_report_at_both_leaders_at_once_is_taken_by_one() {
    let Some(database) = postgres().await else { return };
    let world = World::noised(&database).await;
    let other = Server::start(Role::Leader, &world.task, &database).await;
    let reports = world.reports(&[10; 40]);
    let (one, two) = tokio::join!(
        async {
            let mut refused = 0;
            for report in &reports {
                refused += world.upload(std::slice::from_ref(report)).await.len();
            }
            refused
        },
        async {
            let mut refused = 0;
            for report in &reports {
                refused += world.upload_to(&other, std::slice::from_ref(report)).await.len();
            }
            refused
        }
    );
    assert_eq!(one + two, 40);
    settle_both(&world, &other).await;
    assert_eq!((world.leader.counted().await, world.helper.honest().counted()), (40, 40));
    let (one, two) = tokio::join!(world.collect(), world.collect_from(&other, hour()));
    assert_eq!(one.location, two.location);
    let answer = world.concluded(&one.location.expect("a job has a place")).await;
    assert_eq!(world.total(&answer).0, 40);
    assert_eq!(world.leader.entries().await, [Charge, Commit], "charged once");
    assert_eq!(world.helper.posted("/aggregate_shares").len(), 1, "asked once");
}

#[tokio::test]
async fn a_job_of_a_leader_that_died_is_taken_over_by_the_other() {
    let Some(database) = postgres().await else { return };
    let mut world = World::plain(&database).await;
    world.helper.will([Act::Hang]);
    assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
    world.until("request", async || !world.helper.received().is_empty()).await;
    let other = Server::start(Role::Leader, &world.task, &database).await;
    std::mem::replace(&mut world.leader, other).kill();
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    assert_eq!(world.helper.received().len(), 1, "the lease has not ended");
    world.leader.clock.advance(90);
    world.settled().await;
    let posted = world.helper.posted("/aggregation_jobs");
    assert_eq!((posted.len(), &posted[0]), (2, &posted[1]));
    assert_eq!(world.total(&world.collected().await), (2, 3));
}

async fn settle_both(world: &World, other: &Server) {
    let both = async || {
        other.clock.set(world.leader.clock.now());
        world.leader.unsettled().await == (0, 0)
    };
    world.until("end of aggregation", both).await;
}
