//! `mica task list`: every task of an aggregator in one line.

use mica_aggregator::admin::{State, TaskSummary};
use serde_json::json;

use super::at::At;
use crate::args::{Format, Global};
use crate::exit::Failure;
use crate::print;

/// List the tasks of a leader or a helper.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    at: At,
}

/// Does what the command line says.
pub(super) async fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let tasks = args.at.open().await?.list().await?;
    let rows = || tasks.iter().map(row).collect::<Vec<_>>();
    match global.output {
        Format::Json => print::json(&json!({ "tasks": tasks })),
        Format::Csv => print::csv(&HEADINGS, &rows()),
        Format::Table => {
            print::columns(&HEADINGS, &rows())?;
            let stuck =
                tasks.iter().flat_map(|task| task.stuck.iter().map(|line| format!("{}: {line}", task.label)));
            let unserved = tasks
                .iter()
                .filter_map(|task| Some(format!("{}: not served: {}", task.label, task.unserved.as_ref()?)));
            stuck.chain(unserved).try_for_each(|line| print::lines(&line))
        }
    }
}

fn row(task: &TaskSummary) -> Vec<String> {
    vec![
        task.id.clone(),
        task.label.clone(),
        task.role.clone(),
        task.vdaf.clone(),
        task.batch_mode.clone(),
        state(task.state).to_owned(),
        reports(task),
        if task.stuck.is_empty() { "no".to_owned() } else { "yes".to_owned() },
    ]
}

/// The word for it.
pub(super) fn state(state: State) -> &'static str {
    match state {
        State::Active => "active",
        State::Retired => "retired",
        State::Unserved => "unserved",
    }
}

/// How many reports met which end.
pub(super) fn reports(task: &TaskSummary) -> String {
    let ends: Vec<String> = task.reports.iter().map(|(end, reports)| format!("{end} {reports}")).collect();
    if ends.is_empty() { "none".to_owned() } else { ends.join(", ") }
}

const HEADINGS: [&str; 8] = ["id", "label", "role", "vdaf", "batch_mode", "state", "reports", "stuck"];
