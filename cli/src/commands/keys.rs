//! `mica keys`: which HPKE keys an aggregator has, and new ones. Works beside a running server.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use jiff::Timestamp;
use mica_aggregator::Config;
use mica_aggregator::hpke_keys::{self, KeyFacts, RotateError};
use mica_dap::hpke::Suite;
use mica_service::clock::Clock;
use mica_service::config::Loaded;
use mica_service::store::Store;
use serde_json::{Value, json};

use super::server;
use crate::args::{Format, Global};
use crate::exit::{Exit, Failure};
use crate::print;
use crate::settings::{RoleName, Settings};

/// `mica keys ...`
#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the keys of a leader or a helper; private keys are never shown
    List {
        /// The configuration file of the leader or the helper
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Make new keys: advertised after a minute, while the old ones are accepted for some time
    Rotate {
        /// The configuration file of the leader or the helper
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Only the key of this suite, such as x25519-aes128gcm
        #[arg(long, value_name = "SUITE")]
        suite: Vec<Suite>,
    },
}

/// Does what the command line says.
pub(super) async fn run(command: Command, global: &Global) -> Result<(), Failure> {
    match command {
        Command::List { config } => {
            let (config, store) = open(&config).await?;
            let keys = hpke_keys::list(&store, &config.hpke_keys).await?;
            store.close().await;
            show(&keys, global)
        }
        Command::Rotate { config, suite } => {
            let (config, store) = open(&config).await?;
            let made = hpke_keys::rotate(&store, &config.hpke_keys, &suite, Clock::system().now()).await;
            store.close().await;
            show(&made?, global)
        }
    }
}

impl From<RotateError> for Failure {
    fn from(error: RotateError) -> Self {
        match error {
            RotateError::Store(error) => error.into(),
            RotateError::NoIdentifier => Self::new(Exit::NotReady, error),
            RotateError::OtherSuite(_) => Self::usage(error),
        }
    }
}

async fn open(path: &Path) -> Result<(Config, Store), Failure> {
    let settings = Settings::read(path)?;
    if !matches!(settings.role(), RoleName::Leader | RoleName::Helper) {
        return Err(Failure::usage(format!(
            "{} is the configuration of a {}; name that of a leader or a helper",
            settings.name(),
            settings.role()
        )));
    }
    let Loaded { config, provenance } = settings.load::<Config>()?;
    let config = config.relative_to(settings.folder());
    server::check_database(&settings, &provenance, &config.database)?;
    let store = Store::open(&config.database, mica_aggregator::store::migrator()).await?;
    Ok((config, store))
}

fn show(keys: &[KeyFacts], global: &Global) -> Result<(), Failure> {
    const HEADING: [&str; 5] = ["id", "suite", "state", "made", "until"];
    let rows = || keys.iter().map(|key| row(key).map(|(_, cell)| cell).to_vec()).collect::<Vec<_>>();
    match global.output {
        Format::Json => {
            let keys: Vec<Value> = keys.iter().map(object).collect();
            print::json(&json!({ "keys": keys }))
        }
        Format::Csv => print::csv(&HEADING, &rows()),
        Format::Table => print::columns(&HEADING, &rows()),
    }
}

fn row(key: &KeyFacts) -> [(&'static str, String); 5] {
    [
        ("id", key.config_id.to_string()),
        ("suite", suite(key).to_owned()),
        ("state", key.life.state.word().to_owned()),
        ("made", time(key.life.created_at)),
        ("until", key.until.map_or_else(String::new, time)),
    ]
}

fn object(key: &KeyFacts) -> Value {
    json!({
        "id": key.config_id,
        "suite": suite(key),
        "state": key.life.state.word(),
        "made": time(key.life.created_at),
        "until": key.until.map(time),
    })
}

fn suite(key: &KeyFacts) -> &'static str {
    key.suite.map_or("of a newer version", Suite::name)
}

fn time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| seconds.to_string(), |time| time.to_string())
}
