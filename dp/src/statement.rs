//! What both aggregators promise about a task, in one exact spelling.
//!
//! The hash of the statement is part of `task_info`, and so of the associated data of every report and every
//! aggregate share: a party that holds another statement cannot decrypt. Limits, owners and reasons are not in it;
//! each operator keeps its own, and the stricter one wins by refusing.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use serde_json::Value;

use crate::accountant::{BatchWindow, Window, Within};
use crate::canonical::{Canonical, sha256};
use crate::mechanism::Mechanism;
use crate::policy::{PrivacyUnit, Variant};
use crate::rational::Rational;
use crate::sensitivity::NeighboringRelation;
use crate::shape::Shape;

/// Who keeps a client within its caps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcer {
    /// The client's own software counts: an assumption about honest clients.
    Client,
    /// One-time tokens, which no part of mica checks: an assumption too.
    PrivacyPass,
    /// Nobody; the guarantee is then about single reports.
    None,
}

impl Enforcer {
    /// The name policy files and statements use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::PrivacyPass => "privacy-pass",
            Self::None => "none",
        }
    }
}

/// How many reports one privacy unit contributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contribution {
    /// The most reports of one unit in one batch.
    pub max_reports_per_batch: NonZeroU32,
    /// The pieces of time in each of which a unit sends no more than that. Nothing where it sends no more in the
    /// whole window: the policy's reader refuses a smaller cap per batch without it.
    pub batch_window: Option<BatchWindow>,
    /// The most reports of one unit in the window; one for the unit `report`.
    pub max_reports_per_window: NonZeroU32,
    /// The window in which reports are counted: the shortest of the budgets that are charged; all time for the unit
    /// `report`, which is in one batch.
    pub window: Window,
    /// Who enforces both.
    pub enforced_by: Enforcer,
}

impl Contribution {
    /// Where a batch must lie to have at most [`Self::max_reports_per_batch`] reports of a unit.
    pub fn within(&self) -> Within {
        self.batch_window.map_or(Within::Window(self.window), Within::Cell)
    }
}

/// The privacy loss of one release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// What it is counted in.
    pub variant: Variant,
    /// How much.
    pub amount: Rational,
}

/// Everything a statement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What is measured.
    pub shape: Shape,
    /// Which batches are neighbours.
    pub relation: NeighboringRelation,
    /// Who the guarantee is about.
    pub unit: PrivacyUnit,
    /// The caps and their enforcer.
    pub contribution: Contribution,
    /// The loss of one release.
    pub loss: Loss,
    /// The noise of each aggregator.
    pub mechanism: Mechanism,
    /// The fewest reports in a batch.
    pub min_batch_size: u64,
}

/// Terms in their one spelling, and its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    json: String,
    sha256: [u8; 32],
}

/// The label leaves no room for the hash in `task_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Longer than [`LONGEST_LABEL`].
    #[error("a task label has at most {LONGEST_LABEL} bytes")]
    TooLong,
    /// A zero byte ends the label.
    #[error("a task label has no zero byte")]
    ZeroByte,
}

/// `task_info` has at most 255 bytes, and the hash with its mark takes 36 of them.
pub const LONGEST_LABEL: usize = 255 - MARK.len() - 32;

const MARK: &[u8; 4] = b"\0dp1";

impl Statement {
    /// Spells out `terms`.
    pub fn new(terms: &Terms) -> Self {
        let json = terms.canonical().to_json();
        let sha256 = sha256(json.as_bytes());
        Self { json, sha256 }
    }

    /// The statement as JSON: keys sorted, no white space (RFC 8785).
    pub fn canonical_json(&self) -> &str {
        &self.json
    }

    /// SHA-256 of [`Self::canonical_json`].
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// The hash as 64 hexadecimal digits.
    pub fn sha256_hex(&self) -> String {
        hex::encode(self.sha256)
    }

    /// The `task_info` of a task released under this statement: `label ‖ 0x00 ‖ "dp1" ‖ SHA-256`.
    pub fn task_info(&self, label: &str) -> Result<Vec<u8>, LabelError> {
        if label.len() > LONGEST_LABEL {
            return Err(LabelError::TooLong);
        }
        if label.contains('\0') {
            return Err(LabelError::ZeroByte);
        }
        Ok([label.as_bytes(), MARK, &self.sha256].concat())
    }
}

/// The label and the statement hash in a `task_info`; nothing when it binds no statement.
pub fn parse_task_info(task_info: &[u8]) -> Option<(&str, [u8; 32])> {
    let (rest, hash) = task_info.split_last_chunk::<32>()?;
    let label = std::str::from_utf8(rest.strip_suffix(MARK.as_slice())?).ok()?;
    (!label.contains('\0')).then_some((label, *hash))
}

impl Terms {
    fn canonical(&self) -> Canonical {
        let (parameter, value) = self.mechanism.parameter();
        let caps = &self.contribution;
        Canonical::Object(vec![
            ("schema", Canonical::text("dp-statement/1")),
            ("vdaf", self.shape.canonical()),
            ("neighboring_relation", Canonical::text(&self.relation)),
            ("privacy_unit", Canonical::text(&self.unit.name())),
            ("contribution", contribution(caps)),
            (
                "loss_per_release",
                Canonical::Object(vec![(self.loss.variant.amount(), Canonical::text(&self.loss.amount))]),
            ),
            (
                "mechanism",
                Canonical::Object(vec![
                    ("name", Canonical::text(&self.mechanism.name())),
                    (parameter, Canonical::text(&value)),
                ]),
            ),
            ("noise_by", Canonical::text("each_aggregator")),
            ("min_batch_size", Canonical::text(&self.min_batch_size)),
            (
                "unprotected_quantities",
                Canonical::List(vec![Canonical::text("interval"), Canonical::text("report_count")]),
            ),
        ])
    }
}

/// Caps in their one spelling.
fn contribution(caps: &Contribution) -> Canonical {
    let mut fields = vec![
        ("max_reports_per_batch", Canonical::Whole(caps.max_reports_per_batch.get())),
        ("max_reports_per_window", Canonical::Whole(caps.max_reports_per_window.get())),
        ("window", window(caps.window)),
        ("enforced_by", Canonical::text(&caps.enforced_by.name())),
    ];
    if let Some(cells) = caps.batch_window {
        fields.push(("batch_window_seconds", Canonical::text(&cells.length())));
    }
    Canonical::Object(fields)
}

/// A window in its one spelling; times in seconds, as texts, since they can pass 2³².
fn window(window: Window) -> Canonical {
    let mut fields = vec![("kind", Canonical::text(window.kind()))];
    match window {
        Window::Lifetime => {}
        Window::Calendar(unit) => fields.push(("unit", Canonical::text(unit.name()))),
        Window::Rolling(rolling) => {
            fields.push(("length_seconds", Canonical::text(&rolling.length())));
            fields.push(("epoch_seconds", Canonical::text(&rolling.epoch())));
        }
    }
    Canonical::Object(fields)
}

/// What is different in another party's statement, a line for each field, to be shown to people; nothing when `theirs` is
/// no statement. The other party is not trusted: its part is spelt anew, and little of it.
pub fn statement_differences(ours: &str, theirs: &[u8]) -> Option<Vec<String>> {
    let theirs: Value = serde_json::from_slice(theirs).ok()?;
    theirs.get("schema")?;
    let ours: Value = serde_json::from_str(ours).ok()?;
    let (mut left, mut right) = (BTreeMap::new(), BTreeMap::new());
    flatten(String::new(), &ours, &mut left);
    flatten(String::new(), &theirs, &mut right);
    let fields: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let said = |of: &BTreeMap<String, String>, field: &str| {
        of.get(field).map_or_else(|| "nothing".to_owned(), |it| brief(it))
    };
    let mut lines: Vec<String> = fields
        .into_iter()
        .filter(|field| left.get(*field) != right.get(*field))
        .map(|field| format!("{}: here {}, there {}", brief(field), said(&left, field), said(&right, field)))
        .take(MOST_DIFFERENCES)
        .collect();
    if lines.is_empty() {
        lines.push("the same fields, in another spelling".to_owned());
    }
    Some(lines)
}

/// `mechanism.scale` and the like; a list is one field.
fn flatten(path: String, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                // Control characters and the like are escaped as JSON does it.
                let name = Value::from(name.as_str()).to_string();
                let name = name.trim_matches('"');
                let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                flatten(path, value, into);
            }
        }
        _ => {
            into.insert(path, value.to_string());
        }
    }
}

/// Enough of a text to tell what it is.
fn brief(text: &str) -> String {
    let mut letters = text.chars();
    let start: String = letters.by_ref().take(LONGEST_VALUE).collect();
    if letters.next().is_some() { start + ".." } else { start }
}

const MOST_DIFFERENCES: usize = 16;
const LONGEST_VALUE: usize = 80;

#[cfg(test)]
mod tests {
    use super::statement_differences;

    #[test]
    fn statements_are_compared_field_by_field() {
        let ours = r#"{"mechanism":{"name":"discrete_laplace","scale":"2"},"schema":"dp-statement/1"}"#;
        let theirs = r#"{"mechanism":{"name":"discrete_laplace","scale":"4"},"noise_by":"nobody","schema":"dp-statement/1"}"#;
        let lines = statement_differences(ours, theirs.as_bytes()).expect("it is a statement");
        assert_eq!(
            lines,
            [r#"mechanism.scale: here "2", there "4""#, r#"noise_by: here nothing, there "nobody""#]
        );
        let spaced = ours.replace(':', ": ");
        let lines = statement_differences(ours, spaced.as_bytes()).expect("it is a statement");
        assert_eq!(lines, ["the same fields, in another spelling"]);
        for no_statement in ["", "<html>", "{}", "[1]", "\u{fffd}"] {
            assert_eq!(statement_differences(ours, no_statement.as_bytes()), None);
        }
    }

    #[test]
    fn what_another_party_says_is_cut_and_escaped() {
        let theirs = format!(r#"{{"schema":"{}","\u001b[2J\n":1}}"#, "x".repeat(1_000));
        let lines = statement_differences("{}", theirs.as_bytes()).expect("it is a statement");
        assert!(lines.iter().all(|line| line.len() < 250 && !line.contains(['\n', '\u{1b}'])), "{lines:?}");
        let many: Vec<String> = (0..100).map(|number| format!("\"{number}\":0")).collect();
        let many = format!("{{\"schema\":0,{}}}", many.join(","));
        assert_eq!(statement_differences("{}", many.as_bytes()).map(|lines| lines.len()), Some(16));
    }
}
