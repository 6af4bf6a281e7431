//! Transactions: begin, run the body, commit, and all of it again when others got in the way.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use sqlx::{Any, AnyConnection, Transaction};

#[cfg(feature = "testing")]
use super::Moment;
use super::{Dialect, Store, StoreError};

/// An open transaction. The body of [`Store::tx`] gets it by value and must give it back to have it
/// committed; dropped, by an error or by a crash, it leaves no trace.
pub struct Tx {
    inner: Transaction<'static, Any>,
    dialect: Dialect,
    abandoned: bool,
    wakes: Vec<String>,
    after: Vec<Box<dyn FnOnce() + Send>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

impl Store {
    /// Runs `body` in a transaction that may write, commits it and returns the value.
    ///
    /// ```
    /// # use mica_service::store::{Store, StoreError};
    /// # async fn charge(store: &Store) -> Result<bool, StoreError> {
    /// let granted = store
    ///     .tx("charge", move |mut tx| async move {
    ///         let rows = sqlx::query("UPDATE grants SET available = available - 1 WHERE available > 0")
    ///             .execute(tx.connection())
    ///             .await?
    ///             .rows_affected();
    ///         Ok((tx, rows == 1))
    ///     })
    ///     .await?;
    /// # Ok(granted)
    /// # }
    /// ```
    ///
    /// When the database says that others got in the way, or the connection breaks before the commit,
    /// everything is rolled back and `body` runs again, a bounded number of times: it must not have
    /// effects outside of the transaction. `name` is what logs call it.
    ///
    /// A connection that breaks during the commit is `Unreachable` and leaves open whether it happened:
    /// whoever asks again must be able to tell, by a key or a digest that the transaction wrote.
    pub async fn tx<T, F, Fut>(&self, name: &'static str, body: F) -> Result<T, StoreError>
    where
        T: Send,
        F: FnMut(Tx) -> Fut + Send,
        Fut: Future<Output = Result<(Tx, T), StoreError>> + Send,
    {
        self.run(name, Access::Write, body).await
    }

    /// Runs `body` in a transaction that sees one consistent picture and cannot write. On SQLite it does
    /// not wait for the writer.
    pub async fn read<T, F, Fut>(&self, name: &'static str, body: F) -> Result<T, StoreError>
    where
        T: Send,
        F: FnMut(Tx) -> Fut + Send,
        Fut: Future<Output = Result<(Tx, T), StoreError>> + Send,
    {
        self.run(name, Access::Read, body).await
    }

    async fn run<T, F, Fut>(&self, name: &'static str, access: Access, mut body: F) -> Result<T, StoreError>
    where
        T: Send,
        F: FnMut(Tx) -> Fut + Send,
        Fut: Future<Output = Result<(Tx, T), StoreError>> + Send,
    {
        let started = Instant::now();
        let mut attempt = 0;
        loop {
            let failure = match self.begin(name, access).await {
                // Nothing has happened yet, so even a lost connection is no reason to give up.
                Err(error @ (StoreError::Contended | StoreError::Unreachable(_))) => error,
                Err(error) => return Err(error),
                Ok(tx) => match body(tx).await {
                    // Nothing was committed, and cannot be any more.
                    Err(error @ (StoreError::Contended | StoreError::Unreachable(_))) => error,
                    Err(error) => return Err(error),
                    Ok((tx, value)) => match self.finish(name, access, tx).await {
                        Ok(()) => return Ok(value),
                        Err(error @ StoreError::Contended) => error,
                        Err(error) => return Err(error),
                    },
                },
            };
            attempt += 1;
            if attempt >= ATTEMPTS || started.elapsed() >= PATIENCE {
                return Err(failure);
            }
            tracing::debug!(transaction = name, attempt, "transaction runs again");
            tokio::time::sleep(pause(attempt)).await;
        }
    }

    #[cfg_attr(not(feature = "testing"), expect(unused_variables, reason = "only a test watches by name"))]
    async fn begin(&self, name: &'static str, access: Access) -> Result<Tx, StoreError> {
        #[cfg(feature = "testing")]
        self.fuse.reach(name, Moment::Begin).await?;
        let (pool, begin) = match access {
            Access::Write => (&self.writers, self.dialect.begin()),
            Access::Read => (&self.readers, self.dialect.begin_reading()),
        };
        let inner = pool.begin_with(begin).await?;
        Ok(Tx { inner, dialect: self.dialect, abandoned: false, wakes: Vec::new(), after: Vec::new() })
    }

    #[cfg_attr(not(feature = "testing"), expect(unused_variables, reason = "only a test watches by name"))]
    async fn finish(&self, name: &'static str, access: Access, tx: Tx) -> Result<(), StoreError> {
        if tx.abandoned {
            tx.inner.rollback().await?;
            return Ok(());
        }
        #[cfg(feature = "testing")]
        if access == Access::Write {
            self.fuse.reach(name, Moment::Commit).await?;
        }
        tx.inner.commit().await?;
        #[cfg(feature = "testing")]
        if access == Access::Write {
            self.fuse.reach(name, Moment::Committed).await?;
        }
        for name in &tx.wakes {
            self.wake.notify(name);
        }
        for act in tx.after {
            act();
        }
        Ok(())
    }
}

impl Tx {
    /// What queries run on: `.execute(tx.connection())`.
    pub fn connection(&mut self) -> &mut AnyConnection {
        &mut self.inner
    }

    /// Which database answers.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Suffix for a SELECT whose rows nobody else may change before the commit. Empty on SQLite, where
    /// nobody else writes at all.
    pub fn for_update(&self) -> &'static str {
        self.dialect.for_update()
    }

    /// Suffix for a SELECT that takes the rows nobody else has taken, to share work out.
    pub fn for_update_skip_locked(&self) -> &'static str {
        self.dialect.for_update_skip_locked()
    }

    /// Wakes the sleepers of `name` once this transaction is committed.
    pub fn wake(&mut self, name: impl Into<String>) {
        self.wakes.push(name.into());
    }

    /// Does something brief once this transaction is committed, such as telling of it; never, if it is not. An attempt
    /// that failed and is made again has done nothing.
    pub fn after_commit(&mut self, act: impl FnOnce() + Send + 'static) {
        self.after.push(Box::new(act));
    }

    /// Has this transaction rolled back in the end, although its body succeeds with a value: for a
    /// refusal that is an answer and not a failure.
    pub fn abandon(&mut self) {
        self.abandoned = true;
    }
}

/// Short and random. A growing back-off makes contention last longer than the contenders do.
pub(super) fn pause(attempt: u32) -> Duration {
    let most = u64::from(attempt.min(8)) * 4_000;
    Duration::from_micros(rand::rng().random_range(500..=most))
}

pub(super) const ATTEMPTS: u32 = 16;
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
