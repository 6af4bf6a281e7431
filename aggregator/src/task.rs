//! One task as one aggregator runs it: the agreed configuration, the keys and tokens of this side, and what the policy
//! decided about its releases.
//!
//! Resolved once, at start. A task that the policy does not cover, or whose statement is another one than the
//! configuration is bound to, never gets as far as taking a report.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use mica_dap::Draft;
use mica_dap::hpke::HpkeConfig;
use mica_dap::id::TaskId;
use mica_dap::task::TaskConfiguration;
use mica_dap::vdaf::{Vdaf, VerifyKey, vdaf_context};
use thiserror::Error;

use crate::auth::{Bearer, TokenHash};
use crate::task_file::{TaskFile, Tokens};

/// Which of the two aggregators this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Takes uploads and drives.
    Leader,
    /// Answers the leader.
    Helper,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leader => "leader",
            Self::Helper => "helper",
        })
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        match text {
            "leader" => Ok(Self::Leader),
            "helper" => Ok(Self::Helper),
            _ => Err(UnknownRole),
        }
    }
}

/// The text names neither aggregator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a role is leader or helper")]
pub struct UnknownRole;

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
    /// The key of the verification; secret from clients.
    pub verify_key: VerifyKey,
    /// The name of that key on the wire.
    pub verification_key_id: u8,
    /// The VDAF context.
    pub context: Vec<u8>,
    /// Where aggregate shares are sealed to.
    pub collector: HpkeConfig,
    /// The tokens of this side.
    pub tokens: Tokens,
    /// How its results may leave: under a release plan of the policy, or without one by written exception.
    pub decision: Decision,
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
        let decision = decide(&file, policy).map_err(|why| TaskError { task: id, why })?;
        Ok(Self {
            key,
            id,
            role: file.role,
            draft: file.draft,
            vdaf,
            verify_key: VerifyKey::new(*file.verify_key),
            verification_key_id: file.verification_key_id,
            context: vdaf_context(file.draft, &id),
            configuration: file.configuration,
            collector: file.collector,
            tokens: file.tokens,
            decision,
        })
    }

    /// What is known of the token that callers must present: the collector's at the leader, the leader's at the helper.
    pub fn expected_token(&self) -> &TokenHash {
        match &self.tokens {
            Tokens::Leader { of_collector, .. } => of_collector,
            Tokens::Helper { of_leader } => of_leader,
        }
    }

    /// The token to present to the helper; nothing at the helper.
    pub fn token_to_helper(&self) -> Option<&Bearer> {
        match &self.tokens {
            Tokens::Leader { to_helper, .. } => Some(to_helper),
            Tokens::Helper { .. } => None,
        }
    }

    /// The path under which this side serves the task's resources: `/api/dap/`, or `/`. Ends in a slash.
    pub fn base_path(&self) -> String {
        let url = match self.role {
            Role::Leader => self.configuration.leader_url(),
            Role::Helper => self.configuration.helper_url(),
        };
        base_path(url)
    }
}

/// The tasks of one process, by their names.
#[derive(Default)]
pub struct Tasks {
    by_id: HashMap<TaskId, Arc<Task>>,
}

impl Tasks {
    /// A registry of these tasks.
    pub fn new(tasks: impl IntoIterator<Item = Task>) -> Self {
        Self { by_id: tasks.into_iter().map(|task| (task.id, Arc::new(task))).collect() }
    }

    /// The task of this name.
    pub fn by_id(&self, id: &TaskId) -> Option<&Arc<Task>> {
        self.by_id.get(id)
    }

    /// The task with this number in the database.
    pub fn by_key(&self, key: i64) -> Option<&Arc<Task>> {
        self.by_id.values().find(|task| task.key == key)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.by_id.values()
    }

    /// The distinct base paths of the tasks, `/` always among them.
    pub fn base_paths(&self) -> BTreeSet<String> {
        self.iter().map(|task| task.base_path()).chain(["/".to_owned()]).collect()
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
