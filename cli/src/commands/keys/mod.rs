//! `mica keys`: which keys an aggregator or a gateway has, and new ones; works beside a running server. And whether a gateway
//! publishes the same keys to everybody.

mod aggregator;
mod audit;
mod gateway;

use std::path::PathBuf;

use clap::Subcommand;
use jiff::Timestamp;
use mica_dap::hpke::Suite;
use mica_envelope::Kem;
use mica_service::key_life::KeyLife;
use serde_json::{Value, json};

use crate::args::{Format, Global};
use crate::exit::Failure;
use crate::print;
use crate::settings::{RoleName, Settings};

/// `mica keys ...`
#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the keys of a leader, a helper or a gateway; private keys are never shown
    List {
        /// The configuration file of the leader, the helper or the gateway
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Make new keys: advertised after a minute, while the old ones are accepted for some time
    ///
    /// Ends with 5 when no identifier is free, and at a gateway while the key before the advertised one is still
    /// accepted, because a third of one KEM would tell clients apart.
    Rotate {
        /// The configuration file of the leader, the helper or the gateway
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Only the key of this suite of a leader or a helper, such as x25519-aes128gcm
        #[arg(long, value_name = "SUITE")]
        suite: Vec<Suite>,
        /// Only the key of this KEM of a gateway: x25519 or x-wing
        #[arg(long, value_name = "KEM", conflicts_with = "suite")]
        kem: Vec<Kem>,
    },
    /// Check that a gateway publishes the same keys on every path, and has always said which
    Audit(audit::Args),
}

/// Does what the command line says.
pub(super) async fn run(command: Command, global: &Global) -> Result<(), Failure> {
    match command {
        Command::List { config } => {
            let settings = owner(&config)?;
            if settings.role() == RoleName::Gateway {
                return show("kem", &gateway::list(&settings).await?, global);
            }
            show("suite", &aggregator::list(&settings).await?, global)
        }
        Command::Rotate { config, suite, kem } => {
            let settings = owner(&config)?;
            if settings.role() == RoleName::Gateway {
                if !suite.is_empty() {
                    return Err(Failure::usage("the keys of a gateway are of a KEM: use --kem"));
                }
                return show("kem", &gateway::rotate(&settings, &kem).await?, global);
            }
            if !kem.is_empty() {
                return Err(Failure::usage("the keys of a leader or a helper are of a suite: use --suite"));
            }
            show("suite", &aggregator::rotate(&settings, &suite).await?, global)
        }
        Command::Audit(args) => audit::run(&args, global).await,
    }
}

/// A key as it is shown.
struct Shown {
    id: u8,
    kind: &'static str,
    life: KeyLife,
    until: Option<u64>,
}

const UNKNOWN: &str = "of a newer version";

fn owner(path: &std::path::Path) -> Result<Settings, Failure> {
    let settings = Settings::read(path)?;
    if settings.role() == RoleName::Relay {
        return Err(Failure::usage(format!(
            "{} is the configuration of a relay, which has no keys; name that of a leader, a helper or a gateway",
            settings.name(),
        )));
    }
    Ok(settings)
}

fn show(kind: &str, keys: &[Shown], global: &Global) -> Result<(), Failure> {
    let heading = ["id", kind, "state", "made", "until"];
    let rows = || keys.iter().map(|key| row(key).to_vec()).collect::<Vec<_>>();
    match global.output {
        Format::Json => {
            let keys: Vec<Value> = keys.iter().map(|key| object(kind, key)).collect();
            print::json(&json!({ "keys": keys }))
        }
        Format::Csv => print::csv(&heading, &rows()),
        Format::Table => print::columns(&heading, &rows()),
    }
}

fn row(key: &Shown) -> [String; 5] {
    [
        key.id.to_string(),
        key.kind.to_owned(),
        key.life.state.word().to_owned(),
        time(key.life.created_at),
        key.until.map_or_else(String::new, time),
    ]
}

fn object(kind: &str, key: &Shown) -> Value {
    json!({
        "id": key.id,
        kind: key.kind,
        "state": key.life.state.word(),
        "made": time(key.life.created_at),
        "until": key.until.map(time),
    })
}

fn time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| seconds.to_string(), |time| time.to_string())
}
