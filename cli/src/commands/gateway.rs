//! `mica gateway`: opens envelopes, never sees addresses.

use mica_gateway::{BuildError, Config, Gateway};
use mica_service::config::{Loaded, Provenance};
use mica_service::telemetry::role_span;
use tracing::Instrument as _;

use super::server;
use crate::args::{Global, ServerArgs};
use crate::exit::Failure;
use crate::settings::{RoleName, Settings};

/// Serves until it is told to stop.
pub(super) async fn run(args: &ServerArgs, global: &Global) -> Result<(), Failure> {
    let settings = Settings::of_server(RoleName::Gateway, args)?;
    let Loaded { config, provenance } = load(&settings)?;
    server::log(global)?;
    async {
        let started = server::bind(&config.listen).await?;
        let gateway = Gateway::build(config).await.map_err(|error| explain(&settings, &provenance, error))?;
        started.announce()?;
        gateway.run(started.listener, started.shutdown).await;
        Ok(())
    }
    .instrument(role_span("gateway"))
    .await
}

/// Whether a gateway could start with this configuration. Its database is left alone: the table of routes is tried
/// with an empty one that is removed afterwards.
pub(super) async fn check(settings: &Settings) -> Result<(), Failure> {
    let Loaded { mut config, provenance } = load(settings)?;
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

fn explain(settings: &Settings, provenance: &Provenance, error: BuildError) -> Failure {
    match error {
        BuildError::Tls(error) => server::explain_tls(settings, provenance, &error),
        BuildError::Route(error) => {
            let route = match error {
                mica_gateway::RouteError::Value { route, .. }
                | mica_gateway::RouteError::Target { route, .. } => route,
            };
            settings.wrong_entry("routes", route, &error.to_string(), "correct this route")
        }
        BuildError::Keys(why) => {
            let (key, what) = why.split_once(": ").unwrap_or(("keys", &why));
            settings.wrong(provenance, key, what, "correct this value")
        }
        other @ (BuildError::Store(_) | BuildError::DateWindow) => other.into(),
    }
}
