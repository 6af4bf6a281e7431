//! The only file that knows in which words SQLite and PostgreSQL differ.

use std::borrow::Cow;

use sqlx::AnyConnection;
use sqlx::Executor as _;

/// Which database answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// The embedded default: one file, one writer.
    Sqlite,
    /// A server, for production and for several replicas of a role.
    Postgres,
}

impl Dialect {
    /// Starts a transaction that writes. SQLite takes the write lock at once, so that a transaction
    /// never has to be thrown away when it turns from reading to writing.
    pub(super) fn begin(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
        }
    }

    /// Starts a transaction that reads one consistent picture and cannot write.
    pub(super) fn begin_reading(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN DEFERRED",
            Self::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }

    /// Suffix of a SELECT that locks its rows until the transaction ends.
    pub(super) fn for_update(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE",
        }
    }

    /// Suffix of a SELECT that locks its rows and passes over rows locked by others.
    pub(super) fn for_update_skip_locked(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE SKIP LOCKED",
        }
    }

    /// How many values one statement may bind.
    pub(super) fn bind_limit(self) -> usize {
        match self {
            Self::Sqlite => 32_766,
            Self::Postgres => 65_535,
        }
    }

    /// Settings of a fresh connection.
    pub(super) async fn prepare(self, connection: &mut AnyConnection, writes: bool) -> sqlx::Result<()> {
        let settings = match (self, writes) {
            (Self::Sqlite, true) => SQLITE_WRITER,
            (Self::Sqlite, false) => SQLITE_READER,
            (Self::Postgres, _) => POSTGRES,
        };
        for setting in settings {
            connection.execute(*setting).await?;
        }
        Ok(())
    }

    /// A migration in the words of this database.
    ///
    /// Migrations are written for PostgreSQL with the column types `BIGINT`, `TEXT`, `BYTEA` and
    /// `BIGSERIAL PRIMARY KEY` only. A line that starts with `-- postgres: ` is a statement for
    /// PostgreSQL alone; for SQLite it stays a comment.
    pub(super) fn translate(self, sql: &str) -> Cow<'_, str> {
        match self {
            Self::Sqlite => Cow::Owned(
                sql.replace("BIGSERIAL PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT")
                    .split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .map(|word| match word.strip_prefix("BYTEA") {
                        Some(rest) if rest.len() <= 1 => format!("BLOB{rest}"),
                        _ => word.to_owned(),
                    })
                    .collect(),
            ),
            Self::Postgres => Cow::Owned(
                sql.split_inclusive('\n')
                    .map(|line| line.strip_prefix("-- postgres: ").unwrap_or(line))
                    .collect(),
            ),
        }
    }
}

/// `synchronous=FULL` makes a commit in WAL mode survive a power cut: an accepted report must.
/// Deleted content is overwritten where that costs no extra write.
const SQLITE_WRITER: &[&str] = &[
    "PRAGMA busy_timeout = 5000",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA secure_delete = FAST",
];

const SQLITE_READER: &[&str] =
    &["PRAGMA busy_timeout = 5000", "PRAGMA foreign_keys = ON", "PRAGMA query_only = ON"];

/// A role that dies in the middle of a transaction must not hold its rows for ever.
const POSTGRES: &[&str] = &["SET idle_in_transaction_session_timeout = '60s'", "SET lock_timeout = '10s'"];

#[cfg(test)]
mod tests {
    use super::Dialect;

    const SQL: &str = "-- A segment. BYTEA, as it was received.\n\
        CREATE TABLE segments (id BIGSERIAL PRIMARY KEY, body BYTEA NOT NULL, x_BYTEA TEXT, y BYTEA);\n\
        -- postgres: ALTER TABLE segments ALTER COLUMN body SET STORAGE EXTERNAL;\n";

    #[test]
    fn sqlite_gets_its_own_column_types() {
        let sql = Dialect::Sqlite.translate(SQL);
        assert!(
            sql.contains("id INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL, x_BYTEA TEXT, y BLOB)")
        );
        assert!(sql.contains("\n-- postgres: ALTER"));
    }

    #[test]
    fn postgres_gets_the_lines_that_are_its_own() {
        let sql = Dialect::Postgres.translate(SQL);
        assert!(sql.contains("\nALTER TABLE segments"));
        assert!(sql.contains("id BIGSERIAL PRIMARY KEY, body BYTEA"));
    }
}
