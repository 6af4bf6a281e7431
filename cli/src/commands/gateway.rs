//! `mica gateway`: opens envelopes, never sees addresses.

use std::path::Path;

use mica_aggregator::Role;
use mica_gateway::{BuildError, Config, Gateway, Kept, Reload, Resources};
use mica_service::config::{Loaded, Provenance};
use mica_service::listener;
use mica_service::shutdown::Shutdown;
use mica_service::telemetry::role_span;
use tracing::Instrument as _;

use super::aggregator::{self, Parts};
use super::operations::{self, Admin, Place};
use super::serving::Serving;
use super::{beside, reload, server, threads, warnings};
use crate::args::{GatewayArgs, Global, ServerArgs};
use crate::exit::Failure;
use crate::settings::{RoleName, Settings};

/// Serves until it is told to stop.
pub(super) fn run(args: &GatewayArgs, global: &Global) -> Result<(), Failure> {
    let leader = args.leader.as_ref().map(|file| aggregator::read_leader(&of_leader(&args.server, file)));
    let leader = leader.transpose()?;
    let args = &args.server;
    let settings = Settings::of_server(RoleName::Gateway, args)?;
    let Loaded { config, provenance } = load(&settings)?;
    let admin = admin(&settings, &provenance, &config)?;
    if let Some(leader) = &leader {
        beside::check((&settings, &provenance), &config, leader)?;
    }
    let runtime = threads::runtime(config.threads.or_else(|| leader.as_ref().and_then(|_| threads::all())))?;
    server::log(global)?;
    let read = Read { settings: &settings, provenance: &provenance, args };
    runtime.block_on(Box::pin(read.serve(config, admin, leader)).instrument(role_span("gateway")))
}

/// Where a configuration was read from, to name its places and to read it again.
struct Read<'r> {
    settings: &'r Settings,
    provenance: &'r Provenance,
    args: &'r ServerArgs,
}

impl Read<'_> {
    async fn serve(self, config: Config, admin: Option<Place>, leader: Option<Parts>) -> Result<(), Failure> {
        let warnings = warnings::of_gateway(&config, &config.database);
        let started = server::bind(&config.listen).await?;
        warnings::log(&warnings);
        // Before the database is opened: a newer version would change its tables under the one that runs.
        let _alone = server::alone(&config.database)?;
        let (leader, resources) = mount(leader).await?;
        let gateway = Gateway::build_with(config, resources).await;
        let gateway = gateway.map_err(|error| explain(self.settings, self.provenance, error))?;
        let (changes, shutdown) = (gateway.reload(), started.shutdown.clone());
        let operating = operations::serve(admin, gateway.operations(), shutdown.clone()).await?;
        let hangup = reload::Hangup::new()?;
        started.announce()?;
        let following = reload::at_hangup(hangup, &shutdown, || take_up(self.args, &changes));
        // The leader goes on until the gateway has finished what was begun.
        let finished = Shutdown::new();
        let serving = async {
            gateway.run(started.listener, started.shutdown).await;
            finished.trigger();
        };
        let leading = async {
            match leader {
                Some(leader) => Box::pin(leader.run(finished.clone())).instrument(role_span("leader")).await,
                None => Ok(()),
            }
        };
        let ((), (), (), led) = tokio::join!(serving, operating, following, leading);
        led
    }
}

/// The flags of a gateway, for the leader in its process.
fn of_leader(args: &ServerArgs, file: &Path) -> ServerArgs {
    ServerArgs {
        config: file.to_owned(),
        listen: None,
        insecure: args.insecure,
        insecure_peers: args.insecure_peers,
    }
}

/// The leader of `parts`, ready to serve, and what a gateway shares with it.
async fn mount(parts: Option<Parts>) -> Result<(Option<Serving>, Resources), Failure> {
    let mut resources = Resources::default();
    let Some(parts) = parts else { return Ok((None, resources)) };
    let (address, places) = (parts.config.listen, parts.places());
    let compute = resources.compute.clone();
    let preparing = async {
        let listener = listener::bind(address).await?;
        Serving::prepare(Role::Leader, parts, listener, compute).await
    };
    let leader = Box::pin(preparing).instrument(role_span("leader")).await?;
    resources.mounted = leader.mount(resources.mounted, places);
    Ok((Some(leader), resources))
}

/// Whether a gateway could start with this configuration. Its database is left alone: the table of routes is tried
/// with an empty one that is removed afterwards. With a leader in its process, whether both could.
pub(super) async fn check(settings: &Settings, leader: Option<&Settings>) -> Result<(), Failure> {
    let Loaded { mut config, provenance } = load(settings)?;
    admin(settings, &provenance, &config)?;
    if let Some(leader) = leader {
        let leader = aggregator::check(leader, Role::Leader)?;
        beside::check((settings, &provenance), &config, &leader)?;
    }
    let scratch = tempfile::tempdir()?;
    config.database = format!("sqlite:{}", scratch.path().join("gateway.db").display());
    Gateway::build(config).await.map_err(|error| explain(settings, &provenance, error)).map(drop)
}

fn load(settings: &Settings) -> Result<Loaded<Config>, Failure> {
    let Loaded { config, provenance } = settings.load::<Config>()?;
    let mut config = config.relative_to(settings.folder());
    let reachable = config.tls.is_some() || config.insecure;
    server::check_listen(settings, &provenance, &config.listen, reachable)?;
    config.database = server::database_relative_to(settings, config.database);
    server::check_database(settings, &provenance, &config.database)?;
    Ok(Loaded { config, provenance })
}

fn admin(settings: &Settings, provenance: &Provenance, config: &Config) -> Result<Option<Place>, Failure> {
    let admin = Admin {
        listen: config.admin_listen,
        token_file: config.admin_token_file.as_deref(),
        token_sha256: config.admin_token_sha256.as_deref(),
        tls: config.tls.as_ref(),
    };
    admin.read(settings, provenance)
}

/// Reads the file again and works by it, if it does.
fn take_up(args: &ServerArgs, changes: &Reload) {
    let loaded = Settings::of_server(RoleName::Gateway, args).and_then(|settings| {
        let loaded = load(&settings)?;
        Ok((settings, loaded))
    });
    let mut warnings = Vec::new();
    let done = loaded.map_err(|failure| failure.to_string()).and_then(|(settings, loaded)| {
        warnings = warnings::of_gateway(&loaded.config, &loaded.config.database);
        changes.adopt(loaded.config).map_err(|kept| match kept {
            Kept::Route(error) => {
                explain(&settings, &loaded.provenance, BuildError::Route(error)).to_string()
            }
            Kept::Relay(error) => {
                explain(&settings, &loaded.provenance, BuildError::Relay(error)).to_string()
            }
            Kept::Value(key, what) => {
                explain(&settings, &loaded.provenance, BuildError::Window(key, what)).to_string()
            }
            fixed @ Kept::Fixed(_) => fixed.to_string(),
        })
    });
    if done.is_ok() {
        warnings::log(&warnings);
    }
    reload::say(done);
}

fn explain(settings: &Settings, provenance: &Provenance, error: BuildError) -> Failure {
    match error {
        BuildError::Tls(error) => server::explain_tls(settings, provenance, &error),
        BuildError::Route(error) => {
            let (route, key) = match error {
                mica_gateway::RouteError::Value { route, key, .. } => (route, key),
                mica_gateway::RouteError::Target { route, .. } => (route, "target"),
            };
            settings.wrong_entry(("routes", route, key), &error.to_string(), "correct this value")
        }
        BuildError::Keys(why) => {
            let (key, what) = why.split_once(": ").unwrap_or(("keys", &why));
            settings.wrong(provenance, key, what, "correct this value")
        }
        BuildError::Relay(error) => {
            settings.wrong_entry(("relays", error.relay, error.key), &error.to_string(), "correct this relay")
        }
        BuildError::Window(key, what) => settings.wrong(provenance, key, &what, "correct this value"),
        other @ BuildError::Store(_) => other.into(),
    }
}
