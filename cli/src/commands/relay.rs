//! `mica relay`: sees addresses, never contents.

use mica_relay::{BuildError, Config, Kept, Relay, Reload};
use mica_service::config::{Loaded, Provenance};
use mica_service::telemetry::role_span;
use tracing::Instrument as _;

use super::operations::{self, Admin, Place};
use super::{reload, server, threads, warnings};
use crate::args::{Global, ServerArgs};
use crate::exit::Failure;
use crate::settings::{RoleName, Settings};

/// Serves until it is told to stop.
pub(super) fn run(args: &ServerArgs, global: &Global) -> Result<(), Failure> {
    let settings = Settings::of_server(RoleName::Relay, args)?;
    let loaded = load(&settings)?;
    let runtime = threads::runtime(loaded.config.threads)?;
    let prepared = prepare(&settings, loaded)?;
    server::log(global)?;
    runtime.block_on(serve(args, prepared).instrument(role_span("relay")))
}

async fn serve(args: &ServerArgs, prepared: Prepared) -> Result<(), Failure> {
    let Prepared { listen, relay, admin, warnings } = prepared;
    let started = server::bind(&listen).await?;
    warnings::log(&warnings);
    let (changes, shutdown) = (relay.reload(), started.shutdown.clone());
    let operating = operations::serve(admin, relay.operations(), shutdown.clone()).await?;
    let hangup = reload::Hangup::new()?;
    started.announce()?;
    let following = reload::at_hangup(hangup, &shutdown, || take_up(args, &changes));
    tokio::join!(relay.run(started.listener, shutdown.clone()), operating, following);
    Ok(())
}

/// Whether a relay could start with this configuration.
pub(super) fn check(settings: &Settings) -> Result<(), Failure> {
    prepare(settings, load(settings)?).map(drop)
}

/// A relay that is ready for a socket.
struct Prepared {
    listen: String,
    relay: Relay,
    admin: Option<Place>,
    warnings: Vec<warnings::Warning>,
}

fn prepare(settings: &Settings, loaded: Loaded<Config>) -> Result<Prepared, Failure> {
    let Loaded { config, provenance } = loaded;
    let admin = Admin {
        listen: config.admin_listen,
        token_file: config.admin_token_file.as_deref(),
        token_sha256: config.admin_token_sha256.as_deref(),
        tls: config.tls.as_ref(),
    };
    let (listen, admin) = (config.listen.clone(), admin.read(settings, &provenance)?);
    let warnings = warnings::of_relay(&config);
    let relay = Relay::build(config).map_err(|error| explain(settings, &provenance, &error))?;
    Ok(Prepared { listen, relay, admin, warnings })
}

fn load(settings: &Settings) -> Result<Loaded<Config>, Failure> {
    let Loaded { config, provenance } = settings.load::<Config>()?;
    let config = config.relative_to(settings.folder());
    let reachable = config.tls.is_some() || config.insecure;
    server::check_listen(settings, &provenance, &config.listen, reachable)?;
    Ok(Loaded { config, provenance })
}

fn explain(settings: &Settings, provenance: &Provenance, error: &BuildError) -> Failure {
    if let BuildError::Tls(error) = error {
        return server::explain_tls(settings, provenance, error);
    }
    let said = error.to_string();
    let (key, what) = said.split_once(": ").unwrap_or(("listen", &said));
    settings.wrong(provenance, key, what, "correct this value")
}

/// Reads the file again and works by it, if it does.
fn take_up(args: &ServerArgs, changes: &Reload) {
    let adopted = Settings::of_server(RoleName::Relay, args).and_then(|settings| {
        let Loaded { config, provenance } = load(&settings)?;
        let warnings = warnings::of_relay(&config);
        changes.adopt(config).map_err(|kept| match kept {
            Kept::Invalid(error) => explain(&settings, &provenance, &error),
            fixed @ Kept::Fixed(_) => Failure::invalid(fixed.to_string()),
        })?;
        warnings::log(&warnings);
        Ok(())
    });
    reload::say(adopted.map_err(|failure| failure.to_string()));
}
