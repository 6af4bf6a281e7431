//! The database of a role: open it, bring its schema up to date, run transactions on it.
//!
//! One schema and one set of queries serve SQLite and PostgreSQL. Queries are static text with `$1`;
//! numbers are `i64`, everything else is text or bytes. The tables belong to the roles; this module only
//! knows how to open, migrate, commit and retry, and must never learn what a row means.

mod bulk;
mod dialect;
mod error;
mod fields;
#[cfg(feature = "testing")]
mod fuse;
mod line;
mod open;
mod tx;

use std::time::Duration;

use sqlx::AnyPool;
use sqlx::migrate::Migrator;

pub use self::bulk::Bound;
pub use self::dialect::Dialect;
pub use self::error::StoreError;
pub use self::fields::{Fields, signed};
#[cfg(feature = "testing")]
pub use self::fuse::{Moment, Verdict, Watch};
pub use self::line::Line;
pub use self::tx::Tx;
use crate::wake::Wake;

/// The database of one role. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Store {
    dialect: Dialect,
    /// Of SQLite: the one connection that writes. Whoever waits for it waits in line.
    writers: AnyPool,
    readers: AnyPool,
    /// Connections of their own, beside these.
    lines: line::Lines,
    wake: Wake,
    schema_version: i64,
    #[cfg(feature = "testing")]
    fuse: fuse::Fuse,
}

/// How many connections a store may hold, and how long a transaction waits for one.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Connections to PostgreSQL, or reading connections to SQLite (which has exactly one that writes).
    pub max_connections: u32,
    /// How long a transaction waits for a connection before it fails as contended.
    pub acquire_timeout: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { max_connections: 16, acquire_timeout: Duration::from_secs(20) }
    }
}

impl Store {
    /// Opens the database at `url` (`sqlite:PATH`, `sqlite://PATH` or `postgres://..`), creates the file
    /// of an SQLite database, and applies the migrations that are missing.
    pub async fn open(url: &str, migrator: &Migrator) -> Result<Self, StoreError> {
        Self::open_with(url, migrator, &StoreOptions::default()).await
    }

    /// As [`Store::open`], with other limits.
    pub async fn open_with(
        url: &str,
        migrator: &Migrator,
        options: &StoreOptions,
    ) -> Result<Self, StoreError> {
        open::open(url, migrator, options).await
    }

    /// Opens the database at `url` as it is, for those who only look: creates nothing and migrates nothing, so that it
    /// may be used beside a server of another version. Nothing when there is no database yet.
    pub async fn open_to_read(url: &str, migrator: &Migrator) -> Result<Option<Self>, StoreError> {
        open::open_to_read(url, migrator, &StoreOptions::default()).await
    }

    /// Which database answers.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The newest migration that is applied; 0 when there is none.
    pub fn schema_version(&self) -> i64 {
        self.schema_version
    }

    /// The newest migration that the database says is applied, now.
    pub async fn applied_version(&self) -> Result<i64, StoreError> {
        self.read("applied_version", |mut tx| async move {
            let newest = "-- applied_version
                SELECT CAST(COALESCE(MAX(version), 0) AS BIGINT) FROM _sqlx_migrations";
            let row = sqlx::query(newest).fetch_one(tx.connection()).await?;
            let version = sqlx::Row::try_get(&row, 0)?;
            Ok((tx, version))
        })
        .await
    }

    /// The wake-ups of this store: [`Tx::wake`] calls them after the commit.
    pub fn wake(&self) -> &Wake {
        &self.wake
    }

    /// Does the database answer?
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.readers).await?;
        Ok(())
    }

    /// What the clock of the database shows, in seconds since 1970. SQLite has none of its own.
    pub async fn time(&self) -> Result<Option<u64>, StoreError> {
        if self.dialect == Dialect::Sqlite {
            return Ok(None);
        }
        let statement = "-- time\nSELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT) AS now";
        let row = sqlx::query(statement).fetch_one(&self.readers).await?;
        Fields::of("clock_timestamp", &row).unsigned("now").map(Some)
    }

    /// After a secret was erased from a row: empties the write-ahead log of SQLite, where the page may be as it was
    /// before. Tells whether it is done; not while somebody reads in it. PostgreSQL keeps its own time (VACUUM).
    pub async fn scrub(&self) -> Result<bool, StoreError> {
        if self.dialect == Dialect::Postgres {
            return Ok(true);
        }
        let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&self.writers).await?;
        let busy: i64 = sqlx::Row::try_get(&row, 0)?;
        Ok(busy == 0)
    }

    /// Waits for running transactions and closes every connection. On SQLite the write-ahead log is
    /// folded into the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writers.close().await;
        // Afterwards: while the others are open, so may lines be.
        self.lines.close().await;
    }
}
