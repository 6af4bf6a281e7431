//! `cargo xtask lint`: everything that can be said about the tree without running it.
//!
//! The quick checks come first, and all of them run even if one fails: one run tells everything there is to mend.

mod claims;
mod licences;
mod migrations;
mod orphans;
mod packages;
mod rules;
mod sizes;
mod sources;
mod words;

use std::fmt::Display;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use self::sources::Source;
use crate::process;
use crate::steps::{Steps, complain};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Format, lint and document this package only; may be given more than once
    #[arg(short, long = "package", value_name = "PACKAGE")]
    packages: Vec<String>,
}

pub(crate) fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    let sources = sources::collect(root)?;
    let mut steps = Steps::default();
    steps.run("form", || succeed(format(root, options)));
    steps.run("file sizes", || sizes::check(&sources));
    steps.run("house rules", || words::check(&sources));
    steps.run("promises and their tests", || claims::check(&sources));
    steps.run("files that nothing compiles", || orphans::check(root, &sources));
    steps.run("published migrations", || migrations::check(root));
    steps.run("licences, bans and sources", || licences::check(root));
    if process::on_path("cargo-deny") {
        steps.run("cargo deny", || succeed(cargo_deny(root)));
    }
    steps.run("clippy", || succeed(clippy(root, options)));
    steps.run("docs", || succeed(docs(root, options)));
    Ok(if steps.finish() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn format(root: &Path, options: &Options) -> Command {
    let mut command = process::cargo(root, "fmt");
    select(&mut command, options, "--all").arg("--check");
    command
}

fn clippy(root: &Path, options: &Options) -> Command {
    let mut command = process::cargo(root, "clippy");
    // The lints that are warnings while one works are errors here. As arguments to clippy alone: in RUSTFLAGS they
    // would have every dependency compiled a second time.
    select(&mut command, options, "--workspace").args(["--all-targets", "--", "-D", "warnings"]);
    command
}

fn docs(root: &Path, options: &Options) -> Command {
    let mut command = process::cargo(root, "doc");
    select(&mut command, options, "--workspace").arg("--no-deps").env("RUSTDOCFLAGS", "-D warnings");
    command
}

fn cargo_deny(root: &Path) -> Command {
    let mut command = process::cargo(root, "deny");
    command.args(["check", "licenses", "bans", "sources"]);
    command
}

fn select<'command>(
    command: &'command mut Command,
    options: &Options,
    everything: &str,
) -> &'command mut Command {
    if options.packages.is_empty() {
        command.arg(everything);
    }
    for package in &options.packages {
        command.args(["--package", package]);
    }
    command
}

fn succeed(mut command: Command) -> Result<()> {
    let status = process::run(&mut command)?;
    if !status.success() {
        bail!("{} {} ended with {status}", command.get_program().display(), shown(&command));
    }
    Ok(())
}

fn shown(command: &Command) -> String {
    command.get_args().map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Prints every finding; fails if there is one.
fn report<Finding: Display>(findings: &[Finding]) -> Result<()> {
    for finding in findings {
        complain(finding);
    }
    match findings.len() {
        0 => Ok(()),
        1 => bail!("one finding"),
        count => bail!("{count} findings"),
    }
}

/// Where something was found, as compilers write it.
fn place(source: &Source, line: usize) -> String {
    format!("{}:{line}", source.path.display())
}
