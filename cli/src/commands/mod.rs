//! One file per command.

mod aggregator;
mod beside;
pub(crate) mod budget;
pub(crate) mod collect;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod dev;
pub(crate) mod doctor;
mod gateway;
pub(crate) mod keys;
mod operations;
pub(crate) mod policy;
mod relay;
mod reload;
pub(crate) mod report;
mod server;
mod serving;
pub(crate) mod task;
mod threads;
mod warnings;

use mica_aggregator::Role;
use tokio::runtime::Runtime;

use crate::args::{Cli, Command};
use crate::exit::Failure;

/// Does what the command line says.
///
/// # Errors
/// With the words and the number for whoever typed it.
pub(crate) fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { command, global } = cli;
    let global = global.of(&command)?;
    match command {
        // How many threads these two have is in their configuration.
        Command::Relay(args) => relay::run(&args, &global),
        Command::Gateway(args) => gateway::run(&args, &global),
        Command::Demo(args) => finish(demo::run(args, &global)),
        Command::Dev(args) => finish(dev::run(args, &global)),
        Command::Leader(args) => finish(aggregator::run(Role::Leader, &args, &global)),
        Command::Helper(args) => finish(aggregator::run(Role::Helper, &args, &global)),
        Command::Doctor(args) => finish(doctor::run(&args, &global)),
        Command::Config(command) => finish(config::run(command, &global)),
        Command::Task(command) => finish(task::run(command, &global)),
        Command::Keys(command) => finish(keys::run(command, &global)),
        Command::Policy(command) => finish(policy::run(&command, &global)),
        Command::Budget(command) => finish(budget::run(command, &global)),
        Command::Report(args) => finish(report::run(&args, &global)),
        Command::Collect(args) => finish(collect::run(&args, &global)),
    }
}

/// Runs a command on as many threads as there are processors.
fn finish(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    Runtime::new()?.block_on(command)
}
