//! Every rule of a policy file: the finding, its place and its remedy, and a file that the rule leaves alone.

mod differences;
mod exceptions;
mod history;
mod hostile;
mod language;
mod matching;
mod money;
mod noise;
mod schema;
mod units;

use mica_dap::vdaf_config::VdafConfig;

use super::*;

/// A file without a fault; tests change one line of it.
const GOOD: &str = r#"schema = "dp-policy/1"

[policy]
id = "acme"
version = 7
justification = "DPIA-2026-114"

[[budget]]
id = "a"
privacy_unit = "client"
neighboring_relation = "replace_one"
dp_variant = "zcdp"
rho = 0.25
report_delta = 1e-8
window = { kind = "lifetime" }
on_exhausted = "refuse"

[[release]]
id = "x"
match = { label = "page-load" }
vdaf = { type = "prio3-histogram", length = 1000 }
min_batch_size = 1000
charge = ["a"]
contribution = { max_reports_per_batch = 1, batch_window = "30d", max_reports_per_window = 30, enforced_by = "client" }
mechanism = "discrete_gaussian"
rho_per_release = 0.0025
noise_by = "each_aggregator"
report_count = "public"

[unmatched]
action = "refuse"
"#;

const SECOND_BUDGET: &str = r#"[[budget]]
id = "b"
privacy_unit = "client"
neighboring_relation = "replace_one"
dp_variant = "pure"
epsilon = 2
window = { kind = "lifetime" }
on_exhausted = "refuse"

[[release]]"#;

/// The errors of a text; none of one that is read, whatever its warnings.
fn errors(text: &str) -> Vec<String> {
    match Policy::parse("p.toml", text) {
        Ok(_) => Vec::new(),
        Err(findings) => {
            findings.iter().filter(|it| it.severity == Severity::Error).map(ToString::to_string).collect()
        }
    }
}

/// Everything found in a text.
fn findings(text: &str) -> Vec<Diagnostic> {
    match Policy::parse("p.toml", text) {
        Ok(policy) => policy.warnings().to_vec(),
        Err(findings) => findings,
    }
}

/// The good file with one replacement.
#[track_caller]
fn with(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "{old}");
    GOOD.replacen(old, new, 1)
}

/// The good file with several replacements, one after the other.
#[track_caller]
fn edited(edits: &[(&str, &str)]) -> String {
    edits.iter().fold(GOOD.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "{old}");
        text.replacen(old, new, 1)
    })
}

/// The one error after a replacement, word for word.
#[track_caller]
fn expect_one(old: &str, new: &str, wanted: &str) {
    assert_eq!(errors(&with(old, new)), [wanted]);
}

/// The rule fires after each of the replacements, with a place in the file, a severity by its letter and a remedy.
#[track_caller]
fn fires(code: &str, edits: &[(&str, &str)]) {
    for (old, new) in edits {
        let text = with(old, new);
        let found = findings(&text);
        let Some(finding) = found.iter().find(|it| it.code == code) else { panic!("{new}: {found:#?}") };
        let severity = if code.starts_with('W') { Severity::Warning } else { Severity::Error };
        assert_eq!(finding.severity, severity, "{finding}");
        assert!(finding.line <= text.lines().count() && !finding.fix.is_empty(), "{finding}");
    }
}

/// The rule does not fire after any of the replacements, and nothing else is an error.
#[track_caller]
fn passes(code: &str, edits: &[(&str, &str)]) {
    for (old, new) in edits {
        let text = with(old, new);
        let found = findings(&text);
        let wrong = found.iter().find(|it| it.code == code || it.severity == Severity::Error);
        assert!(wrong.is_none(), "{new}: {found:#?}");
    }
}

fn policy(text: &str) -> Policy {
    match Policy::parse("p.toml", text) {
        Ok(policy) => policy,
        Err(findings) => panic!("{findings:#?}"),
    }
}

fn plan(text: &str, label: &str, vdaf: &VdafConfig, min_batch_size: u64) -> Result<Decision, Refusal> {
    policy(text).release_for(&TaskFacts::new(label, vdaf, min_batch_size))
}
