//! One file per command.

mod aggregator;
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
mod warnings;

use mica_aggregator::Role;

use crate::args::{Cli, Command};
use crate::exit::Failure;

/// Does what the command line says.
///
/// # Errors
/// With the words and the number for whoever typed it.
pub(crate) async fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { command, global } = cli;
    let global = global.of(&command)?;
    match command {
        Command::Demo(args) => Box::pin(demo::run(args, &global)).await,
        Command::Dev(args) => Box::pin(dev::run(args, &global)).await,
        Command::Relay(args) => relay::run(&args, &global).await,
        Command::Gateway(args) => Box::pin(gateway::run(&args, &global)).await,
        Command::Leader(args) => aggregator::run(Role::Leader, &args, &global).await,
        Command::Helper(args) => aggregator::run(Role::Helper, &args, &global).await,
        Command::Doctor(args) => doctor::run(&args, &global).await,
        Command::Config(command) => config::run(command, &global).await,
        Command::Task(command) => task::run(command, &global).await,
        Command::Keys(command) => keys::run(command, &global).await,
        Command::Policy(command) => policy::run(&command, &global).await,
        Command::Budget(command) => budget::run(command, &global).await,
        Command::Report(args) => report::run(&args, &global).await,
        Command::Collect(args) => collect::run(&args, &global).await,
    }
}
