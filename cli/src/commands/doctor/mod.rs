//! `mica doctor`: is everything as it should be, what is stuck, and what to do about it.
//!
//! It reads the configuration of a role as the role itself does, looks into its database and asks it and its peers what
//! anybody may ask. It changes nothing, but for a job that its operator gives up or has tried again by name.

mod aggregator;
mod finding;
mod gateway;
mod mirror;
mod peers;
mod proxies;
mod server;

use std::path::{Path, PathBuf};

use mica_aggregator::Role;
use serde_json::json;

use self::finding::{Finding, Grade};
use super::warnings::{Warning, is_exposed};
use super::{gateway as gateways, relay as relays};
use crate::args::{Format, Global};
use crate::exit::{Exit, Failure};
use crate::print;
use crate::settings::{RoleName, Settings};

/// Check a server: its files, its database, its peers, and what is stuck.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  mica doctor --config leader.toml
  mica doctor --config leader.toml -o json
  mica doctor --config leader.toml --retry all
  mica doctor --config leader.toml --abandon 17

Exit codes: 0 nothing failed, 3 a file or the database is of no use, 5 something waits for a person,
6 the server itself or a peer cannot be reached; the smallest of those that apply. With --abandon or --retry:
4 when there is no such job that waits.")]
pub(crate) struct Args {
    /// The configuration file of the role
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Give up an aggregation job that is stuck: its reports are dropped and counted as abandoned
    #[arg(long, value_name = "JOB")]
    abandon: Option<i64>,
    /// Try now what waits for its next try: a job, a collection, or all
    #[arg(long, value_name = "JOB|all", conflicts_with = "abandon")]
    retry: Option<String>,
}

/// Does what the command line says.
pub(super) async fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let settings = Settings::read(&args.config)?;
    if let Some(job) = args.abandon {
        return aggregator::abandon(&settings, job).await;
    }
    if let Some(what) = &args.retry {
        return aggregator::retry(&settings, what).await;
    }
    let mut findings = vec![readers("configuration", &args.config)];
    match settings.role() {
        RoleName::Relay => {
            findings.push(configured(&settings, relays::check(&settings)));
            proxies::relay(&settings, &mut findings).await?;
        }
        RoleName::Gateway => {
            findings.push(configured(&settings, gateways::check(&settings, None).await));
            proxies::gateway(&settings, &mut findings).await?;
        }
        RoleName::Leader => examine(&settings, Role::Leader, &mut findings).await,
        RoleName::Helper => examine(&settings, Role::Helper, &mut findings).await,
    }
    show(&findings, global.output)?;
    match findings.iter().filter_map(finding::Finding::exit).min_by_key(|exit| *exit as u8) {
        None => Ok(()),
        Some(exit) => {
            Err(Failure::new(exit, "something needs to be done: see the lines that begin with fail"))
        }
    }
}

async fn examine(settings: &Settings, role: Role, findings: &mut Vec<Finding>) {
    let checked = crate::commands::aggregator::check(settings, role).map(drop);
    let valid = checked.is_ok();
    findings.push(configured(settings, checked));
    if valid {
        aggregator::examine(settings, role, findings).await;
    }
}

fn configured(settings: &Settings, checked: Result<(), Failure>) -> Finding {
    let what = format!("the configuration of the {}, and the files it names", settings.role());
    match checked {
        Ok(()) => Finding::ok("config", what),
        Err(failure) => Finding::fail("config", what, failure.to_string(), Exit::Invalid),
    }
}

/// Whether a file is its owner's alone to read.
fn readers(check: &'static str, path: &Path) -> Finding {
    let what = format!("who may read {}", path.display());
    if is_exposed(path) {
        return Finding::warn(
            check,
            what,
            format!("anybody on this machine may: chmod 600 {}", path.display()),
        );
    }
    Finding::ok(check, what)
}

/// What the log of the server says at its start too.
fn warned(warnings: Vec<Warning>) -> impl Iterator<Item = Finding> {
    warnings.into_iter().map(|Warning { check, what, todo }| Finding::warn(check, what, todo))
}

fn show(findings: &[Finding], format: Format) -> Result<(), Failure> {
    let row = |finding: &Finding| {
        vec![
            finding.grade.word().to_owned(),
            finding.check.to_owned(),
            finding.what.clone(),
            finding.todo.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = findings.iter().map(row).collect();
    match format {
        Format::Csv => print::csv(&["grade", "check", "what", "todo"], &rows),
        Format::Table => {
            print::lines(&findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        }
        Format::Json => {
            let one = |finding: &Finding| {
                json!({
                    "grade": finding.grade.word(),
                    "check": finding.check,
                    "what": finding.what,
                    "todo": finding.todo,
                })
            };
            let failed = findings.iter().any(|finding| finding.grade == Grade::Fail);
            print::json(&json!({ "ok": !failed, "checks": findings.iter().map(one).collect::<Vec<_>>() }))
        }
    }
}
