//! `mica policy check`: errors refuse a file, and so does every warning that nobody has allowed.

use std::path::{Path, PathBuf};

use mica_aggregator::Config;
use mica_aggregator::policy::Objections;
use mica_diagnostic::{Diagnostic, Severity};
use mica_dp::{NoiseOf, Policy, ReleasePlan, TaskFacts, not_allowable};
use mica_service::clock::Clock;
use mica_service::config::Loaded;
use mica_service::store::Store;
use serde_json::{Value, json};

use crate::args::Format;
use crate::commands::server;
use crate::commands::task::Known;
use crate::exit::Failure;
use crate::settings::{RoleName, Settings};
use crate::{files, print};

/// `mica policy check ...`
#[derive(clap::Args)]
#[command(after_help = "Examples:
  mica policy check policy.toml
  mica policy check policy.toml --task page-load
  mica policy check --config leader.toml            the file that the leader would read again
  mica policy check new.toml --config leader.toml   another file, before it takes its place

With --config, the file is held against the versions that were loaded at this aggregator, the budgets that were charged \
there and the tasks that it serves, as a start or a reload (SIGHUP) would. Its database is read and never written; the \
server may run.")]
pub(crate) struct Args {
    /// The policy file; with --config, the one that the configuration names when left out
    #[arg(required_unless_present = "config")]
    file: Option<PathBuf>,
    /// The configuration of a leader or a helper: check against its ledger and its tasks too
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
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
pub(super) async fn run(args: &Args, format: Format) -> Result<(), Failure> {
    if let Some((what, fix)) = args.allow.iter().find_map(|code| not_allowable(code)) {
        return Err(Failure::usage(format!("--allow: {what}; {fix}")));
    }
    let server = args.config.as_deref().map(Server::read).transpose()?;
    let path = args.file.as_ref().or(server.as_ref().map(|it| &it.config.policy));
    let path = path.ok_or_else(|| Failure::usage("name a policy file, or a configuration with --config"))?;
    let name = path.display().to_string();
    let text = files::read(path, "policy")?;
    let (policy, findings, unread, unserved) = match Policy::parse(&name, &text) {
        Ok(policy) => {
            let Objections { findings, unread, unserved } = objections(server.as_ref(), &policy).await?;
            let found = [policy.warnings(), &findings, &between(&policy, args)?].concat();
            let unread = unread.iter().map(ToString::to_string).collect();
            (Some(policy), found, unread, unserved)
        }
        Err(findings) => (None, findings, Vec::new(), Vec::new()),
    };
    let allowed = server.as_ref().map_or(&[][..], |it| &it.config.policy_allow);
    let allowed = [&args.allow, allowed].concat();
    let blocking: Vec<Diagnostic> = findings.iter().filter(|it| blocks(it, &allowed)).cloned().collect();
    let policy = policy.filter(|_| blocking.is_empty() && unread.is_empty() && unserved.is_empty());
    if format == Format::Json {
        print::json(&json!({
            "file": name,
            "policy": policy.as_ref().map(Policy::id),
            "version": policy.as_ref().map(Policy::version),
            "ok": policy.is_some(),
            "findings": findings,
            "unread": unread,
            "unserved": unserved,
            "releases": policy.iter().flat_map(Policy::plans).map(|plan| derived(&plan)).collect::<Vec<_>>(),
            "without_dp": policy.as_ref().and_then(Policy::without_noise).map(|exception| exception.export()),
        }))?;
    }
    let Some(policy) = policy else { return Err(refused(&name, &blocking, (&unread, &unserved))) };
    if format == Format::Json {
        return Ok(());
    }
    let allowed = if findings.is_empty() { "" } else { ", with warnings that are allowed" };
    let ok = format!("{name}: ok (policy {}, version {}{allowed})", policy.id(), policy.version());
    let exception = policy.without_noise().map(|exception| format!("  {}", exception.explain()));
    let releases = policy.plans().map(|plan| summary(&plan));
    let lines: Vec<String> = std::iter::once(ok).chain(releases).chain(exception).collect();
    print::lines(&lines.join("\n"))
}

/// The aggregator that a policy is for.
struct Server {
    config: Config,
}

impl Server {
    fn read(path: &Path) -> Result<Self, Failure> {
        let settings = Settings::read(path)?;
        if !matches!(settings.role(), RoleName::Leader | RoleName::Helper) {
            return Err(Failure::usage(format!(
                "{} is the configuration of a {}, which has no policy; name that of a leader or a helper",
                settings.name(),
                settings.role()
            )));
        }
        let Loaded { config, provenance } = settings.load::<Config>()?;
        let config = config.relative_to(settings.folder());
        server::check_database(&settings, &provenance, &config.database)?;
        server::check_allowed(&settings, &provenance, &config.policy_allow)?;
        Ok(Self { config })
    }
}

/// What is wrong between the policy and the clock, and between it and what a server has promised, charged and serves.
async fn objections(server: Option<&Server>, policy: &Policy) -> Result<Objections, Failure> {
    let now = Clock::system().now();
    let migrator = mica_aggregator::store::migrator();
    let store = match server {
        Some(server) => Store::open_to_read(&server.config.database, migrator).await?,
        None => None,
    };
    // Without a database nothing was ever loaded or charged.
    let Some(store) = store else {
        return Ok(Objections { findings: policy.check_time(now), ..Objections::default() });
    };
    let objections = mica_aggregator::policy::objections(&store, policy, now).await;
    store.close().await;
    Ok(objections?)
}

/// What is wrong between the policy and the tasks that were given.
fn between(policy: &Policy, args: &Args) -> Result<Vec<Diagnostic>, Failure> {
    if args.tasks.is_empty() {
        return Ok(Vec::new());
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
                batch_mode: Some(configuration.batch_mode()),
                ..TaskFacts::new(label, configuration.vdaf(), configuration.min_batch_size())
            }
        })
        .collect();
    Ok(policy.check_tasks(&facts, args.strict))
}

/// Whether a finding stands in the way.
fn blocks(finding: &Diagnostic, allowed: &[String]) -> bool {
    finding.severity == Severity::Error || !allowed.contains(&finding.code)
}

fn refused(file: &str, blocking: &[Diagnostic], (unread, unserved): (&[String], &[String])) -> Failure {
    let lost = unserved.iter().map(|why| format!("{file}: a task could not be served any more: {why}"));
    let unread = unread.iter().map(|why| format!("{file}: {why}"));
    let lines: Vec<String> = blocking.iter().map(ToString::to_string).chain(unread).chain(lost).collect();
    Failure::invalid(lines.join("\n"))
}

/// What follows from a release, in a line.
fn summary(plan: &ReleasePlan) -> String {
    let (terms, sensitivity, mechanism) = (plan.terms(), plan.sensitivity(), plan.mechanism());
    format!(
        "  {}: {}, L1 sensitivity {}, L2 squared {}; {}; with both, {} is within ±{} in 95 of 100 cases; a release \
         costs {} {}; those of one task, inside {}, cost a {} {} {} at most",
        plan.release_id(),
        terms.relation,
        sensitivity.l1,
        sensitivity.l2_squared,
        mechanism.describe(),
        if terms.shape.length() > 1 { "each value of a result" } else { "a result" },
        mechanism.half_width(0.95, NoiseOf::BothAggregators),
        terms.loss.variant.amount(),
        terms.loss.amount.decimal(),
        terms.contribution.window,
        terms.unit.name(),
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
        "one_task_in_a_contribution_window": export["one_task_in_a_contribution_window"],
        "statement_sha256": plan.statement().sha256_hex(),
    })
}
