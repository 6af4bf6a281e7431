//! `mica policy diff`: what a new version changes, and what it takes back.

use mica_dp::{Change, Policy};
use serde_json::{Value, json};

use crate::args::Format;
use crate::exit::{Exit, Failure};
use crate::print;

/// Prints the changes; an error when some guarantee is weaker than before.
pub(super) fn run(old: &Policy, new: &Policy, format: Format) -> Result<(), Failure> {
    let changes = new.changes_since(old);
    match format {
        Format::Json => print::json(&json!({
            "old": named(old),
            "new": named(new),
            "weaker": changes.iter().filter(|it| it.weakens()).count(),
            "changes": changes.iter().map(change).collect::<Vec<_>>(),
        }))?,
        Format::Csv => print::csv(&["weakens", "subject", "what"], &rows(&changes, ["yes", "no"]))?,
        Format::Table if changes.is_empty() => print::lines("No guarantee changes.")?,
        Format::Table => print::columns(&[], &rows(&changes, ["WEAKER", "other"]))?,
    }
    let weaker = changes.iter().filter(|it| it.weakens()).count();
    if weaker == 0 {
        return Ok(());
    }
    let guarantees = if weaker == 1 { "1 guarantee is" } else { &format!("{weaker} guarantees are") };
    Err(Failure::new(Exit::Refused, format!("{guarantees} weaker than before; have the change reviewed")))
}

fn named(policy: &Policy) -> Value {
    json!({ "policy": policy.id(), "version": policy.version(), "sha256": hex::encode(policy.sha256()) })
}

fn change(change: &Change) -> Value {
    json!({ "weakens": change.weakens(), "subject": change.subject(), "what": change.what() })
}

fn rows(changes: &[Change], words: [&str; 2]) -> Vec<Vec<String>> {
    let [weaker, other] = words;
    changes
        .iter()
        .map(|it| {
            let word = if it.weakens() { weaker } else { other };
            vec![word.to_owned(), it.subject().to_owned(), it.what().to_owned()]
        })
        .collect()
}
