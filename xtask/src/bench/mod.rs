//! `cargo xtask bench`: what one report costs, measured on the build that operators run.
//!
//! Here is only what comes before: checking the choices, building, and a private PostgreSQL cluster if one is asked
//! for. The measuring is done by the package `mica-bench`, so that this one stays small.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::process;
use crate::test;

mod ohttp;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    part: Option<Part>,
    /// `postgres` for a private cluster, or the URL of a server on this machine [default: an SQLite file per role]
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// What is computed
    #[arg(long, default_value = "histogram", value_parser = ["count", "sum", "sumvec", "histogram", "multihot"])]
    vdaf: String,
    /// Coordinates of a vector, or buckets of a histogram
    #[arg(long, default_value_t = 100)]
    length: u32,
    /// How many reports are sent
    #[arg(long, default_value_t = 20_000)]
    reports: u32,
    /// How many connections send at the same time
    #[arg(long, default_value_t = 16)]
    connections: u16,
    /// `dap`: straight to the leader; `full`: through relay and gateway
    #[arg(long, default_value = "dap", value_parser = ["dap", "full"])]
    path: String,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Part {
    /// Measure relay and gateway alone: CPU time, added latency, idle connections, a crowd, and other programs beside them
    Ohttp(ohttp::Options),
}

pub(crate) fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    if let Some(Part::Ohttp(options)) = &options.part {
        return ohttp::run(root, options);
    }
    let programs = build(root)?;
    let mut measure = Command::new(&programs.bench);
    measure.arg("--mica").arg(&programs.mica);
    // Lives until the figures are printed, and is stopped and removed when it is dropped.
    let _cluster = use_database(&mut measure, options.database.as_deref())?;
    measure.args(["--vdaf", &options.vdaf, "--path", &options.path]);
    measure.args(["--length", &options.length.to_string()]);
    measure.args(["--reports", &options.reports.to_string()]);
    measure.args(["--connections", &options.connections.to_string()]);
    if options.json {
        measure.arg("--json");
    }
    let status = process::run(&mut measure)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tells the ruler of a database server, and starts one if it is to be a private one.
fn use_database(measure: &mut Command, database: Option<&str>) -> Result<Option<test::Cluster>> {
    let cluster = (database == Some("postgres")).then(test::start_cluster).transpose()?;
    if let Some(url) = cluster.as_ref().map(test::Cluster::url).or(database) {
        measure.args(["--database", url]);
    }
    Ok(cluster)
}

/// What is measured, and what measures it.
struct Programs {
    mica: PathBuf,
    bench: PathBuf,
}

fn build(root: &Path) -> Result<Programs> {
    let mut build = process::cargo(root, "build");
    build.args(["--profile", PROFILE, "--package", "mica-cli", "--package", "mica-bench"]);
    if !process::run(&mut build)?.success() {
        bail!("the build fails");
    }
    let folder = target_folder(root)?.join(PROFILE);
    Ok(Programs { mica: folder.join("mica"), bench: folder.join("mica-bench") })
}

/// The profile of Cargo.toml for those who run a role for long.
const PROFILE: &str = "production";

/// Where cargo builds.
pub(crate) fn target_folder(root: &Path) -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let mut command = process::cargo(root, "metadata");
    command.args(["--format-version", "1", "--no-deps", "--locked"]);
    let output = command.output().context("cannot start cargo")?;
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("cannot read what cargo metadata says")?;
    Ok(metadata.target_directory)
}
