//! Tasks as they were provisioned, and the lock that orders collecting a task after adding to it.
//!
//! Holds the verification key and the token for the peer: rows have no `Debug`.

use std::fmt;
use std::str::FromStr;

use mica_dap::Draft;
use mica_dap::id::TaskId;
use mica_service::store::{Fields, StoreError, Tx, signed};
use sqlx::any::AnyRow;
use zeroize::Zeroizing;

use super::columns;
use super::locks::{self, Lock};

/// Which of the two aggregators this process is for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes reports in and drives their verification.
    Leader,
    /// Answers the leader.
    Helper,
}

/// A task as an operator provisions it.
#[derive(Clone, PartialEq, Eq)]
pub struct NewTask {
    /// The identifier that peers use.
    pub task_id: TaskId,
    /// Which of the two aggregators this is.
    pub role: Role,
    /// The draft the task speaks.
    pub draft: Draft,
    /// The task configuration, byte for byte.
    pub configuration: Vec<u8>,
    /// The key both aggregators verify reports with.
    pub verify_key: Zeroizing<Vec<u8>>,
    /// The number peers name that key by.
    pub verification_key_id: u64,
    /// The collector's HPKE configuration, encoded.
    pub collector_hpke_config: Vec<u8>,
    /// Leader: the bearer token it shows to the helper.
    pub peer_token: Option<Zeroizing<String>>,
    /// Helper: SHA-256 of the bearer token it expects from the leader.
    pub peer_token_hash: Option<[u8; 32]>,
    /// Leader: SHA-256 of the bearer token it expects from the collector.
    pub collector_token_hash: Option<[u8; 32]>,
    /// When the task was given to this aggregator; not compared when it is given again.
    pub created_at: u64,
}

/// A stored task.
#[derive(Clone, PartialEq, Eq)]
pub struct TaskRow {
    /// The key that other tables use.
    pub key: i64,
    /// What was provisioned.
    pub task: NewTask,
}

/// Stores a task and returns its key. The same task again is the same task; another task under the same
/// identifier is a `Conflict`.
pub async fn insert_task(tx: &mut Tx, task: &NewTask) -> Result<i64, StoreError> {
    sqlx::query(
        "-- insert_task
         INSERT INTO tasks (task_id, role, draft, configuration, verify_key, verification_key_id,
             collector_hpke_config, peer_token, peer_token_hash, collector_token_hash, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         ON CONFLICT (task_id) DO NOTHING",
    )
    .bind(task.task_id.as_bytes().as_slice())
    .bind(task.role.as_str())
    .bind(task.draft.to_string())
    .bind(task.configuration.as_slice())
    .bind(task.verify_key.as_slice())
    .bind(signed(task.verification_key_id)?)
    .bind(task.collector_hpke_config.as_slice())
    .bind(task.peer_token.as_ref().map(|token| token.as_str()))
    .bind(task.peer_token_hash.as_ref().map(<[u8; 32]>::as_slice))
    .bind(task.collector_token_hash.as_ref().map(<[u8; 32]>::as_slice))
    .bind(signed(task.created_at)?)
    .execute(tx.connection())
    .await?;
    let conflict = || StoreError::Conflict {
        constraint: "a task with this identifier exists and has other contents".to_owned(),
    };
    let stored = task_by_id(tx, &task.task_id).await?.ok_or_else(conflict)?;
    let same = NewTask { created_at: stored.task.created_at, ..task.clone() } == stored.task;
    same.then_some(stored.key).ok_or_else(conflict)
}

/// The task of that identifier.
pub async fn task_by_id(tx: &mut Tx, task_id: &TaskId) -> Result<Option<TaskRow>, StoreError> {
    let row = sqlx::query(
        "-- task_by_id
         SELECT * FROM tasks WHERE task_id = $1",
    )
    .bind(task_id.as_bytes().as_slice())
    .fetch_optional(tx.connection())
    .await?;
    row.as_ref().map(read).transpose()
}

/// Every task, in the order they were provisioned.
pub async fn all_tasks(tx: &mut Tx) -> Result<Vec<TaskRow>, StoreError> {
    let rows = sqlx::query(
        "-- all_tasks
         SELECT * FROM tasks ORDER BY id",
    )
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(read).collect()
}

/// Waits until nobody adds to the task and nobody else collects it, and keeps it so until the transaction
/// ends: for whoever closes an interval.
pub async fn lock_task(tx: &mut Tx, task: i64) -> Result<(), StoreError> {
    locks::exclusive(tx, Lock::Task(task)).await
}

/// Waits until nobody collects the task, and keeps it so until the transaction ends: for whoever adds
/// reports, output shares or both. Any number may share.
pub async fn share_task(tx: &mut Tx, task: i64) -> Result<(), StoreError> {
    locks::shared(tx, Lock::Task(task)).await
}

fn read(row: &AnyRow) -> Result<TaskRow, StoreError> {
    let fields = Fields::of("tasks", row);
    let task = NewTask {
        task_id: TaskId::new(fields.array("task_id")?),
        role: fields.parsed("role")?,
        draft: fields.parsed("draft")?,
        configuration: fields.bytes("configuration")?,
        verify_key: Zeroizing::new(fields.bytes("verify_key")?),
        verification_key_id: fields.unsigned("verification_key_id")?,
        collector_hpke_config: fields.bytes("collector_hpke_config")?,
        peer_token: fields.column::<Option<String>>("peer_token")?.map(Zeroizing::new),
        peer_token_hash: columns::optional_array(&fields, "peer_token_hash")?,
        collector_token_hash: columns::optional_array(&fields, "collector_token_hash")?,
        created_at: fields.unsigned("created_at")?,
    };
    Ok(TaskRow { key: fields.integer("id")?, task })
}

impl Role {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Helper => "helper",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = columns::UnknownState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        columns::state(text, &[Self::Leader, Self::Helper], Self::as_str)
    }
}
