//! What can go wrong between a role and its database, in sentences an operator can act on.
//!
//! Must never carry: values of rows. Databases like to quote them in the detail of a message
//! (`Key (id)=(..) already exists`), so only the message and the code are kept.

use thiserror::Error;

/// A failed operation on the store.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Others hold the rows this transaction needs; it was tried again and again, then given up.
    #[error("the database is busy: the transaction was tried several times and others kept winning")]
    Contended,
    /// A unique key, a foreign key or a check refused the row.
    #[error("the database refused a row: {constraint}")]
    Conflict {
        /// The name of the constraint, or what the database says in its place.
        constraint: String,
    },
    /// The database was written by a newer version of this program.
    #[error(
        "the database has schema version {found}, this program knows versions up to {supported}; \
         run the newer program or restore a backup made before the upgrade"
    )]
    NewerSchema {
        /// The version found in the database.
        found: i64,
        /// The newest version this program knows.
        supported: i64,
    },
    /// The database was written by an older version of this program, and may not be migrated by who asks.
    #[error(
        "the database has schema version {found}, and this program knows version {supported}; ask with the program \
         that serves it, or start this one once: a server migrates its database"
    )]
    OlderSchema {
        /// The version found in the database.
        found: i64,
        /// The version this program knows.
        supported: i64,
    },
    /// A migration that was applied is not the one this program carries.
    #[error(
        "schema version {version} of the database is not the one this program knows; \
         it was made by another program or by an altered build"
    )]
    AlteredSchema {
        /// The version whose text differs or is unknown.
        version: i64,
    },
    /// The file cannot be created or written: one sentence.
    #[error("{0}")]
    Unwritable(String),
    /// The URL of the database is not one this program understands: one sentence.
    #[error("{0}")]
    BadUrl(String),
    /// The database server does not answer. From a commit: it may have happened or not.
    #[error("cannot reach the database server: {0}")]
    Unreachable(String),
    /// A stored value is not what this program writes.
    #[error("the database holds a value that this program cannot have written: {table}.{column}")]
    Corrupt {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A number is too large for a column.
    #[error("a number is too large to be stored")]
    OutOfRange,
    /// Anything else, in the words of the database.
    #[error("the database failed: {0}")]
    Database(String),
}

impl StoreError {
    /// A stored value that this program cannot have written.
    pub fn corrupt(table: &str, column: &str) -> Self {
        Self::Corrupt { table: table.to_owned(), column: column.to_owned() }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => from_database(database.as_ref()),
            sqlx::Error::PoolTimedOut => Self::Contended,
            sqlx::Error::Io(io) => Self::Unreachable(io.to_string()),
            sqlx::Error::ColumnDecode { index, .. } => Self::corrupt("", index.trim_matches('"')),
            sqlx::Error::ColumnNotFound(column) => Self::corrupt("", column),
            other => Self::Database(other.to_string()),
        }
    }
}

fn from_database(error: &dyn sqlx::error::DatabaseError) -> StoreError {
    use sqlx::error::ErrorKind;
    let code = error.code().unwrap_or_default();
    if RETRYABLE.contains(&code.as_ref()) {
        return StoreError::Contended;
    }
    if UNWRITABLE.contains(&code.as_ref()) {
        return StoreError::Unwritable(format!("the database cannot be written: {}", error.message()));
    }
    if GONE.contains(&code.as_ref()) {
        return StoreError::Unreachable(error.message().to_owned());
    }
    match error.kind() {
        ErrorKind::UniqueViolation | ErrorKind::ForeignKeyViolation | ErrorKind::CheckViolation => {
            let constraint = error.constraint().unwrap_or_else(|| error.message());
            StoreError::Conflict { constraint: constraint.to_owned() }
        }
        _ => StoreError::Database(format!("{} (code {code})", error.message())),
    }
}

/// Serialization failure, deadlock, lock not available; SQLite busy, busy snapshot, locked.
const RETRYABLE: &[&str] = &["40001", "40P01", "55P03", "5", "261", "517", "6", "262"];

/// SQLite: read-only and its kinds, disk full, cannot open, not a database.
const UNWRITABLE: &[&str] = &["8", "520", "776", "1032", "1544", "13", "14", "26"];

/// PostgreSQL: too many connections, being shut down, starting up, connection lost, idle too long in a transaction.
const GONE: &[&str] = &["53300", "57P01", "57P02", "57P03", "08000", "08003", "08006", "25P03"];
