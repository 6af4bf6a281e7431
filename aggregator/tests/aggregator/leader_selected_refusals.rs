//! A helper that refuses a batch of the leader's choice: what becomes of the batch, and of the next request.

use http::Method;
use mica_aggregator::metrics::Figures;
use mica_aggregator::store::batches::BatchState::{Collected, Failed, Open};
use mica_aggregator::store::ledger_uses;
use mica_aggregator::store::stuck::{StuckWork, Work};
use mica_dap::problem::Problem;
use mica_dp::accountant::{Caps, Span, Use};
use mica_service::testing::{databases, sqlite};

use crate::leader_selected::{drained, kind, world};
use crate::leader_stuck::stuck;
use crate::support::task::Kind;
use crate::support::{Act, World};

const SHARES: &str = "/aggregate_shares";

/// A8, L43: the collection fails with the helper's own words, each time it is asked for; the next one is another.
#[tokio::test]
async fn a_batch_that_the_helper_counts_otherwise_is_given_up_and_the_next_is_collected() {
    for database in databases().await {
        let world = World::start(Kind { epsilon: Some("1/10"), ..kind(2) }, &database).await;
        assert_eq!(world.upload(&world.reports(&[1, 2, 10, 20])).await, []);
        world.settled().await;
        world.helper.will([Act::problem(Problem::BatchMismatch)]);
        let begun = world.collect().await;
        let location = begun.location.expect("a job has a place");
        for _ in 0..3 {
            assert_eq!(world.concluded(&location).await.problem(), "batchMismatch", "{}", database.kind);
        }
        assert_eq!(world.leader.batches().await, [(Failed, 1, 2), (Open, 0, 2)]);
        let lost = stuck(&world).await;
        let [StuckWork { work: Work::Batch(_), .. }] = &lost[..] else { panic!("{lost:?}") };
        let line = lost[0].to_string();
        assert!(
            line.starts_with("batch ") && line.contains(" lost, ") && line.ends_with(":batchMismatch"),
            "{line}"
        );
        let figures = Figures::read(&world.leader.store).await.expect("the database answers");
        assert_eq!(figures.batches, [("failed".to_owned(), 1), ("open".to_owned(), 1)]);
        let tallies = [("aggregated", 4), ("batch_lost", 2), ("uploaded", 4)];
        assert_eq!(world.leader.tallies().await, tallies.map(|(name, n)| (name.to_owned(), n)));
        assert_eq!(drained(&world).await.0, 2);
        assert_eq!(world.leader.batches().await, [(Failed, 1, 2), (Collected, 0, 2)]);
        assert_eq!(world.leader.releases().await, ["refunded", "committed"]);
        let spent = world.leader.spent().await;
        assert_eq!(spent.len(), 1);
        assert_eq!(spent[0].0, 100_000_000_000, "only what was released is charged");
        assert!(
            world.follow(Method::DELETE, &location).await.status.is_success(),
            "a failed job can be deleted"
        );
    }
}

/// A8.
#[tokio::test]
async fn a_batch_that_is_too_small_for_the_helper_is_topped_up_and_collected_then() {
    for database in databases().await {
        let world = world(2, &database).await;
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        world.helper.will([Act::problem(Problem::InvalidBatchSize)]);
        assert_eq!(world.collected().await.problem(), "invalidBatchSize");
        assert_eq!(world.leader.batches().await, [(Open, 1, 2)]);
        let begun = world.collect().await;
        let location = begun.location.clone().expect("a job has a place");
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        assert!(
            world.follow(Method::GET, &location).await.body.is_empty(),
            "{}: not again as it was",
            database.kind
        );
        assert_eq!(world.helper.posted(SHARES).len(), 1);
        assert_eq!(world.upload(&world.reports(&[30])).await, []);
        assert_eq!(world.total(&world.concluded(&location).await), (3, 33));
    }
}

/// A8: a failure is never sticky, and what is not about the batch does not cost it.
#[tokio::test]
async fn a_refusal_that_is_not_about_the_batch_leaves_it_for_later() {
    let database = sqlite();
    let world = world(2, &database).await;
    assert_eq!(world.upload(&world.reports(&[1, 2, 10, 20])).await, []);
    world.settled().await;
    for problem in [Problem::UnsupportedExtension, Problem::InvalidMessage] {
        world.helper.will([Act::problem(problem)]);
        let failed = world.collected().await;
        assert_eq!(Some(failed.problem().as_str()), problem.urn().rsplit(':').next());
    }
    assert_eq!(world.leader.batches().await, [(Open, 1, 2), (Open, 1, 2)], "each had its turn");
    assert_eq!((drained(&world).await, drained(&world).await), ((2, 3), (2, 30)));
}

/// S125: the batch is drawn for once, however often its release fails.
#[tokio::test]
async fn a_batch_that_is_asked_for_again_is_not_drawn_for_again() {
    let database = sqlite();
    let world = World::start(Kind { epsilon: Some("1/10"), ..kind(2) }, &database).await;
    assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
    world.settled().await;
    world.helper.will([Act::problem(Problem::InvalidMessage)]);
    assert_eq!(world.collected().await.problem(), "invalidMessage");
    let drawn = world.leader.sealed_share().await;
    assert_eq!(drained(&world).await.0, 2);
    assert_eq!(world.leader.sealed_share().await, drawn);
}

#[tokio::test]
async fn an_exhausted_budget_costs_no_batch() {
    let database = sqlite();
    let world = World::start(Kind { epsilon: Some("1/10"), ..kind(2) }, &database).await;
    assert_eq!(world.upload(&world.reports(&[1; 4])).await, []);
    world.settled().await;
    assert_eq!(drained(&world).await.0, 2);
    // A report is in one batch, so the batches of one task cost no more than one; what another task takes adds up.
    let (budget_id, units) = ("demo-lifetime".to_owned(), 950_000_000_000);
    let (task, span, caps) = ([9; 32], Span::ALL, Caps::ONE_REPORT);
    let other = &Use { budget_id, task, span, units, epsilon_units: None, caps, releases: 1 };
    let taken = world.leader.store.tx("another_task", move |mut tx| async move {
        ledger_uses::add(&mut tx, other).await?;
        Ok((tx, ()))
    });
    taken.await.expect("the database answers");
    assert_eq!(world.collected().await.problem(), "budget-exhausted");
    assert_eq!(world.leader.batches().await.last(), Some(&(Open, 1, 2)));
    assert_eq!(world.helper.posted(SHARES).len(), 1);
}
