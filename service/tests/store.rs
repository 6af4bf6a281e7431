//! The contract of the store, held on both databases.

use std::time::Duration;

use mica_service::store::{Dialect, Fields, Store, StoreError, Tx, signed};
use mica_service::testing::{TestDatabase, databases, sqlite};
use sqlx::migrate::Migrator;

static MIGRATIONS: Migrator = sqlx::migrate!("tests/migrations");

async fn grant(store: &Store, name: &'static str, available: i64) -> Result<i64, StoreError> {
    store
        .tx("grant", move |mut tx| async move {
            let row = sqlx::query("INSERT INTO grants (name, available) VALUES ($1, $2) RETURNING id")
                .bind(name)
                .bind(available)
                .fetch_one(tx.connection())
                .await?;
            let id = Fields::of("grants", &row).integer("id")?;
            Ok((tx, id))
        })
        .await
}

async fn available(store: &Store, id: i64) -> i64 {
    store
        .read("available", move |mut tx| async move {
            let row = sqlx::query("SELECT available FROM grants WHERE id = $1")
                .bind(id)
                .fetch_one(tx.connection())
                .await?;
            let available = Fields::of("grants", &row).integer("available")?;
            Ok((tx, available))
        })
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_tasks_racing_for_ten_grants_get_exactly_ten() {
    for database in databases().await {
        // Two replicas, so that SQLite's own lock is raced for as well as our line of writers.
        let (store, replica) =
            (database.open(&MIGRATIONS).await.unwrap(), database.open(&MIGRATIONS).await.unwrap());
        let id = grant(&store, "racing", 10).await.unwrap();
        let racers: Vec<_> = (0..20_i64)
            .map(|task| {
                let store = if task % 2 == 0 { store.clone() } else { replica.clone() };
                tokio::spawn(async move { spend(&store, id, task).await.unwrap() })
            })
            .collect();
        let mut granted = 0;
        for racer in racers {
            granted += i64::from(racer.await.unwrap());
        }
        assert_eq!(granted, 10, "{}", database.kind);
        assert_eq!(available(&store, id).await, 0, "{}", database.kind);
    }
}

async fn spend(store: &Store, id: i64, task: i64) -> Result<bool, StoreError> {
    store
        .tx("spend", move |mut tx| async move {
            let changed =
                sqlx::query("UPDATE grants SET available = available - 1 WHERE id = $1 AND available > 0")
                    .bind(id)
                    .execute(tx.connection())
                    .await?
                    .rows_affected();
            if changed == 1 {
                sqlx::query("INSERT INTO spent (grant_id, task) VALUES ($1, $2)")
                    .bind(id)
                    .bind(task)
                    .execute(tx.connection())
                    .await?;
            }
            Ok((tx, changed == 1))
        })
        .await
}

#[tokio::test]
async fn a_transaction_that_dies_leaves_no_trace() {
    for database in databases().await {
        let store = database.open(&MIGRATIONS).await.unwrap();
        let id = grant(&store, "dying", 5).await.unwrap();
        let (reached, wait) = tokio::sync::oneshot::channel::<()>();
        let mut reached = Some(reached);
        let dying = tokio::spawn({
            let store = store.clone();
            async move {
                store
                    .tx("dying", |mut tx| {
                        let reached = reached.take();
                        async move {
                            sqlx::query("UPDATE grants SET available = 0").execute(tx.connection()).await?;
                            drop(reached);
                            std::future::pending::<()>().await;
                            Ok((tx, ()))
                        }
                    })
                    .await
            }
        });
        assert!(wait.await.is_err(), "dropped when the row is written");
        dying.abort();
        assert!(dying.await.unwrap_err().is_cancelled());
        assert_eq!(available(&store, id).await, 5, "{}", database.kind);
        assert!(spend(&store, id, 1).await.unwrap(), "{}: the writer is free again", database.kind);
    }
}

#[tokio::test]
async fn an_error_rolls_back_and_an_abandoned_transaction_keeps_its_answer() {
    for database in databases().await {
        let store = database.open(&MIGRATIONS).await.unwrap();
        let id = grant(&store, "refused", 5).await.unwrap();
        let failed: Result<(), StoreError> = store
            .tx("failing", move |mut tx| async move {
                sqlx::query("UPDATE grants SET available = 0").execute(tx.connection()).await?;
                Err(StoreError::OutOfRange)
            })
            .await;
        assert_eq!(failed, Err(StoreError::OutOfRange));
        let answer = store
            .tx("abandoning", move |mut tx| async move {
                sqlx::query("UPDATE grants SET available = 1").execute(tx.connection()).await?;
                tx.wake("grants");
                tx.abandon();
                Ok((tx, "no"))
            })
            .await;
        assert_eq!(answer, Ok("no"));
        assert_eq!(available(&store, id).await, 5, "{}", database.kind);
    }
}

#[tokio::test]
async fn a_second_grant_of_the_same_name_is_a_conflict() {
    for database in databases().await {
        let store = database.open(&MIGRATIONS).await.unwrap();
        grant(&store, "twice", 1).await.unwrap();
        let second = grant(&store, "twice", 1).await;
        assert!(matches!(second, Err(StoreError::Conflict { .. })), "{}: {second:?}", database.kind);
        let negative = grant(&store, "negative", -1).await;
        assert!(matches!(negative, Err(StoreError::Conflict { .. })), "{}: {negative:?}", database.kind);
    }
}

#[tokio::test]
async fn contended_transactions_run_again_a_bounded_number_of_times() {
    for database in databases().await {
        let store = database.open(&MIGRATIONS).await.unwrap();
        let mut runs = 0;
        let third = store
            .tx("third", |tx| {
                runs += 1;
                let run = runs;
                async move { if run < 3 { Err(StoreError::Contended) } else { Ok((tx, run)) } }
            })
            .await;
        assert_eq!(third, Ok(3));
        let mut runs = 0;
        let never: Result<(), _> = store
            .tx("never", |_| {
                runs += 1;
                async { Err(StoreError::Contended) }
            })
            .await;
        assert_eq!(never, Err(StoreError::Contended));
        assert!((4..100).contains(&runs), "{runs}");
    }
}

#[tokio::test]
async fn reading_cannot_write() {
    for database in databases().await {
        let store = database.open(&MIGRATIONS).await.unwrap();
        let written: Result<(), StoreError> = store
            .read("writing", |mut tx| async move {
                sqlx::query("DELETE FROM grants").execute(tx.connection()).await?;
                Ok((tx, ()))
            })
            .await;
        assert!(written.is_err(), "{}", database.kind);
        store.ping().await.unwrap();
    }
}

#[tokio::test]
async fn many_rows_go_in_with_few_statements_and_replays_are_counted_out() {
    for database in databases().await {
        let store = database.open(&MIGRATIONS).await.unwrap();
        let id = grant(&store, "bulk", 1).await.unwrap();
        let tasks: Vec<i64> = (0..1_339).collect();
        let insert = ("INSERT INTO spent (grant_id, task)", "ON CONFLICT DO NOTHING");
        let returning = ("INSERT INTO spent (grant_id, task)", "ON CONFLICT DO NOTHING RETURNING task");
        let tasks = &tasks;
        let (first, second, new) = store
            .tx("bulk", move |mut tx| async move {
                let early = tasks.get(..700).unwrap_or_default();
                let first = tx.insert_many(insert, 2, early, |q, task| q.bind(id).bind(*task)).await?;
                let second = tx.insert_many(insert, 2, tasks, |q, task| q.bind(id).bind(*task)).await?;
                let again = [5_i64, 2_000];
                let new =
                    tx.insert_many_returning(returning, 2, &again, |q, task| q.bind(id).bind(*task)).await?;
                let new: Result<Vec<i64>, _> =
                    new.iter().map(|row| Fields::of("spent", row).integer("task")).collect();
                Ok((tx, (first, second, new?)))
            })
            .await
            .unwrap();
        assert_eq!((first, second, new), (700, 639, vec![2_000]), "{}", database.kind);
    }
}

#[tokio::test]
async fn columns_that_make_no_sense_are_corrupt_and_not_zero() {
    for database in databases().await {
        let store = database.open(&MIGRATIONS).await.unwrap();
        grant(&store, "columns", 1).await.unwrap();
        let corrupt = |column: &str| StoreError::corrupt("grants", column);
        store
            .read("columns", move |mut tx| async move {
                let row = sqlx::query(
                    "SELECT id, name, available, token, state, -available AS negative,
                        CAST(SUM(available) OVER () AS BIGINT) AS total FROM grants",
                )
                .fetch_one(tx.connection())
                .await?;
                let fields = Fields::of("grants", &row);
                assert_eq!(fields.text("name")?, "columns");
                assert_eq!(fields.unsigned("total")?, 1);
                assert_eq!(fields.optional_bytes("token")?, None);
                assert_eq!(fields.bytes("token"), Err(corrupt("token")));
                assert_eq!(fields.integer("token"), Err(corrupt("token")));
                assert_eq!(fields.unsigned("negative"), Err(corrupt("negative")));
                assert_eq!(fields.integer("name"), Err(corrupt("name")));
                assert_eq!(fields.parsed::<u32>("state"), Err(corrupt("state")));
                assert_eq!(fields.integer("nowhere"), Err(corrupt("nowhere")));
                Ok((tx, ()))
            })
            .await
            .unwrap();
        assert_eq!(signed(u64::MAX), Err(StoreError::OutOfRange));
    }
}

#[tokio::test]
async fn rows_taken_by_one_worker_are_passed_over_by_the_next() {
    for database in databases().await {
        let store = database.open(&MIGRATIONS).await.unwrap();
        if store.dialect() == Dialect::Sqlite {
            // One writer: there is no second worker to pass over anything.
            continue;
        }
        grant(&store, "first", 1).await.unwrap();
        grant(&store, "second", 1).await.unwrap();
        let other = &store;
        let taken = store
            .tx("outer", move |mut tx| async move {
                let mine = take(&mut tx).await?;
                let theirs = other.tx("inner", |mut tx| async move {
                    let name = take(&mut tx).await?;
                    Ok((tx, name))
                });
                let theirs = theirs.await?;
                Ok((tx, (mine, theirs)))
            })
            .await
            .unwrap();
        assert_eq!(taken, ("first".to_owned(), "second".to_owned()));
    }
}

#[tokio::test]
async fn two_transactions_that_lock_each_other_out_both_succeed_in_the_end() {
    for database in databases().await {
        let store = database.open(&MIGRATIONS).await.unwrap();
        let ids = [grant(&store, "left", 10).await.unwrap(), grant(&store, "right", 10).await.unwrap()];
        let crossing = |first: i64, second: i64| {
            let store = store.clone();
            tokio::spawn(async move {
                store
                    .tx("crossing", move |mut tx| async move {
                        lower(&mut tx, first).await?;
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        lower(&mut tx, second).await?;
                        Ok((tx, ()))
                    })
                    .await
            })
        };
        let (one, other) = (crossing(ids[0], ids[1]), crossing(ids[1], ids[0]));
        one.await.unwrap().unwrap();
        other.await.unwrap().unwrap();
        for id in ids {
            assert_eq!(available(&store, id).await, 8, "{}", database.kind);
        }
    }
}

async fn lower(tx: &mut Tx, id: i64) -> Result<(), StoreError> {
    let query = sqlx::query("UPDATE grants SET available = available - 1 WHERE id = $1");
    query.bind(id).execute(tx.connection()).await?;
    Ok(())
}

#[tokio::test]
async fn connections_that_the_server_closed_meanwhile_are_replaced() {
    for database in databases().await {
        let store = database.open(&MIGRATIONS).await.unwrap();
        let id = grant(&store, "closed", 2).await.unwrap();
        if store.dialect() == Dialect::Postgres {
            // From a connection of its own; it closes those that the store keeps for later.
            let other = database.open(&MIGRATIONS).await.unwrap();
            let closed = other.tx("closing", |mut tx| async move {
                sqlx::query(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid()",
                )
                .execute(tx.connection())
                .await?;
                Ok((tx, ()))
            });
            closed.await.unwrap();
        }
        assert!(spend(&store, id, 1).await.unwrap(), "{}", database.kind);
    }
}

async fn take(tx: &mut Tx) -> Result<String, StoreError> {
    let lock = tx.for_update_skip_locked();
    let sql = format!("SELECT name FROM grants WHERE state = 'open' ORDER BY id LIMIT 1{lock}");
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_one(tx.connection()).await?;
    Fields::of("grants", &row).text("name")
}

#[tokio::test]
async fn a_commit_wakes_those_who_sleep() {
    for database in databases().await {
        let store = database.open(&MIGRATIONS).await.unwrap();
        let mut sleeper = store.wake().sleeper("grants");
        store
            .tx("waking", |mut tx| async move {
                tx.wake("grants");
                Ok((tx, ()))
            })
            .await
            .unwrap();
        assert!(sleeper.sleep(Duration::from_secs(30)).await, "{}", database.kind);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_processes_may_start_at_once_on_an_empty_database() {
    for database in databases().await {
        let starts: Vec<_> = (0..6)
            .map(|_| {
                let url = database.url.clone();
                tokio::spawn(async move { Store::open(&url, &MIGRATIONS).await })
            })
            .collect();
        for start in starts {
            let store = start.await.unwrap().unwrap();
            assert_eq!(store.schema_version(), 2, "{}", database.kind);
        }
    }
}

#[tokio::test]
async fn what_is_stored_is_there_after_a_restart() {
    for database in databases().await {
        let store = database.open(&MIGRATIONS).await.unwrap();
        let id = grant(&store, "kept", 3).await.unwrap();
        store.close().await;
        let store = database.open(&MIGRATIONS).await.unwrap();
        assert_eq!(available(&store, id).await, 3, "{}", database.kind);
    }
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() {
    for database in databases().await {
        database.open(&MIGRATIONS).await.unwrap().close().await;
        let older = older();
        let refused = database.open(&older).await.unwrap_err();
        assert_eq!(refused, StoreError::NewerSchema { found: 2, supported: 1 }, "{}", database.kind);
        assert!(refused.to_string().contains("run the newer program"));
    }
}

#[tokio::test]
async fn an_altered_migration_is_refused() {
    for database in databases().await {
        open_older(&database).await;
        let mut altered: Vec<_> = MIGRATIONS.iter().cloned().collect();
        altered[0].checksum = b"another file".as_slice().into();
        let refused = database.open(&Migrator::with_migrations(altered)).await.unwrap_err();
        assert_eq!(refused, StoreError::AlteredSchema { version: 1 }, "{}", database.kind);
    }
}

#[tokio::test]
async fn an_older_database_is_brought_up_to_date() {
    for database in databases().await {
        let id = open_older(&database).await;
        let store = database.open(&MIGRATIONS).await.unwrap();
        assert!(spend(&store, id, 1).await.unwrap(), "{}", database.kind);
    }
}

async fn open_older(database: &TestDatabase) -> i64 {
    let store = database.open(&older()).await.unwrap();
    let id = grant(&store, "older", 1).await.unwrap();
    store.close().await;
    id
}

fn older() -> Migrator {
    Migrator::with_migrations(MIGRATIONS.iter().filter(|migration| migration.version == 1).cloned().collect())
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_named_in_one_sentence() {
    let refused = Store::open("sqlite:/nowhere/at/all/test.db", &MIGRATIONS).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "cannot write the database /nowhere/at/all/test.db: there is no folder /nowhere/at/all; \
         create it or choose another path"
    );
    for path in ["/proc/self/test.db", "/dev/null/test.db"] {
        let refused = Store::open(&format!("sqlite:{path}"), &MIGRATIONS).await.unwrap_err();
        assert!(matches!(refused, StoreError::Unwritable(_)), "{refused:?}");
        assert!(refused.to_string().starts_with(&format!("cannot write the database {path}: ")), "{refused}");
    }
}

#[tokio::test]
async fn a_url_that_is_none_is_refused_without_repeating_it() {
    for url in ["", "mysql://u:secret@h/d", "sqlite:", "sqlite::memory:", "postgres://u:sec/ret@[h/d"] {
        let refused = Store::open(url, &MIGRATIONS).await.unwrap_err();
        assert!(matches!(refused, StoreError::BadUrl(_)), "{url}: {refused:?}");
        assert!(!refused.to_string().contains("sec"), "{refused}");
    }
    let refused = Store::open("postgres://127.0.0.1:1/nothing", &MIGRATIONS).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unreachable(_)), "{refused:?}");
}

#[tokio::test]
async fn paths_of_sqlite_are_taken_literally() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["with space.db", "with%20percent.db", "with#hash.db", "ümläut.db"] {
        let path = folder.path().join(name);
        let url = format!("sqlite://{}", path.display());
        Store::open(&url, &MIGRATIONS).await.unwrap().close().await;
        assert!(path.metadata().unwrap().len() > 0, "{name}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_read_an_sqlite_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let database = sqlite();
    let store = database.open(&MIGRATIONS).await.unwrap();
    grant(&store, "private", 1).await.unwrap();
    let path = database.url.strip_prefix("sqlite:").unwrap().to_owned();
    for file in [path.clone(), format!("{path}-wal"), format!("{path}-shm")] {
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o077, 0, "{file}");
    }
}
