//! What the tests of this crate collect: one task of counts, and the policy that it may be bound to.

use mica_dap::Draft;
use mica_dap::task::{BatchMode, TaskConfiguration, TaskParameters};
use mica_dap::time::TimePrecision;
use mica_dap::vdaf_config::VdafConfig;
use mica_dp::{Decision, Policy, ReleasePlan, TaskFacts};

/// A task of at least ten reports a batch, and one minute as the unit of time.
pub(crate) fn task(task_info: &[u8]) -> TaskConfiguration {
    task_of(VdafConfig::Count, task_info)
}

/// The same of another measurement.
pub(crate) fn task_of(vdaf: VdafConfig, task_info: &[u8]) -> TaskConfiguration {
    parameters(vdaf, task_info).build(Draft::V18).expect("a configuration")
}

/// What it is made of.
pub(crate) fn parameters(vdaf: VdafConfig, task_info: &[u8]) -> TaskParameters {
    TaskParameters {
        task_info: task_info.to_vec(),
        leader_url: "https://leader.example/".to_owned(),
        helper_url: "https://helper.example/".to_owned(),
        time_precision: TimePrecision::new(60).expect("not zero"),
        min_batch_size: 10,
        batch_mode: BatchMode::TimeInterval,
        vdaf,
        task_interval: None,
    }
}

/// What a policy of this loss promises of it.
pub(crate) fn plan(epsilon: &str) -> ReleasePlan {
    plan_of(&Policy::for_demo("t", &VdafConfig::Count, 10, epsilon))
}

/// What this policy promises of it.
pub(crate) fn plan_of(policy: &str) -> ReleasePlan {
    let policy = Policy::parse("policy.toml", policy).expect("a policy");
    match policy.release_for(&TaskFacts::new("t", &VdafConfig::Count, 10)) {
        Ok(Decision::Release(plan)) => *plan,
        other => panic!("{other:?}"),
    }
}
