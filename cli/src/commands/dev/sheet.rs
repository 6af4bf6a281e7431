//! What whoever develops against the deployment must know, as one JSON object or in words.
//!
//! It holds every secret of the task, because in a deployment for development one person plays all parties.

use mica_dap::codec::Encode as _;
use serde::Serialize;

use super::options::{Only, Vdaf};
use super::state::State;
use crate::deployment::{Databases, Running};

/// The object that `mica dev --json` prints.
#[derive(Serialize)]
pub(super) struct Sheet {
    #[serde(skip_serializing_if = "Option::is_none")]
    relay: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<Gateway>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<Endpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    helper: Option<Endpoint>,
    task: Task,
    auth: Auth,
    collector: Collector,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<PolicyRef>,
    databases: Urls,
    pid: u32,
}

#[derive(Serialize)]
struct Gateway {
    url: String,
    key_config: String,
}

#[derive(Serialize)]
struct Endpoint {
    endpoint: String,
}

#[derive(Serialize)]
struct Task {
    id: String,
    config: String,
    draft: u8,
    vdaf: Vdaf,
    time_precision: u64,
    min_batch_size: u64,
    batch_mode: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prefixes: Vec<String>,
    verify_key: String,
    verification_key_id: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "task_interval")]
    interval: Option<Seconds>,
}

#[derive(Serialize)]
struct Seconds {
    start: u64,
    duration: u64,
}

#[derive(Serialize)]
struct Auth {
    leader_to_helper: String,
    collector_to_leader: String,
}

#[derive(Serialize)]
struct Collector {
    hpke_config: String,
    private_key: String,
}

#[derive(Serialize)]
struct PolicyRef {
    path: String,
    statement_sha256: String,
}

#[derive(Serialize)]
struct Urls {
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    helper: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
}

impl Sheet {
    /// Everything about a deployment that runs. `policy` is the file and the hash of the release statement.
    pub(super) fn new(
        state: &State,
        running: &Running,
        databases: &Databases,
        policy: Option<(String, String)>,
    ) -> Self {
        let here = |role| state.options.only.is_none_or(|only| only == role);
        let (leader, helper) = (here(Only::Leader), here(Only::Helper));
        let addresses = &running.addresses;
        let endpoint = |is_here: bool, url: &str| is_here.then(|| Endpoint { endpoint: url.to_owned() });
        let key_config = hex::encode(&running.key_config);
        Self {
            relay: addresses.relay.clone(),
            gateway: addresses.gateway.clone().map(|url| Gateway { url, key_config }),
            leader: endpoint(leader, &addresses.leader),
            helper: endpoint(helper, &addresses.helper),
            task: Task::new(state),
            auth: Auth {
                leader_to_helper: state.leader_to_helper.expose().clone(),
                collector_to_leader: state.collector.token.expose().clone(),
            },
            collector: Collector {
                hpke_config: hex::encode(state.collector.keypair.config.encoded()),
                private_key: hex::encode(*state.collector.keypair.private_key.to_bytes()),
            },
            policy: policy.map(|(path, statement_sha256)| PolicyRef { path, statement_sha256 }),
            databases: Urls {
                leader: leader.then(|| databases.leader.clone()),
                helper: helper.then(|| databases.helper.clone()),
                gateway: leader.then(|| databases.gateway.clone()),
            },
            pid: std::process::id(),
        }
    }

    /// In words, without the secrets: they are in the JSON.
    pub(super) fn describe(&self, logs: &std::path::Path) -> String {
        let absent = "somebody else's".to_owned();
        let endpoint = |it: &Option<Endpoint>| it.as_ref().map_or(absent.clone(), |it| it.endpoint.clone());
        let gateway = self.gateway.as_ref().map_or(absent.clone(), |it| it.url.clone());
        let released = match &self.policy {
            Some(policy) => format!("with noise, by {}", policy.path),
            None => "WITHOUT noise: totals are exact and nothing is private".to_owned(),
        };
        format!(
            "relay     {}\ngateway   {gateway}\nleader    {}\nhelper    {}\ntask      {}\n          {}, {}, \
             time in units of {} s, at least {} reports\nreleases  {released}\nlogs      {}\n\nAll roles run in ONE \
             process, without TLS: for development only. With --json everything is printed, keys and tokens \
             included.\nPress Ctrl-C to stop.",
            self.relay.clone().unwrap_or(absent.clone()),
            endpoint(&self.leader),
            endpoint(&self.helper),
            self.task.id,
            self.task.vdaf.config().name(),
            if self.task.batch_mode == "time_interval" { "batches by time" } else { "batches by the leader" },
            self.task.time_precision,
            self.task.min_batch_size,
            logs.display(),
        )
    }
}

impl Task {
    fn new(state: &State) -> Self {
        let file = &state.leader;
        Self {
            id: file.task_id.to_string(),
            config: hex::encode(file.configuration.bytes()),
            draft: state.options.draft.parse().unwrap_or_default(),
            vdaf: state.options.vdaf.clone(),
            time_precision: file.configuration.time_precision().seconds(),
            min_batch_size: file.configuration.min_batch_size(),
            batch_mode: file.configuration.batch_mode().to_string(),
            prefixes: file.prefixes(),
            verify_key: hex::encode(*file.verify_key),
            verification_key_id: file.verification_key_id,
            interval: state.options.task_interval.map(|(start, duration)| Seconds { start, duration }),
        }
    }
}
