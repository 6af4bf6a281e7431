//! One task as one aggregator runs it: the agreed configuration, the keys and tokens of this side, and what the policy
//! decided about its releases.
//!
//! Resolved once, when it is loaded. A task that the policy does not cover, or whose statement is another one than the
//! configuration is bound to, never gets as far as taking a report.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use mica_dap::Draft;
use mica_dap::hpke_config::HpkeConfig;
use mica_dap::id::TaskId;
use mica_dap::task::TaskConfiguration;
use mica_dap::taskprov;
use mica_dap::vdaf::{ShareLengths, Vdaf, VerifyKey, vdaf_context};
use mica_dp::{Decision, Policy, TaskFacts, parse_task_info};
use thiserror::Error;

use crate::auth::Bearer;
use crate::credential::Credential;
use crate::store::tasks::Trial;
pub use crate::store::tasks::{Origin, Role};
use crate::task_file::{TaskFile, Tokens};

/// A task that this process takes part in.
pub struct Task {
    /// Its number in the database.
    pub key: i64,
    /// Its public name.
    pub id: TaskId,
    /// The side this process is on.
    pub role: Role,
    /// The draft it speaks.
    pub draft: Draft,
    /// What all parties agreed, byte for byte.
    pub configuration: TaskConfiguration,
    /// The sharing, verification and sum.
    pub vdaf: Arc<dyn Vdaf>,
    /// How long the shares of a report are.
    pub share_lengths: ShareLengths,
    /// The key of the verification; secret from clients.
    pub verify_key: VerifyKey,
    /// The name of that key on the wire.
    pub verification_key_id: u8,
    /// The VDAF context.
    pub context: Vec<u8>,
    /// The aggregation parameter of all its batches, encoded: one for the task's whole life, because a report is aggregated
    /// once (DAP 4.5.4.3). Empty for the Prio3 family, and at the helper, which is told with every job.
    pub aggregation_parameter: Vec<u8>,
    /// Where aggregate shares are sealed to.
    pub collector: HpkeConfig,
    /// The tokens of this side.
    pub tokens: Tokens,
    /// Where the leader selects the batches: how many reports it puts in one, never fewer than the minimum.
    pub batch_target_size: u64,
    /// How its results may leave: under a release plan of the policy, or without one by written exception.
    pub decision: Decision,
    /// How it came to this aggregator.
    pub origin: Origin,
    /// When its operator ended it; 0 while it is active.
    retired_at: AtomicU64,
    /// Whether it came with an upload, and what followed.
    trial: AtomicI64,
}

impl Task {
    /// The task of `file`, which the database knows as `key`, under `policy`.
    ///
    /// # Errors
    /// When this program cannot run the VDAF with these parameters, when the policy does not cover the task, or when
    /// the configuration is bound to another release statement than the policy's.
    pub fn resolve(key: i64, file: TaskFile, policy: &Policy) -> Result<Self, TaskError> {
        let id = file.task_id;
        let vdaf = file
            .configuration
            .vdaf()
            .instantiate()
            .map_err(|error| TaskError { task: id, why: error.to_string() })?;
        let share_lengths =
            vdaf.share_lengths().map_err(|error| TaskError { task: id, why: error.to_string() })?;
        let decision = decide(id, &file.configuration, policy).map_err(|why| TaskError { task: id, why })?;
        check_parameter(&file, vdaf.as_ref()).map_err(|why| TaskError { task: id, why })?;
        let task = Self {
            key,
            id,
            role: file.role,
            draft: file.draft,
            vdaf,
            share_lengths,
            verify_key: VerifyKey::new(*file.verify_key),
            verification_key_id: file.verification_key_id,
            context: vdaf_context(file.draft, &id),
            batch_target_size: file.batch_target_size.unwrap_or(0).max(file.configuration.min_batch_size()),
            aggregation_parameter: file.aggregation_parameter,
            configuration: file.configuration,
            collector: file.collector,
            tokens: file.tokens,
            decision,
            origin: Origin::Operator,
            retired_at: AtomicU64::new(0),
            trial: AtomicI64::new(Trial::None.number()),
        };
        if task
            .base_path()
            .bytes()
            .all(|letter| letter.is_ascii_alphanumeric() || b"/-._~%".contains(&letter))
        {
            return Ok(task);
        }
        let why = "the path of its endpoint has letters that cannot be served".to_owned();
        Err(TaskError { task: id, why })
    }

    /// The same task, by this way.
    #[must_use]
    pub(crate) fn came_by(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }

    /// Whether it came with an upload, and what is known to have followed.
    pub(crate) fn trial(&self) -> Trial {
        Trial::of(self.trial.load(Ordering::Relaxed))
    }

    /// What the database says about that.
    pub(crate) fn set_trial(&self, trial: Trial) {
        self.trial.store(trial.number(), Ordering::Relaxed);
    }

    /// What the leader says of the task in every request to the helper, if the task can be advertised.
    pub fn advertisement(&self) -> Option<http::HeaderValue> {
        let value = taskprov::advertisement(&self.id, &self.configuration)?;
        http::HeaderValue::from_str(&value).ok()
    }

    /// Whether its operator has ended it: no report is taken any more, what was taken is still added and collected.
    pub fn is_retired(&self) -> bool {
        self.retired_at.load(Ordering::Relaxed) != 0
    }

    /// What the database says about its end.
    pub(crate) fn set_retired(&self, retired_at: Option<u64>) {
        self.retired_at.store(retired_at.map_or(0, |at| at.max(1)), Ordering::Relaxed);
    }

    /// What callers must show: the collector at the leader, the leader at the helper.
    pub fn expected(&self) -> &Credential {
        match &self.tokens {
            Tokens::Leader { of_collector, .. } => of_collector,
            Tokens::Helper { of_leader } => of_leader,
        }
    }

    /// The token to present to the helper; nothing at the helper, and where it knows the leader by a certificate.
    pub fn token_to_helper(&self) -> Option<&Bearer> {
        match &self.tokens {
            Tokens::Leader { to_helper, .. } => to_helper.as_ref(),
            Tokens::Helper { .. } => None,
        }
    }

    /// This side's endpoint, as configured.
    pub fn endpoint(&self) -> &str {
        match self.role {
            Role::Leader => self.configuration.leader_url(),
            Role::Helper => self.configuration.helper_url(),
        }
    }

    /// The path under which this side serves the task's resources: `/api/dap/`, or `/`. Ends in a slash.
    pub fn base_path(&self) -> String {
        base_path(self.endpoint())
    }
}

/// Why a task cannot be served, in a sentence for the operator.
#[derive(Debug, Error)]
#[error("task {task} cannot be served: {why}")]
pub struct TaskError {
    /// Which task.
    pub task: TaskId,
    /// Why.
    pub why: String,
}

/// Whether a leader knows what to count: without it, reports would be taken that nobody can ever add up.
fn check_parameter(file: &TaskFile, vdaf: &dyn Vdaf) -> Result<(), String> {
    if file.role == Role::Helper || vdaf.check_aggregation_parameter(&file.aggregation_parameter).is_ok() {
        return Ok(());
    }
    let name = file.configuration.vdaf().name();
    Err(if file.aggregation_parameter.is_empty() {
        format!(
            "a leader must know which prefixes {name} is to count; name them as `prefixes` in its task file"
        )
    } else {
        format!("its aggregation parameter is none of {name}; make a new task")
    })
}

/// What the policy says about the task, provided that it is what every report of the task is bound to.
pub(crate) fn decide(
    id: TaskId,
    configuration: &TaskConfiguration,
    policy: &Policy,
) -> Result<Decision, String> {
    let bound = parse_task_info(configuration.task_info());
    let unbound = String::from_utf8_lossy(configuration.task_info());
    let label = bound.map_or(&*unbound, |(label, _)| label);
    let facts = TaskFacts {
        id: Some(id),
        time_precision: Some(configuration.time_precision().seconds()),
        batch_mode: Some(configuration.batch_mode()),
        ..TaskFacts::new(label, configuration.vdaf(), configuration.min_batch_size())
    };
    let decision = policy.release_for(&facts).map_err(|refusal| refusal.to_string())?;
    match (&decision, bound) {
        (Decision::Release(plan), Some((_, hash))) if hash == plan.statement().sha256() => Ok(decision),
        (Decision::WithoutDp(_), None) => Ok(decision),
        (Decision::Release(plan), Some((_, hash))) => Err(format!(
            "its configuration is bound to the release statement {}, but the policy's is {}; \
             restore the policy the task was made with, or make a new task",
            hex::encode(hash),
            plan.statement().sha256_hex(),
        )),
        (Decision::Release(_), None) => {
            Err("its configuration is bound to no release statement; make a new task under this policy".to_owned())
        }
        (Decision::WithoutDp(_), Some(_)) => Err(
            "its configuration promises noise, but the policy releases it without; make a new task under this policy"
                .to_owned(),
        ),
    }
}

/// The path of a URL with a slash at its end; what comes before it is another's to check.
pub(crate) fn base_path(url: &str) -> String {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = after_scheme.split_once('/').map_or("", |(_, path)| path);
    let path = path.split(['?', '#']).next().unwrap_or_default().trim_matches('/');
    if path.is_empty() { "/".to_owned() } else { format!("/{path}/") }
}

#[cfg(test)]
mod tests {
    use super::base_path;

    #[test]
    fn resources_live_under_the_path_of_the_endpoint() {
        for (url, path) in [
            ("https://example.com", "/"),
            ("https://example.com/", "/"),
            ("https://example.com:1/api/dap/", "/api/dap/"),
            ("http://[::1]:8/api/dap", "/api/dap/"),
        ] {
            assert_eq!(base_path(url), path, "{url}");
        }
    }
}
