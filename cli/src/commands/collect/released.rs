//! A result as it is printed: never without how far it can be off, and with what no noise protects.

use jiff::Timestamp;
use mica_collector::{Estimate, Guarantee, Outcome, label_of};
use mica_dap::task::TaskConfiguration;
use mica_dap::time::Time;
use mica_dp::{Mechanism, parse_task_info};
use serde_json::json;

use crate::args::Format;
use crate::exit::Failure;
use crate::print;
use crate::screen::{Signs, table, thousands};

/// One collection and its task.
pub(super) struct Released<'a> {
    pub(super) configuration: &'a TaskConfiguration,
    /// What the values count, where they count prefixes.
    pub(super) prefixes: &'a [String],
    pub(super) outcome: &'a Outcome,
    pub(super) estimate: Estimate,
    /// The noise of each aggregator; nothing where values leave as they are.
    pub(super) mechanism: Option<&'a Mechanism>,
    /// What is promised of it.
    pub(super) guarantee: Option<&'a Guarantee>,
    /// The collection at the leader.
    pub(super) collection: &'a str,
}

impl Released<'_> {
    /// Prints it.
    pub(super) fn print(&self, format: Format) -> Result<(), Failure> {
        match format {
            Format::Table => print::lines(&self.table(Signs::of_locale())),
            Format::Json => self.json(),
            Format::Csv => self.csv(),
        }
    }

    fn table(&self, signs: Signs) -> String {
        let Estimate { half_width, confidence } = self.estimate;
        let pm = signs.plus_minus();
        let percent = confidence * 100.0;
        let (start, end) = self.times();
        let mut lines = vec![format!("{}, {start} to {end}", self.label())];
        if let [value] = self.outcome.values.as_slice() {
            lines.push(format!(
                "  value    {} {pm}{} ({percent} % confidence)",
                thousands(*value),
                thousands(half_width)
            ));
        } else {
            let of = |index: usize| self.prefixes.get(index).cloned().unwrap_or_else(|| index.to_string());
            let row = |(index, value): (usize, &i128)| vec![of(index), thousands(*value)];
            let rows: Vec<_> = self.outcome.values.iter().enumerate().map(row).collect();
            let what = if self.prefixes.is_empty() { "  index" } else { "  prefix" };
            lines.push(table(&[what, "value"], &rows.into_iter().map(indented).collect::<Vec<_>>()));
            let count = self.outcome.values.len();
            let all = self.guarantee.map(|guarantee| {
                format!("; all {count} at once {pm}{}", thousands(guarantee.half_width_of_all()))
            });
            let each = format!("  each value {pm}{} ({percent} % confidence)", thousands(half_width));
            lines.push(each + &all.unwrap_or_default());
        }
        // Count and time are bound to nothing that a helper or a client has seen: whoever leads can say others.
        let count = thousands(self.outcome.report_count);
        lines.push(format!("  reports  {count} in that time (as the leader says; no noise hides it)"));
        lines.push(self.remark().to_owned());
        lines.extend(self.promise(signs));
        lines.join("\n")
    }

    /// The noise, the loss, and the statement of guarantee.
    fn promise(&self, signs: Signs) -> Vec<String> {
        let Some(mechanism) = self.mechanism else { return Vec::new() };
        let mut lines = vec![format!("  noise    {}", mechanism.describe())];
        if let Some((epsilon, delta)) = self.guarantee.and_then(Guarantee::epsilon) {
            lines.push(format!("  loss     epsilon {epsilon} at delta {delta}, for this release"));
        }
        if let Some(hash) = self.statement() {
            lines.push(format!("  promise  release statement {hash}"));
        }
        if let Some(guarantee) = self.guarantee {
            lines.push(String::new());
            let words = guarantee.explanation().replace('±', signs.plus_minus());
            lines.extend(words.lines().map(|line| format!("  {line}")));
        }
        lines
    }

    /// SHA-256 of the release statement that both shares were bound to.
    fn statement(&self) -> Option<String> {
        parse_task_info(self.configuration.task_info()).map(|(_, hash)| hex::encode(hash))
    }

    /// What can be misread is explained where it is printed.
    fn remark(&self) -> &'static str {
        if self.mechanism.is_none() {
            "  This task is released without noise: the values are exact and not differentially private."
        } else if self.outcome.values.iter().any(|value| *value < 0) {
            "  Noise can make a value negative; that is no error, and setting it to 0 would bias sums."
        } else {
            "  The values hold the noise of both aggregators; the interval covers it."
        }
    }

    fn json(&self) -> Result<(), Failure> {
        let Estimate { half_width, confidence } = self.estimate;
        let (start, end) = self.times();
        // A value of more than 64 bits is no number in JSON.
        let number =
            |value: &i128| i64::try_from(*value).map_or_else(|_| json!(value.to_string()), |it| json!(it));
        let values: Vec<_> = self.outcome.values.iter().map(number).collect();
        let loss = self.guarantee.and_then(Guarantee::epsilon);
        let mut object = json!({
            "task": self.label(),
            "start": start,
            "end": end,
            "report_count": self.outcome.report_count,
            "values": values,
            "half_width": half_width,
            "half_width_holds_for": "each value by itself",
            "half_width_of_all_values_at_once": self.guarantee.map(Guarantee::half_width_of_all),
            "confidence": confidence,
            "noised": self.mechanism.is_some(),
            "mechanism": self.mechanism.map(ToString::to_string),
            "epsilon": loss.as_ref().and_then(|(epsilon, _)| epsilon.parse::<f64>().ok()),
            "delta": loss.as_ref().and_then(|(_, delta)| delta.parse::<f64>().ok()),
            "statement_sha256": self.statement(),
            "release_id": self.guarantee.and_then(Guarantee::release),
            "collection_id": self.collection,
            "guarantee": self.guarantee.map(Guarantee::json),
        });
        if !self.prefixes.is_empty() {
            object["prefixes"] = json!(self.prefixes);
        }
        print::json(&object)
    }

    fn csv(&self) -> Result<(), Failure> {
        let half_width = i128::from(self.estimate.half_width);
        let (start, end) = self.times();
        let loss = self.guarantee.and_then(Guarantee::epsilon);
        let promise = [
            self.mechanism.map(ToString::to_string),
            loss.as_ref().map(|(epsilon, _)| epsilon.clone()),
            loss.as_ref().map(|(_, delta)| delta.clone()),
            self.statement(),
            self.guarantee.and_then(Guarantee::release).map(str::to_owned),
            Some(self.collection.to_owned()),
        ]
        .map(Option::unwrap_or_default);
        let row = |(index, value): (usize, &i128)| {
            let mut row = vec![
                self.label(),
                start.clone(),
                end.clone(),
                index.to_string(),
                value.to_string(),
                value.saturating_sub(half_width).to_string(),
                value.saturating_add(half_width).to_string(),
                self.estimate.confidence.to_string(),
                self.outcome.report_count.to_string(),
            ];
            row.extend(promise.clone());
            row
        };
        let rows: Vec<_> = self.outcome.values.iter().enumerate().map(row).collect();
        print::csv(&CSV, &rows)
    }

    /// The task's label, without the hash of the release statement, and with nothing that a terminal would act on.
    fn label(&self) -> String {
        label_of(self.configuration)
    }

    fn times(&self) -> (String, String) {
        let precision = self.configuration.time_precision();
        let written = |time: Time| {
            let seconds = precision.start_of(time);
            let timestamp = i64::try_from(seconds).ok().and_then(|it| Timestamp::from_second(it).ok());
            timestamp.map_or_else(|| seconds.to_string(), |timestamp| timestamp.to_string())
        };
        (written(self.outcome.interval.start()), written(self.outcome.interval.end()))
    }
}

fn indented(row: Vec<String>) -> Vec<String> {
    let mut cells = row.into_iter();
    let first = cells.next().map(|cell| format!("  {cell}"));
    first.into_iter().chain(cells).collect()
}

const CSV: [&str; 15] = [
    "task",
    "batch_start",
    "batch_end",
    "index",
    "value",
    "ci_low",
    "ci_high",
    "confidence",
    "reports",
    "mechanism",
    "epsilon",
    "delta",
    "statement_sha256",
    "release_id",
    "collection_id",
];

#[cfg(test)]
mod tests {
    use mica_dap::Draft;
    use mica_dap::task::{BatchMode, TaskParameters};
    use mica_dap::time::{Interval, TimePrecision};
    use mica_dap::vdaf_config::VdafConfig;
    use mica_dp::{Decision, Policy, TaskFacts};

    use super::*;

    fn bound(task_info: Vec<u8>) -> TaskConfiguration {
        let parameters = TaskParameters {
            task_info,
            leader_url: "http://127.0.0.1:1/".to_owned(),
            helper_url: "http://127.0.0.1:2/".to_owned(),
            time_precision: TimePrecision::new(3600).expect("not zero"),
            min_batch_size: 1,
            batch_mode: BatchMode::TimeInterval,
            vdaf: VdafConfig::Count,
            task_interval: None,
        };
        parameters.build(Draft::V18).expect("a configuration")
    }

    fn printed(values: &[i128], half_width: u64, noised: bool) -> String {
        printed_under("page-load", values, half_width, noised)
    }

    fn printed_under(label: &str, values: &[i128], half_width: u64, noised: bool) -> String {
        let configuration = bound(label.as_bytes().to_vec());
        let interval = Interval::unit(Time(1)).expect("an interval");
        let outcome = Outcome { report_count: 1_234, interval, values: values.to_vec() };
        let estimate = Estimate { half_width, confidence: 0.95 };
        let mechanism: Mechanism = "discrete_laplace(scale=2)".parse().expect("a mechanism");
        let released = Released {
            configuration: &configuration,
            prefixes: &[],
            outcome: &outcome,
            estimate,
            mechanism: noised.then_some(&mechanism),
            guarantee: None,
            collection: "c",
        };
        released.table(Signs::Ascii)
    }

    #[test]
    fn a_value_is_never_printed_without_its_interval() {
        let text = printed(&[-3], 8, true);
        assert!(text.starts_with("page-load, 1970-01-01T01:00:00Z to 1970-01-01T02:00:00Z\n"), "{text}");
        assert!(text.contains("-3 +-8 (95 % confidence)"), "{text}");
        // Whoever leads could say another number or a narrower time, and nothing would show it.
        let count = "\n  reports  1,234 in that time (as the leader says; no noise hides it)\n";
        assert!(text.contains(count), "{text}");
        assert!(text.contains("Noise can make a value negative"), "{text}");
    }

    #[test]
    fn a_label_that_another_party_chose_tells_a_terminal_nothing() {
        let text = printed_under("page\u{1b}[2J\n\u{202e}load", &[10], 0, false);
        assert!(text.starts_with("page[2Jload, 1970-01-01T01:00:00Z to "), "{text}");
    }

    #[test]
    fn several_values_are_rows_and_share_an_interval() {
        let text = printed(&[10, 1_000], 8, true);
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert!(lines.contains(&"0 10".to_owned()) && lines.contains(&"1 1,000".to_owned()), "{text}");
        assert!(text.contains("each value +-8 (95 % confidence)"), "{text}");
    }

    #[test]
    fn a_result_comes_with_its_loss_and_its_guarantee() {
        let text = Policy::for_demo("page-load", &VdafConfig::Count, 1, "1/2");
        let policy = Policy::parse("policy.toml", &text).expect("a policy");
        let facts = TaskFacts::new("page-load", &VdafConfig::Count, 1);
        let Ok(Decision::Release(plan)) = policy.release_for(&facts) else {
            panic!("it releases with noise")
        };
        let configuration = bound(plan.statement().task_info("page-load").expect("a short label"));
        let guarantee = Guarantee::of(plan.export(), &configuration).expect("it is the task's");
        let interval = Interval::unit(Time(1)).expect("an interval");
        let outcome = Outcome { report_count: 9, interval, values: vec![-2] };
        let released = Released {
            configuration: &configuration,
            prefixes: &[],
            outcome: &outcome,
            estimate: Estimate { half_width: 8, confidence: 0.95 },
            mechanism: Some(plan.mechanism()),
            guarantee: Some(&guarantee),
            collection: "c",
        };
        let text = released.table(Signs::Ascii);
        assert!(text.is_ascii(), "{text}");
        for said in [
            "discrete Laplace, scale 2, each aggregator",
            "epsilon 0.5 at delta 0, for this release",
            &plan.statement().sha256_hex(),
            "Not protected:",
            "peer noise not verified",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
    }

    #[test]
    fn a_result_without_noise_says_so() {
        assert!(printed(&[10], 0, false).contains("not differentially private"));
    }
}
