//! Statements that are transactions by themselves, on a connection of their own.

use mica_service::store::{Dialect, Fields, Line, StoreError};
use mica_service::testing::databases;

use crate::{MIGRATIONS, available, grant};

async fn take(line: &Line, id: i64, many: i64) -> Result<u64, StoreError> {
    let statement = "UPDATE grants SET available = available - $1 WHERE id = $2 AND available >= $1";
    line.execute("take", || sqlx::query(statement).bind(many).bind(id)).await
}

#[tokio::test]
async fn a_statement_on_a_line_is_committed_when_it_returns() {
    for database in databases().await {
        let store = database.open(&MIGRATIONS).await.unwrap();
        let id = grant(&store, "lines", 5).await.unwrap();
        let line = store.line();
        assert_eq!(take(&line, id, 2).await, Ok(1), "{}", database.kind);
        assert_eq!(take(&line, id, 4).await, Ok(0), "{}: no row to write", database.kind);
        let statement = "UPDATE grants SET available = available - 1 WHERE id = $1 RETURNING available";
        let rows = line.fetch_all("return", || sqlx::query(statement).bind(id)).await.unwrap();
        let left: Vec<i64> =
            rows.iter().map(|row| Fields::of("grants", row).integer("available").unwrap()).collect();
        assert_eq!(left, [2], "{}", database.kind);
        let other = database.open(&MIGRATIONS).await.unwrap();
        assert_eq!(available(&other, id).await, 2, "{}", database.kind);
    }
}

#[tokio::test]
async fn a_statement_that_is_refused_leaves_its_line_as_it_was() {
    for database in databases().await {
        let store = database.open(&MIGRATIONS).await.unwrap();
        let id = grant(&store, "lines", 5).await.unwrap();
        let line = store.line();
        let refused = line.execute("refused", || sqlx::query("INSERT INTO nowhere (a) VALUES (1)")).await;
        assert!(matches!(refused, Err(StoreError::Database(_))), "{}: {refused:?}", database.kind);
        assert_eq!(take(&line, id, 1).await, Ok(1), "{}", database.kind);
    }
}

#[tokio::test]
async fn a_line_whose_connection_was_ended_opens_another() {
    for database in databases().await {
        let store = database.open(&MIGRATIONS).await.unwrap();
        if store.dialect() == Dialect::Sqlite {
            continue;
        }
        let id = grant(&store, "lines", 5).await.unwrap();
        let line = store.line();
        let whoami = "SELECT CAST(pg_backend_pid() AS BIGINT) AS pid";
        let rows = line.fetch_all("whoami", || sqlx::query(whoami)).await.unwrap();
        let pid = Fields::of("pg_stat_activity", rows.first().unwrap()).integer("pid").unwrap();
        let end = "SELECT pg_terminate_backend(CAST($1 AS INTEGER), 10000)";
        store.line().fetch_all("end", || sqlx::query(end).bind(pid)).await.unwrap();
        assert_eq!(take(&line, id, 1).await, Ok(1));
        assert_eq!(available(&store, id).await, 4);
    }
}

#[tokio::test]
async fn a_store_that_is_closed_closes_its_lines() {
    for database in databases().await {
        let store = database.open(&MIGRATIONS).await.unwrap();
        let id = grant(&store, "lines", 5).await.unwrap();
        let line = store.line();
        assert_eq!(take(&line, id, 1).await, Ok(1));
        store.close().await;
        assert!(take(&line, id, 1).await.is_err(), "{}", database.kind);
        if let Some(file) = database.url.strip_prefix("sqlite:") {
            let log = std::path::PathBuf::from(format!("{file}-wal"));
            assert!(!log.exists(), "the last connection folds the log into the file");
        }
        let store = database.open(&MIGRATIONS).await.unwrap();
        assert_eq!(available(&store, id).await, 4, "{}", database.kind);
    }
}
