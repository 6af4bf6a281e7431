//! `mica policy`: is a policy file right, what does it promise, and what does a new version take back?

mod check;
mod diff;
mod explain;
mod plan;

use std::path::PathBuf;

use clap::Subcommand;

use crate::args::Global;
use crate::exit::Failure;
use crate::{files, print};

/// `mica policy ...`
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Check a policy file; every finding with its line and what to do
    Check(check::Args),
    /// Say how accurate, how often and for how long a policy lets releases be, and what another accuracy would cost
    Plan(plan::Args),
    /// Say in plain English what each release of a policy promises and costs; with -o json for an auditor
    Explain {
        /// The policy file
        file: PathBuf,
    },
    /// Compare two versions of a policy; ends with 4 if the new one weakens a guarantee
    Diff {
        /// The policy as it was
        old: PathBuf,
        /// The policy as it is to be
        new: PathBuf,
    },
    /// Print the JSON Schema of policy files, for editors
    Schema,
}

/// Does what the command line says.
pub(super) async fn run(command: &Command, global: &Global) -> Result<(), Failure> {
    match command {
        Command::Check(args) => check::run(args, global.output).await,
        Command::Plan(args) => plan::run(args, global),
        Command::Explain { file } => explain::run(&files::policy(file)?, global.output),
        Command::Diff { old, new } => diff::run(&files::policy(old)?, &files::policy(new)?, global.output),
        Command::Schema => print::json(&mica_dp::json_schema()),
    }
}
