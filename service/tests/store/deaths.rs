//! Transactions that do not reach their end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mica_service::store::{Dialect, Store, StoreError};
use mica_service::testing::databases;

use crate::{MIGRATIONS, available, grant, spend};

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
async fn what_is_left_until_after_the_commit_happens_once_and_only_then() {
    for database in databases().await {
        let store = database.open(&MIGRATIONS).await.unwrap();
        let told = Arc::new(AtomicU64::new(0));
        let attempts = AtomicU64::new(0);
        let (tell, tried) = (&told, &attempts);
        let committed = store.tx("tells", move |mut tx| async move {
            let told = Arc::clone(tell);
            tx.after_commit(move || {
                told.fetch_add(1, Ordering::SeqCst);
            });
            assert_eq!(tell.load(Ordering::SeqCst), 0, "nothing is committed yet");
            if tried.fetch_add(1, Ordering::SeqCst) == 0 { Err(StoreError::Contended) } else { Ok((tx, ())) }
        });
        committed.await.unwrap();
        assert_eq!((attempts.into_inner(), told.load(Ordering::SeqCst)), (2, 1), "{}", database.kind);
        let abandoned = store.tx("abandons", move |mut tx| async move {
            let told = Arc::clone(tell);
            tx.after_commit(move || {
                told.fetch_add(1, Ordering::SeqCst);
            });
            tx.abandon();
            Ok((tx, ()))
        });
        abandoned.await.unwrap();
        assert_eq!(told.load(Ordering::SeqCst), 1, "{}", database.kind);
    }
}

#[tokio::test]
async fn a_process_killed_in_a_transaction_leaves_no_trace() {
    for database in databases().await {
        let store = database.open(&MIGRATIONS).await.unwrap();
        let id = grant(&store, "killed", 5).await.unwrap();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "deaths::writes_and_waits_to_be_killed", "--nocapture"])
            .env(CHILD, &database.url)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let output = std::io::BufReader::new(child.stdout.take().unwrap());
        let written =
            std::io::BufRead::lines(output).any(|line| line.is_ok_and(|line| line.contains(WRITTEN)));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(written, "{}: the child wrote its row", database.kind);
        assert_eq!(available(&store, id).await, 5, "{}", database.kind);
        assert!(spend(&store, id, 1).await.unwrap(), "{}: the writer is free again", database.kind);
    }
}

/// The other process of the test above; by itself it has nothing to do.
#[tokio::test]
async fn writes_and_waits_to_be_killed() {
    let Ok(url) = std::env::var(CHILD) else { return };
    let store = Store::open(&url, &MIGRATIONS).await.unwrap();
    let killed: Result<(), StoreError> = store
        .tx("killed", |mut tx| async move {
            sqlx::query("UPDATE grants SET available = 0").execute(tx.connection()).await?;
            println!("{WRITTEN}");
            tokio::time::sleep(Duration::from_secs(30)).await;
            Err(StoreError::OutOfRange)
        })
        .await;
    assert!(killed.is_err());
}

const CHILD: &str = "MICA_TEST_CHILD_DATABASE";
const WRITTEN: &str = "the row is written";

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
