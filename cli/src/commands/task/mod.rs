//! `mica task`: make a task, show it, export it to clients.

mod export;
mod known;
mod new;
mod show;
mod vdaf;

use clap::Subcommand;

use crate::args::Global;
use crate::exit::Failure;

/// `mica task ...`
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a task: a file with its secrets for each of leader, helper and collector
    New(Box<new::Args>),
    /// Write the bundle that clients need; it holds no secret
    Export(export::Args),
    /// Show what a task file says, without its secrets
    Show(show::Args),
}

/// Does what the command line says.
pub(super) async fn run(command: Command, global: &Global) -> Result<(), Failure> {
    match command {
        Command::New(args) => new::run(&args, global),
        Command::Export(args) => export::run(&args).await,
        Command::Show(args) => show::run(&args, global),
    }
}
