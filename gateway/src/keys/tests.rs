//! The lives of keys by a clock that the test sets, on both databases and from two replicas.

use std::borrow::Cow;

use mica_envelope::{ClientEnvelope, InnerRequest, KeyConfigList, history::History};
use mica_service::clock::Clock;
use mica_service::key_life::{CALM_SECONDS, CLOCKS_DIFFER, PENDING_SECONDS};
use mica_service::testing::{TestDatabase, databases, sqlite};
use sqlx::migrate::Migrator;
use tokio::task::JoinSet;

use super::*;
use crate::MIGRATOR;

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;
const X: Kem = Kem::X25519HkdfSha256;

async fn keys(database: &TestDatabase, clock: &Clock, schedule: &Schedule) -> Keys {
    let store = database.open(&MIGRATOR).await.unwrap();
    Keys::load(store, Steady::new(clock.clone()), schedule.clone()).await.unwrap()
}

fn both(first: Kem, second: Kem) -> Schedule {
    Schedule::new(30 * DAY, DAY, vec![first, second]).unwrap()
}

fn advertised(keys: &Keys) -> Vec<u8> {
    turn::ids(&keys.list())
}

fn sealed(list: Vec<u8>) -> Vec<u8> {
    let request = InnerRequest {
        method: "GET".into(),
        scheme: "https".into(),
        authority: "leader.example".into(),
        path: "/".into(),
        headers: vec![],
        body: "".into(),
    };
    ClientEnvelope::seal(&KeyConfigList::parse(list).unwrap(), &request).unwrap().0
}

fn opens(keys: &Keys, sealed: &[u8]) -> bool {
    keys.ring().open(sealed, keys.moment()).is_ok()
}

async fn states(keys: &Keys) -> Vec<KeyState> {
    list(&keys.store, &keys.schedule).await.unwrap().iter().map(|key| key.life.state).collect()
}

/// Moves the clock and lets the keys live.
async fn after(keys: &Keys, seconds: u64) {
    keys.steady.clock().advance(seconds);
    keys.renew().await.unwrap();
}

#[tokio::test]
async fn a_gateway_key_opens_before_and_long_after_it_is_advertised_and_is_then_erased() {
    use KeyState::{Accepted, Advertised, Destroyed, Pending};
    for database in databases().await {
        let keys = keys(&database, &Clock::manual(NOW), &Schedule::default()).await;
        let (first, old) = (keys.list(), sealed(keys.list()));
        after(&keys, 30 * DAY - 1).await;
        assert_eq!(states(&keys).await, [Advertised]);
        after(&keys, 1).await;
        assert_eq!(states(&keys).await, [Pending, Advertised]);
        assert_eq!(keys.list(), first, "nobody is told yet");
        after(&keys, PENDING_SECONDS).await;
        assert_eq!(states(&keys).await, [Advertised, Accepted], "{}", database.kind);
        assert_ne!(keys.list(), first);
        after(&keys, 2 * DAY).await;
        assert!(opens(&keys, &old), "a client may have fetched the list just before, from a cache");
        // By time alone: nobody looks at the table.
        keys.steady.clock().advance(PENDING_SECONDS);
        assert!(!opens(&keys, &old) && opens(&keys, &sealed(keys.list())));
        after(&keys, CLOCKS_DIFFER - 1).await;
        assert_eq!(states(&keys).await, [Advertised, Accepted], "the clock of another may be behind");
        after(&keys, 1).await;
        assert_eq!(states(&keys).await, [Advertised, Destroyed]);
        assert!(!opens(&keys, &old));
        after(&keys, 2 * DAY).await;
        assert_eq!(states(&keys).await, [Advertised], "its identifier is free again");
    }
}

#[tokio::test]
async fn of_each_kem_one_key_is_advertised_and_never_more_than_two_open() {
    let database = sqlite();
    let schedule = Schedule::new(3 * DAY, DAY, vec![X, Kem::XWing]).unwrap();
    let keys = keys(&database, &Clock::manual(NOW), &schedule).await;
    let (mut made, mut refused, mut given) = (0, 0, std::collections::BTreeMap::new());
    for step in 0..400 {
        match rotate(&keys.store, &schedule, &[], keys.moment().now).await {
            Ok(rotated) => made += rotated.len(),
            Err(RotateError::StillAccepted { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
        after(&keys, [1, 59, 3_600, DAY][step % 4]).await;
        let facts = list(&keys.store, &schedule).await.unwrap();
        for kem in [X, Kem::XWing] {
            let of_kem = || facts.iter().filter(move |key| key.kem == Some(kem)).map(|key| key.life.state);
            assert_eq!(of_kem().filter(|state| *state == KeyState::Advertised).count(), 1);
            assert!(of_kem().filter(|state| *state != KeyState::Destroyed).count() <= 2);
        }
        assert_eq!(advertised(&keys).len(), 2);
        for key in facts {
            // An identifier comes again only after its key has been destroyed for as long as anybody may keep it, twice.
            let (made_at, last) = given.entry(key.key_id).or_insert((key.life.created_at, 0));
            if *made_at != key.life.created_at {
                assert!(key.life.created_at >= *last + DAY, "{}", key.key_id);
                *made_at = key.life.created_at;
            }
            *last = keys.moment().now;
        }
    }
    assert!(made > 40 && refused > 40, "{made} {refused}");
}

#[tokio::test]
async fn a_list_is_told_of_only_when_every_replica_opens_what_is_sealed_to_it() {
    for database in databases().await {
        let (clock, schedule) = (Clock::manual(NOW), both(X, Kem::XWing));
        let mut starts = JoinSet::new();
        for _ in 0..3 {
            let store = database.open(&MIGRATOR).await.unwrap();
            starts.spawn(Keys::load(store, Steady::new(clock.clone()), schedule.clone()));
        }
        let replicas: Vec<Keys> = starts.join_all().await.into_iter().map(Result::unwrap).collect();
        assert!(replicas.iter().all(|keys| keys.list() == replicas[0].list()), "{}", database.kind);
        for round in 0..3 {
            rotate(&replicas[0].store, &schedule, &[], clock.now()).await.unwrap();
            // Each looks once while the new keys are pending.
            for keys in &replicas {
                keys.renew().await.unwrap();
            }
            clock.advance(PENDING_SECONDS);
            let front = &replicas[round % 3];
            front.renew().await.unwrap();
            for keys in &replicas {
                assert!(opens(keys, &sealed(front.list())), "one that has not looked since opens it too");
            }
            clock.advance(2 * DAY + PENDING_SECONDS + CLOCKS_DIFFER);
            for keys in &replicas {
                keys.renew().await.unwrap();
                assert_eq!((keys.list(), keys.history()), (front.list(), front.history()));
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_was_made_before_there_were_states_is_kept() {
    for database in databases().await {
        let first: Vec<_> = MIGRATOR.iter().take(1).cloned().collect();
        let yesterday = Migrator { migrations: Cow::Owned(first), ..Migrator::DEFAULT };
        let store = database.open(&yesterday).await.unwrap();
        let inserted = store.tx("insert", |mut tx| async move {
            sqlx::query("INSERT INTO gateway_keys VALUES (77, 32, $1, $2, 'load_or_create_keys')")
                .bind(vec![5_u8; 32])
                .bind(i64::try_from(NOW).unwrap())
                .execute(tx.connection())
                .await?;
            Ok((tx, ()))
        });
        inserted.await.unwrap();
        store.close().await;
        let key =
            mica_envelope::GatewayKey::from_ikm(77, X, &mica_envelope::Ikm::from_bytes([5; 32])).unwrap();
        let published = mica_envelope::GatewayKeys::new(vec![key]).unwrap().config_list().to_vec();
        let keys = keys(&database, &Clock::manual(NOW + 29 * DAY), &Schedule::default()).await;
        assert_eq!(keys.list(), published, "{}", database.kind);
        after(&keys, DAY).await;
        after(&keys, PENDING_SECONDS).await;
        assert_eq!(advertised(&keys), [78], "and rotated in its time");
        assert!(opens(&keys, &sealed(published)));
    }
}

#[tokio::test]
async fn a_clock_that_steps_ahead_for_a_moment_ends_and_begins_nothing() {
    for database in databases().await {
        let (right, wrong) = (Clock::manual(NOW), Clock::manual(NOW));
        let schedule = Schedule::default();
        let (one, two) = (keys(&database, &right, &schedule).await, keys(&database, &wrong, &schedule).await);
        let old = sealed(one.list());
        rotate(&one.store, &schedule, &[], NOW).await.unwrap();
        for keys in [&one, &two] {
            after(keys, PENDING_SECONDS).await;
        }
        let before = (states(&one).await, one.list(), one.history());
        for leap in [59, 3 * DAY, 400 * DAY] {
            wrong.step_to(right.now() + leap);
            two.renew().await.unwrap();
            // Somebody starts another just then.
            drop(keys(&database, &wrong, &schedule).await);
            assert!(opens(&two, &old), "{leap}");
            wrong.step_to(right.now());
            for keys in [&one, &two] {
                keys.renew().await.unwrap();
            }
            assert_eq!((states(&one).await, one.list(), one.history()), before, "{} {leap}", database.kind);
            assert!(opens(&one, &old));
        }
        // Where it stays is where it is, and what it jumped over has not passed.
        wrong.step_to(right.now() + 3 * DAY);
        two.renew().await.unwrap();
        after(&two, CLOCKS_DIFFER).await;
        assert_eq!(two.moment().now, wrong.now());
        assert_eq!(states(&two).await, [KeyState::Advertised, KeyState::Accepted], "{}", database.kind);
        after(&two, 2 * DAY).await;
        assert!(opens(&two, &old));
        after(&two, PENDING_SECONDS).await;
        assert!(!opens(&two, &old));
        after(&two, CLOCKS_DIFFER).await;
        assert_eq!(states(&two).await, [KeyState::Advertised, KeyState::Destroyed]);
    }
}

/// Else nothing would be replaced or destroyed for as long as the clock was ahead.
#[tokio::test]
async fn gateway_keys_that_a_clock_made_which_was_ahead_are_replaced_and_destroyed_in_their_time() {
    use KeyState::{Accepted, Advertised, Destroyed, Pending};
    for database in databases().await {
        let clock = Clock::manual(NOW);
        let keys = keys(&database, &clock, &Schedule::default()).await;
        after(&keys, CLOCKS_DIFFER).await;
        clock.step_to(NOW + 400 * DAY);
        keys.renew().await.unwrap();
        after(&keys, CLOCKS_DIFFER).await;
        after(&keys, PENDING_SECONDS).await;
        assert_eq!(states(&keys).await, [Advertised, Accepted], "it was believed");
        let old = sealed(keys.list());
        clock.step_to(NOW + 300);
        keys.renew().await.unwrap();
        after(&keys, CALM_SECONDS - 1).await;
        let until = |facts: &[KeyFacts]| facts.iter().map(|key| key.life.entered_at).max().unwrap();
        assert!(until(&list(&keys.store, &keys.schedule).await.unwrap()) > NOW + 400 * DAY);
        after(&keys, 1).await;
        assert!(until(&list(&keys.store, &keys.schedule).await.unwrap()) <= clock.now(), "{}", database.kind);
        after(&keys, 2 * DAY + PENDING_SECONDS + CLOCKS_DIFFER).await;
        assert_eq!(states(&keys).await, [Advertised, Destroyed]);
        rotate(&keys.store, &keys.schedule, &[], clock.now()).await.unwrap();
        assert_eq!(states(&keys).await, [Pending, Advertised, Destroyed]);
        after(&keys, PENDING_SECONDS).await;
        assert!(opens(&keys, &old), "the one that was replaced now is accepted as long as any");
        assert_eq!(states(&keys).await, [Advertised, Accepted, Destroyed]);
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

/// One that is behind finds the same as one that is right after one that was ahead.
#[tokio::test]
async fn a_clock_that_is_behind_for_a_while_ends_no_key_sooner() {
    for seconds in [CALM_SECONDS - 1, 2 * CALM_SECONDS] {
        for database in databases().await {
            let clock = Clock::manual(NOW);
            let keys = keys(&database, &clock, &Schedule::default()).await;
            after(&keys, CLOCKS_DIFFER).await;
            let old = sealed(keys.list());
            rotate(&keys.store, &keys.schedule, &[], clock.now()).await.unwrap();
            after(&keys, PENDING_SECONDS).await;
            fall_behind(&keys, seconds).await;
            assert!(opens(&keys, &old), "{} {seconds}", database.kind);
            after(&keys, DAY).await;
            assert!(opens(&keys, &old) && states(&keys).await.contains(&KeyState::Accepted));
            after(&keys, DAY + PENDING_SECONDS + CLOCKS_DIFFER).await;
            assert!(!opens(&keys, &old) && states(&keys).await.contains(&KeyState::Destroyed));
            // And its identifier rests.
            fall_behind(&keys, seconds).await;
            after(&keys, DAY).await;
            assert!(states(&keys).await.contains(&KeyState::Destroyed), "{} {seconds}", database.kind);
            after(&keys, DAY).await;
            assert!(!states(&keys).await.contains(&KeyState::Destroyed));
        }
    }
}

#[tokio::test]
async fn a_clock_that_is_not_that_of_the_database_ends_and_begins_nothing_however_long_it_is_so() {
    let Some(database) = mica_service::testing::postgres().await else { return };
    let (right, schedule) = (Clock::system(), Schedule::default());
    let clock = Clock::manual_with_neighbours(right.now());
    let keys = keys(&database, &clock, &schedule).await;
    assert!(!keys.has_wrong_clock());
    rotate(&keys.store, &schedule, &[], right.now()).await.unwrap();
    clock.step_to(right.now() + 30 * DAY);
    after(&keys, CLOCKS_DIFFER).await;
    after(&keys, DAY).await;
    assert!(keys.has_wrong_clock());
    assert!(states(&keys).await.contains(&KeyState::Pending), "nothing became of it");
    // Set right again, it is believed again.
    clock.step_to(right.now());
    keys.renew().await.unwrap();
    assert!(!keys.has_wrong_clock());
    after(&keys, PENDING_SECONDS).await;
    assert!(states(&keys).await.contains(&KeyState::Accepted), "the one that was replaced");
}

#[tokio::test]
async fn what_a_rotation_made_is_told_although_another_key_is_still_accepted() {
    let (database, clock) = (sqlite(), Clock::manual(NOW));
    let schedule = both(X, Kem::XWing);
    let keys = keys(&database, &clock, &schedule).await;
    rotate(&keys.store, &schedule, &[X], NOW).await.unwrap();
    after(&keys, PENDING_SECONDS).await;
    let refused = rotate(&keys.store, &schedule, &[], clock.now()).await.unwrap_err();
    let made = list(&keys.store, &schedule).await.unwrap();
    let made = made.iter().find(|key| key.life.state == KeyState::Pending).unwrap();
    let told = format!("; made all the same: key {} for {}", made.key_id, Kem::XWing);
    assert!(refused.to_string().ends_with(&told), "{refused}");
}

#[tokio::test]
async fn keys_that_lack_an_identifier_keep_no_other_from_the_database_and_the_log_says_so_once() {
    let (database, clock) = (sqlite(), Clock::manual(NOW));
    let keys = keys(&database, &clock, &Schedule::default()).await;
    let first = advertised(&keys)[0];
    let filled = keys.store.tx("fill", move |mut tx| async move {
        let life = KeyLife {
            state: KeyState::Accepted,
            created_at: NOW,
            entered_at: NOW,
            leaves_at: Some(NOW + 90 * DAY),
            cached_for: DAY,
        };
        for id in (0..=u8::MAX).filter(|id| *id != first) {
            table::insert(&mut tx, (id, X), life).await?;
            table::destroy(&mut tx, id, NOW, NOW + 90 * DAY).await?;
        }
        Ok((tx, ()))
    });
    filled.await.unwrap();
    let turns = Arc::new(Turns::default());
    let keys = Keys { store: keys.store.clone().watched_by(turns.clone()), ..keys };
    after(&keys, 30 * DAY).await;
    assert!(keys.lacks_identifier.load(Ordering::SeqCst));
    keys.renew().await.unwrap();
    assert_eq!(turns.0.load(Ordering::SeqCst), 0, "nobody waits for the lock of the keys for nothing");
}

/// Counts the transactions that turn keys.
#[derive(Default)]
struct Turns(std::sync::atomic::AtomicUsize);

impl mica_service::store::Watch for Turns {
    fn reach(&self, name: &'static str, _: mica_service::store::Moment) -> mica_service::store::Verdict<'_> {
        self.0.fetch_add(usize::from(name == "turn_gateway_keys"), Ordering::SeqCst);
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn how_long_a_history_lasts_follows_from_what_an_entry_takes() {
    for (schedule, lasts) in [
        (both(X, Kem::XWing), true),
        (Schedule::default(), true),
        (Schedule::new(3 * 3_600, 3_600, vec![X, Kem::XWing]).unwrap(), false),
        (Schedule::new(3 * 3_600, 3_600, vec![X]).unwrap(), false),
    ] {
        let keys = keys(&sqlite(), &Clock::manual(NOW), &schedule).await;
        let before = keys.history().len();
        rotate(&keys.store, &schedule, &[], keys.moment().now).await.unwrap();
        after(&keys, PENDING_SECONDS).await;
        let (list, entry) = (keys.list().len(), keys.history().len() - before);
        let estimate = schedule::ENTRY + 2 * list;
        assert!((entry..entry + entry / 4).contains(&estimate), "{entry} {estimate}");
        assert_eq!(schedule.history_lasts(list) >= schedule::LONG_ENOUGH, lasts, "{schedule:?}");
    }
}

/// Every file of the database that holds these bytes.
fn holding(database: &TestDatabase, secret: &[u8]) -> Vec<String> {
    let path = database.url.strip_prefix("sqlite:").unwrap();
    let holds = |file: &String| {
        std::fs::read(file).is_ok_and(|bytes| bytes.windows(secret.len()).any(|window| window == secret))
    };
    ["", "-wal", "-journal", "-shm"]
        .map(|suffix| format!("{path}{suffix}"))
        .into_iter()
        .filter(holds)
        .collect()
}

#[tokio::test]
async fn a_destroyed_secret_is_nowhere_in_the_files_of_the_database() {
    let database = sqlite();
    let schedule = both(X, Kem::XWing);
    let keys = keys(&database, &Clock::manual(NOW), &schedule).await;
    for _ in 0..5 {
        let rows = keys.store.read("secrets", |mut tx| async move {
            let rows = table::keys(&mut tx).await?;
            Ok((tx, rows))
        });
        let rows = rows.await.unwrap();
        let secrets: Vec<Vec<u8>> = rows
            .iter()
            .filter(|row| row.life.state == KeyState::Advertised)
            .map(|row| row.ikm.as_ref().unwrap().as_bytes().to_vec())
            .collect();
        assert!(secrets.len() == 2 && secrets.iter().all(|secret| !holding(&database, secret).is_empty()));
        rotate(&keys.store, &schedule, &[], keys.moment().now).await.unwrap();
        after(&keys, PENDING_SECONDS).await;
        after(&keys, 2 * DAY + PENDING_SECONDS + CLOCKS_DIFFER).await;
        for secret in &secrets {
            assert_eq!(holding(&database, secret), [] as [String; 0]);
        }
    }
}

#[tokio::test]
async fn a_log_that_somebody_reads_in_is_emptied_the_next_time() {
    let database = sqlite();
    let keys = keys(&database, &Clock::manual(NOW), &Schedule::default()).await;
    let log = format!("{}-wal", database.url.strip_prefix("sqlite:").unwrap());
    let length = || std::fs::metadata(&log).map_or(0, |file| file.len());
    let keys = &keys;
    let reading = keys.store.read("hold", move |mut tx| async move {
        let before = table::keys(&mut tx).await?.len();
        rotate(&keys.store, &keys.schedule, &[], NOW).await.unwrap();
        keys.traces.store(true, Ordering::SeqCst);
        keys.scrub().await?;
        assert!(keys.traces.load(Ordering::SeqCst) && length() > 0, "the reader still needs it");
        Ok((tx, before))
    });
    assert_eq!(reading.await.unwrap(), 1);
    keys.scrub().await.unwrap();
    assert!(!keys.traces.load(Ordering::SeqCst) && length() == 0);
}

#[tokio::test]
async fn every_list_is_in_the_history_and_what_is_served_is_its_newest_entry() {
    for database in databases().await {
        let keys = keys(&database, &Clock::manual(NOW), &Schedule::default()).await;
        let mut served = vec![keys.list()];
        for _ in 0..4 {
            after(&keys, 30 * DAY).await;
            after(&keys, PENDING_SECONDS).await;
            served.push(keys.list());
        }
        let history = History::from_json(&keys.history()).unwrap();
        assert_eq!(history.verify(), Ok(()), "{}", database.kind);
        let lists: Vec<Vec<u8>> = history.entries.iter().map(|entry| entry.list.clone()).collect();
        assert_eq!(lists, served);
        let since: Vec<u64> = history.entries.iter().map(|entry| entry.since - NOW).collect();
        let round = 30 * DAY + PENDING_SECONDS;
        assert_eq!(since, [0, round, 2 * round, 3 * round, 4 * round]);
    }
}

#[tokio::test]
async fn the_order_of_kems_is_that_of_the_schedule_once_things_are_calm() {
    let database = sqlite();
    let clock = Clock::manual(NOW);
    let first = |keys: &Keys| KeyConfigList::parse(keys.list()).unwrap().kem();
    let classic = keys(&database, &clock, &both(X, Kem::XWing)).await;
    assert_eq!(first(&classic), X);
    let quantum = keys(&database, &clock, &both(Kem::XWing, X)).await;
    assert_eq!(quantum.list(), classic.list(), "replicas with different settings say the same");
    after(&quantum, CALM_SECONDS).await;
    assert_eq!(first(&quantum), Kem::XWing);
    classic.renew().await.unwrap();
    assert_eq!(quantum.list(), classic.list());
    // A KEM that is not wanted any more ends as a key that is replaced.
    let old = sealed(quantum.list());
    let narrow = keys(&database, &clock, &Schedule::default()).await;
    assert_eq!(narrow.list(), quantum.list(), "one look at a clock ends nothing");
    after(&narrow, CLOCKS_DIFFER).await;
    assert_eq!((advertised(&narrow).len(), first(&narrow)), (1, X));
    assert!(opens(&narrow, &old));
}

#[tokio::test]
async fn a_longer_lifetime_in_caches_counts_from_when_gateway_clients_are_told() {
    let database = sqlite();
    let clock = Clock::manual(NOW);
    let long = Schedule::new(30 * DAY, 5 * DAY, vec![X]).unwrap();
    let keys_long = keys(&database, &clock, &long).await;
    let old = sealed(keys_long.list());
    drop(keys_long);
    let keys = keys(&database, &clock, &Schedule::default()).await;
    rotate(&keys.store, &keys.schedule, &[], NOW).await.unwrap();
    after(&keys, PENDING_SECONDS).await;
    after(&keys, 10 * DAY).await;
    assert!(opens(&keys, &old), "some client was told to keep it for five days");
    after(&keys, PENDING_SECONDS).await;
    assert!(!opens(&keys, &old));
}
