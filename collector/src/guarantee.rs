//! What is promised of every result of a task, as it was when the task was made.
//!
//! The collector did not set the noise and cannot see it. It is told the statement of guarantee with its task, reads the
//! release statement in it and holds that against the hash that every aggregate share is bound to. What it then says of
//! noise, loss and guarantee is derived from the statement, whatever else the file says.

use mica_dap::task::TaskConfiguration;
use mica_dp::accountant::Within;
use mica_dp::{BoundStatement, Mechanism, NotBound, Rational, TaskFacts, parse_task_info};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::words::{plain, plain_json};

/// The statement of guarantee of one task: `mica policy explain -o json`.
#[derive(Clone, Debug)]
pub struct Guarantee {
    /// As the file has it.
    written: Value,
    /// The name of the release in it.
    release: Option<String>,
    bound: BoundStatement,
}

/// Why a guarantee is not that of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotTheTasks {
    /// The task is bound to nothing.
    #[error("the task is bound to no release statement, and the file has a guarantee")]
    Unbound,
    /// The statement in it does not hold.
    #[error("its guarantee does not hold for the task: {0}")]
    Statement(#[from] NotBound),
    /// It names another hash than that of its own statement.
    #[error("its guarantee names another release statement than it has")]
    OtherName,
}

impl Guarantee {
    /// The guarantee, if the release statement in it is the one that the task is bound to.
    ///
    /// # Errors
    /// When it is another one, or says that it is, or is about other tasks.
    pub fn of(json: Value, task: &TaskConfiguration) -> Result<Self, NotTheTasks> {
        let (_, hash) = parse_task_info(task.task_info()).ok_or(NotTheTasks::Unbound)?;
        // A JSON number or an exact text; any delta is true of a rho, so this one need not be bound.
        let delta = &json["per_release"]["delta"];
        let delta = delta.as_str().map_or_else(|| delta.to_string(), str::to_owned);
        let bound = BoundStatement::read(&json["statement"], hash, delta.parse::<Rational>().ok())?;
        bound.check_task(&TaskFacts {
            time_precision: Some(task.time_precision().seconds()),
            batch_mode: Some(task.batch_mode()),
            ..TaskFacts::new("", task.vdaf(), task.min_batch_size())
        })?;
        if json["statement_sha256"].as_str() != Some(hex::encode(hash).as_str()) {
            return Err(NotTheTasks::OtherName);
        }
        let release = json["release"].as_str().map(plain);
        Ok(Self { written: json, release, bound })
    }

    /// The noise of each aggregator, by the statement.
    #[must_use]
    pub fn mechanism(&self) -> &Mechanism {
        self.bound.mechanism()
    }

    /// Where a batch must lie, by the statement.
    #[must_use]
    pub fn within(&self) -> Within {
        self.bound.within()
    }

    /// Half of the interval that holds the truth of every value of a result at once, in 95 of 100 cases.
    #[must_use]
    pub fn half_width_of_all(&self) -> u64 {
        self.bound.half_width_of_all()
    }

    /// The `id` of the `[[release]]` in the policy, as whoever made the task wrote it.
    #[must_use]
    pub fn release(&self) -> Option<&str> {
        self.release.as_deref()
    }

    /// The loss of one release by the statement: ε, and the δ at which it holds, as people read both. An ε that follows from
    /// ρ is rounded up.
    #[must_use]
    pub fn epsilon(&self) -> Option<(String, String)> {
        self.bound.epsilon().map(|(epsilon, delta)| (epsilon.decimal(), delta))
    }

    /// The guarantee in plain English, and what it leaves out. What the statement does not bind, such as the limits of
    /// budgets, comes last and is said to be what somebody wrote.
    #[must_use]
    pub fn explanation(&self) -> String {
        let derived = self.bound.explain();
        let others = self.others(&derived);
        if others.is_empty() {
            return derived;
        }
        format!("{derived}\n{NOT_BOUND}\n  {}", others.join("\n  "))
    }

    /// The lines of the file's explanation that do not follow from the statement.
    fn others(&self, derived: &str) -> Vec<String> {
        let written = self.written["explanation"].as_str().unwrap_or_default();
        written
            .lines()
            .filter(|line| !line.trim().is_empty() && !derived.lines().any(|it| it == *line))
            .take(MOST_LINES)
            .map(plain)
            .collect()
    }

    /// The guarantee for machines: everything in it is derived from the statement, but for what is under `unbound`, which
    /// is what somebody wrote.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut json = self.bound.export();
        let mut unbound: Map<String, Value> = UNBOUND
            .into_iter()
            .filter_map(|key| Some((key.to_owned(), plain_json(self.written.get(key)?))))
            .collect();
        unbound.insert("explanation".to_owned(), self.others(&self.bound.explain()).into());
        json["unbound"] = Value::Object(unbound);
        json
    }

    /// What the collector's file has of it, word for word.
    pub(crate) fn written(&self) -> &Value {
        &self.written
    }
}

/// What a file says of a release beside its statement. What it says of noise and loss is not looked at.
const UNBOUND: [&str; 3] = ["release", "policy", "budgets"];

/// What stands before the words that nothing holds.
const NOT_BOUND: &str = "By whoever made the task; no statement binds it:";

const MOST_LINES: usize = 32;

#[cfg(test)]
mod tests {
    use mica_dap::Draft;
    use mica_dap::task::BatchMode;
    use mica_dap::time::TimePrecision;
    use mica_dap::vdaf_config::VdafConfig;
    use mica_dp::{Policy, ReleasePlan};

    use super::*;
    use crate::fixtures::{parameters, plan, plan_of, task, task_of};

    fn bound(epsilon: &str) -> (ReleasePlan, TaskConfiguration) {
        let plan = plan(epsilon);
        let task = task(&plan.statement().task_info("t").expect("a short label"));
        (plan, task)
    }

    #[test]
    fn a_guarantee_about_another_statement_than_the_tasks_is_not_taken() {
        let ((plan, task), other) = (bound("1/2"), plan("1"));
        let guarantee = Guarantee::of(plan.export(), &task).expect("it is the task's");
        assert_eq!(guarantee.epsilon(), Some(("0.5".to_owned(), "0".to_owned())));
        assert_eq!(guarantee.release(), Some(plan.release_id()));
        assert_eq!(guarantee.mechanism(), plan.mechanism());
        // Every sentence of the plan is there; what no statement binds comes after a line that says so.
        let said = guarantee.explanation();
        let (bound, written) = said.split_once(NOT_BOUND).expect("budgets are not bound");
        assert!(bound.contains("epsilon = 0.5") && bound.contains("Not protected:"), "{said}");
        assert!(written.contains("Budget \"demo-lifetime\"") && !bound.contains("Budget"), "{said}");
        assert!(plan.sentences().iter().all(|sentence| said.contains(&sentence.text)), "{said}");
        // The hash of another statement beside it makes no other statement of it, nor does the right one.
        let mut forged = other.export();
        forged["statement_sha256"] = plan.export()["statement_sha256"].clone();
        let other_hash = NotTheTasks::Statement(NotBound::OtherHash);
        assert_eq!(Guarantee::of(forged, &task).expect_err("forged"), other_hash);
        assert_eq!(Guarantee::of(other.export(), &task).expect_err("another"), other_hash);
        for wrong in [Value::Null, serde_json::json!({ "statement_sha256": 7 })] {
            let unreadable = NotTheTasks::Statement(NotBound::Unreadable);
            assert_eq!(Guarantee::of(wrong, &task).expect_err("nothing"), unreadable);
        }
        // Nor does the hash in a task that is of another kind, whose noise would have to be larger.
        let info = plan.statement().task_info("t").expect("a short label");
        let sum = task_of(VdafConfig::Sum { max_measurement: 1_000_000 }, &info);
        let mut small = parameters(VdafConfig::Count, &info);
        small.min_batch_size = 9;
        for other in [sum, small.build(Draft::V18).expect("a configuration")] {
            let refused = Guarantee::of(plan.export(), &other).expect_err("another kind");
            assert!(matches!(refused, NotTheTasks::Statement(NotBound::OtherTask(_))), "{refused}");
        }
        // Pieces of 30 days are no whole number of weeks, and no batches of a leader's choice.
        let pieces = plan_of(&Policy::for_demo_with_clients("t", &VdafConfig::Count, 10, "1/2"));
        let info = pieces.statement().task_info("t").expect("a short label");
        assert!(Guarantee::of(pieces.export(), &task_of(VdafConfig::Count, &info)).is_ok());
        let (mut selected, mut weekly) =
            (parameters(VdafConfig::Count, &info), parameters(VdafConfig::Count, &info));
        selected.batch_mode = BatchMode::LeaderSelected;
        weekly.time_precision = TimePrecision::new(7 * 86_400).expect("not zero");
        for other in [selected, weekly] {
            let other = other.build(Draft::V18).expect("a configuration");
            let refused = Guarantee::of(pieces.export(), &other).expect_err("other batches");
            assert!(matches!(refused, NotTheTasks::Statement(NotBound::OtherTask(_))), "{refused}");
        }
        let mut misnamed = plan.export();
        misnamed["statement_sha256"] = other.export()["statement_sha256"].clone();
        assert_eq!(Guarantee::of(misnamed, &task).expect_err("misnamed"), NotTheTasks::OtherName);
    }

    #[test]
    fn what_is_said_of_noise_and_loss_is_derived_from_the_statement_and_not_from_the_file() {
        let (plan, task) = bound("1/2");
        let mut lying = plan.export();
        lying["per_release"]["epsilon"] = serde_json::json!(0.001);
        lying["explanation"] =
            Value::from("Each release is private with epsilon = 0.001.\n\u{1b}[2J\u{202e}Nothing is lost.");
        let guarantee = Guarantee::of(lying, &task).expect("its statement is the task's");
        assert_eq!(guarantee.epsilon(), Some(("0.5".to_owned(), "0".to_owned())));
        let said = guarantee.explanation();
        let (bound, written) = said.split_once(NOT_BOUND).expect("it is not bound");
        assert!(bound.contains("epsilon = 0.5") && !bound.contains("0.001"), "{said}");
        assert!(
            written.contains("0.001") && !written.contains('\u{1b}') && !written.contains('\u{202e}'),
            "{said}"
        );
    }

    #[test]
    fn what_machines_are_told_is_derived_from_the_statement_and_the_rest_is_named_unbound() {
        let (plan, task) = bound("1/2");
        let honest = Guarantee::of(plan.export(), &task).expect("it is the task's").json();
        assert_eq!(honest["per_release"]["epsilon"], 0.5);
        assert_eq!(honest["noise"], plan.export()["noise"]);
        assert_eq!(honest["unbound"]["policy"], plan.export()["policy"]);
        let mut lying = plan.export();
        for (place, lie) in [
            ("/per_release/epsilon", Value::from(0.001)),
            ("/noise/standard_deviation/both_aggregators", Value::from(1e9)),
            ("/noise/peer_noise_verified", Value::from(true)),
            ("/explanation", Value::from("Nothing is lost.")),
            ("/deployment/privacy_loss/privacy_parameters/epsilon", Value::from(0.001)),
            ("/privacy_unit", Value::from("household")),
            ("/release", Value::from("r\u{9b}1\u{202e}")),
        ] {
            *lying.pointer_mut(place).expect(place) = lie;
        }
        // What this version does not know, in the statement too: the hash is that of the one spelling.
        lying["audited"] = Value::from(true);
        lying["statement"]["audited"] = Value::from(true);
        let guarantee = Guarantee::of(lying.clone(), &task).expect("its statement is the task's");
        let mut told = guarantee.json();
        assert_eq!(guarantee.release(), Some("r1"));
        assert_eq!(told["unbound"]["release"], "r1");
        assert_eq!(told["unbound"]["explanation"], serde_json::json!(["Nothing is lost."]));
        // But for what is said to be unbound, no lie has changed a letter.
        let mut honest = honest;
        honest["unbound"] = Value::Null;
        told["unbound"] = Value::Null;
        assert_eq!(told, honest);
        // The file itself is kept as it was written.
        assert_eq!(guarantee.written(), &lying);
    }
}
