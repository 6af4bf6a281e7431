//! `mica task show`: what a task file says, without its secrets.

use std::path::PathBuf;

use mica_dap::vdaf_config::VdafConfig;
use serde_json::{Map, Value, json};

use super::known::Known;
use crate::args::{Format, Global};
use crate::exit::Failure;
use crate::print;

/// Show what a task file says.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A task file, or the folder of a task
    file: PathBuf,
}

/// Does what the command line says.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let facts = facts(&Known::read(&args.file)?);
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

fn result_length(vdaf: &VdafConfig) -> String {
    match vdaf {
        VdafConfig::Poplar1 { .. } => "one for each prefix that is asked for".to_owned(),
        vdaf => vdaf.length().to_string(),
    }
}

fn facts(task: &Known) -> Vec<(&'static str, String)> {
    let configuration = &task.configuration;
    let (label, statement) = task.label();
    let precision = configuration.time_precision();
    let mut facts = vec![
        ("label", label),
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
    facts
}
