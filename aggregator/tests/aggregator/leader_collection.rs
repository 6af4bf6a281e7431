//! A collection against a scripted helper: charged once, released once, and a refusal gives everything back.

use http::{Method, StatusCode};
use mica_aggregator::shared::Limits;
use mica_aggregator::store::collection_jobs::{self, NewCollectionJob};
use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::collection::{AggregateShare, CollectionJobReq, CollectionJobResp, Query};
use mica_dap::hpke_config::HpkeCiphertext;
use mica_dap::id::CollectionJobId;
use mica_dap::problem::{Problem, ProblemDocument};
use mica_dap::time::{Duration, Interval, Time};
use mica_dp::EntryKind::{Charge, Commit, Refund};
use mica_service::testing::{databases, postgres, sqlite};

use crate::support::task::Kind;
use crate::support::world::hour;
use crate::support::{Act, NOW, World};

const SHARES: &str = "/aggregate_shares";
/// The loss of one release, and of the ten that the budget lasts for.
const LOSS: i64 = 100_000_000_000;

#[tokio::test]
async fn a_share_whose_answer_was_lost_is_asked_for_with_the_same_bytes_and_charged_once() {
    for database in databases().await {
        let world = World::noised(&database).await;
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        world.helper.will([Act::LoseAnswer, Act::busy(503, 20), Act::status(500), Act::LoseAnswer]);
        let first = world.collected().await;
        assert_eq!(world.total(&first).0, 2, "{}", database.kind);
        let posted = world.helper.posted(SHARES);
        assert_eq!(posted.len(), 5, "{}", database.kind);
        assert!(posted.iter().all(|body| *body == posted[0]));
        assert_eq!(world.leader.spent().await, [(LOSS, 2)]);
        assert_eq!(world.leader.entries().await, [Charge, Commit]);
        assert_eq!(world.leader.releases().await, ["committed"]);
        assert_eq!(world.leader.unscrubbed().await, 0);
        assert_eq!(world.collected().await.body, first.body, "asked again, it says the same");
        assert_eq!(world.helper.posted(SHARES).len(), 5);
        world.assert_authorized();
    }
}

#[tokio::test]
async fn a_helper_that_refuses_a_share_fails_the_collection_with_its_own_problem_and_costs_nothing() {
    for problem in [Problem::InvalidBatchSize, Problem::BatchMismatch, Problem::BatchOverlap] {
        for database in databases().await {
            let world = World::noised(&database).await;
            assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
            world.settled().await;
            world.helper.will([Act::problem(problem)]);
            let refused = world.collected().await;
            assert_eq!(refused.problem(), problem.token(), "{}", database.kind);
            assert_eq!(world.leader.entries().await, [Charge, Refund]);
            assert_eq!(world.leader.spent().await, [(0, 2)]);
            assert_eq!(world.leader.releases().await, ["refunded"]);
            let drawn = world.leader.sealed_share().await;
            // Still open, and the same question is a new one; the same reports are not drawn for twice.
            let second = world.collected().await;
            let response = CollectionJobResp::decoded(&second.body).expect("an answer");
            assert_eq!(world.total(&second).0, 2);
            assert_eq!(world.leader.sealed_share().await, drawn, "{}", database.kind);
            assert_eq!(response.report_count, 2);
            assert_eq!(world.leader.entries().await, [Charge, Refund, Charge, Commit]);
            assert_eq!(world.leader.spent().await, [(LOSS, 4)]);
            assert_eq!(world.leader.releases().await, ["committed"]);
        }
    }
}

/// The policy of the helper holds from a later day on: the leader's half costs nothing until then, and is drawn for once.
#[tokio::test]
async fn a_helper_whose_policy_is_not_in_force_yet_costs_nothing_and_may_be_asked_again() {
    for database in databases().await {
        let world = World::noised(&database).await;
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        world.helper.will([Act::refuse("urn:x-mica:problem:policy-not-in-force")]);
        let refused = world.collected().await;
        assert_eq!(refused.problem(), "policy-not-in-force", "{}", database.kind);
        assert_eq!(world.helper.posted(SHARES).len(), 1, "it is a word that is not doubted");
        assert_eq!(world.leader.entries().await, [Charge, Refund]);
        assert_eq!(world.leader.spent().await, [(0, 2)]);
        assert_eq!(world.leader.releases().await, ["refunded"]);
        let drawn = world.leader.sealed_share().await;
        assert_eq!(world.total(&world.collected().await).0, 2, "the day has come");
        assert_eq!(world.leader.sealed_share().await, drawn, "{}", database.kind);
        assert_eq!(world.leader.entries().await, [Charge, Refund, Charge, Commit]);
        assert_eq!(world.leader.spent().await, [(LOSS, 4)]);
    }
}

/// Something between the two may have failed after the helper had released its share: only a refusal is one.
#[tokio::test]
async fn a_failure_that_looks_like_a_refusal_gives_nothing_back() {
    for database in databases().await {
        let world = World::noised(&database).await;
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        world.helper.will([Problem::BatchMismatch, Problem::InvalidBatchSize].map(|problem| {
            Act::change(move |answer| {
                answer.status = 500;
                answer.media = Some("application/problem+json".to_owned());
                answer.body = ProblemDocument::new(problem).to_json();
            })
        }));
        assert_eq!(world.total(&world.collected().await).0, 2, "{}", database.kind);
        assert_eq!(world.helper.posted(SHARES).len(), 3);
        assert_eq!(world.leader.entries().await, [Charge, Commit]);
        assert_eq!(world.leader.spent().await, [(LOSS, 2)]);
    }
}

/// Whoever may collect cannot make the ledger longer without end: the helper is believed from its second refusal on, for a
/// while, and a later request that fits is granted.
#[tokio::test]
async fn a_refusal_is_told_again_without_a_charge_until_the_helper_is_asked_again() {
    for database in databases().await {
        let world = World::noised(&database).await;
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        let no = || Act::refuse("urn:x-mica:problem:budget-exhausted");
        world.helper.will([no(), no(), no()]);
        for _ in 0..6 {
            assert_eq!(world.collected().await.problem(), "budget-exhausted", "{}", database.kind);
        }
        assert_eq!(world.helper.posted(SHARES).len(), 2);
        assert_eq!(world.leader.entries().await, [Charge, Refund, Charge, Refund]);
        let told = world.collected().await;
        let text = String::from_utf8_lossy(&told.body);
        assert!(
            text.contains("refused batches of this task 2 times in a row; it is asked again from "),
            "{text}"
        );
        assert!(text.contains("\"asked_again_at\""), "{text}");
        world.leader.clock.advance(301);
        assert_eq!(world.collected().await.problem(), "budget-exhausted");
        assert_eq!(world.helper.posted(SHARES).len(), 3, "asked again, and refused again");
        world.leader.clock.advance(301);
        assert_eq!(world.collected().await.problem(), "budget-exhausted");
        assert_eq!(world.helper.posted(SHARES).len(), 3, "and believed for longer");
        world.leader.clock.advance(300);
        assert_eq!(world.total(&world.collected().await).0, 2, "there is room again");
        assert_eq!(
            world.leader.entries().await,
            [Charge, Refund, Charge, Refund, Charge, Refund, Charge, Commit],
            "{}",
            database.kind
        );
    }
}

#[tokio::test]
async fn after_a_refund_the_batch_takes_reports_and_is_drawn_for_anew() {
    let database = sqlite();
    let world = World::noised(&database).await;
    assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
    world.settled().await;
    world.helper.will([Act::problem(Problem::InvalidBatchSize)]);
    assert_eq!(world.collected().await.problem(), "invalidBatchSize");
    let drawn = world.leader.sealed_share().await;
    assert_eq!(world.upload(&world.reports(&[3])).await, []);
    world.settled().await;
    assert_eq!(world.total(&world.collected().await).0, 3);
    assert_ne!(world.leader.sealed_share().await, drawn, "other reports, other noise");
}

#[tokio::test]
async fn a_helper_that_does_not_know_the_task_yet_is_asked_again() {
    for database in databases().await {
        let world = World::noised(&database).await;
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        world.helper.will([Act::problem(Problem::UnrecognizedTask), Act::status(401), Act::status(404)]);
        assert_eq!(world.total(&world.collected().await).0, 2, "{}", database.kind);
        let posted = world.helper.posted(SHARES);
        assert_eq!(posted.len(), 4);
        assert!(posted.iter().all(|body| *body == posted[0]));
        assert_eq!(world.leader.entries().await, [Charge, Commit]);
    }
}

/// L43.
#[tokio::test]
async fn a_helper_that_never_gets_to_know_the_task_fails_the_collection_in_the_end() {
    let database = sqlite();
    let world = World::noised(&database).await;
    assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
    world.settled().await;
    world.helper.will((0..8).map(|_| Act::problem(Problem::UnrecognizedTask)));
    assert_eq!(world.collected().await.problem(), "unrecognizedTask");
    assert_eq!(world.helper.posted(SHARES).len(), 8);
    assert_eq!(world.leader.entries().await, [Charge, Refund], "it costs nothing");
    assert_eq!(world.total(&world.collected().await).0, 2, "and can be asked for again");
}

#[tokio::test]
async fn a_share_that_takes_a_while_or_is_no_share_is_waited_for() {
    for database in databases().await {
        let world = World::plain(&database).await;
        assert_eq!(world.upload(&world.reports(&[4, 5])).await, []);
        world.settled().await;
        world.helper.will([
            Act::defer_share(30),
            Act::change(|answer| answer.media = Some("text/plain".to_owned())),
            Act::change(|answer| answer.body.push(0)),
            Act::change(|answer| answer.status = 202),
        ]);
        assert_eq!(world.total(&world.collected().await), (2, 9), "{}", database.kind);
        assert_eq!(world.helper.posted(SHARES).len(), 1, "it is asked for where the helper keeps it");
        assert_eq!(world.helper.received().len(), 1 + 4);
        assert_eq!(world.leader.releases().await, ["committed"]);
        assert_eq!(world.leader.entries().await, [], "a release without noise costs nothing");
    }
}

#[tokio::test]
async fn a_leader_that_dies_while_it_asks_for_a_share_charges_once_and_sends_what_it_had_drawn() {
    for database in databases().await {
        let mut world = World::noised(&database).await;
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        world.helper.will([Act::Hang]);
        let begun = world.collect().await;
        world.until("request", async || world.helper.posted(SHARES).len() == 1).await;
        assert_eq!(world.leader.releases().await, ["reserved"]);
        let drawn = world.leader.sealed_share().await;
        world.restart(&database).await;
        world.leader.clock.advance(120);
        let answer = world.concluded(&begun.location.expect("a job has a place")).await;
        let response = CollectionJobResp::decoded(&answer.body).expect("an answer");
        assert_eq!(world.total(&answer).0, 2, "{}", database.kind);
        assert_eq!(mica_dap::codec::Encode::encoded(&response.leader_encrypted_agg_share), drawn);
        let posted = world.helper.posted(SHARES);
        assert_eq!((posted.len(), &posted[0]), (2, &posted[1]));
        assert_eq!(world.leader.entries().await, [Charge, Commit]);
    }
}

#[tokio::test]
async fn an_exhausted_budget_fails_the_collection_before_the_helper_is_asked() {
    for database in databases().await {
        let world = World::noised(&database).await;
        let mut last = None;
        for back in 0..11 {
            let reports = [1, 2].map(|value| world.report_at(value, NOW - back * 3_600));
            assert_eq!(world.upload(&reports).await, []);
            world.settled().await;
            let interval = Interval::new(Time(hour().start().0 - back), Duration(1)).expect("an hour");
            let begun = world.collect_from(&world.leader, interval).await;
            last = Some(world.concluded(&begun.location.expect("a job has a place")).await);
        }
        let refused = last.expect("eleven were asked for");
        assert_eq!((refused.status, refused.problem().as_str()), (StatusCode::FORBIDDEN, "budget-exhausted"));
        assert_eq!(world.leader.spent().await, [(10 * LOSS, 20)], "{}", database.kind);
        assert_eq!(world.leader.releases().await, ["committed"; 10]);
        assert_eq!(world.helper.posted(SHARES).len(), 10);
        let late = [world.report_at(3, NOW - 10 * 3_600)];
        assert_eq!(world.upload(&late).await, [], "its hour is still open");
    }
}

/// A client sends one report an hour and knows of no batch; the collector asks for two hours at once.
#[tokio::test]
async fn a_leader_refuses_a_batch_of_more_than_one_piece_of_time_when_it_is_asked() {
    for database in databases().await {
        let kind = Kind { epsilon: Some("1/10"), batch_window: Some("1h"), ..Kind::default() };
        let world = World::start(kind, &database).await;
        let reports = [1, 2].map(|value| world.report_at(value, NOW - value * 3_600));
        assert_eq!(world.upload(&reports).await, []);
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        let wide = Interval::new(Time(hour().start().0 - 2), Duration(3)).expect("three hours");
        let refused = world.collect_from(&world.leader, wide).await;
        assert_eq!((refused.status, refused.problem().as_str()), (StatusCode::FORBIDDEN, "batch-too-wide"));
        assert!(refused.location.is_none(), "there is no job that could hang");
        let problem: serde_json::Value = serde_json::from_slice(&refused.body).expect("JSON");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(
            detail.contains("within one hour (UTC)")
                && detail.contains("with --last 1h")
                && detail.contains("--from "),
            "{detail}"
        );
        assert!(world.helper.posted(SHARES).is_empty() && world.leader.entries().await.is_empty());
        // Nothing is closed: each hour is collected by itself.
        assert_eq!(world.total(&world.collected().await).0, 2, "{}", database.kind);
    }
}

#[tokio::test]
async fn a_collection_waits_for_the_minimum_and_for_what_is_being_verified() {
    for database in databases().await {
        let world = World::plain(&database).await;
        world.helper.will([Act::busy(503, 600), Act::busy(503, 600)]);
        let begun = world.collect().await;
        assert!(begun.is_deferred(), "with its place and the time to come back: {begun:?}");
        let location = begun.location.clone().expect("a job has a place");
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.put_off().await;
        let again = world.collect().await;
        assert_eq!(again, begun, "{}: the same question is the same job", database.kind);
        assert!(world.follow(Method::GET, &location).await.body.is_empty());
        assert_eq!(world.helper.posted(SHARES).len(), 0);
        assert_eq!(world.total(&world.concluded(&location).await), (2, 3));
    }
}

#[tokio::test]
async fn a_collection_that_is_deleted_while_the_helper_is_asked_is_settled_all_the_same() {
    for database in databases().await {
        let world = World::noised(&database).await;
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        world.helper.will([Act::busy(503, 50)]);
        let location = world.collect().await.location.expect("a job has a place");
        world.until("request", async || world.helper.posted(SHARES).len() == 1).await;
        assert!(world.follow(Method::DELETE, &location).await.status.is_success());
        assert_eq!(world.follow(Method::GET, &location).await.status, StatusCode::NOT_FOUND);
        world.until("release", async || world.leader.releases().await == ["committed"]).await;
        assert_eq!(world.leader.entries().await, [Charge, Commit], "{}", database.kind);
        assert_eq!(world.leader.unscrubbed().await, 0);
        assert_eq!(world.follow(Method::GET, &location).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn however_many_collections_wait_the_one_behind_them_gets_its_turn() {
    let database = sqlite();
    let limits = Limits { open_collections: 2 * MANY, ..Limits::default() };
    let world = World::limited(Kind::default(), &database, limits).await;
    let waiting = world.leader.store.tx("waiting", |mut tx| async move {
        for number in 1..=MANY {
            let start = Time(hour().start().0 - number);
            let query = Query::time_interval(Interval::new(start, Duration(1)).expect("one unit"));
            let job = NewCollectionJob {
                id: CollectionJobId::random(&mut rand::rng()),
                task: 1,
                request: CollectionJobReq::new(query, Vec::new()).encoded(),
                fence: 0,
                created_at: NOW - 10,
            };
            assert!(collection_jobs::insert(&mut tx, &job).await?);
        }
        Ok((tx, ()))
    });
    waiting.await.expect("the database does so");
    assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
    world.settled().await;
    assert_eq!(world.total(&world.collected().await), (2, 3));
}

/// As many as the leader reads at a time.
const MANY: u64 = 1_000;

/// What was in the way of a request may be gone before it is looked at.
#[tokio::test]
async fn a_request_whose_twin_ended_meanwhile_is_a_job_of_its_own() {
    let Some(database) = postgres().await else { return };
    let world = World::plain(&database).await;
    let first_is_lost = world.leader.store.tx("first_is_lost", |mut tx| async move {
        for statement in [
            "CREATE SEQUENCE jobs_made",
            "CREATE FUNCTION all_but_the_first() RETURNS trigger AS
             'BEGIN IF nextval(''jobs_made'') = 1 THEN RETURN NULL; END IF; RETURN NEW; END' LANGUAGE plpgsql",
            "CREATE TRIGGER all_but_the_first BEFORE INSERT ON collection_jobs
             FOR EACH ROW EXECUTE FUNCTION all_but_the_first()",
        ] {
            sqlx::query(statement).execute(tx.connection()).await?;
        }
        Ok((tx, ()))
    });
    first_is_lost.await.expect("the database does so");
    assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
    world.settled().await;
    assert_eq!(world.total(&world.collected().await), (2, 3));
}

#[tokio::test]
async fn a_share_that_the_collector_could_never_open_is_asked_for_again_and_settles_nothing() {
    let spoil: [fn(&mut HpkeCiphertext); 4] = [
        |share| share.config_id = share.config_id.wrapping_add(1),
        |share| share.enc.push(0),
        |share| share.payload.truncate(share.payload.len() - 1),
        |share| share.payload.push(0),
    ];
    for database in databases().await {
        let world = World::noised(&database).await;
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        world.helper.will(spoil.map(|spoil| {
            Act::Change(Box::new(move |mut answer| {
                let mut share = AggregateShare::decoded(&answer.body).expect("the helper's own");
                spoil(&mut share.encrypted_aggregate_share);
                answer.body = share.encoded();
                answer
            }))
        }));
        let location = world.collect().await.location.expect("a job has a place");
        assert_eq!(world.total(&world.concluded(&location).await).0, 2, "{}", database.kind);
        let posted = world.helper.posted(SHARES);
        assert_eq!(posted.len(), 5, "{}", database.kind);
        assert!(posted.iter().all(|body| *body == posted[0]));
        assert_eq!(world.leader.entries().await, [Charge, Commit]);
    }
}

#[tokio::test]
async fn a_task_has_no_more_open_collections_than_it_may_and_deleting_one_makes_room() {
    for database in databases().await {
        let limits = Limits { open_collections: 2, ..Limits::default() };
        let world = World::limited(Kind::default(), &database, limits).await;
        let earlier =
            |hours: u64| Interval::new(Time(hour().start().0 - hours), Duration(1)).expect("one unit");
        let first = world.collect_from(&world.leader, earlier(1)).await;
        assert_eq!(first.status, StatusCode::OK);
        assert_eq!(world.collect_from(&world.leader, earlier(2)).await.status, StatusCode::OK);
        let full = world.collect_from(&world.leader, earlier(3)).await;
        assert_eq!(full.status, StatusCode::TOO_MANY_REQUESTS, "{}", database.kind);
        assert!(full.retry_after.is_some() && full.location.is_none(), "{full:?}");
        let same = world.collect_from(&world.leader, earlier(1)).await;
        assert_eq!((same.status, &same.location), (StatusCode::OK, &first.location), "it is there already");
        let place = first.location.expect("a job has a place");
        assert_eq!(world.follow(Method::DELETE, &place).await.status, StatusCode::OK);
        assert_eq!(world.collect_from(&world.leader, earlier(3)).await.status, StatusCode::OK);
    }
}
