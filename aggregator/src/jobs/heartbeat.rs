//! Keeps the lease of a job while its driver lives, so that leases can be short: what a killed process held is taken up
//! by another within seconds, and what a slow one holds is not.

use std::sync::Arc;
use std::time::Duration;

use mica_dap::id::CollectionJobId;
use mica_service::store::StoreError;
use mica_service::telemetry;
use tokio::task::JoinHandle;

use super::LEASE_SECONDS;
use crate::shared::Shared;
use crate::store::lease::{LeaseRequest, LeaseToken};
use crate::store::{aggregation_jobs, collection_jobs, helper_work};

/// Which lease is kept.
#[derive(Clone, Copy)]
pub(crate) enum Lease {
    /// Of an aggregation job.
    Aggregation(i64),
    /// Of a collection job.
    Collection(CollectionJobId),
    /// Of a request that the helper has taken in.
    HelperWork([u8; 16]),
}

/// Renews a lease until it is dropped.
pub(crate) struct Heartbeat(JoinHandle<()>);

impl Heartbeat {
    /// Begins to renew `lease`, which `token` holds.
    ///
    /// In a task of its own: the step must never wait for its own renewal, nor the renewal for the step.
    pub(crate) fn of(shared: &Arc<Shared>, lease: Lease, token: LeaseToken) -> Self {
        let shared = Arc::clone(shared);
        Self(telemetry::spawn(async move {
            loop {
                tokio::time::sleep(BEAT).await;
                match renew(&shared, lease, token).await {
                    Ok(true) => {}
                    // The guard of the settling transaction finds out by itself.
                    Ok(false) => return,
                    Err(error) => tracing::warn!(%error, "a lease could not be renewed"),
                }
            }
        }))
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn renew(shared: &Shared, lease: Lease, token: LeaseToken) -> Result<bool, StoreError> {
    let request = LeaseRequest { now: shared.clock.now(), seconds: LEASE_SECONDS, token };
    shared
        .store
        .tx("renew_lease", move |mut tx| async move {
            let held = match lease {
                Lease::Aggregation(job) => aggregation_jobs::renew(&mut tx, job, request).await?,
                Lease::Collection(job) => collection_jobs::renew(&mut tx, &job, request).await?,
                Lease::HelperWork(id) => helper_work::renew(&mut tx, &id, request).await?,
            };
            Ok((tx, held))
        })
        .await
}

/// Three of them fit into a lease, so that one may be late.
const BEAT: Duration = Duration::from_secs(LEASE_SECONDS / 3);
