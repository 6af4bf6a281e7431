//! Whether the gateway's database is there, and is the one that this version works on.
//!
//! Without it no request can be answered, for nothing is sent on that is not remembered. It is looked at again and again
//! and not when somebody asks, so that whoever asks costs nothing. It must never learn what is in a row.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use mica_service::operations::Readiness;
use mica_service::shutdown::Shutdown;
use mica_service::store::Store;

/// What was found at the last look.
pub(crate) struct Health {
    store: Store,
    found: AtomicU8,
}

impl Health {
    /// Of a database that was opened and migrated a moment ago.
    pub(crate) fn new(store: Store) -> Self {
        Self { store, found: AtomicU8::new(GOOD) }
    }

    /// Looks until `shutdown`.
    pub(crate) async fn follow(&self, shutdown: Shutdown) {
        while !shutdown.is_triggered() {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => self.look().await,
                () = shutdown.wait() => return,
            }
        }
    }

    async fn look(&self) {
        let found = tokio::time::timeout(PATIENCE, self.examine()).await.unwrap_or(SILENT);
        if self.found.swap(found, Ordering::SeqCst) != found {
            match said(found) {
                Ok(()) => tracing::info!("the database is well again"),
                Err(why) => tracing::error!(why, "the gateway is not ready"),
            }
        }
    }

    async fn examine(&self) -> u8 {
        match self.store.applied_version().await {
            Ok(version) if version == self.store.schema_version() => GOOD,
            Ok(_) => OTHER,
            // A query that fails where others do not is about a table that is gone.
            Err(_) if self.store.ping().await.is_ok() => OTHER,
            Err(_) => SILENT,
        }
    }

    /// What to say of the database.
    pub(crate) fn readiness(&self) -> Readiness {
        said(self.found.load(Ordering::SeqCst))
    }
}

fn said(found: u8) -> Readiness {
    match found {
        GOOD => Ok(()),
        OTHER => Err("the database has not the schema of this version"),
        _ => Err("the database does not answer"),
    }
}

const GOOD: u8 = 0;
const SILENT: u8 = 1;
const OTHER: u8 = 2;
const PAUSE: Duration = Duration::from_secs(2);
/// A database that is slow for a moment is not lost.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use mica_service::testing::databases;

    use super::Health;
    use crate::MIGRATOR;

    #[tokio::test]
    async fn a_database_that_is_gone_or_of_another_version_is_told_from_one_that_is_well() {
        for database in databases().await {
            let store = database.open(&MIGRATOR).await.unwrap();
            let health = Health::new(store.clone());
            health.look().await;
            assert_eq!(health.readiness(), Ok(()), "{}", database.kind);
            let change = |statement: &'static str| {
                store.tx("change_versions", move |mut tx| async move {
                    sqlx::query(statement).execute(tx.connection()).await?;
                    Ok((tx, ()))
                })
            };
            let other = Err("the database has not the schema of this version");
            change("UPDATE _sqlx_migrations SET version = version + 100").await.unwrap();
            health.look().await;
            assert_eq!(health.readiness(), other, "{}", database.kind);
            change("UPDATE _sqlx_migrations SET version = version - 100").await.unwrap();
            health.look().await;
            assert_eq!(health.readiness(), Ok(()), "{}: it may come back", database.kind);
            change("DROP TABLE _sqlx_migrations").await.unwrap();
            health.look().await;
            assert_eq!(health.readiness(), other, "{}", database.kind);
            store.close().await;
            health.look().await;
            assert_eq!(health.readiness(), Err("the database does not answer"), "{}", database.kind);
        }
    }
}
