//! `mica budget history`

use mica_aggregator::budget::{Filter, history};
use mica_dap::id::TaskId;
use mica_dp::LedgerEntry;
use mica_dp::units::format_units;
use serde_json::{Value, json};

use super::{Of, open, time};
use crate::args::{Format, Global};
use crate::exit::Failure;
use crate::print;

/// Which entries to print.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    of: Of,
    /// Only those of this budget
    #[arg(long, value_name = "NAME")]
    budget: Option<String>,
    /// Only those of the task with this identifier
    #[arg(long, value_name = "TASK", allow_hyphen_values = true)]
    task: Option<TaskId>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

/// Does what the command line says.
pub(super) async fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let opened = open(&args.of.config).await?;
    let filter = Filter { budget: args.budget.clone(), task: args.task };
    let entries = history(&opened.store, &filter, args.limit).await;
    opened.store.close().await;
    let entries = entries?;
    let rows = || entries.iter().map(row).collect::<Vec<_>>();
    match global.output {
        Format::Json => print::json(&json!({ "entries": entries.iter().map(object).collect::<Vec<_>>() })),
        Format::Csv => print::csv(&HEADINGS, &rows()),
        Format::Table => print::columns(&HEADINGS, &rows()),
    }
}

fn row(entry: &LedgerEntry) -> Vec<String> {
    if let Some(note) = &entry.note {
        let mut row = vec![String::new(); HEADINGS.len()];
        let known = [entry.sequence.to_string(), time(entry.created_at), entry.kind.name().to_owned()];
        for (cell, text) in row.iter_mut().zip(known) {
            *cell = text;
        }
        if let Some(last) = row.last_mut() {
            last.clone_from(note);
        }
        return row;
    }
    vec![
        entry.sequence.to_string(),
        time(entry.created_at),
        entry.kind.name().to_owned(),
        entry.budget_id.clone(),
        format_units(entry.units),
        data(entry),
        TaskId::new(*entry.key.task_id()).to_string(),
        entry.release_id.clone(),
        entry.mechanism.clone(),
        format!("{} v{}", entry.policy.id, entry.policy.version),
        String::new(),
    ]
}

fn object(entry: &LedgerEntry) -> Value {
    if let Some(note) = &entry.note {
        return json!({
            "entry": entry.sequence,
            "at": time(entry.created_at),
            "kind": entry.kind.name(),
            "note": note,
            "prev_hash": hex::encode(entry.prev_hash),
            "entry_hash": hex::encode(entry.entry_hash),
        });
    }
    json!({
        "entry": entry.sequence,
        "at": time(entry.created_at),
        "kind": entry.kind.name(),
        "budget": entry.budget_id,
        "amount": format_units(entry.units),
        "limit": format_units(entry.limit),
        "data": data(entry),
        "task": TaskId::new(*entry.key.task_id()).to_string(),
        "batch": hex::encode(entry.key.batch()),
        "release": entry.release_id,
        "mechanism": entry.mechanism,
        "policy": { "id": entry.policy.id, "version": entry.policy.version, "sha256": hex::encode(entry.policy.sha256) },
        "prev_hash": hex::encode(entry.prev_hash),
        "entry_hash": hex::encode(entry.entry_hash),
    })
}

/// When the reports were made.
fn data(entry: &LedgerEntry) -> String {
    entry.proposal().span.to_string()
}

const HEADINGS: [&str; 11] =
    ["entry", "at", "kind", "budget", "amount", "data", "task", "release", "mechanism", "policy", "note"];
