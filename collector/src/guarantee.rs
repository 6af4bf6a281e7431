//! What is promised of every result of a task, as it was when the task was made.
//!
//! The collector did not set the noise and cannot see it. It is told the statement of guarantee with its task, reads the
//! release statement in it and holds that against the hash that every aggregate share is bound to. What it then says of
//! noise, loss and guarantee is derived from the statement, whatever else the file says.

use mica_dap::task::TaskConfiguration;
use mica_dp::accountant::Within;
use mica_dp::{BoundStatement, Mechanism, NotBound, Rational, parse_task_info};
use serde_json::Value;
use thiserror::Error;

/// The statement of guarantee of one task: `mica policy explain -o json`.
#[derive(Clone, Debug)]
pub struct Guarantee {
    json: Value,
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
    /// When it is another one, or says that it is.
    pub fn of(json: Value, task: &TaskConfiguration) -> Result<Self, NotTheTasks> {
        let (_, hash) = parse_task_info(task.task_info()).ok_or(NotTheTasks::Unbound)?;
        // A JSON number or an exact text; any delta is true of a rho, so this one need not be bound.
        let delta = &json["per_release"]["delta"];
        let delta = delta.as_str().map_or_else(|| delta.to_string(), str::to_owned);
        let bound = BoundStatement::read(&json["statement"], hash, delta.parse::<Rational>().ok())?;
        if json["statement_sha256"].as_str() != Some(hex::encode(hash).as_str()) {
            return Err(NotTheTasks::OtherName);
        }
        Ok(Self { json, bound })
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
        self.json["release"].as_str()
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
        let written = self.json["explanation"].as_str().unwrap_or_default();
        let others: Vec<String> = written
            .lines()
            .filter(|line| !line.trim().is_empty() && !derived.lines().any(|it| it == *line))
            .take(MOST_LINES)
            .map(|line| format!("  {}", plain(line)))
            .collect();
        if others.is_empty() {
            return derived;
        }
        format!("{derived}\n{NOT_BOUND}\n{}", others.join("\n"))
    }

    /// All of it, for machines.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.json
    }
}

/// What stands before the words that nothing holds.
const NOT_BOUND: &str = "By whoever made the task; no statement binds it:";

const MOST_LINES: usize = 32;

/// A line of somebody else's, that looks like nothing but itself.
fn plain(line: &str) -> String {
    let turns = |it: &char| matches!(it, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    line.chars().filter(|it| !it.is_control() && !turns(it)).collect()
}

#[cfg(test)]
mod tests {
    use mica_dap::Draft;
    use mica_dap::task::{BatchMode, TaskParameters};
    use mica_dap::time::TimePrecision;
    use mica_dap::vdaf_config::VdafConfig;
    use mica_dp::{Decision, Policy, ReleasePlan, TaskFacts};

    use super::*;

    fn plan(epsilon: &str) -> ReleasePlan {
        let text = Policy::for_demo("t", &VdafConfig::Count, 10, epsilon);
        let policy = Policy::parse("policy.toml", &text).expect("a policy");
        match policy.release_for(&TaskFacts::new("t", &VdafConfig::Count, 10)) {
            Ok(Decision::Release(plan)) => *plan,
            other => panic!("{other:?}"),
        }
    }

    fn bound(epsilon: &str) -> (ReleasePlan, TaskConfiguration) {
        let plan = plan(epsilon);
        let parameters = TaskParameters {
            task_info: plan.statement().task_info("t").expect("a short label"),
            leader_url: "https://leader.example/".to_owned(),
            helper_url: "https://helper.example/".to_owned(),
            time_precision: TimePrecision::new(60).expect("not zero"),
            min_batch_size: 10,
            batch_mode: BatchMode::TimeInterval,
            vdaf: VdafConfig::Count,
            task_interval: None,
        };
        let task = parameters.build(Draft::V18).expect("a configuration");
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
}
