//! `mica relay`: sees addresses, never contents.

use mica_relay::{Config, Relay};
use mica_service::telemetry::role_span;
use tracing::Instrument as _;

use super::server;
use crate::args::{Global, ServerArgs};
use crate::exit::Failure;
use crate::settings::{RoleName, Settings};

/// Serves until it is told to stop.
pub(super) async fn run(args: &ServerArgs, global: &Global) -> Result<(), Failure> {
    let settings = Settings::of(RoleName::Relay, &args.config, args.listen.clone())?;
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
    let loaded = settings.load::<Config>()?;
    server::check_listen(settings, &loaded.provenance, &loaded.config.listen)?;
    let relay = Relay::build(loaded.config.clone()).map_err(|error| {
        let said = error.to_string();
        let (key, what) = said.split_once(": ").unwrap_or(("listen", &said));
        settings.wrong(&loaded.provenance, key, what, "correct this value")
    })?;
    Ok((loaded.config, relay))
}
