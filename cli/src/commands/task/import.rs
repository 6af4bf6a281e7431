//! `mica task import`: put a task into the database of an aggregator, which serves it within seconds if it runs.

use std::path::PathBuf;

use mica_aggregator::TaskFile;

use super::at::At;
use super::show;
use crate::args::Global;
use crate::exit::Failure;

/// Give a task to a leader or a helper.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  mica task import page-load/leader.task.toml --config leader.toml
  mica task import page-load/leader.task.toml --admin https://leader.example:8471 --token-file admin.token

The same task again is the same task. A running aggregator serves it within two seconds.")]
pub(crate) struct Args {
    /// The task file for this role
    file: PathBuf,
    #[command(flatten)]
    at: At,
}

/// Does what the command line says.
pub(super) async fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let file = TaskFile::load(&args.file)?;
    let task = args.at.open().await?.create(&file).await?;
    show::print(&show::stored(&task), global)
}
