//! `cargo xtask test`: the one test command.
//!
//! It builds first, so that a cluster is only started for tests that can run, then runs every test of the workspace
//! (doctests too) and ends with the line `N passed, N failed`. Nothing is skipped silently: without PostgreSQL it
//! stops and says what to install, unless `--sqlite-only` asked for less.

mod cluster;
mod home;
mod install;
mod tally;

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

pub(crate) use self::cluster::Cluster;
use self::tally::Tally;
use crate::process;
use crate::steps::Steps;

/// Tells the tests where PostgreSQL is: the URL of a database in which they may create others.
pub(crate) const POSTGRES_URL: &str = "MICA_TEST_POSTGRES";

/// Tells the tests that it is all right to leave PostgreSQL out; without it they fail when they miss it.
const SQLITE_ONLY: &str = "MICA_TEST_SQLITE_ONLY";

/// Tells the tests of the samplers to draw more, and from fresh seeds.
const LONG: &str = "MICA_TEST_LONG";

/// Tells the tests that kill servers how often to try each moment.
const KILLS: &str = "MICA_TEST_KILLS";

/// With `--long`, unless somebody says otherwise.
const MANY_KILLS: &str = "200";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Test the noise with ten times as many draws from fresh seeds, which a failing test prints, and kill servers 200 times
    /// at each moment instead of twice (`MICA_TEST_KILLS` sets another number)
    #[arg(long)]
    long: bool,
    /// Leave out the tests that need PostgreSQL
    #[arg(long)]
    sqlite_only: bool,
    /// Test this package only; may be given more than once
    #[arg(short, long = "package", value_name = "PACKAGE")]
    packages: Vec<String>,
    /// Run only the tests with one of these words in their name
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// Passed to every test program, such as `--nocapture`
    #[arg(last = true, value_name = "ARGS")]
    passed_on: Vec<String>,
}

pub(crate) fn run(root: &Path, options: &Options) -> ExitCode {
    let mut steps = Steps::default();
    let mut tally = Tally::default();
    let ran = steps.run("build", || build(root, options)).is_some()
        && run_tests(root, options, &mut steps, &mut tally).is_some();
    let all_passed = steps.finish() && ran;
    tally.print_notes();
    // The last line of all, and the same words whatever happened: other programs look for it.
    println!("{tally}");
    if all_passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn build(root: &Path, options: &Options) -> Result<()> {
    if !process::run(cargo_test(root, options).arg("--no-run"))?.success() {
        bail!("the tests do not build");
    }
    // The tests of the whole product run the program as it is shipped, without what only tests need.
    let runs_the_program = |package: &String| package == "mica-tests";
    if options.packages.is_empty() || options.packages.iter().any(runs_the_program) {
        let mut command = process::cargo(root, "build");
        if !process::run(command.args(["--package", "mica-cli", "--bin", "mica"]))?.success() {
            bail!("the program does not build");
        }
    }
    Ok(())
}

fn run_tests(root: &Path, options: &Options, steps: &mut Steps, tally: &mut Tally) -> Option<()> {
    let mut command = cargo_test(root, options);
    command
        .env_remove(SQLITE_ONLY)
        .env_remove(LONG)
        .arg("--no-fail-fast")
        .arg("--")
        .args(&options.filters)
        .args(&options.passed_on);
    if options.long {
        command.env(LONG, "1");
        if std::env::var_os(KILLS).is_none() {
            command.env(KILLS, MANY_KILLS);
        }
    }
    // Lives until the tests have ended, and is stopped and removed when it is dropped.
    let mut _cluster = None;
    if options.sqlite_only {
        command.env_remove(POSTGRES_URL).env(SQLITE_ONLY, "1");
        eprintln!("warning: --sqlite-only: what needs PostgreSQL is not tested");
    } else if std::env::var_os(POSTGRES_URL).is_some() {
        eprintln!("== PostgreSQL: the one that {POSTGRES_URL} names");
    } else {
        let cluster = steps.run("start PostgreSQL", start_cluster)?;
        command.env(POSTGRES_URL, cluster.url());
        _cluster = Some(cluster);
    }
    steps.run("test", || count_tests(&mut command, tally))
}

/// A private cluster; PostgreSQL is installed first where it is missing and can be.
pub(crate) fn start_cluster() -> Result<Cluster> {
    Cluster::start(&install::find_or_install()?)
}

fn count_tests(command: &mut Command, tally: &mut Tally) -> Result<()> {
    let status = process::run_reading(command, |line| tally.see(line))?;
    if tally.failed() > 0 {
        bail!("{} tests failed; their output is above", tally.failed());
    }
    if !status.success() {
        tally.count_crash();
        bail!(
            "cargo test ended with {status} although no test failed: a test program crashed, or a doctest did not build"
        );
    }
    if tally.passed() == 0 {
        bail!("no test ran");
    }
    Ok(())
}

fn cargo_test(root: &Path, options: &Options) -> Command {
    let mut command = process::cargo(root, "test");
    if options.packages.is_empty() {
        command.arg("--workspace");
    }
    for package in &options.packages {
        command.args(["--package", package]);
    }
    command
}
