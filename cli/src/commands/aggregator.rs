//! `mica leader` and `mica helper`: verify and add what nobody alone can read.

use std::net::SocketAddr;
use std::path::PathBuf;

use mica_aggregator::auth::TokenHash;
use mica_aggregator::enrol::Rules;
use mica_aggregator::taskprov::Taskprov;
use mica_aggregator::{Config, Role, TaskFile};
use mica_dp::Policy;
use mica_gateway::Place;
use mica_service::compute::ComputePool;
use mica_service::config::{Loaded, Provenance};
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::telemetry::role_span;
use mica_service::tls::{Acceptor, Peers, TlsError};
use tracing::Instrument as _;

use super::serving::Serving;
use super::{operations, server};
use crate::args::{Global, ServerArgs};
use crate::exit::Failure;
use crate::files;
use crate::settings::{RoleName, Settings};

/// A configuration and the files it names.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) policy: Policy,
    pub(super) tasks: Vec<TaskFile>,
    pub(super) tls: Option<Acceptor>,
    pub(super) peers: Peers,
    pub(super) admin: Option<AdminListener>,
    pub(super) taskprov: Option<Taskprov>,
    pub(super) high_water_mark: PathBuf,
}

/// Where the operator asks, and the hash of what must be shown there.
pub(super) struct AdminListener {
    pub(super) address: SocketAddr,
    pub(super) token: TokenHash,
    pub(super) tls: Option<Acceptor>,
}

/// Serves until it is told to stop.
pub(super) async fn run(role: Role, args: &ServerArgs, global: &Global) -> Result<(), Failure> {
    let settings = Settings::of_server(role_name(role), args)?;
    let parts = read(&settings, role)?;
    server::log(global)?;
    Box::pin(serve(role, parts)).instrument(role_span(role_name(role).name())).await
}

/// Whether an aggregator could start with this configuration, its policy and its tasks. Its database is left alone.
pub(super) fn check(settings: &Settings, role: Role) -> Result<Parts, Failure> {
    let parts = read(settings, role)?;
    let Parts { config, policy, tasks, peers, .. } = &parts;
    let http = &HttpClient::new(HttpOptions { peers: peers.clone(), ..HttpOptions::default() });
    let min_batch_size_floor = config.limits().min_batch_size_floor;
    let rules = Rules { role, policy, min_batch_size_floor, http };
    tasks.iter().try_for_each(|task| rules.check(task).map_err(Failure::invalid))?;
    Ok(parts)
}

async fn serve(role: Role, parts: Parts) -> Result<(), Failure> {
    let started = server::bind(&parts.config.listen.to_string()).await?;
    let serving = Serving::prepare(role, parts, started.listener, ComputePool::new()).await?;
    serving.run(started.shutdown).await
}

/// The leader that a gateway runs in its own process, as `mica leader` would start it with the same flags.
pub(super) fn read_leader(args: &ServerArgs) -> Result<Parts, Failure> {
    let settings = Settings::of_server(RoleName::Leader, args)?;
    read(&settings, Role::Leader)
}

impl Parts {
    /// Where a gateway in the process of this leader may know it: at its address, at its endpoint in tasks that come with
    /// a request, and at that of its tasks.
    pub(super) fn places(&self) -> Vec<Place> {
        let urls = self.tasks.iter().map(|task| task.configuration.leader_url());
        let urls = urls.chain(self.config.taskprov.iter().map(|taskprov| taskprov.endpoint.as_str()));
        let mut places: Vec<Place> =
            Place::of_listener(self.config.listen, self.tls.is_some()).into_iter().collect();
        for place in urls.filter_map(|url| Place::of_url(url).ok()) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }
}

fn read(settings: &Settings, role: Role) -> Result<Parts, Failure> {
    let Loaded { config, provenance } = settings.load::<Config>()?;
    let config = config.relative_to(settings.folder());
    server::check_database(settings, &provenance, &config.database)?;
    let reachable = config.tls.is_some() || config.insecure;
    server::check_listen(settings, &provenance, &config.listen.to_string(), reachable)?;
    check_operators(settings, &provenance, &config, role)?;
    let explain = |error: TlsError| server::explain_tls(settings, &provenance, &error);
    let tls = config.tls.as_ref().map(Acceptor::load).transpose().map_err(explain)?;
    let peers = Peers::load(&config.peer_tls, config.insecure_peers).map_err(explain)?;
    if !config.policy.is_file() {
        let what = format!("there is no file {}", config.policy.display());
        return Err(settings.wrong(&provenance, "policy", &what, "write the path of a policy file"));
    }
    server::check_allowed(settings, &provenance, &config.policy_allow)?;
    let policy = files::policy_to_serve(&config.policy, &config.policy_allow)?;
    let missing = |path: &&PathBuf| !path.is_file();
    if let Some(path) = config.tasks.iter().find(missing) {
        let what = format!("there is no file {}", path.display());
        return Err(settings.wrong(&provenance, "tasks", &what, "write the paths of task files"));
    }
    let tasks: Vec<TaskFile> =
        config.tasks.iter().map(|path| TaskFile::load(path)).collect::<Result<_, _>>()?;
    if let Some(task) = tasks.iter().find(|task| task.role != role) {
        let what =
            format!("the file of task {} is for the {}, and this is the {role}", task.task_id, task.role);
        return Err(settings.wrong(&provenance, "tasks", &what, "give it to the other aggregator"));
    }
    for task in tasks.iter().filter(|_| role == Role::Leader) {
        check_helper(&peers, task).map_err(|what| {
            settings.wrong(&provenance, "tasks", &what, "or make the task anew with an https:// helper")
        })?;
    }
    let admin = admin(settings, &provenance, &config)?;
    let taskprov = config.taskprov.as_ref().map(|taskprov| taskprov.load(role)).transpose();
    let taskprov =
        taskprov.map_err(|error| settings.wrong(&provenance, error.key, &error.what, error.fix))?;
    check_floor(&config, &policy).map_err(|what| {
        let fix = "write a smaller floor, or a policy of larger batches";
        settings.wrong(&provenance, "taskprov.min_batch_size_floor", &what, fix)
    })?;
    let high_water_mark = server::high_water_mark(settings, &provenance, &config)?;
    Ok(Parts { config, policy, tasks, tls, peers, admin, taskprov, high_water_mark })
}

/// Whether another organisation runs what this one must not know, as far as the file says who runs what.
fn check_operators(
    settings: &Settings,
    provenance: &Provenance,
    config: &Config,
    role: Role,
) -> Result<(), Failure> {
    config.check_operators(role).map_err(|(key, sentence)| {
        let (what, fix) = sentence.split_once("; ").unwrap_or((&sentence, "leave it out"));
        settings.wrong(provenance, key, what, fix)
    })
}

fn admin(
    settings: &Settings,
    provenance: &Provenance,
    config: &Config,
) -> Result<Option<AdminListener>, Failure> {
    let wrong = |key: &str, what: &str, fix: &str| Err(settings.wrong(provenance, key, what, fix));
    let Some(address) = config.admin_listen else { return Ok(None) };
    if !address.ip().is_loopback() && config.tls.is_none() {
        let what = "the admin API can be reached from other machines, and there is no TLS";
        return wrong("admin_listen", what, "listen on 127.0.0.1, or add a table [tls]");
    }
    let token = match (&config.admin_token_sha256, &config.admin_token_file) {
        (Some(hash), None) => TokenHash::from_hex(hash),
        (None, Some(file)) => Some(TokenHash::of(files::read(file, "admin token")?.trim())),
        _ => {
            let what = "the admin API needs a token";
            let fix = "add admin_token_file or admin_token_sha256, one of them";
            return wrong("admin_listen", what, fix);
        }
    };
    let tls = operations::operators_tls(address, config.tls.as_ref()).transpose();
    let tls = tls.map_err(|error| server::explain_tls(settings, provenance, &error))?;
    match token {
        Some(token) if token != TokenHash::of("") => Ok(Some(AdminListener { address, token, tls })),
        _ => wrong(
            "admin_token_sha256",
            "this is not the hash of a token",
            "write the 64 digits of `sha256sum`, of the token without a line break",
        ),
    }
}

/// Whether there can be a task that both the policy and the floor of `[taskprov]` let in.
fn check_floor(config: &Config, policy: &Policy) -> Result<(), String> {
    let Some(taskprov) = &config.taskprov else { return Ok(()) };
    let floor = taskprov.min_batch_size_floor.max(config.limits().min_batch_size_floor);
    let largest = policy.plans().map(|plan| plan.terms().min_batch_size).max();
    match largest.filter(|largest| *largest < floor && !taskprov.without_noise) {
        Some(largest) => Err(format!(
            "no task can come with a request: batches have at least {floor} reports here, and the policy releases none \
             of more than min_batch_size = {largest}"
        )),
        None => Ok(()),
    }
}

/// Whether the helper of a task may be asked: with TLS, or on this machine.
fn check_helper(peers: &Peers, task: &TaskFile) -> Result<(), String> {
    let url = task.configuration.helper_url();
    let uri = url.parse().map_err(|_| format!("the helper of task {} is no URL", task.task_id))?;
    peers.allow(&uri).map_err(|why| format!("the helper of task {}: {why}", task.task_id))
}

fn role_name(role: Role) -> RoleName {
    match role {
        Role::Leader => RoleName::Leader,
        Role::Helper => RoleName::Helper,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_that_no_release_of_the_policy_reaches_is_found_at_the_start() {
        let config = |floor: u64| {
            let config = serde_json::json!({
                "listen": "127.0.0.1:1", "database": "sqlite:x", "policy": "p",
                "taskprov": {
                    "endpoint": "a", "peers": ["b"], "verify_key_init_file": "k", "collector_hpke_config": "c",
                    "vdafs": ["count"], "min_batch_size_floor": floor,
                },
            });
            serde_json::from_value::<Config>(config).expect("a configuration")
        };
        let policy = Policy::for_demo("label", &mica_dap::vdaf_config::VdafConfig::Count, 50, "1");
        let policy = Policy::parse("p.toml", &policy).expect("a policy");
        assert_eq!(check_floor(&config(50), &policy), Ok(()));
        let what = check_floor(&config(51), &policy).expect_err("none fits");
        assert!(what.contains("at least 51") && what.contains("min_batch_size = 50"), "{what}");
    }
}
