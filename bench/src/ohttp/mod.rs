//! What relay and gateway cost: CPU time of each of them per report, the time they add, and what idle clients and crowds take.
//!
//! Both run as processes of their own before a target that takes whatever comes, which lives in a thread of this
//! program and is not counted. Programs that others wrote can take the place of either, under the same load.

mod costs;
mod crowd;
mod figures;
mod idle;
mod pace;
mod stage;
mod table;
mod target;
mod work;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use self::costs::Ruler;
use self::figures::Figures;
use crate::procfs;
use crate::progress::Progress;

/// The choices for relay and gateway.
#[derive(Args)]
pub(crate) struct Options {
    /// The program whose relay and gateway are measured
    #[arg(long, value_name = "PROGRAM")]
    mica: PathBuf,
    /// A PostgreSQL server on this machine; with it, everything is measured on SQLite and on PostgreSQL
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// How many requests each figure is taken from
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=200_000))]
    requests: u32,
    /// How many connections send at the same time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    connections: u16,
    /// How many connections are kept open and idle
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    idle: u32,
    /// How many connections a crowd attempts
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    attempts: u32,
    /// The program of another relay, `ohttp-relay` 0.0.11, to be measured beside ours
    #[arg(long, value_name = "PROGRAM")]
    other_relay: Option<PathBuf>,
    /// The program of another gateway, `ohttp-gateway` 1.0.2
    #[arg(long, value_name = "PROGRAM")]
    other_gateway: Option<PathBuf>,
    /// Only this; may be given several times
    #[arg(long, value_enum)]
    only: Vec<What>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// The parts of the measurement.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Cpu,
    Latency,
    Merging,
    Others,
    Idle,
    Crowd,
}

/// Measures all that was asked for, unless `stop` comes first, and says it in JSON or in tables.
pub(crate) async fn run(options: &Options, stop: impl Future<Output = ()>) -> Result<String> {
    let figures = tokio::select! {
        figures = Box::pin(measure(options)) => figures?,
        () = stop => bail!("interrupted"),
    };
    if options.json {
        return serde_json::to_string_pretty(&figures).context("cannot write JSON");
    }
    Ok(table::render(&figures))
}

async fn measure(options: &Options) -> Result<Figures> {
    let load_before = procfs::load_average()?;
    procfs::allow_many_files()?;
    let ruler = Ruler::new(options, Progress::new())?;
    let asked = |what| options.only.is_empty() || options.only.contains(&what);
    let mut figures = Figures::new(options.requests, options.connections, ruler.sizes());
    if asked(What::Cpu) || asked(What::Latency) {
        for database in ruler.databases() {
            Box::pin(ruler.costs_and_latency(database, asked(What::Latency), &mut figures)).await?;
        }
    }
    if asked(What::Merging) {
        for database in ruler.databases() {
            figures.merging.extend(Box::pin(ruler.merging(database)).await?);
        }
    }
    if asked(What::Others) {
        figures.others = Box::pin(ruler.others()).await?;
    }
    if asked(What::Idle) {
        figures.idle = Box::pin(idle::measure(&ruler)).await?;
    }
    if asked(What::Crowd) {
        figures.crowd = Some(Box::pin(crowd::measure(&ruler)).await?);
    }
    figures.finish(load_before)?;
    Ok(figures)
}
