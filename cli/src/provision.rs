//! Makes a task: from a few parameters and a policy to what each party must be told, and no party more.
//!
//! Before the first report: the leader and the helper each get a task file with the tokens of its own side, the
//! collector gets its private key, and clients get only what is public. Whoever runs this holds every secret
//! for as long as it takes to write the files, so in earnest each party should make its own part.

use mica_aggregator::Role;
use mica_aggregator::auth::{Bearer, TokenHash};
use mica_aggregator::task_file::{TaskFile, Tokens};
use mica_collector::{CollectorTask, Guarantee};
use mica_dap::Draft;
use mica_dap::hpke::HpkeKeypair;
use mica_dap::id::{TaskId, to_base64url};
use mica_dap::task::{BatchMode, TaskConfiguration, TaskParameters};
use mica_dap::taskprov::{LONGEST_VALUE, header_value};
use mica_dap::time::{Interval, TimePrecision};
use mica_dap::vdaf::parameter_of;
use mica_dap::vdaf_config::VdafConfig;
use mica_dp::{Decision, Mechanism, Policy, TaskFacts};
use mica_service::http::Peer;
use mica_service::secret::Secret;
use rand::RngExt as _;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::exit::{Exit, Failure};

/// What a task is to be.
#[derive(Clone, Debug)]
pub(crate) struct TaskSpec {
    /// What people call it, and what the policy matches.
    pub(crate) label: String,
    /// The leader's base URL.
    pub(crate) leader_url: String,
    /// The helper's base URL.
    pub(crate) helper_url: String,
    /// The draft it speaks.
    pub(crate) draft: Draft,
    /// What is computed.
    pub(crate) vdaf: VdafConfig,
    /// The length of one unit of time.
    pub(crate) time_precision_seconds: u64,
    /// No smaller batch is released.
    pub(crate) min_batch_size: u64,
    /// How reports are put into batches.
    pub(crate) batch_mode: BatchMode,
    /// Where the leader selects the batches: how many reports it puts in one, if not the minimum.
    pub(crate) batch_target_size: Option<u64>,
    /// When reports are taken, if that is limited; in units of the time precision.
    pub(crate) task_interval: Option<Interval>,
    /// With Poplar1: the prefixes that are counted.
    pub(crate) prefixes: Vec<String>,
}

/// A task with everything that its parties must be told.
pub(crate) struct Provisioned {
    /// Its name: random.
    pub(crate) task_id: TaskId,
    /// What all parties agree on, byte for byte.
    pub(crate) configuration: TaskConfiguration,
    /// For the leader only.
    pub(crate) leader: TaskFile,
    /// For the helper only.
    pub(crate) helper: TaskFile,
    /// For the collector only.
    pub(crate) collector: CollectorTask,
    /// The token that the leader shows to the helper.
    pub(crate) leader_to_helper: Secret<String>,
}

/// Makes a task under `policy`, with fresh keys and tokens from the operating system.
///
/// # Errors
/// When a parameter is out of bounds, or the policy does not cover the task.
pub(crate) fn provision(spec: &TaskSpec, policy: &Policy) -> Result<Provisioned, Failure> {
    let mut rng = rand::rng();
    check(spec)?;
    let aggregation_parameter = parameter_of(&spec.vdaf, &spec.prefixes).map_err(Failure::usage)?;
    let (task_info, promise) = bind(spec, policy)?;
    let configuration = configure(spec, task_info)?;
    let task_id = TaskId::random(&mut rng);
    let verify_key = Zeroizing::new(rng.random::<[u8; 32]>());
    let verification_key_id = 0;
    let leader_to_helper = token(&mut rng);
    let collector_to_leader = token(&mut rng);
    let keypair = HpkeKeypair::generate(rng.random(), &mut rng);
    let guarantee = promise.guarantee_of(&configuration)?;
    let file = |role, tokens| TaskFile {
        role,
        task_id,
        draft: spec.draft,
        configuration: configuration.clone(),
        verify_key: verify_key.clone(),
        verification_key_id,
        collector: keypair.config.clone(),
        tokens,
        batch_target_size: spec.batch_target_size.filter(|_| role == Role::Leader),
        aggregation_parameter: match role {
            Role::Leader => aggregation_parameter.clone(),
            Role::Helper => Vec::new(),
        },
    };
    let to_helper =
        Bearer::new(leader_to_helper.expose()).expect("base64url has only letters a bearer token may have");
    let of_collector = TokenHash::of(collector_to_leader.expose()).into();
    let of_leader = TokenHash::of(leader_to_helper.expose()).into();
    let leader = file(Role::Leader, Tokens::Leader { to_helper: Some(to_helper), of_collector });
    let helper = file(Role::Helper, Tokens::Helper { of_leader });
    let collector = CollectorTask {
        task_id,
        draft: spec.draft,
        configuration: configuration.clone(),
        token: collector_to_leader,
        keypair,
        mechanism: promise.mechanism,
        guarantee,
        aggregation_parameter,
    };
    Ok(Provisioned { task_id, configuration, leader, helper, collector, leader_to_helper })
}

/// Makes a task that comes to the aggregators with requests (taskprov): its name follows from its configuration, and the
/// collector's key and token are those that were agreed on before there was any task.
///
/// # Errors
/// As [`provision`], and when a configuration cannot say all that such a task needs.
pub(crate) fn advertise(
    spec: &TaskSpec,
    policy: &Policy,
    agreed: CollectorTask,
) -> Result<CollectorTask, Failure> {
    check(spec)?;
    if matches!(spec.vdaf, VdafConfig::Poplar1 { .. }) || spec.batch_target_size.is_some() {
        return Err(Failure::usage(
            "prefixes and a batch target size are told to the leader alone, and a task that comes with requests is not; \
             leave --taskprov out",
        ));
    }
    if spec.task_interval.is_none() {
        return Err(Failure::usage(
            "a task that comes with requests is taken for a limited time only; add --task-interval START:DURATION",
        ));
    }
    let (task_info, promise) = bind(spec, policy)?;
    let configuration = configure(spec, task_info)?;
    if header_value(&configuration).len() > LONGEST_VALUE {
        return Err(Failure::usage("the configuration is too long for a header; use shorter URLs"));
    }
    let CollectorTask { token, keypair, .. } = agreed;
    Ok(CollectorTask {
        task_id: configuration.derived_task_id(),
        guarantee: promise.guarantee_of(&configuration)?,
        draft: spec.draft,
        configuration,
        token,
        keypair,
        mechanism: promise.mechanism,
        aggregation_parameter: Vec::new(),
    })
}

/// What is wrong with the parameters by themselves, before any policy is asked.
fn check(spec: &TaskSpec) -> Result<(), Failure> {
    if spec.label.is_empty() {
        return Err(Failure::usage("a task needs a label; give it a name such as page-load/2026"));
    }
    let leader = Peer::parse(&spec.leader_url).map_err(Failure::usage)?;
    let helper = Peer::parse(&spec.helper_url).map_err(Failure::usage)?;
    if leader.origin() == helper.origin() {
        return Err(Failure::usage(
            "leader and helper have the same address, so one party would hold both shares of every report; \
             let another organisation run the helper",
        ));
    }
    spec.vdaf.instantiate().map_err(Failure::usage)?;
    check_target(spec)
}

fn check_target(spec: &TaskSpec) -> Result<(), Failure> {
    match spec.batch_target_size {
        Some(_) if spec.batch_mode != BatchMode::LeaderSelected => Err(Failure::usage(
            "--batch-target-size is for --batch-mode leader_selected; a batch of time has the reports of that time",
        )),
        Some(target) if target < spec.min_batch_size => Err(Failure::usage(format!(
            "a batch of {target} reports would never be released; --batch-target-size must be at least the minimum \
             batch size, {}",
            spec.min_batch_size
        ))),
        _ => Ok(()),
    }
}

/// What the collector is told of the noise: nothing where there is none.
struct Promise {
    mechanism: Option<Mechanism>,
    guarantee: Option<Value>,
}

impl Promise {
    /// The guarantee as the collector's file has it: a file with noise and without one would be refused when it is read.
    fn guarantee_of(&self, task: &TaskConfiguration) -> Result<Option<Guarantee>, Failure> {
        let guarantee = self.guarantee.clone().map(|json| Guarantee::of(json, task));
        guarantee.transpose().map_err(Failure::invalid)
    }
}

/// The `task_info` that ties the task to its release statement, and what follows from it.
fn bind(spec: &TaskSpec, policy: &Policy) -> Result<(Vec<u8>, Promise), Failure> {
    let facts = TaskFacts {
        time_precision: Some(spec.time_precision_seconds),
        batch_mode: Some(spec.batch_mode),
        ..TaskFacts::new(&spec.label, &spec.vdaf, spec.min_batch_size)
    };
    match policy.release_for(&facts).map_err(|refusal| Failure::new(Exit::Refused, refusal))? {
        Decision::Release(plan) => {
            let info = plan.statement().task_info(&spec.label).map_err(Failure::usage)?;
            let promise =
                Promise { mechanism: Some(plan.mechanism().clone()), guarantee: Some(plan.export()) };
            Ok((info, promise))
        }
        Decision::WithoutDp(_) => {
            let promise = Promise { mechanism: None, guarantee: None };
            Ok((spec.label.clone().into_bytes(), promise))
        }
    }
}

fn configure(spec: &TaskSpec, task_info: Vec<u8>) -> Result<TaskConfiguration, Failure> {
    let time_precision = TimePrecision::new(spec.time_precision_seconds)
        .ok_or_else(|| Failure::usage("a time precision of 0 seconds puts no report anywhere; use 3600"))?;
    let parameters = TaskParameters {
        task_info,
        leader_url: spec.leader_url.clone(),
        helper_url: spec.helper_url.clone(),
        time_precision,
        min_batch_size: spec.min_batch_size,
        batch_mode: spec.batch_mode,
        vdaf: spec.vdaf.clone(),
        task_interval: spec.task_interval,
    };
    parameters.build(spec.draft).map_err(Failure::usage)
}

/// 32 random bytes in letters that fit a header.
fn token(rng: &mut impl rand::CryptoRng) -> Secret<String> {
    let bytes = Zeroizing::new(rng.random::<[u8; 32]>());
    Secret::new(to_base64url(bytes.as_slice()))
}
