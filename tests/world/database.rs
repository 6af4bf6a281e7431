//! Looks into the database of a running or a dead server.

use mica_aggregator::store::{self, Store, ledger};
use mica_dp::LedgerEntry;

use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Row as _};

/// The database of one role.
pub struct Database {
    url: String,
    connection: AnyConnection,
}

impl Database {
    /// Opens `sqlite:PATH` or `postgres://..`.
    pub async fn open(url: &str) -> Self {
        sqlx::any::install_default_drivers();
        let connection = AnyConnection::connect(url).await.expect("the database of a server can be opened");
        Self { url: url.to_owned(), connection }
    }

    /// The first column of the first row, a number.
    pub async fn number(&mut self, query: &str) -> u64 {
        let row = sqlx::query(AssertSqlSafe(query)).fetch_one(&mut self.connection).await;
        let number: i64 =
            row.and_then(|row| row.try_get(0)).unwrap_or_else(|error| panic!("{query}: {error}"));
        number.try_into().unwrap_or_else(|_| panic!("{query}: {number}"))
    }

    /// The first column of every row, bytes.
    pub async fn bytes(&mut self, query: &str) -> Vec<Vec<u8>> {
        let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(&mut self.connection).await;
        let rows = rows.unwrap_or_else(|error| panic!("{query}: {error}"));
        rows.iter().map(|row| row.try_get(0).expect("a column of bytes")).collect()
    }

    /// Whether there is such a table, in an SQLite file.
    pub async fn has_table(&mut self, table: &str) -> bool {
        let query = format!("SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = '{table}'");
        self.number(&query).await > 0
    }

    /// Changes something that no server would.
    pub async fn execute(&mut self, statement: &str) {
        let done = sqlx::query(AssertSqlSafe(statement)).execute(&mut self.connection).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// How many reports of all tasks met this end.
    pub async fn tally(&mut self, outcome: &str) -> u64 {
        self.number(&format!(
            "SELECT CAST(COALESCE(SUM(reports), 0) AS BIGINT) FROM tallies WHERE outcome = '{outcome}'"
        ))
        .await
    }

    /// How many report identifiers an aggregator remembers.
    pub async fn report_ids(&mut self) -> u64 {
        self.number("SELECT CAST(COUNT(*) AS BIGINT) FROM report_ids").await
    }

    /// The ledger of an aggregator, after its chain was checked.
    pub async fn verified_ledger(&self) -> Vec<LedgerEntry> {
        let store = Store::open(&self.url, store::migrator()).await.expect("the database of an aggregator");
        let entries = store
            .read("ledger", |mut tx| async move {
                let entries = ledger::entries(&mut tx).await?;
                Ok((tx, entries))
            })
            .await
            .expect("a ledger that can be read");
        store.close().await;
        mica_dp::ledger::verify_chain(&entries).expect("an unbroken chain");
        entries
    }
}
