//! A connection of its own for somebody who writes one statement after the other, each a transaction by itself.
//!
//! A transaction that is begun and committed is three round trips, and a connection that is given back to a pool is asked
//! whether it is well, which is one more and a task. For one statement, none of them is needed.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, ConnectOptions as _, Connection as _};
use tokio::sync::Mutex;

#[cfg(feature = "testing")]
use super::Moment;
use super::tx::{ATTEMPTS, PATIENCE, pause};
use super::{Bound, Store, StoreError};

/// A connection that is opened when it is first needed, and anew when it broke.
#[derive(Debug)]
pub struct Line {
    store: Store,
    connection: Place,
}

/// All lines of a store.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines(Arc<std::sync::Mutex<Vec<Place>>>);

/// Where a connection is: nowhere while a statement is on its way, so that one that is given up leaves none in the middle
/// of it.
type Place = Arc<Mutex<Option<AnyConnection>>>;

/// What a statement gave: the rows it returned, and how many it wrote.
type Done = (Vec<AnyRow>, u64);

/// What is wanted of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Rows,
    Number,
}

impl Store {
    /// A line into this database, beside its other connections. It is closed with them.
    pub fn line(&self) -> Line {
        let connection = Place::default();
        self.lines.all().push(Arc::clone(&connection));
        Line { store: self.clone(), connection }
    }
}

impl Lines {
    /// Waits for running statements and closes every line.
    pub(super) async fn close(&self) {
        let all = std::mem::take(&mut *self.all());
        for place in all {
            if let Some(connection) = place.lock().await.take()
                && let Err(error) = connection.close().await
            {
                tracing::debug!(%error, "a connection did not end well");
            }
        }
    }

    fn all(&self) -> MutexGuard<'_, Vec<Place>> {
        // A list that a panicking thread left behind is still a list.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Runs one statement that writes, as a transaction by itself, and returns how many rows it wrote. `name` is what
    /// logs call it.
    ///
    /// It must be one that may run twice: when others got in the way it has done nothing and runs again, and when the
    /// connection breaks it may have happened or not and runs again as well, a bounded number of times.
    pub async fn execute<'q>(
        &self,
        name: &'static str,
        statement: impl Fn() -> Bound<'q> + Send + Sync,
    ) -> Result<u64, StoreError> {
        self.run(name, Wanted::Number, statement).await.map(|(_, number)| number)
    }

    /// The same of a statement that returns rows: all of them.
    pub async fn fetch_all<'q>(
        &self,
        name: &'static str,
        statement: impl Fn() -> Bound<'q> + Send + Sync,
    ) -> Result<Vec<AnyRow>, StoreError> {
        self.run(name, Wanted::Rows, statement).await.map(|(rows, _)| rows)
    }

    async fn run<'q>(
        &self,
        name: &'static str,
        wanted: Wanted,
        statement: impl Fn() -> Bound<'q> + Send + Sync,
    ) -> Result<Done, StoreError> {
        let (started, mut attempt) = (Instant::now(), 0);
        loop {
            let failure = match self.attempt(name, wanted, statement()).await {
                Err(error @ (StoreError::Contended | StoreError::Unreachable(_))) => error,
                done => return done,
            };
            attempt += 1;
            if attempt >= ATTEMPTS || started.elapsed() >= PATIENCE {
                return Err(failure);
            }
            tracing::debug!(statement = name, attempt, "statement runs again");
            tokio::time::sleep(pause(attempt)).await;
        }
    }

    #[cfg_attr(not(feature = "testing"), expect(unused_variables, reason = "only a test watches by name"))]
    async fn attempt(
        &self,
        name: &'static str,
        wanted: Wanted,
        query: Bound<'_>,
    ) -> Result<Done, StoreError> {
        let mut place = self.connection.lock().await;
        #[cfg(feature = "testing")]
        {
            self.store.fuse.reach(name, Moment::Begin).await?;
            self.store.fuse.reach(name, Moment::Commit).await?;
        }
        let mut connection = match place.take() {
            Some(connection) => connection,
            None => self.open().await?,
        };
        let done = match wanted {
            Wanted::Rows => query.fetch_all(&mut connection).await.map(|rows| (rows, 0)),
            Wanted::Number => {
                query.execute(&mut connection).await.map(|done| (Vec::new(), done.rows_affected()))
            }
        };
        // After a refusal the connection is as good as before; after anything else it may not be.
        if matches!(done, Ok(_) | Err(sqlx::Error::Database(_))) {
            *place = Some(connection);
        }
        let done = done?;
        #[cfg(feature = "testing")]
        self.store.fuse.reach(name, Moment::Committed).await?;
        Ok(done)
    }

    async fn open(&self) -> Result<AnyConnection, StoreError> {
        let Store { writers, dialect, .. } = &self.store;
        if writers.is_closed() {
            return Err(sqlx::Error::PoolClosed.into());
        }
        let opening = async {
            let mut connection = writers.connect_options().connect().await?;
            dialect.prepare(&mut connection, true).await?;
            Ok(connection)
        };
        let opened: Result<_, sqlx::Error> =
            tokio::time::timeout(LONGEST_OPENING, opening).await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        Ok(opened?)
    }
}

/// Whoever waits longer for a connection waits in vain.
const LONGEST_OPENING: Duration = Duration::from_secs(5);
