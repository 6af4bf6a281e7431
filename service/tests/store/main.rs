//! The contract of the store, held on both databases.
#![expect(clippy::unwrap_used, reason = "a helper that fails here fails the test that called it")]

mod deaths;
mod lines;
mod opening;
mod races;
mod rows;

use mica_service::store::{Fields, Store, StoreError};
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
