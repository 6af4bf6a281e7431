//! `mica policy`: is a policy file right, and what does it promise?

mod plan;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use mica_dp::Policy;
use serde_json::json;

use crate::args::{Format, Global};
use crate::exit::Failure;
use crate::{files, print};

/// `mica policy ...`
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Check a policy file; every finding with its line and what to do
    Check {
        /// The policy file
        file: PathBuf,
    },
    /// Say how accurate, how often and for how long a policy lets releases be, and what another accuracy would cost
    Plan(plan::Args),
    /// Say in plain English what each release of a policy promises and costs
    Explain {
        /// The policy file
        file: PathBuf,
    },
}

/// Does what the command line says.
pub(super) fn run(command: &Command, global: &Global) -> Result<(), Failure> {
    match command {
        Command::Check { file } => check(file, &files::policy(file)?, global.output),
        Command::Plan(args) => plan::run(args, global.output),
        Command::Explain { file } => explain(&files::policy(file)?, global.output),
    }
}

fn check(file: &Path, policy: &Policy, format: Format) -> Result<(), Failure> {
    let (file, id, version) = (file.display().to_string(), policy.id(), policy.version());
    match format {
        Format::Json => print::json(&json!({ "file": file, "policy": id, "version": version, "ok": true })),
        Format::Table | Format::Csv => print::lines(&format!("{file}: ok (policy {id}, version {version})")),
    }
}

fn explain(policy: &Policy, format: Format) -> Result<(), Failure> {
    let plans: Vec<_> = policy.plans().collect();
    if format == Format::Json {
        let plans: Vec<_> = plans
            .iter()
            .map(|plan| {
                json!({
                    "release": plan.release_id(),
                    "statement_sha256": plan.statement().sha256_hex(),
                    "explanation": plan.explain(),
                })
            })
            .collect();
        return print::json(
            &json!({ "policy": policy.id(), "version": policy.version(), "releases": plans }),
        );
    }
    let texts: Vec<String> = plans.iter().map(mica_dp::ReleasePlan::explain).collect();
    if texts.is_empty() {
        return print::lines(&format!("Policy \"{}\" has no release with noise.", policy.id()));
    }
    print::lines(&texts.join("\n\n"))
}
