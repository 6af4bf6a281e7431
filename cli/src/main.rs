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

use tikv_jemallocator::Jemalloc;

use crate::args::Cli;

/// Messages of some kilobytes come and go all the time: what takes the system's allocator a tenth of a request takes this one
/// half of it, and what large bodies took is given back.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

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
    match commands::run(cli) {
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
