//! Where a test stops a process, or holds it up: at the edges of its transactions. Behind the feature `testing`; no
//! server carries it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use super::{Store, StoreError};

/// A moment in the life of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// It is about to begin.
    Begin,
    /// It has written everything and is about to commit. Only transactions that may write get here.
    Commit,
    /// It is committed, and nobody has been told. Only transactions that may write get here.
    Committed,
}

/// What a watcher says, as soon as it says anything: go on, or fail with this error.
pub type Verdict<'w> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'w>>;

/// Decides at each moment of each transaction whether the process goes on.
pub trait Watch: Send + Sync {
    /// The transaction called `name` has come to `moment`. An error ends it there: before the commit nothing is left of
    /// it, after the commit all of it is, and nobody is told.
    fn reach(&self, name: &'static str, moment: Moment) -> Verdict<'_>;
}

/// Whoever watches a store, if anybody does.
#[derive(Clone, Default)]
pub(super) struct Fuse(Option<Arc<dyn Watch>>);

impl Fuse {
    pub(super) async fn reach(&self, name: &'static str, moment: Moment) -> Result<(), StoreError> {
        match &self.0 {
            Some(watch) => watch.reach(name, moment).await,
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Fuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "watched" } else { "not watched" })
    }
}

impl Store {
    /// This store, and every clone made of it from now on, asks `watch` at each moment of each transaction.
    #[must_use]
    pub fn watched_by(self, watch: Arc<dyn Watch>) -> Self {
        Self { fuse: Fuse(Some(watch)), ..self }
    }
}
