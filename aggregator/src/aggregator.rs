//! One aggregator as a server: built from its parts, then run until it is told to stop.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use mica_dp::Policy;
use mica_service::clock::Clock;
use mica_service::compute::ComputePool;
use mica_service::http::HttpClient;
use mica_service::listener;
use mica_service::shutdown::Shutdown;
use mica_service::steady::Steady;
use mica_service::store::{Dialect, Store, StoreError};
use mica_service::telemetry;
use mica_service::tls::Acceptor;
use thiserror::Error;
use tokio::net::TcpListener;

use crate::admin::{self, Desk};
use crate::agreement::{self, Agreements};
use crate::auth::TokenHash;
use crate::crowd::Crowd;
use crate::enrol::{EnrolError, Rules, enrol};
use crate::helper::work;
use crate::high_water::{FollowError, HighWater};
use crate::hpke_keys::{Keys, Schedule};
use crate::jobs::Looks;
use crate::leader::segment_writer::{SegmentWriter, Writing};
use crate::pace::Paces;
use crate::policy::{self, PolicyError, PolicyReload};
use crate::registry::Tasks;
use crate::release::NoiseReserve;
use crate::shared::{Limits, Shared};
use crate::store::{aggregation_jobs, collection_jobs, helper_work};
use crate::task::Role;
use crate::task_file::TaskFile;
use crate::taskprov::Taskprov;
use crate::{jobs, router};

/// The parts an aggregator is built from.
pub struct Options {
    /// Which of the two it is.
    pub role: Role,
    /// Its database, opened with [`crate::store::migrator`].
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// Where cryptography runs.
    pub compute: ComputePool,
    /// How the peer is reached.
    pub http: HttpClient,
    /// How much noise, and how much budget.
    pub policy: Policy,
    /// The tasks to serve.
    pub tasks: Vec<TaskFile>,
    /// How much of anything it takes.
    pub limits: Limits,
}

/// A leader or a helper, ready to run.
pub struct Aggregator {
    pub(crate) shared: Arc<Shared>,
    pub(crate) writing: Writing,
    tls: Option<Acceptor>,
}

/// Why an aggregator cannot start: one sentence for the operator.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A policy that may not be in force.
    #[error(transparent)]
    Policy(PolicyError),
    /// A task of a file that is not taken.
    #[error(transparent)]
    Task(EnrolError),
}

impl From<EnrolError> for BuildError {
    fn from(error: EnrolError) -> Self {
        match error {
            EnrolError::Store(error) => Self::Store(error),
            other => Self::Task(other),
        }
    }
}

impl From<PolicyError> for BuildError {
    fn from(error: PolicyError) -> Self {
        match error {
            PolicyError::Store(error) => Self::Store(error),
            other => Self::Policy(other),
        }
    }
}

impl Aggregator {
    /// Checks every task against the policy and the database, and loads or makes the keys that clients seal to.
    ///
    /// # Errors
    /// When a task cannot be served as its file says, or the database fails. Nothing listens yet.
    pub async fn build(options: Options) -> Result<Self, BuildError> {
        Self::build_with_keys(options, Schedule::default()).await
    }

    /// As [`Aggregator::build`], with keys that live as `schedule` says.
    ///
    /// # Errors
    /// As [`Aggregator::build`].
    pub async fn build_with_keys(options: Options, schedule: Schedule) -> Result<Self, BuildError> {
        let Options { role, store, clock, compute, http, policy, tasks, limits } = options;
        policy::admit(&store, &policy, clock.now()).await?;
        let min_batch_size_floor = limits.min_batch_size_floor;
        let rules = Rules { role, policy: &policy, min_batch_size_floor, http: &http };
        for file in tasks {
            enrol(&store, &file, &rules, clock.now()).await?;
        }
        if store.dialect() == Dialect::Sqlite {
            forget_leases(&store).await?;
        }
        forget_refusals(&store, clock.now()).await?;
        let keys = Keys::load(store.clone(), Steady::new(clock.clone()), schedule).await?;
        let paces = Arc::new(Paces::default());
        let (uploads, writing) =
            SegmentWriter::new(store.clone(), clock.clone(), limits.clone(), Arc::clone(&paces));
        let tasks = Tasks::load(store.clone(), clock.clone(), role, policy).await?;
        let (room, crowd) = (limits.room(role), Crowd::new(limits.helper_jobs));
        let looks = Looks::default();
        let noise = NoiseReserve::new(compute.clone());
        let shared = Shared {
            role,
            store,
            clock,
            compute,
            http,
            tasks,
            keys,
            limits,
            room,
            crowd,
            paces,
            looks,
            agreements: Agreements::default(),
            noise,
            high_water: HighWater::default(),
            uploads,
        };
        Ok(Self { shared: Arc::new(shared), writing, tls: None })
    }

    /// Counts how often the leader has looked through the waiting collections of a task: seldom, while nothing happens.
    #[must_use]
    pub fn passes_over_collections(&self) -> Arc<AtomicU64> {
        self.shared.looks.passes()
    }

    /// Takes part in tasks that come with a request, under these terms.
    #[must_use]
    pub fn with_taskprov(mut self, taskprov: Option<Taskprov>) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.tasks.set_taskprov(taskprov);
        }
        self
    }

    /// Releases nothing on top of a ledger that ends before the mark in this file.
    ///
    /// # Errors
    /// When the file cannot be read or written, or the database fails.
    pub async fn with_high_water_mark(mut self, path: &Path) -> Result<Self, FollowError> {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.high_water = HighWater::open(path, &shared.store).await?;
            if let Some(setback) = shared.high_water.setback(&shared.store).await? {
                tracing::error!(%setback, "nothing is released");
            }
        }
        Ok(self)
    }

    /// Draws its noise in a way that a test can hold up.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn with_sampler(mut self, sampler: fn(&mica_dp::Mechanism, usize) -> mica_dp::Noise) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.noise = NoiseReserve::with_sampler(shared.compute.clone(), sampler);
        }
        self
    }

    /// Listens inside TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<Acceptor>) -> Self {
        self.tls = tls;
        self
    }

    /// The encoded HPKE configurations that clients of this aggregator fetch.
    #[must_use]
    pub fn hpke_configs(&self) -> Vec<u8> {
        self.shared.keys.ring().configs().to_vec()
    }

    /// What brings another policy into force while it runs.
    #[must_use]
    pub fn policy_reload(&self) -> PolicyReload {
        PolicyReload { shared: Arc::clone(&self.shared) }
    }

    /// Everything its admin listener answers to the holder of `token`: for a listener of its own, beside [`Self::run`].
    pub fn admin(&self, token: TokenHash) -> axum::Router {
        let shared = &self.shared;
        let desk = Desk {
            store: shared.store.clone(),
            clock: shared.clock.clone(),
            role: shared.role,
            policy: shared.tasks.policy().clone(),
            min_batch_size_floor: shared.limits.min_batch_size_floor,
            http: shared.http.clone(),
            high_water: shared.high_water.clone(),
            paces: Some(Arc::clone(&shared.paces)),
        };
        admin::router(desk, token)
    }

    /// Everything that a leader answers, for a gateway in the same process. As long as it is kept, uploads are taken and
    /// [`Self::run`] does not end.
    pub fn mounted(&self) -> axum::Router {
        router::leader(Arc::clone(&self.shared))
    }

    /// Serves until `shutdown`; requests and steps under way are finished first.
    pub async fn run(self, listener: TcpListener, shutdown: Shutdown) {
        let Self { shared, writing, tls } = self;
        shared.http.watch();
        let store = shared.store.clone();
        serve(shared, writing, (tls, listener), shutdown).await;
        // Writes the journal of an SQLite file back into it, and leaves no copy of what was scrubbed.
        store.close().await;
        tracing::info!("stopped");
    }
}

async fn serve(
    shared: Arc<Shared>,
    writing: Writing,
    (tls, listener): (Option<Acceptor>, TcpListener),
    shutdown: Shutdown,
) {
    let limits = shared.limits.listener();
    if shared.role == Role::Helper {
        let router = router::helper(Arc::clone(&shared));
        tokio::join!(
            listener::serve_over(tls, listener, router, limits, shutdown.clone()),
            work::drive(Arc::clone(&shared), shutdown.clone()),
            shared.tasks.follow(shutdown.clone()),
            shared.high_water.keep_up(&shared.store, shutdown.clone()),
            shared.keys.follow(shutdown)
        );
        return;
    }
    // Ends when the router and the workers have let go of the other end, hence after the last upload.
    let writer = telemetry::spawn(writing.run());
    let router = router::leader(Arc::clone(&shared));
    let (follower, other) = (Arc::clone(&shared), Arc::clone(&shared));
    tokio::join!(
        listener::serve_over(tls, listener, router, limits, shutdown.clone()),
        jobs::drive(shared, shutdown.clone()),
        async move {
            let compared = agreement::at_start(other, shutdown.clone());
            tokio::join!(
                follower.tasks.follow(shutdown.clone()),
                follower.high_water.keep_up(&follower.store, shutdown.clone()),
                follower.keys.follow(shutdown),
                compared
            );
        }
    );
    if let Err(error) = writer.await {
        tracing::error!(%error, "the writer of uploads failed");
    }
}

/// What a helper refused long ago is of no use, also of tasks that are over.
async fn forget_refusals(store: &Store, now: u64) -> Result<(), StoreError> {
    store
        .tx("forget_refusals", move |mut tx| async move {
            crate::release::forget_aged(&mut tx, now).await?;
            Ok((tx, ()))
        })
        .await
}

/// One process at a time uses an SQLite file, so whoever held a lease is gone.
async fn forget_leases(store: &Store) -> Result<(), StoreError> {
    store
        .tx("forget_leases", move |mut tx| async move {
            aggregation_jobs::release_all_leases(&mut tx).await?;
            collection_jobs::release_all_leases(&mut tx).await?;
            helper_work::release_all_leases(&mut tx).await?;
            Ok((tx, ()))
        })
        .await
}
