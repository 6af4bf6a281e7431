//! What goes into rows and comes out of them.

use mica_service::store::{Fields, StoreError, signed};
use mica_service::testing::databases;

use crate::{MIGRATIONS, grant};

#[tokio::test]
async fn nulls_go_in_and_come_out_as_nulls() {
    for database in databases().await {
        let store = database.open(&MIGRATIONS).await.unwrap();
        let tokens = [None, Some(vec![]), Some(vec![0, 255, 1])];
        let tokens = &tokens;
        let read = store
            .tx("nulls", |mut tx| async move {
                let insert = ("INSERT INTO grants (name, available, token)", "");
                let inserted = tx.insert_many(insert, 3, tokens, |query, token| {
                    query.bind(format!("{token:?}")).bind(1_i64).bind(token.as_deref())
                });
                assert_eq!(inserted.await?, 3);
                let rows = sqlx::query("SELECT token FROM grants ORDER BY id");
                let rows = rows.fetch_all(tx.connection()).await?;
                let read: Result<Vec<_>, _> =
                    rows.iter().map(|row| Fields::of("grants", row).optional_bytes("token")).collect();
                Ok((tx, read?))
            })
            .await
            .unwrap();
        assert_eq!(read, tokens, "{}", database.kind);
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
                        CAST(SUM(available) OVER () AS BIGINT) AS total,
                        CAST(NULL AS BIGINT) AS missing FROM grants",
                )
                .fetch_one(tx.connection())
                .await?;
                let fields = Fields::of("grants", &row);
                assert_eq!(fields.text("name")?, "columns");
                assert_eq!(fields.unsigned("total")?, 1);
                assert_eq!(fields.optional_bytes("token")?, None);
                assert_eq!(fields.optional_unsigned("missing")?, None);
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
