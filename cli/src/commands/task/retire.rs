//! `mica task retire`: end a task. What it took is still added and can be collected.

use super::at::At;
use super::show;
use crate::args::Global;
use crate::exit::Failure;

/// End a task: it takes no more reports; what it took can still be collected.
#[derive(clap::Args)]
#[command(
    after_help = "Retire the task at the leader first: what the helper has not verified by the time it is retired there is lost."
)]
pub(crate) struct Args {
    /// The task: its identifier, or its label if no other has it
    // An identifier may begin with a hyphen.
    #[arg(allow_hyphen_values = true)]
    task: String,
    #[command(flatten)]
    at: At,
}

/// Does what the command line says.
pub(super) async fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let tasks = args.at.open().await?;
    let id = tasks.named(&args.task).await?;
    show::print(&show::stored(&tasks.retire(&id).await?), global)
}
