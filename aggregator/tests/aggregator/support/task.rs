//! A task with the keys and tokens of all its parties.

use mica_aggregator::auth::{Bearer, TokenHash};
use mica_aggregator::task_file::Tokens;
use mica_aggregator::{Role, TaskFile};
use mica_dap::Draft;
use mica_dap::hpke::HpkeKeypair;
use mica_dap::id::TaskId;
use mica_dap::task::{BatchMode, TaskConfiguration, TaskParameters};
use mica_dap::time::{Interval, TimePrecision};
use mica_dap::vdaf::parameter_of;
use mica_dap::vdaf_config::VdafConfig;
use mica_dp::{Decision, Policy, TaskFacts};
use zeroize::Zeroizing;

use super::PRECISION;

pub(crate) const LEADER_TOKEN: &str = "shown-by-the-leader";
pub(crate) const COLLECTOR_TOKEN: &str = "shown-by-the-collector";
const LABEL: &str = "test";

#[derive(Clone)]
pub(crate) struct TestTask {
    pub(crate) id: TaskId,
    pub(crate) draft: Draft,
    pub(crate) configuration: TaskConfiguration,
    pub(crate) verify_key: [u8; 32],
    pub(crate) collector: HpkeKeypair,
    pub(crate) batch_target_size: Option<u64>,
    /// The leader's and the collector's; empty where nothing is said of prefixes.
    pub(crate) aggregation_parameter: Vec<u8>,
    /// The text of the policy that covers the task.
    pub(crate) policy: String,
}

/// What differs between the tasks of the tests.
pub(crate) struct Kind {
    pub(crate) vdaf: VdafConfig,
    pub(crate) draft: Draft,
    pub(crate) min_batch_size: u64,
    /// The loss of one release; the budget lasts for ten. Nothing: totals leave as they are.
    pub(crate) epsilon: Option<&'static str>,
    /// The window of the budget and its limit, in place of all time and ten releases.
    pub(crate) window: Option<(&'static str, &'static str)>,
    /// The most reports of a client in one window.
    pub(crate) reports_per_window: u32,
    /// The pieces of time in which a client sends one report, in place of those of the demonstration.
    pub(crate) batch_window: Option<&'static str>,
    pub(crate) task_interval: Option<Interval>,
    pub(crate) helper_url: String,
    pub(crate) batch_mode: BatchMode,
    /// The length of one unit of time in seconds.
    pub(crate) precision: u64,
    /// Where the leader selects the batches: how many reports it puts in one.
    pub(crate) batch_target_size: Option<u64>,
    /// What the leader counts, of Poplar1.
    pub(crate) prefixes: &'static [&'static str],
    /// Whether the identifier is that of the configuration, so that the task can be advertised.
    pub(crate) derived_id: bool,
}

impl Default for Kind {
    fn default() -> Self {
        Self {
            vdaf: VdafConfig::Sum { max_measurement: 100 },
            draft: Draft::V18,
            min_batch_size: 2,
            epsilon: None,
            window: None,
            reports_per_window: 1000,
            batch_window: None,
            precision: PRECISION,
            task_interval: None,
            helper_url: "https://helper.example/api/dap".to_owned(),
            batch_mode: BatchMode::TimeInterval,
            batch_target_size: None,
            prefixes: &[],
            derived_id: false,
        }
    }
}

impl Kind {
    fn windowed(&self, policy: &str) -> String {
        let reports = format!("max_reports_per_window = {}", self.reports_per_window);
        let mut policy = policy.replace("max_reports_per_window = 1000", &reports);
        if self.reports_per_window == 1 {
            policy = policy.replace("batch_window = \"30d\", ", "");
        } else {
            // Where there are windows: shorter than any of them, and over midnight where a test has a batch there.
            let cells = self.batch_window.unwrap_or(if self.window.is_some() { "23h" } else { "30d" });
            policy = policy.replace("batch_window = \"30d\"", &format!("batch_window = \"{cells}\""));
        }
        let Some((window, limit)) = self.window else { return policy };
        policy
            .replace("window = { kind = \"lifetime\" }", &format!("window = {window}"))
            .replace("\nepsilon = \"1\"", &format!("\nepsilon = \"{limit}\""))
    }
}

impl TestTask {
    /// A sum task whose totals leave as they are.
    pub(crate) fn plain() -> Self {
        Self::new(&Kind::default())
    }

    /// A sum task with noise, whose budget lasts for ten releases.
    pub(crate) fn noised() -> Self {
        Self::new(&Kind { epsilon: Some("1/10"), ..Kind::default() })
    }

    pub(crate) fn new(kind: &Kind) -> Self {
        let policy = match kind.epsilon {
            // A client is in one batch only where it cannot know which of its reports share one.
            Some(epsilon) if kind.batch_mode == BatchMode::TimeInterval => {
                Policy::for_demo_with_clients(LABEL, &kind.vdaf, kind.min_batch_size, epsilon)
            }
            Some(epsilon) => Policy::for_demo(LABEL, &kind.vdaf, kind.min_batch_size, epsilon),
            None => Policy::for_release_without_dp("these are tests", "2199-01-01"),
        };
        let policy = kind.windowed(&policy);
        let parsed = Policy::parse("policy.toml", &policy).expect("the policy of a test is valid");
        let facts = TaskFacts::new(LABEL, &kind.vdaf, kind.min_batch_size);
        let task_info = match parsed.release_for(&facts).expect("the policy covers the task") {
            Decision::Release(plan) => plan.statement().task_info(LABEL).expect("a short label"),
            Decision::WithoutDp(_) => LABEL.as_bytes().to_vec(),
        };
        let parameters = TaskParameters {
            task_info,
            leader_url: "https://leader.example/api/dap/".to_owned(),
            helper_url: kind.helper_url.clone(),
            time_precision: TimePrecision::new(kind.precision).expect("not zero"),
            min_batch_size: kind.min_batch_size,
            batch_mode: kind.batch_mode,
            vdaf: kind.vdaf.clone(),
            task_interval: kind.task_interval,
        };
        let configuration = parameters.build(kind.draft).expect("the configuration of a test is valid");
        let derived = kind.derived_id.then(|| configuration.derived_task_id());
        Self {
            id: derived.unwrap_or_else(|| TaskId::random(&mut rand::rng())),
            draft: kind.draft,
            configuration,
            verify_key: rand::random(),
            collector: HpkeKeypair::generate(7, &mut rand::rng()),
            batch_target_size: kind.batch_target_size,
            aggregation_parameter: parameter_of(&kind.vdaf, kind.prefixes).unwrap_or_default(),
            policy,
        }
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy::parse("policy.toml", &self.policy).expect("the policy of a test is valid")
    }

    pub(crate) fn file(&self, role: Role) -> TaskFile {
        let tokens = match role {
            Role::Leader => Tokens::Leader {
                to_helper: Some(Bearer::new(LEADER_TOKEN).expect("a token")),
                of_collector: TokenHash::of(COLLECTOR_TOKEN).into(),
            },
            Role::Helper => Tokens::Helper { of_leader: TokenHash::of(LEADER_TOKEN).into() },
        };
        TaskFile {
            role,
            task_id: self.id,
            draft: self.draft,
            configuration: self.configuration.clone(),
            verify_key: Zeroizing::new(self.verify_key),
            verification_key_id: 0,
            collector: self.collector.config.clone(),
            tokens,
            batch_target_size: self.batch_target_size.filter(|_| role == Role::Leader),
            aggregation_parameter: match role {
                Role::Leader => self.aggregation_parameter.clone(),
                Role::Helper => Vec::new(),
            },
        }
    }
}
