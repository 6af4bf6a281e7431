//! `mica config`: is a configuration file right, and where does each value come from?

use std::path::PathBuf;

use clap::Subcommand;
use mica_aggregator::Role;
use mica_service::config::{Origin, Provenance};
use serde_json::json;

use super::{aggregator, gateway, relay};
use crate::args::{Format, Global};
use crate::exit::Failure;
use crate::print;
use crate::settings::{RoleName, Settings};

/// `mica config ...`
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Check a file, and the policy and tasks it names, without starting anything
    Check {
        /// The configuration file
        file: PathBuf,
        /// Also check that it is for this role
        #[arg(long, value_enum)]
        role: Option<RoleName>,
        /// Also check the leader that a gateway runs in its process, and that the two go together
        #[arg(long, value_name = "FILE")]
        leader: Option<PathBuf>,
    },
    /// Show each value that is given, and where it comes from
    Show {
        /// The configuration file
        file: PathBuf,
        /// Name the line of the file or the variable of the environment that each value comes from
        #[arg(long)]
        origin: bool,
    },
}

/// Does what the command line says.
pub(super) async fn run(command: Command, global: &Global) -> Result<(), Failure> {
    match command {
        Command::Check { file, role, leader } => {
            let settings = match role {
                Some(role) => Settings::of(role, &file)?,
                None => Settings::read(&file)?,
            };
            let leader = leader.map(|file| Settings::of(RoleName::Leader, &file)).transpose()?;
            check(&settings, leader.as_ref()).await?;
            let checked = [Some(&settings), leader.as_ref()].into_iter().flatten();
            let ok = |settings: &Settings| format!("{}: ok ({})", settings.name(), settings.role());
            print::lines(&checked.map(ok).collect::<Vec<_>>().join("\n"))
        }
        Command::Show { file, origin } => show(&Settings::read(&file)?, origin, global.output),
    }
}

async fn check(settings: &Settings, leader: Option<&Settings>) -> Result<(), Failure> {
    if leader.is_some() && settings.role() != RoleName::Gateway {
        let (name, role) = (settings.name(), settings.role());
        return Err(Failure::usage(format!(
            "--leader goes with the configuration of a gateway, and {name} is that of a {role}"
        )));
    }
    match settings.role() {
        RoleName::Relay => relay::check(settings),
        RoleName::Gateway => gateway::check(settings, leader).await,
        RoleName::Leader => aggregator::check(settings, Role::Leader).map(drop),
        RoleName::Helper => aggregator::check(settings, Role::Helper).map(drop),
    }
}

fn show(settings: &Settings, with_origin: bool, format: Format) -> Result<(), Failure> {
    let provenance = provenance(settings)?;
    let rows: Vec<Vec<String>> = provenance
        .iter()
        .map(|(key, origin)| {
            let mut row = vec![key.to_owned(), value(settings, key, origin)];
            row.extend(with_origin.then(|| origin.to_string()));
            row
        })
        .collect();
    let headings: &[&str] = if with_origin { &["key", "value", "origin"] } else { &["key", "value"] };
    match format {
        Format::Csv => print::csv(headings, &rows),
        Format::Json => {
            let object = |row: &Vec<String>| {
                headings.iter().zip(row).map(|(heading, cell)| ((*heading).to_owned(), json!(cell))).collect()
            };
            let values: Vec<serde_json::Map<_, _>> = rows.iter().map(object).collect();
            print::json(&json!(values))
        }
        Format::Table => {
            let shown = |row: Vec<String>| -> Vec<String> {
                row.into_iter()
                    .enumerate()
                    .map(|(at, cell)| if at == 1 { short(&cell) } else { cell })
                    .collect()
            };
            print::columns(headings, &rows.into_iter().map(shown).collect::<Vec<_>>())?;
            print::lines("Keys that are not listed have their defaults.")
        }
    }
}

fn provenance(settings: &Settings) -> Result<Provenance, Failure> {
    Ok(match settings.role() {
        RoleName::Relay => settings.load::<mica_relay::Config>()?.provenance,
        RoleName::Gateway => settings.load::<mica_gateway::Config>()?.provenance,
        RoleName::Leader | RoleName::Helper => settings.load::<mica_aggregator::Config>()?.provenance,
    })
}

/// In one line, and no longer than leaves room for what stands beside it.
fn short(value: &str) -> String {
    let line = value.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    if line.chars().count() <= LONGEST {
        return line;
    }
    line.chars().take(LONGEST - 3).chain("...".chars()).collect()
}

/// Longer values are shown whole with `-o json`.
const LONGEST: usize = 72;

/// The value as it was written. The URL of a database may hold a password, which is nobody's to see.
fn value(settings: &Settings, key: &str, origin: &Origin) -> String {
    let written = match origin {
        Origin::Environment(name) => std::env::var(name).unwrap_or_default(),
        _ => settings.spelling(key).unwrap_or_default(),
    };
    match written.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?))) {
        Some((scheme, (_, rest))) => format!("{scheme}://...@{rest}"),
        None => written,
    }
}
