//! Keys as clients and the other aggregator meet them: published, rotated under load, gone.

use std::sync::Arc;
use std::time::Duration as RealTime;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use mica_aggregator::Role;
use mica_aggregator::hpke_keys::{Keys, Schedule, list, rotate};
use mica_aggregator::store::hpke_keys::KeyState;
use mica_aggregator::store::segments::{self, NewSegment};
use mica_aggregator::store::tasks;
use mica_dap::Draft;
use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::hpke::Suite;
use mica_dap::hpke_config::HpkeConfigList;
use mica_dap::media::Media;
use mica_dap::report_error::ReportError;
use mica_service::clock::Clock;
use mica_service::key_life::CLOCKS_DIFFER;
use mica_service::steady::Steady;
use mica_service::store::Store;
use mica_service::testing::{databases, postgres, sqlite};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::task::Kind;
use crate::support::{Act, NOW, Server, World};

const DAY: u64 = 86_400;
/// How long a new key waits to be advertised, and how much longer than twice the cache lifetime an old one is accepted.
const SLACK: u64 = 60;

async fn states(store: &Store) -> Vec<(u8, KeyState)> {
    let keys = list(store, &Schedule::default()).await.expect("the database answers");
    keys.iter().map(|key| (key.config_id, key.life.state)).collect()
}

/// Waits until the server has done with its keys what the clock has it do.
async fn until_states(world: &World, expected: &[(u8, KeyState)]) {
    world.until("keys", async || states(&world.leader.store).await == expected).await;
}

/// S1.
#[tokio::test]
async fn the_list_of_keys_may_be_kept_for_a_day_and_asked_for_by_its_tag() {
    let database = sqlite();
    let world = World::plain(&database).await;
    let url = format!("{}/api/dap/hpke_config", world.leader.origin);
    let ask = async |tag: Option<&str>| {
        let mut request = Request::builder().method(Method::GET).uri(&url);
        if let Some(tag) = tag {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        world.exchange(request.body(Bytes::new()).expect("a request")).await
    };
    let (head, body) = ask(None).await.into_parts();
    assert_eq!(head.status, StatusCode::OK);
    assert_eq!(head.headers[header::CONTENT_TYPE], Media::HpkeConfigList.header());
    assert_eq!(head.headers[header::CACHE_CONTROL], "public, max-age=86400");
    assert_eq!(usize::from(u16::from_be_bytes([body[0], body[1]])), body.len() - 2);
    let list = HpkeConfigList::decoded(&body).expect("a list");
    assert_eq!(Suite::of(&list.configs()[0]), Some(Suite::MANDATORY));
    let tag = head.headers[header::ETAG].to_str().expect("plain letters").to_owned();
    for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
        let (head, body) = ask(Some(&known)).await.into_parts();
        assert!(head.status == StatusCode::NOT_MODIFIED && body.is_empty(), "{known}");
        assert_eq!(head.headers[header::ETAG], tag);
    }
    assert_eq!(ask(Some("\"other\"")).await.status(), StatusCode::OK);
}

/// S5.
#[tokio::test]
async fn a_report_to_a_key_that_is_long_gone_is_refused_as_outdated() {
    for draft in [Draft::V18, Draft::V19] {
        let database = sqlite();
        let world = World::start(Kind { draft, ..Kind::default() }, &database).await;
        let old = world.reports(&[1, 2]);
        rotate(&world.leader.store, &Schedule::default(), &[], world.leader.clock.now())
            .await
            .expect("a new key");
        world.leader.clock.advance(SLACK);
        until_states(&world, &[(1, KeyState::Advertised), (0, KeyState::Accepted)]).await;
        assert_eq!(world.upload(&old[..1]).await, [], "the old key is accepted for two days yet");
        world.leader.clock.advance(2 * DAY + SLACK);
        let expected = match draft {
            Draft::V18 => ReportError::OutdatedConfig,
            Draft::V19 => ReportError::HpkeUnknownConfigId,
        };
        assert_eq!(world.upload(&old[1..]).await, [expected]);
        world.settled().await;
        world.leader.clock.advance(SLACK);
        until_states(&world, &[(1, KeyState::Advertised), (0, KeyState::Destroyed)]).await;
    }
}

/// Has all that is due done, as a server would at this time that has known its clock for a minute.
async fn turn(store: &Store, now: u64) {
    let clock = Clock::manual(now - CLOCKS_DIFFER);
    let keys = Keys::load(store.clone(), Steady::new(clock.clone()), Schedule::default()).await;
    let keys = keys.expect("the database answers");
    clock.advance(CLOCKS_DIFFER);
    for _ in 0..2 {
        keys.renew().await.expect("what is due is done");
    }
}

/// Makes a new key in the place of the first.
async fn replace_first(store: &Store, now: u64) {
    rotate(store, &Schedule::default(), &[], now).await.expect("a new key");
}

/// What was decided about the reports of a job stays decided in its parts.
#[tokio::test]
async fn a_job_that_is_cut_after_its_key_was_accepted_for_the_last_time_loses_no_report() {
    for database in databases().await {
        let world = World::plain(&database).await;
        let (store, now) = (world.leader.store.clone(), world.leader.clock.now());
        world.helper.will([Act::busy(429, 60), Act::status(413)]);
        assert_eq!(world.upload(&world.reports(&[1, 2, 3, 4])).await, []);
        world.put_off().await;
        replace_first(&store, now).await;
        turn(&store, now + SLACK).await;
        turn(&store, now + 3 * DAY).await;
        assert!(states(&store).await.contains(&(0, KeyState::Accepted)), "{}", database.kind);
        world.leader.clock.set(now + 3 * DAY);
        world.settled().await;
        assert!(world.helper.posted("/aggregation_jobs").len() >= 4, "{}: it was cut", database.kind);
        let tallies = [("aggregated", 4), ("uploaded", 4)].map(|(name, n)| (name.to_owned(), n));
        assert_eq!(world.leader.tallies().await, tallies, "{}", database.kind);
        turn(&store, world.leader.clock.now()).await;
        assert!(
            states(&store).await.contains(&(0, KeyState::Destroyed)),
            "{}: nobody needs it",
            database.kind
        );
    }
}

#[tokio::test]
async fn a_report_whose_key_was_destroyed_while_it_waited_is_refused_and_holds_up_nobody() {
    for database in databases().await {
        let mut world = World::plain(&database).await;
        let (store, now) = (world.leader.store.clone(), world.leader.clock.now());
        // The leader goes down with a report that no job has taken up.
        world.leader.stop();
        let report = world.report_at(5, NOW);
        let inserted = store.tx("insert_segment", |mut tx| {
            let (reports, time) = (report.encoded(), report.metadata.time);
            async move {
                let task = tasks::all_tasks(&mut tx).await?[0].key;
                let segment = NewSegment {
                    task,
                    report_count: 1,
                    min_time: time,
                    max_time: time,
                    reports,
                    created_at: now,
                };
                segments::insert_segment(&mut tx, &segment).await?;
                Ok((tx, ()))
            }
        });
        inserted.await.expect("a segment");
        replace_first(&store, now).await;
        turn(&store, now + SLACK).await;
        turn(&store, now + 3 * DAY).await;
        assert!(states(&store).await.contains(&(0, KeyState::Destroyed)), "{}", database.kind);
        world.restart(&database).await;
        let list = world.fetch_keys(&world.leader).await;
        assert_eq!(world.upload(&world.reports_to(&list, &[1, 2])).await, []);
        world.settled().await;
        let tallies = world.leader.tallies().await;
        assert!(tallies.contains(&("hpke_decrypt_error".to_owned(), 1)), "{tallies:?}");
        assert!(tallies.contains(&("aggregated".to_owned(), 2)), "{tallies:?}");
    }
}

#[tokio::test]
async fn a_key_is_kept_for_a_job_that_may_have_to_be_sent_again() {
    for database in databases().await {
        let mut world = World::plain(&database).await;
        let (store, now) = (world.leader.store.clone(), world.leader.clock.now());
        world.helper.will([Act::Hang]);
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.until("request", async || !world.helper.received().is_empty()).await;
        world.leader.stop();
        replace_first(&store, now).await;
        turn(&store, now + SLACK).await;
        turn(&store, now + 9 * DAY).await;
        assert!(states(&store).await.contains(&(0, KeyState::Accepted)), "{}", database.kind);
        world.restart(&database).await;
        world.leader.clock.set(now + 9 * DAY);
        world.settled().await;
        let requests = world.helper.posted("/aggregation_jobs");
        assert!(requests.len() > 1 && requests[0] == requests[1], "the same bytes");
        assert_eq!((world.leader.counted().await, world.helper.honest().counted()), (2, 2));
        world.until("keys", async || states(&store).await.contains(&(0, KeyState::Destroyed))).await;
    }
}

/// S8.
#[tokio::test(flavor = "multi_thread")]
async fn reports_to_either_replicas_list_are_taken_by_both_while_keys_rotate() {
    let Some(database) = postgres().await else { return };
    let world = Arc::new(World::plain(&database).await);
    let other = Arc::new(Server::start(Role::Leader, &world.task, &database).await);
    let mut sent = 0;
    for round in 0..4 {
        let mut uploads = JoinSet::new();
        for number in 0..6 {
            let (world, other) = (Arc::clone(&world), Arc::clone(&other));
            uploads.spawn(async move {
                let (from, to) =
                    if number % 2 == 0 { (&world.leader, &*other) } else { (&*other, &world.leader) };
                let list = world.fetch_keys(from).await;
                world.upload_to(to, &world.reports_to(&list, &[1, 2])).await
            });
        }
        let now = world.leader.clock.now();
        rotate(&world.leader.store, &Schedule::default(), &[], now).await.expect("a new key");
        for refused in uploads.join_all().await {
            assert_eq!(refused, [], "round {round}");
            sent += 2;
        }
        // What the minute is for: each replica looks at the table every two seconds.
        sleep(RealTime::from_secs(3)).await;
        world.leader.clock.advance(SLACK);
        other.clock.advance(SLACK);
    }
    world.until("all reports", async || world.leader.counted().await == sent).await;
    let keys = list(&world.leader.store, &Schedule::default()).await.expect("the database answers");
    assert!(keys.len() > 2, "keys were rotated meanwhile");
}
