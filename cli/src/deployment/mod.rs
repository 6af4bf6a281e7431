//! Relay, gateway, leader and helper in this one process, on loopback, each with a database, keys and a log file of its
//! own.
//!
//! They talk over real sockets and share nothing but the process: a thread pool and the clock. That is enough to try
//! things and not enough to trust them, because whoever runs the process can see what every role sees. In earnest each
//! role is a process of its own, with relay, leader and helper under different operators.

mod databases;
mod health;
mod roles;
mod sockets;

use std::path::Path;
use std::time::Duration;

use mica_aggregator::TaskFile;
use mica_aggregator::config::Answers;
use mica_dap::id::TaskId;
use mica_dp::Policy;
use mica_service::clock::Clock;
use mica_service::compute::ComputePool;
use mica_service::shutdown::Shutdown;
use mica_service::store::Store;
use mica_service::telemetry::LogRoutes;
use tokio::task::JoinHandle;

use crate::exit::Failure;

pub(crate) use databases::{Databases, beside, is_postgres, name_in};
pub(crate) use sockets::{Addresses, Cast, Ports, Sockets};

/// What all roles are given.
pub(crate) struct Setting<'a> {
    /// Where log files are written.
    pub(crate) folder: &'a Path,
    /// Where each role keeps things.
    pub(crate) databases: &'a Databases,
    /// Takes the log lines of each role to its file.
    pub(crate) logs: &'a LogRoutes,
    /// The time.
    pub(crate) clock: Clock,
    /// Where cryptography runs.
    pub(crate) compute: ComputePool,
    /// The one task that is served.
    pub(crate) task_id: TaskId,
    /// When the helper answers the leader.
    pub(crate) answers: Answers,
}

/// What the aggregators that run here are told of the task.
pub(crate) struct Aggregators {
    /// The leader's task file, if the leader runs here.
    pub(crate) leader: Option<TaskFile>,
    /// The helper's task file, if the helper runs here.
    pub(crate) helper: Option<TaskFile>,
    /// The policy of both. Each reads it for itself.
    pub(crate) policy: Policy,
}

/// The deployment while it runs.
pub(crate) struct Running {
    /// Where everybody is.
    pub(crate) addresses: Addresses,
    /// What the relay did, where there is one.
    pub(crate) relay: Option<mica_relay::Counters>,
    /// What the gateway did, where there is one.
    pub(crate) gateway: Option<mica_gateway::Counters>,
    /// The gateway's published keys, `application/ohttp-keys`.
    pub(crate) key_config: Vec<u8>,
    /// The leader's database.
    pub(crate) leader: Option<Store>,
    /// The helper's database.
    pub(crate) helper: Option<Store>,
    /// The encoded HPKE configurations of leader and helper.
    pub(crate) hpke_configs: [Vec<u8>; 2],
    servers: Vec<(&'static str, JoinHandle<()>)>,
    shutdown: Shutdown,
}

/// Starts every role that has a socket and returns when all of them answer.
///
/// # Errors
/// When one of them cannot start.
pub(crate) async fn start(
    sockets: Sockets,
    setting: &Setting<'_>,
    aggregators: Aggregators,
) -> Result<Running, Failure> {
    let mut running = Running {
        addresses: sockets.addresses().clone(),
        relay: None,
        gateway: None,
        key_config: Vec::new(),
        leader: None,
        helper: None,
        hpke_configs: [Vec::new(), Vec::new()],
        servers: Vec::new(),
        shutdown: Shutdown::new(),
    };
    match start_all(&mut running, sockets, setting, aggregators).await {
        Ok(()) => Ok(running),
        Err(failure) => {
            running.stop().await;
            Err(failure)
        }
    }
}

async fn start_all(
    running: &mut Running,
    sockets: Sockets,
    setting: &Setting<'_>,
    aggregators: Aggregators,
) -> Result<(), Failure> {
    let Aggregators { leader, helper, policy } = aggregators;
    let (has_leader, has_helper) = (sockets.leader.is_some(), sockets.helper.is_some());
    for role in ["helper", "leader", "gateway", "relay"] {
        if (role == "helper" && has_helper) || (role != "helper" && has_leader) {
            roles::log_to_file(setting.logs, setting.folder, role)?;
        }
    }
    let gateway = if has_leader {
        Some((roles::gateway(setting, &sockets, has_helper).await?, roles::relay(&sockets)?))
    } else {
        None
    };
    if let (Some(listener), Some(task)) = (sockets.helper, helper) {
        let built = roles::aggregator(setting, task, policy.clone(), has_leader).await?;
        running.hpke_configs[1] = built.aggregator.hpke_configs();
        running.helper = Some(built.store);
        running.spawn("helper", built.aggregator.run(listener, running.shutdown.clone()));
    }
    if let (Some(listener), Some(task)) = (sockets.leader, leader) {
        let built = roles::aggregator(setting, task, policy, has_helper).await?;
        running.hpke_configs[0] = built.aggregator.hpke_configs();
        running.leader = Some(built.store);
        running.spawn("leader", built.aggregator.run(listener, running.shutdown.clone()));
    }
    if let (Some((gateway, relay)), Some(at_gateway), Some(at_relay)) =
        (gateway, sockets.gateway, sockets.relay)
    {
        running.key_config = gateway.key_config();
        running.gateway = Some(gateway.counters());
        running.relay = Some(relay.counters());
        let (stop_gateway, stop_relay) = (running.shutdown.clone(), running.shutdown.clone());
        running.spawn("gateway", async move {
            gateway.run(at_gateway, stop_gateway).await;
        });
        running.spawn("relay", async move {
            relay.run(at_relay, stop_relay).await;
        });
    }
    health::wait(&running.addresses).await
}

impl Running {
    /// Lets every role finish what it began, and closes the databases.
    pub(crate) async fn stop(self) {
        self.shutdown.trigger();
        for (role, server) in self.servers {
            match tokio::time::timeout(GRACE, server).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(role, %error, "a server ended by a fault"),
                Err(_) => tracing::warn!(role, "a server did not stop in time"),
            }
        }
        for store in [self.leader, self.helper].into_iter().flatten() {
            store.close().await;
        }
    }
}

/// A little more than the servers allow themselves.
const GRACE: Duration = Duration::from_secs(25);
