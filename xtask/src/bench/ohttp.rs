//! `cargo xtask bench ohttp`: what relay and gateway cost, and what others cost that do the same.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Result;

use super::{build, target_folder, use_database};
use crate::interop;
use crate::process;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// `postgres` for a private cluster, or the URL of a server on this machine, to be measured beside SQLite
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// How many requests each figure is taken from
    #[arg(long, default_value_t = 20_000)]
    requests: u32,
    /// How many connections send at the same time
    #[arg(long, default_value_t = 64)]
    connections: u16,
    /// How many connections are kept open and idle
    #[arg(long, default_value_t = 10_000)]
    idle: u32,
    /// How many connections a crowd attempts
    #[arg(long, default_value_t = 100_000)]
    attempts: u32,
    /// Install `ohttp-relay` and `ohttp-gateway` from the public registry, and measure them beside ours
    #[arg(long)]
    others: bool,
    /// Only this; may be given several times
    #[arg(long, value_parser = ["cpu", "latency", "merging", "others", "idle", "crowd"])]
    only: Vec<String>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

pub(super) fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    let programs = build(root)?;
    let mut measure = Command::new(&programs.bench);
    measure.arg("ohttp").arg("--mica").arg(&programs.mica);
    if options.others {
        let target = target_folder(root)?;
        for (flag, peer) in [("--other-relay", "ohttp-relay"), ("--other-gateway", "ohttp-gateway")] {
            measure.arg(flag).arg(interop::shipped(root, &target, peer)?);
        }
    }
    let _cluster = use_database(&mut measure, options.database.as_deref())?;
    measure.args(["--requests", &options.requests.to_string()]);
    measure.args(["--connections", &options.connections.to_string()]);
    measure.args(["--idle", &options.idle.to_string()]);
    measure.args(["--attempts", &options.attempts.to_string()]);
    for part in &options.only {
        measure.args(["--only", part]);
    }
    if options.json {
        measure.arg("--json");
    }
    let status = process::run(&mut measure)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
