//! `mica task show`: what a task file says, or what an aggregator knows of a task; no secret that is not asked for.

use std::path::Path;

use jiff::Timestamp;
use mica_aggregator::admin::TaskDetail;
use mica_collector::label_of;
use mica_dap::vdaf_config::VdafConfig;
use serde_json::{Map, Value, json};

use super::at::At;
use super::known::Known;
use super::list;
use crate::args::{Format, Global};
use crate::exit::Failure;
use crate::print;

/// Show what a task file says, or what an aggregator knows of a task.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  mica task show page-load
  mica task show page-load --config leader.toml
  mica task show page-load --admin http://127.0.0.1:8471 --token-file admin.token --secrets")]
pub(crate) struct Args {
    /// A task file, or the folder of a task; with --config or --admin, the identifier or the label of a task
    // An identifier may begin with a hyphen.
    #[arg(allow_hyphen_values = true)]
    task: String,
    /// Show the secrets too
    #[arg(long)]
    secrets: bool,
    #[command(flatten)]
    at: At,
}

/// Does what the command line says.
pub(super) async fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    if !args.at.is_given() {
        if args.secrets {
            return Err(Failure::usage("a task file is not shown with its secrets; add --config or --admin"));
        }
        return print(&facts(&Known::read(Path::new(&args.task))?), global);
    }
    let tasks = args.at.open().await?;
    let id = tasks.named(&args.task).await?;
    print(&stored(&tasks.show(&id, args.secrets).await?), global)
}

/// Prints one fact to a line.
pub(super) fn print(facts: &[(&'static str, String)], global: &Global) -> Result<(), Failure> {
    let rows = || facts.iter().map(|(key, value)| vec![key.to_string(), value.clone()]).collect::<Vec<_>>();
    match global.output {
        Format::Json => {
            let object: Map<String, Value> =
                facts.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
            print::json(&Value::Object(object))
        }
        Format::Csv => print::csv(&["key", "value"], &rows()),
        Format::Table => print::columns(&[], &rows()),
    }
}

/// What an aggregator knows of a task.
pub(super) fn stored(task: &TaskDetail) -> Vec<(&'static str, String)> {
    let known = &task.summary;
    let mut facts = vec![
        ("label", known.label.clone()),
        ("task_id", known.id.clone()),
        ("role", known.role.clone()),
        ("state", list::state(known.state).to_owned()),
        ("origin", known.origin.clone()),
        ("draft", known.draft.clone()),
        ("leader", task.leader.clone()),
        ("helper", task.helper.clone()),
        ("vdaf", known.vdaf.clone()),
        ("time_precision_seconds", task.time_precision_seconds.to_string()),
        ("min_batch_size", known.min_batch_size.to_string()),
        ("batch_mode", known.batch_mode.clone()),
        (
            "statement_sha256",
            task.statement_sha256.clone().unwrap_or_else(|| "none: released without noise".to_owned()),
        ),
        ("reports", list::reports(known)),
    ];
    let further = [
        ("retired_at", known.retired_at.map(written)),
        (
            "task_interval",
            task.task_interval.map(|[start, end]| format!("{start}:{}", end.saturating_sub(start))),
        ),
        ("prefixes", joined(&task.prefixes)),
        ("unserved", known.unserved.clone()),
        ("verify_key", task.secrets.as_ref().map(|secrets| secrets.verify_key.clone())),
        ("peer_token", task.secrets.as_ref().and_then(|secrets| secrets.peer_token.clone())),
    ];
    facts.extend(further.into_iter().filter_map(|(key, value)| Some((key, value?))));
    facts.extend(known.stuck.iter().map(|line| ("stuck", line.clone())));
    facts
}

/// A moment as people write it.
fn written(seconds: u64) -> String {
    let timestamp = i64::try_from(seconds).ok().and_then(|it| Timestamp::from_second(it).ok());
    timestamp.map_or_else(|| seconds.to_string(), |timestamp| timestamp.to_string())
}

/// The prefixes that are counted, where any are.
fn joined(prefixes: &[String]) -> Option<String> {
    (!prefixes.is_empty()).then(|| prefixes.join(","))
}

fn result_length(vdaf: &VdafConfig) -> String {
    match vdaf {
        VdafConfig::Poplar1 { .. } => "one for each prefix that is asked for".to_owned(),
        vdaf => vdaf.length().to_string(),
    }
}

fn facts(task: &Known) -> Vec<(&'static str, String)> {
    let configuration = &task.configuration;
    let (_, statement) = task.label();
    let precision = configuration.time_precision();
    let mut facts = vec![
        ("label", label_of(configuration)),
        ("task_id", task.task_id.to_string()),
        ("file_of", task.party.clone()),
        ("draft", task.draft.to_string()),
        ("leader", configuration.leader_url().to_owned()),
        ("helper", configuration.helper_url().to_owned()),
        ("vdaf", configuration.vdaf().name().to_owned()),
        ("result_length", result_length(configuration.vdaf())),
        ("time_precision_seconds", precision.seconds().to_string()),
        ("min_batch_size", configuration.min_batch_size().to_string()),
        ("batch_mode", configuration.batch_mode().to_string()),
        ("statement_sha256", statement.unwrap_or_else(|| "none: released without noise".to_owned())),
    ];
    if let Some(interval) = configuration.task_interval() {
        let (start, length) =
            (precision.start_of(interval.start()), precision.seconds_of(interval.duration()));
        facts.push(("task_interval", format!("{start}:{length}")));
    }
    facts.extend(joined(&task.prefixes).map(|prefixes| ("prefixes", prefixes)));
    facts
}
