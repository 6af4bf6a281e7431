//! `mica leader` and `mica helper`: verify and add what nobody alone can read.

use std::path::PathBuf;

use mica_aggregator::aggregator::Options;
use mica_aggregator::enrol::Rules;
use mica_aggregator::{Aggregator, Config, Role, TaskFile};
use mica_dp::Policy;
use mica_service::clock::Clock;
use mica_service::compute::ComputePool;
use mica_service::config::Loaded;
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::store::Store;
use mica_service::telemetry::role_span;
use mica_service::tls::{Acceptor, Peers, TlsError};
use tracing::Instrument as _;

use super::server;
use crate::args::{Global, ServerArgs};
use crate::exit::Failure;
use crate::files;
use crate::settings::{RoleName, Settings};

/// A configuration and the files it names.
struct Parts {
    config: Config,
    policy: Policy,
    tasks: Vec<TaskFile>,
    tls: Option<Acceptor>,
    peers: Peers,
}

/// Serves until it is told to stop.
pub(super) async fn run(role: Role, args: &ServerArgs, global: &Global) -> Result<(), Failure> {
    let settings = Settings::of_server(role_name(role), args)?;
    let parts = read(&settings, role)?;
    server::log(global)?;
    serve(role, parts).instrument(role_span(role_name(role).name())).await
}

/// Whether an aggregator could start with this configuration, its policy and its tasks. Its database is left alone.
pub(super) fn check(settings: &Settings, role: Role) -> Result<(), Failure> {
    let Parts { config, policy, tasks, .. } = read(settings, role)?;
    let rules = Rules { role, policy: &policy, min_batch_size_floor: config.limits().min_batch_size_floor };
    tasks.iter().try_for_each(|task| rules.check(task).map_err(Failure::invalid))
}

async fn serve(role: Role, parts: Parts) -> Result<(), Failure> {
    let Parts { config, policy, tasks, tls, peers } = parts;
    let started = server::bind(&config.listen.to_string()).await?;
    let options = Options {
        role,
        store: Store::open(&config.database, mica_aggregator::store::migrator()).await?,
        clock: Clock::system(),
        compute: ComputePool::new(),
        http: HttpClient::new(HttpOptions { peers, ..HttpOptions::default() }),
        policy,
        tasks,
        limits: config.limits(),
    };
    let tasks = options.tasks.len();
    let aggregator = Aggregator::build(options).await?.with_tls(tls);
    tracing::info!(tasks, "built");
    started.announce()?;
    aggregator.run(started.listener, started.shutdown).await;
    Ok(())
}

fn read(settings: &Settings, role: Role) -> Result<Parts, Failure> {
    let Loaded { config, provenance } = settings.load::<Config>()?;
    let config = config.relative_to(settings.folder());
    server::check_database(settings, &provenance, &config.database)?;
    let reachable = config.tls.is_some() || config.insecure;
    server::check_listen(settings, &provenance, &config.listen.to_string(), reachable)?;
    let explain = |error: TlsError| server::explain_tls(settings, &provenance, &error);
    let tls = config.tls.as_ref().map(Acceptor::load).transpose().map_err(explain)?;
    let peers = Peers::load(&config.peer_tls, config.insecure).map_err(explain)?;
    if !config.policy.is_file() {
        let what = format!("there is no file {}", config.policy.display());
        return Err(settings.wrong(&provenance, "policy", &what, "write the path of a policy file"));
    }
    let policy = files::policy(&config.policy)?;
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
    Ok(Parts { config, policy, tasks, tls, peers })
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
