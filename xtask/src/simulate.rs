//! `cargo xtask simulate`: more seeds of the simulation than the tests run, or one of them again.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::process;
use crate::test;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many seeds to run
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1_000)]
    from: u64,
    /// `sqlite`; `postgres` for a private cluster; or the URL of a server on this machine
    #[arg(long, default_value = "sqlite", value_name = "URL")]
    database: String,
}

pub(crate) fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    let Some(end) = options.from.checked_add(options.seeds) else {
        bail!("there are no seeds after {}", u64::MAX)
    };
    let mut command = process::cargo(root, "test");
    command.args(["--package", "mica-tests", "--test", "simulation", "--"]);
    command.env("MICA_SIMULATION_SEEDS", format!("{}..{end}", options.from));
    // Lives until the seeds are run, and is stopped and removed when it is dropped.
    let mut _cluster = None;
    let name = match options.database.as_str() {
        "sqlite" => "every_accepted_report_is_counted_once_on_sqlite",
        "postgres" => {
            let cluster = test::start_cluster()?;
            command.env(test::POSTGRES_URL, cluster.url());
            _cluster = Some(cluster);
            "every_accepted_report_is_counted_once_on_postgres"
        }
        url => {
            command.env(test::POSTGRES_URL, url);
            "every_accepted_report_is_counted_once_on_postgres"
        }
    };
    let status = process::run(command.args([name, "--exact", "--nocapture"]))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
