//! One aggregator as a server: built from its parts, then run until it is told to stop.

use std::sync::Arc;

use mica_dap::codec::Encode as _;
use mica_dap::id::TaskId;
use mica_dap::task::BatchMode;
use mica_dp::Policy;
use mica_service::clock::Clock;
use mica_service::compute::ComputePool;
use mica_service::http::HttpClient;
use mica_service::listener;
use mica_service::shutdown::Shutdown;
use mica_service::store::{Dialect, Store, StoreError};
use mica_service::telemetry;
use thiserror::Error;
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use crate::hpke_keys::KeyRing;
use crate::leader::segment_writer::{SegmentWriter, Writing};
use crate::pace::Paces;
use crate::shared::{Limits, Shared};
use crate::store::tasks::NewTask;
use crate::store::{aggregation_jobs, collection_jobs, tasks};
use crate::task::{Role, Task, TaskError, Tasks};
use crate::task_file::{TaskFile, Tokens};
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
}

/// Why an aggregator cannot start: one sentence for the operator.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A task that cannot be served.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// A task file that is not for this process.
    #[error(
        "the task file of {task} is for the {theirs}, and this is the {ours}; give it to the other aggregator"
    )]
    OtherRole {
        /// The task.
        task: TaskId,
        /// Whom the file is for.
        theirs: Role,
        /// Who reads it.
        ours: Role,
    },
    /// The database knows another task by this name.
    #[error("task {0} is in the database with other keys or tokens; a task never changes, make a new one")]
    TaskChanged(TaskId),
    /// A batch mode that is not there yet.
    #[error(
        "task {0} asks for leader-selected batches, which this version does not serve; use time intervals"
    )]
    LeaderSelected(TaskId),
}

impl Aggregator {
    /// Checks every task against the policy and the database, and loads or makes the keys that clients seal to.
    ///
    /// # Errors
    /// When a task cannot be served as its file says, or the database fails. Nothing listens yet.
    pub async fn build(options: Options) -> Result<Self, BuildError> {
        let Options { role, store, clock, compute, http, policy, tasks, limits } = options;
        let mut served = Vec::with_capacity(tasks.len());
        for file in tasks {
            let key = provision(&store, role, &file, clock.now()).await?;
            served.push(Task::resolve(key, file, &policy)?);
        }
        if store.dialect() == Dialect::Sqlite {
            forget_leases(&store).await?;
        }
        let keys = KeyRing::load(&store, clock.now()).await?;
        let paces = Arc::new(Paces::default());
        let (uploads, writing) =
            SegmentWriter::new(store.clone(), clock.clone(), limits.clone(), Arc::clone(&paces));
        let tasks = Tasks::new(served);
        let room = limits.room(role);
        let shared = Shared { role, store, clock, compute, http, tasks, keys, limits, room, paces, uploads };
        Ok(Self { shared: Arc::new(shared), writing })
    }

    /// The encoded HPKE configurations that clients of this aggregator fetch.
    #[must_use]
    pub fn hpke_configs(&self) -> &[u8] {
        self.shared.keys.configs()
    }

    /// Serves until `shutdown`; requests and steps under way are finished first.
    pub async fn run(self, listener: TcpListener, shutdown: Shutdown) {
        let Self { shared, writing } = self;
        let store = shared.store.clone();
        serve(shared, writing, listener, shutdown).await;
        // Writes the journal of an SQLite file back into it, and leaves no copy of what was scrubbed.
        store.close().await;
        tracing::info!("stopped");
    }
}

async fn serve(shared: Arc<Shared>, writing: Writing, listener: TcpListener, shutdown: Shutdown) {
    let limits = listener::Limits::default();
    if shared.role == Role::Helper {
        let router = router::helper(shared);
        listener::serve(listener, router, limits, shutdown).await;
        return;
    }
    // Ends when the router and the workers have let go of the other end, hence after the last upload.
    let writer = telemetry::spawn(writing.run());
    let router = router::leader(Arc::clone(&shared));
    tokio::join!(listener::serve(listener, router, limits, shutdown.clone()), jobs::drive(shared, shutdown));
    if let Err(error) = writer.await {
        tracing::error!(%error, "the writer of uploads failed");
    }
}

/// Puts the task into the database, or makes sure that it is there unchanged. Returns its key.
async fn provision(store: &Store, role: Role, file: &TaskFile, now: u64) -> Result<i64, BuildError> {
    if file.role != role {
        return Err(BuildError::OtherRole { task: file.task_id, theirs: file.role, ours: role });
    }
    if file.configuration.batch_mode() == BatchMode::LeaderSelected {
        return Err(BuildError::LeaderSelected(file.task_id));
    }
    let row = &new_task(file, now);
    let key = store
        .tx("provision_task", move |mut tx| async move {
            let key = tasks::insert_task(&mut tx, row).await?;
            Ok((tx, key))
        })
        .await;
    key.map_err(|error| match error {
        StoreError::Conflict { .. } => BuildError::TaskChanged(file.task_id),
        other => other.into(),
    })
}

fn new_task(file: &TaskFile, now: u64) -> NewTask {
    let (role, peer_token, peer_token_hash, collector_token_hash) = match &file.tokens {
        Tokens::Leader { to_helper, of_collector } => (
            tasks::Role::Leader,
            Some(Zeroizing::new(to_helper.expose().to_owned())),
            None,
            Some(*of_collector.as_bytes()),
        ),
        Tokens::Helper { of_leader } => (tasks::Role::Helper, None, Some(*of_leader.as_bytes()), None),
    };
    NewTask {
        task_id: file.task_id,
        role,
        draft: file.draft,
        configuration: file.configuration.bytes().to_vec(),
        verify_key: Zeroizing::new(file.verify_key.to_vec()),
        verification_key_id: u64::from(file.verification_key_id),
        collector_hpke_config: file.collector.encoded(),
        peer_token,
        peer_token_hash,
        collector_token_hash,
        created_at: now,
    }
}

/// One process at a time uses an SQLite file, so whoever held a lease is gone.
async fn forget_leases(store: &Store) -> Result<(), StoreError> {
    store
        .tx("forget_leases", move |mut tx| async move {
            aggregation_jobs::release_all_leases(&mut tx).await?;
            collection_jobs::release_all_leases(&mut tx).await?;
            Ok((tx, ()))
        })
        .await
}
