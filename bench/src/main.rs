//! The ruler: what one report costs, measured on the real programs over real sockets.
//!
//! Every role runs as a process of its own, started from the program that is shipped. Reports are sharded and sealed
//! beforehand; then they are sent, aggregated and collected, and the operating system is asked how much CPU time each
//! process took. The primitives that a report cannot do without are timed in the same run, and the ratio of the two is
//! the figure. A run whose collected total is wrong prints no figure.
//!
//! This program plays client and collector, and provisions the task, so it knows every key but those that the roles
//! make themselves. It is never part of a deployment.

mod database;
mod figures;
mod load;
mod ohttp;
mod options;
mod parties;
mod procfs;
mod progress;
mod roofline;
mod run;
mod server;
mod table;
mod workload;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::options::{Cli, Part};

/// One thread: what the load generator takes from the measured processes should be as little as possible.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match measure().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure() -> Result<()> {
    let cli = Cli::parse();
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for signals")?;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    let text = match (cli.part, cli.whole) {
        (Some(Part::Ohttp(options)), _) => ohttp::run(&options, stop).await?,
        (None, Some(options)) => {
            let figures = run::run(&options, stop).await?;
            if options.json { figures.to_json()? } else { table::render(&figures) }
        }
        (None, None) => bail!("tell me what to measure: --mica PROGRAM, or ohttp"),
    };
    let mut output = std::io::stdout().lock();
    writeln!(output, "{text}").context("cannot write to standard output")
}
