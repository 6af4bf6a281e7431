//! `mica budget`: what is spent of the privacy budgets of an aggregator, what happened to them, and whether it all follows.
//! Works on its database, beside a running server or without one.

mod accept;
mod history;
mod show;
mod verify;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use mica_aggregator::Config;
use mica_service::config::Loaded;
use mica_service::store::Store;

use super::server;
use crate::args::Global;
use crate::exit::Failure;
use crate::settings::{RoleName, Settings};

/// `mica budget ...`
#[derive(Subcommand)]
pub(crate) enum Command {
    /// How much of each budget is spent, and when it renews
    Show(show::Args),
    /// What happened to the budgets, the newest first
    History(history::Args),
    /// Check the whole ledger, and derive every charge again from the policy that it names
    Verify(verify::Args),
    /// Release again after a restore, though it is not known what was released since the copy was made
    AcceptRestored(accept::Args),
}

/// Whose budgets.
#[derive(clap::Args)]
pub(crate) struct Of {
    /// The configuration file of the leader or the helper
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Does what the command line says.
pub(super) async fn run(command: Command, global: &Global) -> Result<(), Failure> {
    match command {
        Command::Show(args) => show::run(&args, global).await,
        Command::History(args) => history::run(&args, global).await,
        Command::Verify(args) => verify::run(&args, global).await,
        Command::AcceptRestored(args) => accept::run(&args).await,
    }
}

/// A database, and the file that remembers how far the ledger had come.
struct Opened {
    store: Store,
    mark: PathBuf,
}

async fn open(path: &Path) -> Result<Opened, Failure> {
    let settings = Settings::read(path)?;
    if !matches!(settings.role(), RoleName::Leader | RoleName::Helper) {
        return Err(Failure::usage(format!(
            "{} is the configuration of a {}, which has no budgets; name that of a leader or a helper",
            settings.name(),
            settings.role()
        )));
    }
    let Loaded { config, provenance } = settings.load::<Config>()?;
    let config = config.relative_to(settings.folder());
    server::check_database(&settings, &provenance, &config.database)?;
    let mark = server::high_water_mark(&settings, &provenance, &config)?;
    let store = Store::open(&config.database, mica_aggregator::store::migrator()).await?;
    Ok(Opened { store, mark })
}

/// Seconds since 1970 as people write them.
fn time(seconds: u64) -> String {
    i64::try_from(seconds).map_or_else(|_| seconds.to_string(), mica_dp::accountant::format_second)
}
