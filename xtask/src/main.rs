//! `cargo xtask`: everything one does to this repository other than run it.
//!
//! One file or folder per command. No report ever passes through here, and nothing here is part of a release.

mod bench;
mod interop;
mod lint;
mod process;
mod simulate;
mod steps;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// Tests, lints and measures mica.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every test, on SQLite and on a private PostgreSQL cluster
    Test(test::Options),
    /// Simulate the whole of DAP under more seeds than the tests do
    Simulate(simulate::Options),
    /// Check form, lints, docs, licences, sizes and house rules
    Lint(lint::Options),
    /// Measure what one report costs
    Bench(bench::Options),
    /// Run implementations of Oblivious HTTP by others in the place of our parties
    Interop(interop::Options),
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let cli = Cli::parse();
    process::watch_signals()?;
    let root = workspace_root()?;
    match cli.command {
        Command::Test(options) => Ok(test::run(&root, &options)),
        Command::Simulate(options) => simulate::run(&root, &options),
        Command::Lint(options) => lint::run(&root, &options),
        Command::Bench(options) => bench::run(&root, &options),
        Command::Interop(options) => interop::run(&root, &options),
    }
}

/// The folder of the workspace's `Cargo.toml`: the parent of this package's own folder.
fn workspace_root() -> Result<PathBuf> {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .context("run this as `cargo xtask`, so that cargo tells it where it is")?;
    Path::new(&package).parent().map(Path::to_path_buf).context("the xtask package has no parent folder")
}
