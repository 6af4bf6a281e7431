//! Locks that are not rows: on PostgreSQL advisory locks of the transaction, which write nothing; on SQLite
//! nothing at all, because a transaction that writes is alone.
//!
//! Waiting for one follows the same rules as waiting for a row: it times out as contended, and a deadlock is
//! found. Whoever waits exclusively is not overtaken by those who share.

use mica_service::store::{Dialect, StoreError, Tx};

/// What is locked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lock {
    /// Everything that is collected of one task.
    Task(i64),
    /// The end of the ledger.
    Ledger,
    /// Which reports and which collection get which batch of one leader-selected task.
    Batches(i64),
    /// The lives of the HPKE keys.
    HpkeKeys,
}

/// Waits until nobody else holds `lock`, in either way; keeps it until the transaction ends.
pub(super) async fn exclusive(tx: &mut Tx, lock: Lock) -> Result<(), StoreError> {
    take(
        tx,
        "-- lock_exclusive
         SELECT CAST(pg_advisory_xact_lock($1) AS TEXT)",
        lock,
    )
    .await
}

/// Waits until nobody holds `lock` exclusively; keeps it, beside others, until the transaction ends.
pub(super) async fn shared(tx: &mut Tx, lock: Lock) -> Result<(), StoreError> {
    take(
        tx,
        "-- lock_shared
         SELECT CAST(pg_advisory_xact_lock_shared($1) AS TEXT)",
        lock,
    )
    .await
}

async fn take(tx: &mut Tx, query: &'static str, lock: Lock) -> Result<(), StoreError> {
    if tx.dialect() == Dialect::Postgres {
        sqlx::query(query).bind(lock.key()).execute(tx.connection()).await?;
    }
    Ok(())
}

impl Lock {
    /// Advisory locks are numbers, one space per database: ours begin with the letters "mi" and a kind.
    fn key(self) -> i64 {
        match self {
            Self::Task(task) => SPACE | (1 << 40) | (task & 0xff_ffff_ffff),
            Self::Ledger => SPACE | (2 << 40),
            Self::Batches(task) => SPACE | (3 << 40) | (task & 0xff_ffff_ffff),
            Self::HpkeKeys => SPACE | (4 << 40),
        }
    }
}

const SPACE: i64 = 0x6d69 << 48;
