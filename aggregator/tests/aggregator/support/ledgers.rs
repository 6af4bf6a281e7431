//! What the database of a leader holds, read the way an operator would.

use mica_aggregator::store::{self, batches::BatchState};
use mica_dp::EntryKind;
use sqlx::Row as _;

use super::Server;

impl Server {
    /// When the first of what was put off is due; nothing while all of it is being worked on or nothing is to be done.
    pub(crate) async fn next_try(&self) -> Option<u64> {
        let now = self.clock.now();
        let due = self.numbers(
            "SELECT lease_until AS n FROM aggregation_jobs WHERE state = 'active' AND lease_token IS NULL
             UNION ALL
             SELECT next_try_at AS n FROM collection_jobs
             WHERE state IN ('pending', 'closing', 'reserved', 'abandoned') AND lease_token IS NULL
             UNION ALL
             SELECT not_before AS n FROM segments WHERE job IS NULL",
        );
        due.await.into_iter().filter(|due| *due > now).min()
    }

    /// How many segments and how many active jobs there are.
    pub(crate) async fn unsettled(&self) -> (u64, u64) {
        let segments = self.number("SELECT CAST(COUNT(*) AS BIGINT) AS n FROM segments").await;
        let jobs =
            self.number("SELECT CAST(COUNT(*) AS BIGINT) AS n FROM aggregation_jobs WHERE state = 'active'");
        (segments, jobs.await)
    }

    /// Why jobs that are not settled are not.
    pub(crate) async fn troubles(&self) -> Vec<String> {
        let troubles = self.store.read("troubles", |mut tx| async move {
            let rows = sqlx::query(
                "SELECT last_error FROM aggregation_jobs WHERE state = 'active' AND last_error IS NOT NULL",
            )
            .fetch_all(tx.connection())
            .await?;
            Ok((tx, rows.iter().map(|row| row.get::<String, _>(0)).collect::<Vec<_>>()))
        });
        troubles.await.expect("the database answers")
    }

    /// Why collections are not at their end.
    pub(crate) async fn troubles_of_collections(&self) -> Vec<String> {
        let troubles = self.store.read("troubles", |mut tx| async move {
            let query = sqlx::query("SELECT last_error FROM collection_jobs WHERE last_error IS NOT NULL");
            let rows = query.fetch_all(tx.connection()).await?;
            Ok((tx, rows.iter().map(|row| row.get::<String, _>(0)).collect::<Vec<_>>()))
        });
        troubles.await.expect("the database answers")
    }

    /// The same in one word each.
    pub(crate) async fn reasons(&self) -> Vec<String> {
        let reasons = self.store.read("reasons", |mut tx| async move {
            let rows = sqlx::query(
                "SELECT reason FROM aggregation_jobs WHERE state = 'active' AND reason IS NOT NULL ORDER BY id",
            )
            .fetch_all(tx.connection())
            .await?;
            Ok((tx, rows.iter().map(|row| row.get::<String, _>(0)).collect::<Vec<_>>()))
        });
        reasons.await.expect("the database answers")
    }

    /// How many active jobs the helper may have counted.
    pub(crate) async fn in_doubt(&self) -> u64 {
        let query = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM aggregation_jobs WHERE state = 'active' AND in_doubt = 1";
        self.number(query).await
    }

    /// The states of the releases, in the order they were made.
    pub(crate) async fn releases(&self) -> Vec<String> {
        let states = self.store.read("releases", |mut tx| async move {
            let rows =
                sqlx::query("SELECT state FROM releases ORDER BY id").fetch_all(tx.connection()).await?;
            Ok((tx, rows.iter().map(|row| row.get::<String, _>(0)).collect::<Vec<_>>()))
        });
        states.await.expect("the database answers")
    }

    /// The sealed share of the only release.
    pub(crate) async fn sealed_share(&self) -> Vec<u8> {
        let share = self.store.read("sealed_share", |mut tx| async move {
            let row = sqlx::query("SELECT sealed_share FROM releases").fetch_one(tx.connection()).await?;
            Ok((tx, row.get::<Vec<u8>, _>(0)))
        });
        share.await.expect("the database answers")
    }

    /// The batches, the oldest first: their states, how often each was refused, and how many reports are verified in it.
    pub(crate) async fn batches(&self) -> Vec<(BatchState, u64, u64)> {
        let batches = self.store.read("batches", |mut tx| async move {
            let task = store::tasks::all_tasks(&mut tx).await?[0].key;
            let mut batches = Vec::new();
            for row in store::batches::of_task(&mut tx, task, 1_000).await? {
                let reports = store::report_count(&mut tx, task, row.batch).await?;
                batches.push((row.state, row.refusals, reports));
            }
            Ok((tx, batches))
        });
        batches.await.expect("the database answers")
    }

    /// How many buckets still hold a share.
    pub(crate) async fn unscrubbed(&self) -> u64 {
        self.number("SELECT CAST(COUNT(*) AS BIGINT) AS n FROM buckets WHERE share IS NOT NULL").await
    }

    /// What was written in the ledger, in order.
    pub(crate) async fn entries(&self) -> Vec<EntryKind> {
        let entries = self.store.read("entries", |mut tx| async move {
            let entries = store::ledger::entries(&mut tx).await?;
            Ok((tx, entries))
        });
        entries.await.expect("the database answers").iter().map(|entry| entry.kind).collect()
    }

    async fn number(&self, query: &'static str) -> u64 {
        self.numbers(query).await[0]
    }

    async fn numbers(&self, query: &'static str) -> Vec<u64> {
        let numbers = self.store.read("numbers", move |mut tx| async move {
            let rows = sqlx::query(query).fetch_all(tx.connection()).await?;
            Ok((tx, rows.iter().map(|row| row.get::<i64, _>("n")).collect::<Vec<_>>()))
        });
        let numbers = numbers.await.expect("the database answers");
        numbers.into_iter().map(|number| u64::try_from(number).expect("not negative")).collect()
    }
}
