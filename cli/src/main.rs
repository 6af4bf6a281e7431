//! The binary `mica`: every role and every tool around them, one command each.
//!
//! Results go to standard output, everything else to standard error, and every way to fail has its number. This
//! crate puts the others together; it knows files, flags and screens, and nothing of the protocol.

mod args;
mod commands;
mod deployment;
mod exit;
mod files;
mod print;
mod provision;
mod screen;
mod settings;

use std::process::ExitCode;

use crate::args::Cli;
use crate::exit::Failure;

fn main() -> ExitCode {
    let cli = match Cli::from_command_line() {
        Ok(cli) => cli,
        Err(error) => {
            // Help is printed to standard output and is no failure; nothing can be done about a closed pipe.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let json = cli.global.wants_json();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(refusal) = failure.refusal().filter(|_| json) {
                // The number tells the rest where nobody reads it.
                drop(print::json(refusal));
            }
            print::aside(&failure.to_string());
            failure.exit().into()
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(commands::run(cli))
}
