//! An aggregator that moves only when it is told to, for a test that decides what happens in which order. Behind the
//! feature `testing`; no server carries it.
//!
//! It does the same as [`Aggregator::run`], through the same code: what arrives is answered by its router, and each step
//! that a driver would take is a call.

use std::sync::Arc;

use axum::Router;
use mica_service::store::StoreError;
use mica_service::telemetry;

use crate::aggregator::Aggregator;
use crate::helper::work;
use crate::shared::Shared;
use crate::task::Role;
use crate::{jobs, router};

/// A leader or a helper without a listener and without drivers.
#[derive(Clone)]
pub struct ByHand {
    shared: Arc<Shared>,
    router: Router,
}

impl Aggregator {
    /// Instead of [`Aggregator::run`]. Uploads are written by a task of its own, which ends after the last clone of what
    /// is returned.
    #[must_use]
    pub fn by_hand(self) -> ByHand {
        let Self { shared, writing, .. } = self;
        let router = match shared.role {
            Role::Leader => router::leader(Arc::clone(&shared)),
            Role::Helper => router::helper(Arc::clone(&shared)),
        };
        telemetry::spawn(writing.run());
        ByHand { shared, router }
    }
}

impl ByHand {
    /// What answers its peers.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Follows what has changed in the database: tasks that were added or ended, and the lives of HPKE keys.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn renew(self) -> Result<(), StoreError> {
        self.shared.tasks.renew().await?;
        self.shared.keys.renew().await
    }

    /// One step of the driver of aggregation jobs. Whether there was work that is due.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn aggregate(self) -> Result<bool, StoreError> {
        jobs::by_hand::aggregate(&self.shared).await
    }

    /// One step of each collection that is due, and what the helper may forget. Whether there was a collection.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn collect(self) -> Result<bool, StoreError> {
        jobs::by_hand::collect(&self.shared).await
    }

    /// One step of the helper on each task that has one which is due. Whether there was any.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn answer_deferred(self) -> Result<bool, StoreError> {
        work::by_hand(&self.shared).await
    }
}
