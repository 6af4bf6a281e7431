//! `mica policy check`: errors refuse a file, and so does every warning that nobody has allowed.

use std::path::PathBuf;

use mica_diagnostic::{Diagnostic, Severity};
use mica_dp::{NoiseOf, Policy, ReleasePlan, TaskFacts};
use serde_json::{Value, json};

use crate::args::Format;
use crate::commands::task::Known;
use crate::exit::Failure;
use crate::{files, print};

/// `mica policy check ...`
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The policy file
    file: PathBuf,
    /// Allow warnings with this code, such as W032: you have read them and mean it
    #[arg(long, value_name = "CODE")]
    allow: Vec<String>,
    /// Take a release that matches none of the tasks for an error
    #[arg(long)]
    strict: bool,
    /// Check the policy against this task too: any of its files, or the folder of them
    #[arg(long = "task", value_name = "FILE")]
    tasks: Vec<PathBuf>,
}

/// Reads the file and says what is wrong, or what follows from it.
pub(super) fn run(args: &Args, format: Format) -> Result<(), Failure> {
    let name = args.file.display().to_string();
    let text = files::read(&args.file, "policy")?;
    let (policy, findings) = match Policy::parse(&name, &text) {
        Ok(policy) => {
            let found = [policy.warnings(), &between(&policy, args)?].concat();
            (Some(policy), found)
        }
        Err(findings) => (None, findings),
    };
    let blocking: Vec<Diagnostic> = findings.iter().filter(|it| blocks(it, &args.allow)).cloned().collect();
    let policy = policy.filter(|_| blocking.is_empty());
    if format == Format::Json {
        print::json(&json!({
            "file": name,
            "policy": policy.as_ref().map(Policy::id),
            "version": policy.as_ref().map(Policy::version),
            "ok": policy.is_some(),
            "findings": findings,
            "releases": policy.iter().flat_map(Policy::plans).map(|plan| derived(&plan)).collect::<Vec<_>>(),
        }))?;
    }
    let Some(policy) = policy else { return Err(refused(&blocking)) };
    if format == Format::Json {
        return Ok(());
    }
    let allowed = if findings.is_empty() { "" } else { ", with warnings that are allowed" };
    let ok = format!("{name}: ok (policy {}, version {}{allowed})", policy.id(), policy.version());
    let lines: Vec<String> = std::iter::once(ok).chain(policy.plans().map(|plan| summary(&plan))).collect();
    print::lines(&lines.join("\n"))
}

/// What is wrong between the policy and the clock, and between it and the tasks that were given.
fn between(policy: &Policy, args: &Args) -> Result<Vec<Diagnostic>, Failure> {
    let now = mica_service::clock::Clock::system().now();
    let mut found = policy.check_time(now);
    if args.tasks.is_empty() {
        return Ok(found);
    }
    let tasks: Vec<Known> = args.tasks.iter().map(|path| Known::read(path)).collect::<Result<_, _>>()?;
    let labels: Vec<String> = tasks.iter().map(|task| task.label().0).collect();
    let facts: Vec<TaskFacts<'_>> = tasks
        .iter()
        .zip(&labels)
        .map(|(task, label)| {
            let configuration = &task.configuration;
            TaskFacts {
                id: Some(task.task_id),
                time_precision: Some(configuration.time_precision().seconds()),
                ..TaskFacts::new(label, configuration.vdaf(), configuration.min_batch_size())
            }
        })
        .collect();
    found.extend(policy.check_tasks(&facts, args.strict));
    Ok(found)
}

/// Whether a finding stands in the way.
fn blocks(finding: &Diagnostic, allowed: &[String]) -> bool {
    finding.severity == Severity::Error || !allowed.contains(&finding.code)
}

fn refused(blocking: &[Diagnostic]) -> Failure {
    Failure::findings(blocking)
}

/// What follows from a release, in a line.
fn summary(plan: &ReleasePlan) -> String {
    let (terms, sensitivity, mechanism) = (plan.terms(), plan.sensitivity(), plan.mechanism());
    format!(
        "  {}: {}, L1 sensitivity {}, L2 squared {}; {}; with both, a result is within ±{} in 95 of 100 cases; a \
         release costs {} {}, all of them a {} in {}: {} {}",
        plan.release_id(),
        terms.relation,
        sensitivity.l1,
        sensitivity.l2_squared,
        mechanism.describe(),
        mechanism.half_width(0.95, NoiseOf::BothAggregators),
        terms.loss.variant.amount(),
        terms.loss.amount.decimal(),
        terms.unit.name(),
        terms.contribution.window,
        terms.loss.variant.amount(),
        plan.loss_in_a_window().decimal(),
    )
}

fn derived(plan: &ReleasePlan) -> Value {
    let export = plan.export();
    json!({
        "release": plan.release_id(),
        "sensitivity": {
            "l1": plan.sensitivity().l1.to_string(),
            "l2_squared": plan.sensitivity().l2_squared.to_string(),
            "linf": plan.sensitivity().linf.to_string(),
        },
        "noise": export["noise"],
        "per_release": export["per_release"],
        "per_contribution_window": export["per_contribution_window"],
        "statement_sha256": plan.statement().sha256_hex(),
    })
}
