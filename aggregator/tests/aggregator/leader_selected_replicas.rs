//! Two leaders on one database fill the same batches: none is overfilled, none is collected twice, nothing is lost.

use std::sync::Arc;

use mica_aggregator::Role;
use mica_service::testing::postgres;
use tokio::task::JoinSet;

use crate::leader_selected::{drained, world};
use crate::support::world::hour;
use crate::support::{Act, Server};

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
