//! What the demonstration found out, as one JSON object.

use std::collections::BTreeMap;

use mica_dp::LedgerEntry;
use mica_dp::units::format_units;
use serde::Serialize;

use crate::screen::Row;

/// The object that `mica demo --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Shown {
    /// Reports that were uploaded.
    pub(super) sent: u64,
    /// Reports that both aggregators found valid.
    pub(super) accepted: u64,
    /// The others, by reason.
    pub(super) rejected: BTreeMap<String, u64>,
    /// Reports in the batch that was released.
    pub(super) report_count: u64,
    /// One for each coordinate.
    pub(super) results: Vec<Total>,
    /// What came of asking for the batch again.
    pub(super) second_release: SecondRelease,
    /// The ledgers of both aggregators.
    pub(super) ledger: Vec<Line>,
    /// From the command to this object.
    pub(super) elapsed_ms: u64,
}

/// One noised total.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Total {
    label: String,
    value: i64,
    half_width: u64,
    confidence: f64,
    #[serde(rename = "true")]
    truth: i64,
}

/// What came of asking for the batch again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct SecondRelease {
    pub(super) refused: bool,
    pub(super) reason: String,
}

/// One line of a ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    aggregator: &'static str,
    sequence: u64,
    kind: &'static str,
    budget: String,
    amount: String,
    limit: String,
    mechanism: String,
    release: String,
    policy: String,
    policy_version: u32,
}

impl Total {
    pub(super) fn new(row: &Row, confidence: f64) -> Self {
        // A demonstration counts far below this.
        let whole = |value: i128| i64::try_from(value).unwrap_or(i64::MAX);
        Self {
            label: row.label.clone(),
            value: whole(row.value),
            half_width: row.half_width,
            confidence,
            truth: whole(row.truth.unwrap_or_default()),
        }
    }
}

impl Line {
    pub(super) fn new(aggregator: &'static str, entry: &LedgerEntry) -> Self {
        Self {
            aggregator,
            sequence: entry.sequence,
            kind: entry.kind.name(),
            budget: entry.budget_id.clone(),
            amount: format_units(entry.units),
            limit: format_units(entry.limit),
            mechanism: entry.mechanism.clone(),
            release: entry.release_id.clone(),
            policy: entry.policy.id.clone(),
            policy_version: entry.policy.version,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_has_the_documented_keys_in_the_documented_order() {
        let row = Row { label: "yes".to_owned(), value: -3, half_width: 8, truth: Some(2) };
        let report = Shown {
            sent: 12,
            accepted: 2,
            rejected: BTreeMap::from([("report_replayed".to_owned(), 4)]),
            report_count: 2,
            results: vec![Total::new(&row, 0.95)],
            second_release: SecondRelease { refused: true, reason: "batchOverlap".to_owned() },
            ledger: Vec::new(),
            elapsed_ms: 5,
        };
        let expected = "{\"sent\":12,\"accepted\":2,\"rejected\":{\"report_replayed\":4},\"report_count\":2,\
                        \"results\":[{\"label\":\"yes\",\"value\":-3,\"half_width\":8,\"confidence\":0.95,\"true\":2}],\
                        \"second_release\":{\"refused\":true,\"reason\":\"batchOverlap\"},\"ledger\":[],\"elapsed_ms\":5}";
        assert_eq!(serde_json::to_string(&report).unwrap(), expected);
    }
}
