//! Transactions that get in each other's way.

use std::time::Duration;

use mica_service::store::{Dialect, Fields, StoreError, Tx};
use mica_service::testing::databases;

use crate::{MIGRATIONS, available, grant, spend};

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

async fn take(tx: &mut Tx) -> Result<String, StoreError> {
    let lock = tx.for_update_skip_locked();
    let sql = format!("SELECT name FROM grants WHERE state = 'open' ORDER BY id LIMIT 1{lock}");
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_one(tx.connection()).await?;
    Fields::of("grants", &row).text("name")
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
