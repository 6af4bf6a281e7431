//! Builds and runs one role each: its own database, its own keys, its own log file.

use std::fs::OpenOptions;
use std::path::Path;

use mica_aggregator::aggregator::Options;
use mica_aggregator::shared::Limits;
use mica_aggregator::{Aggregator, Role, TaskFile};
use mica_dap::id::TaskId;
use mica_dap::media::Media;
use mica_dap::resource::Resource;
use mica_dp::Policy;
use mica_gateway::{Gateway, Protocol, Resources, RouteConfig};
use mica_relay::Relay;
use mica_service::http::{HttpClient, HttpOptions, Peer};
use mica_service::store::Store;
use mica_service::telemetry::{LogRoutes, role_span};
use tracing::Instrument as _;

use super::{Running, Setting, Sockets};
use crate::exit::Failure;

/// An aggregator of ours, built and with its database in sight.
pub(super) struct Built {
    pub(super) aggregator: Aggregator,
    pub(super) store: Store,
}

pub(super) async fn aggregator(
    setting: &Setting<'_>,
    task: TaskFile,
    policy: Policy,
    peer_is_ours: bool,
) -> Result<Built, Failure> {
    let role = task.role;
    let database = match role {
        Role::Leader => &setting.databases.leader,
        Role::Helper => &setting.databases.helper,
    };
    let store = Store::open(database, mica_aggregator::store::migrator()).await?;
    // A peer of somebody else may not speak HTTP/2 without being asked.
    let options = HttpOptions { h2_prior_knowledge: peer_is_ours, ..HttpOptions::default() };
    let options = Options {
        role,
        store: store.clone(),
        clock: setting.clock.clone(),
        compute: setting.compute.clone(),
        http: HttpClient::new(options),
        policy,
        tasks: vec![task],
        limits: Limits { answers: setting.answers, ..Limits::default() },
    };
    let built = Aggregator::build(options).instrument(role_span(&role.to_string())).await?;
    Ok(Built { aggregator: built, store })
}

pub(super) async fn gateway(
    setting: &Setting<'_>,
    sockets: &Sockets,
    helper_is_ours: bool,
) -> Result<Gateway, Failure> {
    let addresses = sockets.addresses();
    let routes = routes(&addresses.leader, &addresses.helper, setting.task_id, helper_is_ours)?;
    let listen = format!("127.0.0.1:{}", addresses.ports.gateway);
    let mut config = mica_gateway::Config::new(listen, setting.databases.gateway.clone(), routes);
    config.insecure_one_operator = true;
    let resources = Resources {
        clock: setting.clock.clone(),
        compute: setting.compute.clone(),
        mounted: mica_gateway::Mounted::default(),
    };
    Ok(Gateway::build_with(config, resources).instrument(role_span("gateway")).await?)
}

pub(super) fn relay(sockets: &Sockets) -> Result<Relay, Failure> {
    let addresses = sockets.addresses();
    let gateway = addresses.gateway.clone().unwrap_or_default();
    let listen = format!("127.0.0.1:{}", addresses.ports.relay);
    let mut config = mica_relay::Config::new(listen, gateway);
    config.insecure_one_operator = true;
    Ok(Relay::build(config)?)
}

/// What clients may ask for through the gateway: the keys of both aggregators, and to upload to this one task.
fn routes(
    leader: &str,
    helper: &str,
    task: TaskId,
    helper_is_ours: bool,
) -> Result<Vec<RouteConfig>, Failure> {
    let route = |method: &str, endpoint: &str, resource: Resource, media: Option<Media>| {
        let origin = Peer::parse(endpoint)?.origin().to_owned();
        let authority = origin.split_once("://").map_or(origin.as_str(), |(_, authority)| authority);
        let path = resource.absolute_path(endpoint);
        Ok::<_, Failure>(RouteConfig::new(method, authority, &path, media.map(Media::header), &origin))
    };
    let mut helper_keys = route("GET", helper, Resource::HpkeConfig, None)?;
    if !helper_is_ours {
        helper_keys.protocol = Protocol::H1;
    }
    let mut reports = route("POST", leader, Resource::Reports(task), Some(Media::UploadReq))?;
    reports.max_bytes = Limits::default().upload_bytes;
    Ok(vec![reports, route("GET", leader, Resource::HpkeConfig, None)?, helper_keys])
}

/// From now on the lines of `role` go to `role.log` in the folder.
pub(super) fn log_to_file(routes: &LogRoutes, folder: &Path, role: &str) -> Result<(), Failure> {
    let path = folder.join(format!("{role}.log"));
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options
        .open(&path)
        .map_err(|error| Failure::invalid(format!("cannot write {}: {error}", path.display())))?;
    routes.to_file(role, file);
    Ok(())
}

impl Running {
    /// Runs `serving` as `role` until the deployment is stopped.
    pub(super) fn spawn<F>(&mut self, role: &'static str, serving: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let serving = async move {
            serving.await;
            tracing::info!("stopped");
        };
        self.servers.push((role, tokio::spawn(serving.instrument(role_span(role)))));
    }
}
