//! What is promised of every result of a task, as it was when the task was made.
//!
//! The collector did not set the noise and cannot see it. It is told the statement of guarantee with its task, and holds
//! it against the hash that every aggregate share is bound to: a guarantee about another release statement is refused.

use mica_dap::task::TaskConfiguration;
use mica_dp::{Rational, parse_task_info};
use serde_json::Value;

/// The statement of guarantee of one task: `mica policy explain -o json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Guarantee(Value);

impl Guarantee {
    /// The guarantee, if it is about the release statement that the task is bound to.
    #[must_use]
    pub fn of(value: Value, task: &TaskConfiguration) -> Option<Self> {
        let said = value["statement_sha256"].as_str()?;
        let (_, bound) = parse_task_info(task.task_info())?;
        (said == hex::encode(bound)).then_some(Self(value))
    }

    /// The `id` of the `[[release]]` in the policy.
    #[must_use]
    pub fn release(&self) -> Option<&str> {
        self.0["release"].as_str()
    }

    /// The loss of one release: ε, and the δ at which it holds. A pure ε is the number that the statement has, read to
    /// the nearest; one that follows from ρ is rounded up.
    #[must_use]
    pub fn epsilon(&self) -> Option<(f64, f64)> {
        if let Some(exact) = self.0["statement"]["loss_per_release"]["epsilon"].as_str() {
            return Some((exact.parse::<Rational>().ok()?.approximate(), 0.0));
        }
        let loss = &self.0["per_release"];
        Some((loss["epsilon"].as_f64()?, loss["delta"].as_f64()?))
    }

    /// The guarantee in plain English, and what it leaves out.
    #[must_use]
    pub fn explanation(&self) -> &str {
        self.0["explanation"].as_str().unwrap_or_default()
    }

    /// All of it, for machines.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use mica_dap::Draft;
    use mica_dap::task::{BatchMode, TaskParameters};
    use mica_dap::time::TimePrecision;
    use mica_dap::vdaf_config::VdafConfig;
    use mica_dp::{Decision, Policy, TaskFacts};

    use super::*;

    #[test]
    fn a_guarantee_about_another_statement_than_the_tasks_is_not_taken() {
        let plan = |epsilon| {
            let text = Policy::for_demo("t", &VdafConfig::Count, 10, epsilon);
            let policy = Policy::parse("policy.toml", &text).expect("a policy");
            match policy.release_for(&TaskFacts::new("t", &VdafConfig::Count, 10)) {
                Ok(Decision::Release(plan)) => plan,
                other => panic!("{other:?}"),
            }
        };
        let (plan, other) = (plan("1/2"), plan("1"));
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
        let guarantee = Guarantee::of(plan.export(), &task).expect("it is the task's");
        assert_eq!(guarantee.epsilon(), Some((0.5, 0.0)));
        assert_eq!(guarantee.release(), Some(plan.release_id()));
        assert_eq!(guarantee.explanation(), plan.explain());
        for wrong in [other.export(), Value::Null, serde_json::json!({ "statement_sha256": 7 })] {
            assert_eq!(Guarantee::of(wrong, &task), None);
        }
    }
}
