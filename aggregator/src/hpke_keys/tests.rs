//! The lives of keys by a clock that the test sets, on both databases and from two replicas.

use std::sync::Arc;

use mica_dap::codec::Decode as _;
use mica_dap::hpke::Suite;
use mica_dap::hpke_config::HpkeConfigList;
use mica_service::clock::Clock;
use mica_service::store::Store;
use mica_service::testing::{TestDatabase, databases, sqlite};
use tokio::task::JoinSet;

use mica_service::key_life::{CALM_SECONDS, CLOCKS_DIFFER, Change, Known, PENDING_SECONDS, due};

use super::*;
use crate::store::{aggregation_jobs, migrator};

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

async fn open(database: &TestDatabase) -> Store {
    database.open(migrator()).await.unwrap()
}

async fn keys(database: &TestDatabase, clock: &Clock, schedule: &Schedule) -> Keys {
    Keys::load(open(database).await, Steady::new(clock.clone()), schedule.clone()).await.unwrap()
}

fn advertised(keys: &Keys) -> Vec<u8> {
    let list = HpkeConfigList::decoded(keys.ring().configs()).unwrap();
    list.configs().iter().map(|config| config.id).collect()
}

fn accepts(keys: &Keys, id: u8) -> bool {
    keys.ring().at(keys.moment()).find(id).is_some()
}

async fn states(keys: &Keys) -> Vec<(u8, KeyState)> {
    let facts = list(&keys.store, &keys.schedule).await.unwrap();
    facts.iter().map(|key| (key.config_id, key.life.state)).collect()
}

/// Moves the clock and lets the keys live.
async fn after(keys: &Keys, seconds: u64) {
    keys.steady.clock().advance(seconds);
    keys.renew().await.unwrap();
}

#[tokio::test]
async fn a_key_is_accepted_before_and_long_after_it_is_advertised_and_then_erased() {
    for database in databases().await {
        let keys = keys(&database, &Clock::manual(NOW), &Schedule::default()).await;
        assert_eq!(advertised(&keys), [0], "the first key is there at once");
        after(&keys, 30 * DAY - 1).await;
        assert_eq!(states(&keys).await, [(0, KeyState::Advertised)]);
        after(&keys, 1).await;
        assert_eq!(states(&keys).await, [(1, KeyState::Pending), (0, KeyState::Advertised)]);
        assert!(advertised(&keys) == [0] && accepts(&keys, 1), "accepted, and nobody is told yet");
        after(&keys, PENDING_SECONDS).await;
        assert!(advertised(&keys) == [1] && accepts(&keys, 0), "{}", database.kind);
        after(&keys, 2 * DAY).await;
        assert!(accepts(&keys, 0), "a client may have fetched the list just before");
        after(&keys, PENDING_SECONDS).await;
        assert!(!accepts(&keys, 0), "not by this clock");
        after(&keys, CLOCKS_DIFFER - 1).await;
        assert_eq!(
            states(&keys).await,
            [(1, KeyState::Advertised), (0, KeyState::Accepted)],
            "another may be behind"
        );
        after(&keys, 1).await;
        assert_eq!(states(&keys).await, [(1, KeyState::Advertised), (0, KeyState::Destroyed)]);
        assert!(!accepts(&keys, 0) && keys.ring().whole().find(0).is_none(), "there is no private key");
        after(&keys, 2 * DAY).await;
        assert_eq!(states(&keys).await, [(1, KeyState::Advertised)], "its identifier is free again");
    }
}

#[tokio::test]
async fn a_key_that_is_over_opens_only_what_was_sent_once() {
    let database = sqlite();
    let keys = keys(&database, &Clock::manual(NOW), &Schedule::default()).await;
    rotate(&keys.store, &keys.schedule, &[], NOW).await.unwrap();
    after(&keys, PENDING_SECONDS).await;
    // Nobody looks at the table for a while.
    keys.steady.clock().advance(2 * DAY + PENDING_SECONDS);
    assert!(!accepts(&keys, 0) && keys.ring().whole().find(0).is_some());
}

#[tokio::test]
async fn a_longer_cache_lifetime_counts_from_when_clients_are_told() {
    let database = sqlite();
    let clock = Clock::manual(NOW);
    let long = Schedule::new(30 * DAY, 5 * DAY, vec![Suite::MANDATORY]).unwrap();
    drop(keys(&database, &clock, &Schedule::default()).await);
    drop(keys(&database, &clock, &long).await);
    let keys = keys(&database, &clock, &Schedule::default()).await;
    rotate(&keys.store, &keys.schedule, &[], NOW).await.unwrap();
    after(&keys, PENDING_SECONDS).await;
    after(&keys, 10 * DAY).await;
    assert!(accepts(&keys, 0), "some client was told to keep it for five days");
    after(&keys, PENDING_SECONDS).await;
    assert!(!accepts(&keys, 0));
}

/// S8.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_rotate_at_once_make_one_key() {
    for database in databases().await {
        let clock = Clock::manual(NOW);
        let suites = vec![Suite::MANDATORY, Suite::P256Aes128Gcm];
        let schedule = Schedule::new(30 * DAY, DAY, suites).unwrap();
        let mut starts = JoinSet::new();
        for _ in 0..4 {
            let (store, clock, schedule) = (open(&database).await, clock.clone(), schedule.clone());
            starts.spawn(
                async move { Arc::new(Keys::load(store, Steady::new(clock), schedule).await.unwrap()) },
            );
        }
        let replicas = starts.join_all().await;
        for step in [0, 30 * DAY, PENDING_SECONDS, 1] {
            clock.advance(step);
            let mut renewals = JoinSet::new();
            for keys in replicas.clone() {
                renewals.spawn(async move { keys.renew().await.unwrap() });
            }
            renewals.join_all().await;
            let first = states(&replicas[0]).await;
            assert_eq!(first.len(), if step == 0 { 2 } else { 4 }, "{} {step}", database.kind);
            for keys in &replicas {
                keys.renew().await.unwrap();
                assert_eq!(advertised(keys), advertised(&replicas[0]), "clients see one aggregator");
                assert!(first.iter().all(|(id, _)| accepts(keys, *id)));
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_another_replica_made_is_found_when_it_is_needed() {
    let database = sqlite();
    let clock = Clock::manual(NOW);
    let one = keys(&database, &clock, &Schedule::default()).await;
    let other = keys(&database, &clock, &Schedule::default()).await;
    let made = rotate(&one.store, &one.schedule, &[], NOW).await.unwrap();
    let id = made[0].config_id;
    assert!(!accepts(&other, id));
    assert!(
        other.ring_for([0, id].into_iter()).await.unwrap().at(Moment::at_first_sight(NOW)).find(id).is_some()
    );
    // Anybody can make up numbers: another look has to wait.
    rotate(&one.store, &one.schedule, &[], NOW + PENDING_SECONDS).await.unwrap();
    assert!(
        other.ring_for([77].into_iter()).await.unwrap().at(Moment::at_first_sight(NOW)).find(77).is_none()
    );
    assert!(!(other.may_look() && other.may_look()));
}

#[tokio::test]
async fn a_rotation_that_is_under_way_is_not_begun_again() {
    let database = sqlite();
    let keys = keys(&database, &Clock::manual(NOW), &Schedule::default()).await;
    let first = rotate(&keys.store, &keys.schedule, &[], NOW).await.unwrap();
    let again = rotate(&keys.store, &keys.schedule, &[], NOW + 1).await.unwrap();
    assert!(first == again && first.len() == 1);
    let other = rotate(&keys.store, &keys.schedule, &[Suite::P256Aes128Gcm], NOW).await;
    assert!(matches!(other, Err(RotateError::OtherSuite(Suite::P256Aes128Gcm))));
}

#[tokio::test]
async fn suites_are_advertised_in_the_order_of_the_schedule_and_leave_when_it_does_not_name_them() {
    let database = sqlite();
    let clock = Clock::manual(NOW);
    let wide = vec![Suite::X25519ChaCha20Poly1305, Suite::MANDATORY, Suite::P256Aes256Gcm];
    let both = keys(&database, &clock, &Schedule::new(30 * DAY, DAY, wide.clone()).unwrap()).await;
    let list = HpkeConfigList::decoded(both.ring().configs()).unwrap();
    assert_eq!(list.configs().iter().filter_map(Suite::of).collect::<Vec<_>>(), wide);
    drop(both);
    let narrow = keys(&database, &clock, &Schedule::default()).await;
    assert_eq!(advertised(&narrow).len(), 3, "settings that come and go cost no keys");
    after(&narrow, 3_600).await;
    assert_eq!(advertised(&narrow).len(), 1);
    assert!((0..3).all(|id| accepts(&narrow, id)));
}

/// S9.
#[tokio::test]
async fn an_identifier_is_never_given_again_while_its_key_is_accepted_or_rests() {
    let database = sqlite();
    let keys = keys(&database, &Clock::manual(NOW), &Schedule::default()).await;
    // Of each identifier: when its key was made, and until when it was accepted.
    let mut seen: Vec<Option<(u64, u64)>> = vec![None; 256];
    for round in 0..300 {
        let now = keys.steady.clock().now();
        let made = rotate(&keys.store, &keys.schedule, &[], now).await;
        assert!(made.is_ok_and(|made| made.len() == 1), "there is time for each to rest: {round}");
        for key in list(&keys.store, &keys.schedule).await.unwrap() {
            let known = &mut seen[usize::from(key.config_id)];
            let made_at = key.life.created_at;
            if let Some((_, accepted_until)) = known.filter(|(earlier, _)| *earlier != made_at) {
                assert!(made_at >= accepted_until + 2 * DAY, "{}", key.config_id);
            }
            let accepted_until = match (key.life.state, *known) {
                (KeyState::Accepted, _) => key.life.leaves_at.unwrap(),
                (KeyState::Destroyed, Some((_, accepted_until))) => accepted_until,
                _ => u64::MAX - 2 * DAY,
            };
            *known = Some((made_at, accepted_until));
        }
        // Forty-one minutes: at any time some seventy keys are accepted, and as many identifiers rest.
        after(&keys, PENDING_SECONDS).await;
        after(&keys, 2_400).await;
    }
    assert!(seen.iter().all(Option::is_some), "all identifiers had their turn");
}

/// S9.
#[tokio::test]
async fn rotation_is_refused_when_every_identifier_is_in_use() {
    let database = sqlite();
    let keys = keys(&database, &Clock::manual(NOW), &Schedule::default()).await;
    for _ in 0..255 {
        rotate(&keys.store, &keys.schedule, &[], keys.steady.clock().now()).await.unwrap();
        after(&keys, PENDING_SECONDS).await;
    }
    let before = states(&keys).await;
    assert_eq!(before.len(), 256);
    let refused = rotate(&keys.store, &keys.schedule, &[], keys.steady.clock().now()).await.unwrap_err();
    assert!(refused.to_string().starts_with("all 256 HPKE key identifiers are in use"), "{refused}");
    assert_eq!(states(&keys).await, before);
    // Time alone mends it: 256 keys end, and their identifiers rest.
    after(&keys, 2 * DAY).await;
    after(&keys, 2 * DAY + PENDING_SECONDS).await;
    assert!(rotate(&keys.store, &keys.schedule, &[], keys.steady.clock().now()).await.is_ok());
}

#[test]
fn replicas_of_different_settings_do_not_use_up_the_identifiers() {
    let life = |state, created_at| KeyLife {
        state,
        created_at,
        entered_at: created_at,
        leaves_at: None,
        cached_for: DAY,
    };
    let known = |id, suite, life| Known { id, kind: Some(suite), life };
    let keys = [
        known(0, Suite::MANDATORY, life(KeyState::Advertised, NOW)),
        known(
            1,
            Suite::P256Aes128Gcm,
            KeyLife { leaves_at: Some(NOW + DAY), ..life(KeyState::Accepted, NOW) },
        ),
    ];
    let wide = Schedule::new(30 * DAY, DAY, vec![Suite::MANDATORY, Suite::P256Aes128Gcm]).unwrap();
    assert_eq!(due(&keys, &wide.terms(), Moment::at_first_sight(NOW + 3_599), &[]).changes, []);
    assert!(matches!(
        due(&keys, &wide.terms(), Moment::at_first_sight(NOW + 3_600), &[]).changes[..],
        [Change::Make { id: 2, .. }]
    ));
}

#[test]
fn a_key_of_a_newer_version_is_left_alone() {
    let life = KeyLife {
        state: KeyState::Advertised,
        created_at: NOW,
        entered_at: NOW,
        leaves_at: None,
        cached_for: DAY,
    };
    let newer = Known { id: 4, kind: None, life };
    let ours = Known { id: 0, kind: Some(Suite::MANDATORY), life };
    assert_eq!(
        due(&[newer, ours], &Schedule::default().terms(), Moment::at_first_sight(NOW + DAY), &[]).changes,
        []
    );
}

/// A job that is never settled keeps the keys that its reports may be sealed to, and none that were made after it.
#[tokio::test]
async fn a_job_that_is_never_settled_keeps_no_key_that_was_made_after_it() {
    for database in databases().await {
        let keys = keys(&database, &Clock::manual(NOW), &Schedule::default()).await;
        let formed = keys.store.tx("form_job", |mut tx| async move {
            aggregation_jobs::create(&mut tx, 1, None, 1, NOW).await?;
            Ok((tx, ()))
        });
        formed.await.unwrap();
        after(&keys, DAY).await;
        // As many turns as there are identifiers, and some more: with every key kept there would be none left.
        for turn in 0..300 {
            rotate(&keys.store, &keys.schedule, &[], keys.steady.clock().now())
                .await
                .expect("an identifier is free");
            after(&keys, PENDING_SECONDS).await;
            after(&keys, 3 * DAY).await;
            let states = states(&keys).await;
            let expired: Vec<u8> = states
                .iter()
                .filter_map(|(id, state)| (*state == KeyState::Accepted).then_some(*id))
                .collect();
            assert_eq!(
                expired,
                [0],
                "only the key that was there when the job was formed: {} {turn}",
                database.kind
            );
        }
    }
}

/// A replica whose clock is behind may take a report just before its key is over and send it to the helper; it must be
/// able to send the same bytes again, whatever the replica in front has done to the key by then.
#[tokio::test]
async fn a_replica_in_front_erases_no_key_that_one_behind_it_still_accepts() {
    for database in databases().await {
        let (front, behind) = (Clock::manual(NOW), Clock::manual(NOW - 30));
        let front = keys(&database, &front, &Schedule::default()).await;
        let behind = keys(&database, &behind, &Schedule::default()).await;
        rotate(&front.store, &front.schedule, &[], NOW).await.unwrap();
        after(&front, PENDING_SECONDS).await;
        after(&front, 2 * DAY + PENDING_SECONDS).await;
        behind.steady.clock().set(front.steady.clock().now() - 30);
        behind.renew().await.unwrap();
        assert!(!accepts(&front, 0) && accepts(&behind, 0), "{}", database.kind);
        let formed_at = behind.steady.clock().now();
        let formed = behind.store.tx("form_job", |mut tx| async move {
            aggregation_jobs::create(&mut tx, 1, None, 1, formed_at).await?;
            Ok((tx, ()))
        });
        formed.await.unwrap();
        after(&front, DAY).await;
        after(&behind, DAY).await;
        assert!(
            states(&behind).await.contains(&(0, KeyState::Accepted)),
            "the job may have to be sent again"
        );
    }
}

/// Else nothing would be replaced or destroyed for as long as the clock was ahead.
#[tokio::test]
async fn keys_that_a_clock_made_which_was_ahead_are_replaced_and_destroyed_in_their_time() {
    for database in databases().await {
        let clock = Clock::manual(NOW);
        let keys = keys(&database, &clock, &Schedule::default()).await;
        after(&keys, CLOCKS_DIFFER).await;
        clock.step_to(NOW + 400 * DAY);
        keys.renew().await.unwrap();
        after(&keys, CLOCKS_DIFFER).await;
        after(&keys, PENDING_SECONDS).await;
        assert_eq!(states(&keys).await, [(1, KeyState::Advertised), (0, KeyState::Accepted)]);
        clock.step_to(NOW + 300);
        keys.renew().await.unwrap();
        after(&keys, CALM_SECONDS).await;
        assert!(accepts(&keys, 0) && accepts(&keys, 1), "{}", database.kind);
        after(&keys, 2 * DAY + PENDING_SECONDS + CLOCKS_DIFFER).await;
        assert_eq!(states(&keys).await, [(1, KeyState::Advertised), (0, KeyState::Destroyed)]);
        after(&keys, 28 * DAY).await;
        after(&keys, PENDING_SECONDS).await;
        assert_eq!(advertised(&keys), [2], "by the schedule");
    }
}

#[tokio::test]
async fn a_clock_that_steps_ahead_for_a_moment_ends_and_begins_no_life_of_a_key() {
    for database in databases().await {
        let (right, wrong) = (Clock::manual(NOW), Clock::manual(NOW));
        let schedule = Schedule::default();
        let (one, two) = (keys(&database, &right, &schedule).await, keys(&database, &wrong, &schedule).await);
        rotate(&one.store, &schedule, &[], NOW).await.unwrap();
        for keys in [&one, &two] {
            after(keys, PENDING_SECONDS).await;
        }
        let before = states(&one).await;
        for leap in [59, 3 * DAY, 400 * DAY] {
            wrong.step_to(right.now() + leap);
            two.renew().await.unwrap();
            drop(keys(&database, &wrong, &schedule).await);
            wrong.step_to(right.now());
            for keys in [&one, &two] {
                keys.renew().await.unwrap();
                assert_eq!(states(keys).await, before, "{} {leap}", database.kind);
            }
            assert!(accepts(&one, 0) && accepts(&two, 0));
        }
        // Where it stays is where it is, and what it jumped over has not passed.
        wrong.step_to(right.now() + 3 * DAY);
        two.renew().await.unwrap();
        after(&two, CLOCKS_DIFFER).await;
        assert_eq!(two.moment().now, wrong.now());
        assert_eq!(states(&two).await, before, "{}", database.kind);
        after(&two, 2 * DAY).await;
        assert!(accepts(&two, 0));
        after(&two, PENDING_SECONDS).await;
        assert!(!accepts(&two, 0));
        after(&two, CLOCKS_DIFFER).await;
        assert_eq!(states(&two).await, [(1, KeyState::Advertised), (0, KeyState::Destroyed)]);
    }
}

/// The clock is behind for so long, and then it is put right.
async fn fall_behind(keys: &Keys, seconds: u64) {
    let clock = keys.steady.clock();
    clock.step_to(clock.now() - 400 * DAY);
    keys.renew().await.unwrap();
    for part in [CALM_SECONDS - 1, seconds - (CALM_SECONDS - 1)] {
        after(keys, part).await;
    }
    clock.step_to(clock.now() + 400 * DAY);
    keys.renew().await.unwrap();
    after(keys, CLOCKS_DIFFER).await;
    assert_eq!(keys.moment().now, clock.now(), "it is believed");
}

/// Reports that wait at the leader for the helper are sealed to a key that is accepted only.
#[tokio::test]
async fn a_clock_that_is_behind_for_a_while_ends_no_life_of_a_key_sooner() {
    for seconds in [CALM_SECONDS - 1, 2 * CALM_SECONDS] {
        for database in databases().await {
            let clock = Clock::manual(NOW);
            let keys = keys(&database, &clock, &Schedule::default()).await;
            after(&keys, CLOCKS_DIFFER).await;
            rotate(&keys.store, &keys.schedule, &[], clock.now()).await.unwrap();
            after(&keys, PENDING_SECONDS).await;
            fall_behind(&keys, seconds).await;
            after(&keys, DAY).await;
            assert!(accepts(&keys, 0), "{} {seconds}", database.kind);
            // A job of that time may have to be sent again.
            let formed = keys.store.tx("form_job", move |mut tx| {
                let now = clock.now();
                async move {
                    aggregation_jobs::create(&mut tx, 1, None, 1, now).await?;
                    Ok((tx, ()))
                }
            });
            formed.await.unwrap();
            after(&keys, DAY + PENDING_SECONDS + CLOCKS_DIFFER).await;
            assert!(!accepts(&keys, 0) && states(&keys).await.contains(&(0, KeyState::Accepted)));
        }
    }
}

#[tokio::test]
async fn a_key_that_is_destroyed_rests_although_the_clock_is_behind_for_a_while() {
    for database in databases().await {
        let keys = keys(&database, &Clock::manual(NOW), &Schedule::default()).await;
        after(&keys, CLOCKS_DIFFER).await;
        rotate(&keys.store, &keys.schedule, &[], NOW + CLOCKS_DIFFER).await.unwrap();
        after(&keys, PENDING_SECONDS).await;
        after(&keys, 2 * DAY + PENDING_SECONDS + CLOCKS_DIFFER).await;
        assert!(states(&keys).await.contains(&(0, KeyState::Destroyed)));
        fall_behind(&keys, 2 * CALM_SECONDS).await;
        after(&keys, DAY).await;
        assert!(states(&keys).await.contains(&(0, KeyState::Destroyed)), "{}", database.kind);
        after(&keys, DAY).await;
        assert!(states(&keys).await.iter().all(|(id, _)| *id != 0), "its identifier is free again");
    }
}
