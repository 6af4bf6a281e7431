//! `mica task`: make a task, give it to an aggregator, look at it, export it, end it.

mod at;
mod export;
mod import;
mod known;
mod list;
mod new;
mod retire;
mod show;
mod vdaf;

use clap::Subcommand;

pub(crate) use self::at::At;
pub(crate) use self::known::Known;
use crate::args::Global;
use crate::exit::Failure;

/// `mica task ...`
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a task: a file with its secrets for each of leader, helper and collector
    New(Box<new::Args>),
    /// List the tasks of a leader or a helper
    List(list::Args),
    /// Show what a task file says, or what an aggregator knows of a task; its secrets only on request
    Show(show::Args),
    /// Write the bundle that clients need, or the file that another aggregator imports
    Export(export::Args),
    /// Give a task to a leader or a helper
    Import(import::Args),
    /// End a task: it takes no more reports; what it took can still be collected
    Retire(retire::Args),
}

/// Does what the command line says.
pub(super) async fn run(command: Command, global: &Global) -> Result<(), Failure> {
    match command {
        Command::New(args) => new::run(&args, global),
        Command::List(args) => list::run(&args, global).await,
        Command::Show(args) => show::run(&args, global).await,
        Command::Export(args) => export::run(&args).await,
        Command::Import(args) => import::run(&args, global).await,
        Command::Retire(args) => retire::run(&args, global).await,
    }
}
