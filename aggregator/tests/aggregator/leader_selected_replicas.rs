//! Two leaders on one database fill the same batches: none is overfilled, none is collected twice, nothing is lost.

use std::sync::Arc;

use mica_aggregator::Role;
use mica_aggregator::store::batches::BatchState::{Collecting, Open};
use mica_service::testing::{databases, postgres};
use tokio::task::JoinSet;

use crate::leader_selected::{delete, drained, world};
use crate::support::world::hour;
use crate::support::{Act, Server, World};

/// S141.
#[tokio::test]
async fn two_leaders_fill_batches_to_their_target_and_count_every_report_once() {
    let Some(database) = postgres().await else { return };
    let world = Arc::new(world(7, &database).await);
    let other = Arc::new(Server::start(Role::Leader, &world.task, &database).await);
    world.helper.will((0..6).map(|at| if at % 2 == 0 { Act::LoseAnswer } else { Act::Honest }));
    let mut uploads = JoinSet::new();
    for round in 0..14 {
        let (world, other) = (Arc::clone(&world), Arc::clone(&other));
        uploads.spawn(async move {
            let leader = if round % 2 == 0 { &world.leader } else { &*other };
            world.upload_to(leader, &world.reports(&[1, 2, 3, 4, 5])).await
        });
    }
    for refused in uploads.join_all().await {
        assert_eq!(refused, []);
    }
    let both = async || {
        other.clock.set(world.leader.clock.now());
        world.leader.unsettled().await == (0, 0)
    };
    world.until("end of aggregation", both).await;
    let sizes: Vec<u64> = world.helper.honest().batches().into_iter().map(|(_, reports)| reports).collect();
    assert_eq!(sizes, [7; 10]);
    let (one, two) = tokio::join!(world.collect(), world.collect_from(&other, hour()));
    assert_eq!(one.location, two.location, "one question, one job");
    let (mut reports, mut total) = (0, 0);
    for _ in 0..10 {
        let (more, value) = drained(&world).await;
        reports += more;
        total += value;
    }
    assert_eq!((reports, total), (70, 14 * 15));
    assert_eq!(world.helper.posted("/aggregate_shares").len(), 10, "each is asked for once");
}

/// Lets every transaction that picks a batch take a second for its commit.
async fn slow_down_picking(world: &World) {
    let done = world.leader.store.tx("slow_down", |mut tx| async move {
        for statement in [
            "CREATE FUNCTION take_a_second() RETURNS trigger AS
             'BEGIN PERFORM pg_sleep(1); RETURN NULL; END' LANGUAGE plpgsql",
            "CREATE CONSTRAINT TRIGGER slow_pick AFTER UPDATE ON collection_jobs DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW WHEN (OLD.state = 'pending' AND NEW.state = 'closing')
             EXECUTE FUNCTION take_a_second()",
        ] {
            sqlx::query(statement).execute(tx.connection()).await?;
        }
        Ok((tx, ()))
    });
    done.await.expect("the database does so");
}

async fn is_picking(world: &World) -> bool {
    let picking = world.leader.store.read("is_picking", |mut tx| async move {
        let asleep = sqlx::query(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()",
        );
        let asleep = asleep.fetch_optional(tx.connection()).await?;
        Ok((tx, asleep.is_some()))
    });
    picking.await.expect("the database answers")
}

/// L49, S101.
#[tokio::test]
async fn a_collection_that_is_deleted_while_it_picks_its_batch_gives_it_back() {
    let Some(database) = postgres().await else { return };
    let world = world(9, &database).await;
    slow_down_picking(&world).await;
    assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
    world.settled().await;
    // A job under way keeps the collection from asking the helper.
    world.helper.will([Act::busy(503, 600)]);
    assert_eq!(world.upload(&world.reports(&[3])).await, []);
    world.put_off().await;
    let begun = world.collect().await;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while !is_picking(&world).await {
        assert!(tokio::time::Instant::now() < deadline, "no batch is picked");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(world.leader.batches().await, [(Open, 0, 2)], "it is not committed");
    delete(&world, &begun).await;
    assert_eq!(world.leader.batches().await, [(Open, 0, 2)], "nobody has it");
    world.settled().await;
    assert_eq!(drained(&world).await, (3, 6));
}

/// A batch that an earlier version left behind.
#[tokio::test]
async fn a_batch_that_a_deleted_collection_left_behind_goes_to_the_next() {
    for database in databases().await {
        let world = world(2, &database).await;
        assert_eq!(world.upload(&world.reports(&[1, 2, 10, 20])).await, []);
        world.settled().await;
        assert_eq!(drained(&world).await, (2, 3), "{}", database.kind);
        let left_behind = world.leader.store.tx("left_behind", |mut tx| async move {
            sqlx::query(
                "UPDATE batches SET state = 'collecting', collection = (SELECT id FROM collection_jobs LIMIT 1)
                 WHERE state <> 'collected'",
            )
            .execute(tx.connection())
            .await?;
            Ok((tx, ()))
        });
        left_behind.await.expect("the database does so");
        assert_eq!(world.leader.batches().await[1], (Collecting, 0, 2));
        assert_eq!(drained(&world).await, (2, 30));
    }
}
