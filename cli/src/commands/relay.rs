//! `mica relay`: sees addresses, never contents.

use mica_relay::{BuildError, Config, Relay};
use mica_service::config::Loaded;
use mica_service::telemetry::role_span;
use tracing::Instrument as _;

use super::server;
use crate::args::{Global, ServerArgs};
use crate::exit::Failure;
use crate::settings::{RoleName, Settings};

/// Serves until it is told to stop.
pub(super) async fn run(args: &ServerArgs, global: &Global) -> Result<(), Failure> {
    let settings = Settings::of_server(RoleName::Relay, args)?;
    let (config, relay) = prepare(&settings)?;
    server::log(global)?;
    async {
        let started = server::bind(&config.listen).await?;
        started.announce()?;
        relay.run(started.listener, started.shutdown).await;
        Ok(())
    }
    .instrument(role_span("relay"))
    .await
}

/// Whether a relay could start with this configuration.
pub(super) fn check(settings: &Settings) -> Result<(), Failure> {
    prepare(settings).map(drop)
}

fn prepare(settings: &Settings) -> Result<(Config, Relay), Failure> {
    let Loaded { config, provenance } = settings.load::<Config>()?;
    let config = config.relative_to(settings.folder());
    let reachable = config.tls.is_some() || config.insecure;
    server::check_listen(settings, &provenance, &config.listen, reachable)?;
    let relay = Relay::build(config.clone()).map_err(|error| {
        if let BuildError::Tls(error) = &error {
            return server::explain_tls(settings, &provenance, error);
        }
        let said = error.to_string();
        let (key, what) = said.split_once(": ").unwrap_or(("listen", &said));
        settings.wrong(&provenance, key, what, "correct this value")
    })?;
    Ok((config, relay))
}
