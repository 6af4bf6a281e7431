//! `cargo xtask bench`: what one report costs, measured on the release build.
//!
//! Here is only what comes before: checking the choices, building, and a private PostgreSQL cluster if one is asked
//! for. The measuring is done by the package `mica-bench`, so that this one stays small.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::process;
use crate::test;

#[derive(clap::Args)]
pub(crate) struct Options {
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

pub(crate) fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    let programs = build(root)?;
    // Lives until the figures are printed, and is stopped and removed when it is dropped.
    let mut _cluster = None;
    let mut measure = Command::new(&programs.bench);
    measure.arg("--mica").arg(&programs.mica);
    match options.database.as_deref() {
        None => {}
        Some("postgres") => {
            let cluster = test::start_cluster()?;
            measure.args(["--database", cluster.url()]);
            _cluster = Some(cluster);
        }
        Some(url) => {
            measure.args(["--database", url]);
        }
    }
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

/// What is measured, and what measures it.
struct Programs {
    mica: PathBuf,
    bench: PathBuf,
}

fn build(root: &Path) -> Result<Programs> {
    let mut build = process::cargo(root, "build");
    build.args(["--release", "--package", "mica-cli", "--package", "mica-bench"]);
    if !process::run(&mut build)?.success() {
        bail!("the release build fails");
    }
    let folder = target_folder(root)?.join("release");
    Ok(Programs { mica: folder.join("mica"), bench: folder.join("mica-bench") })
}

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
