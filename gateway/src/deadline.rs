//! An end to waiting for a database that says nothing.
//!
//! A server that vanishes, or a firewall that forgets a connection, is silent: what was asked on that connection is answered
//! never, or after a quarter of an hour. Whoever works for all requests asks again on another one. Each of these questions may
//! be asked twice.

use std::time::Duration;

use mica_service::store::{Dialect, StoreError};

/// What the database answers, if it does so in time. A file answers, however slowly.
///
/// # Errors
/// Those of `asked`, and that nothing came.
pub(crate) async fn in_time<T>(
    dialect: Dialect,
    asked: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    if dialect == Dialect::Sqlite {
        return asked.await;
    }
    tokio::time::timeout(LONGEST, asked).await.unwrap_or_else(|_| {
        Err(StoreError::Database(format!("it has said nothing for {} s", LONGEST.as_secs())))
    })
}

const LONGEST: Duration = Duration::from_secs(5);
