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

/// How a task came to this aggregator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// By its operator: a task file, a command or the admin API.
    Operator,
    /// By a request that advertised it and showed a credential.
    Taskprov,
    /// By an upload that advertised it, which anybody can make.
    Upload,
}

/// What is known of a task that came with an upload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trial {
    /// Whoever has the credential for it has spoken of the task, or it never was on trial.
    #[default]
    None,
    /// No report of it was verified by both aggregators yet: it is forgotten soon.
    Running,
    /// A report of it was verified by both: it is kept, and counts among those that came with uploads.
    Passed,
}

/// How many tasks were advertised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advertised {
    /// All that are not forgotten.
    pub all: u64,
    /// Those of them that came lately.
    pub lately: u64,
    /// Those that came with uploads.
    pub uploaded: u64,
    /// Those of them that came lately.
    pub uploaded_lately: u64,
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
    /// Helper: the certificates it knows the leader by.
    pub peer_certificates: Option<String>,
    /// Leader: the certificates it knows the collector by.
    pub collector_certificates: Option<String>,
    /// Leader, where it selects the batches: how many reports it puts in one.
    pub batch_target_size: Option<u64>,
    /// Leader: the aggregation parameter of all its batches, encoded; empty where the VDAF takes none.
    pub aggregation_parameter: Vec<u8>,
    /// How the task came; not compared when it is given again.
    pub origin: Origin,
    /// When the task is forgotten, if ever; not compared either.
    pub expires_at: Option<u64>,
    /// When the task was given to this aggregator; not compared either.
    pub created_at: u64,
}

/// A stored task.
#[derive(Clone, PartialEq, Eq)]
pub struct TaskRow {
    /// The key that other tables use.
    pub key: i64,
    /// What was provisioned.
    pub task: NewTask,
    /// When its operator ended it.
    pub retired_at: Option<u64>,
    /// Whether it came with an upload, and what followed.
    pub trial: Trial,
}

/// What became of a task that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The key that other tables use.
    pub key: i64,
    /// Whether the task was not there before.
    pub is_new: bool,
}

/// What changes whenever a task is added, forgotten or retired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    tasks: u64,
    newest: i64,
    retired: u64,
}

/// Stores a task. The same task again is the same task, and the operator's if it is he who gives it; another task under
/// the same identifier is a `Conflict`.
pub async fn insert_task(tx: &mut Tx, task: &NewTask) -> Result<Stored, StoreError> {
    let inserted = sqlx::query(
        "-- insert_task
         INSERT INTO tasks (task_id, role, draft, configuration, verify_key, verification_key_id,
             collector_hpke_config, peer_token, peer_token_hash, collector_token_hash, origin, expires_at, created_at,
             batch_target_size, peer_certificates, collector_certificates, aggregation_parameter, upload_trial)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
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
    .bind(task.origin.as_str())
    .bind(task.expires_at.map(signed).transpose()?)
    .bind(signed(task.created_at)?)
    .bind(task.batch_target_size.map(signed).transpose()?)
    .bind(task.peer_certificates.as_deref())
    .bind(task.collector_certificates.as_deref())
    .bind(Some(task.aggregation_parameter.as_slice()).filter(|parameter| !parameter.is_empty()))
    .bind(if task.origin == Origin::Upload { Trial::Running.number() } else { Trial::None.number() })
    .execute(tx.connection())
    .await?
    .rows_affected();
    let conflict = || StoreError::Conflict {
        constraint: "a task with this identifier exists and has other contents".to_owned(),
    };
    let stored = task_by_id(tx, &task.task_id).await?.ok_or_else(conflict)?;
    let NewTask { origin, expires_at, created_at, .. } = stored.task;
    let same = NewTask { origin, expires_at, created_at, ..task.clone() } == stored.task;
    if !same {
        return Err(conflict());
    }
    let is_new = columns::found(inserted);
    if is_new {
        tx.wake(CHANGED);
    } else if task.origin == Origin::Operator && stored.task.origin != Origin::Operator {
        adopt(tx, stored.key).await?;
        tx.wake(CHANGED);
    }
    Ok(Stored { key: stored.key, is_new })
}

/// Makes a task that came with a request one of the operator's: it is on trial no more, and is never forgotten.
async fn adopt(tx: &mut Tx, task: i64) -> Result<(), StoreError> {
    sqlx::query(
        "-- adopt_task
         UPDATE tasks SET origin = 'operator', expires_at = NULL, upload_trial = 0 WHERE id = $1",
    )
    .bind(task)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Keeps a task that came with an upload until then: while reports of it wait, after one was verified, or for good after
/// whoever has its credential spoke of it. What is known of its trial now; nothing if the task is gone.
pub async fn keep(
    tx: &mut Tx,
    task: i64,
    trial: Trial,
    expires_at: u64,
) -> Result<Option<Trial>, StoreError> {
    let row = sqlx::query(
        "-- keep_uploaded_task
         UPDATE tasks SET expires_at = CASE WHEN origin = 'operator' THEN expires_at ELSE $2 END,
             upload_trial = CASE WHEN upload_trial = 1 OR $3 = 0 THEN $3 ELSE upload_trial END
         WHERE id = $1 RETURNING upload_trial",
    )
    .bind(task)
    .bind(signed(expires_at)?)
    .bind(trial.number())
    .fetch_optional(tx.connection())
    .await?;
    row.map(|row| Ok(Trial::of(Fields::of("tasks", &row).integer("upload_trial")?))).transpose()
}

/// Lets a task be forgotten `seconds` after it came, if it is on trial and no report of it waits. The caller holds the
/// lock of the task.
pub async fn let_go(tx: &mut Tx, task: i64, seconds: u64) -> Result<(), StoreError> {
    sqlx::query(
        "-- let_go_of_task_on_trial
         UPDATE tasks SET expires_at = created_at + $2
         WHERE id = $1 AND upload_trial = 1 AND NOT EXISTS (SELECT 1 FROM segments WHERE task = $1)",
    )
    .bind(task)
    .bind(signed(seconds)?)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Whether there is no such task, or it is to be remembered no more.
pub async fn is_forgotten(tx: &mut Tx, task: i64, now: u64) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "-- task_is_remembered
         SELECT id FROM tasks WHERE id = $1 AND (expires_at IS NULL OR expires_at > $2)",
    )
    .bind(task)
    .bind(signed(now)?)
    .fetch_optional(tx.connection())
    .await?;
    Ok(row.is_none())
}

/// Removes the tasks that came with uploads and never had a report that was verified, once they are forgotten. What
/// names them is removed before: [`super::report_ids::remove_untried`] and [`super::tallies::remove_untried`].
pub async fn remove_untried(tx: &mut Tx, now: u64) -> Result<(), StoreError> {
    sqlx::query(
        "-- remove_untried_tasks
         DELETE FROM tasks WHERE upload_trial = 1 AND expires_at <= $1",
    )
    .bind(signed(now)?)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Ends a task, unless it is ended already. Whether this did it.
pub async fn retire(tx: &mut Tx, task: i64, now: u64) -> Result<bool, StoreError> {
    let retired = sqlx::query(
        "-- retire_task
         UPDATE tasks SET retired_at = $2 WHERE id = $1 AND retired_at IS NULL",
    )
    .bind(task)
    .bind(signed(now)?)
    .execute(tx.connection())
    .await?
    .rows_affected();
    if columns::found(retired) {
        tx.wake(CHANGED);
    }
    Ok(columns::found(retired))
}

/// The mark of the tasks as they are now: as long as it is the same, so are they.
pub async fn mark(tx: &mut Tx, now: u64) -> Result<Mark, StoreError> {
    let row = sqlx::query(
        "-- mark_of_tasks
         SELECT COUNT(*) AS tasks, COALESCE(MAX(id), 0) AS newest, COUNT(retired_at) AS retired
         FROM tasks WHERE expires_at IS NULL OR expires_at > $1",
    )
    .bind(signed(now)?)
    .fetch_one(tx.connection())
    .await?;
    let fields = Fields::of("tasks", &row);
    Ok(Mark {
        tasks: fields.unsigned("tasks")?,
        newest: fields.integer("newest")?,
        retired: fields.unsigned("retired")?,
    })
}

/// The keys of the tasks that are not forgotten yet, each with when it was ended.
pub async fn states(tx: &mut Tx, now: u64) -> Result<Vec<(i64, Option<u64>)>, StoreError> {
    let rows = sqlx::query(
        "-- states_of_tasks
         SELECT id, retired_at FROM tasks WHERE expires_at IS NULL OR expires_at > $1 ORDER BY id",
    )
    .bind(signed(now)?)
    .fetch_all(tx.connection())
    .await?;
    rows.iter()
        .map(|row| {
            let fields = Fields::of("tasks", row);
            Ok((fields.integer("id")?, fields.optional_unsigned("retired_at")?))
        })
        .collect()
}

/// How many tasks were advertised and are not forgotten, and how many of them came after `since`.
pub async fn advertised(tx: &mut Tx, now: u64, since: u64) -> Result<Advertised, StoreError> {
    let row = sqlx::query(
        "-- count_advertised_tasks
         SELECT COUNT(*) AS tasks, COUNT(CASE WHEN created_at > $2 THEN 1 END) AS lately,
             COUNT(CASE WHEN upload_trial > 0 THEN 1 END) AS uploaded,
             COUNT(CASE WHEN upload_trial > 0 AND created_at > $2 THEN 1 END) AS uploaded_lately
         FROM tasks WHERE origin = 'taskprov' AND (expires_at IS NULL OR expires_at > $1)",
    )
    .bind(signed(now)?)
    .bind(signed(since)?)
    .fetch_one(tx.connection())
    .await?;
    let fields = Fields::of("tasks", &row);
    Ok(Advertised {
        all: fields.unsigned("tasks")?,
        lately: fields.unsigned("lately")?,
        uploaded: fields.unsigned("uploaded")?,
        uploaded_lately: fields.unsigned("uploaded_lately")?,
    })
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

/// The task with this key.
pub async fn task_by_key(tx: &mut Tx, key: i64) -> Result<Option<TaskRow>, StoreError> {
    let row = sqlx::query(
        "-- task_by_key
         SELECT * FROM tasks WHERE id = $1",
    )
    .bind(key)
    .fetch_optional(tx.connection())
    .await?;
    row.as_ref().map(read).transpose()
}

/// The first `most` tasks after the key `after`, in the order they were provisioned.
pub async fn page(tx: &mut Tx, after: i64, most: u32) -> Result<Vec<TaskRow>, StoreError> {
    let rows = sqlx::query(
        "-- page_of_tasks
         SELECT * FROM tasks WHERE id > $1 ORDER BY id LIMIT $2",
    )
    .bind(after)
    .bind(i64::from(most))
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(read).collect()
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
    let trial = Trial::of(fields.integer("upload_trial")?);
    let origin = fields.parsed("origin")?;
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
        peer_certificates: fields.column("peer_certificates")?,
        collector_certificates: fields.column("collector_certificates")?,
        batch_target_size: fields.optional_unsigned("batch_target_size")?,
        aggregation_parameter: fields.optional_bytes("aggregation_parameter")?.unwrap_or_default(),
        origin: if trial == Trial::None { origin } else { Origin::Upload },
        expires_at: fields.optional_unsigned("expires_at")?,
        created_at: fields.unsigned("created_at")?,
    };
    let retired_at = fields.optional_unsigned("retired_at")?;
    Ok(TaskRow { key: fields.integer("id")?, task, retired_at, trial })
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

impl Origin {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Taskprov | Self::Upload => "taskprov",
        }
    }
}

impl FromStr for Origin {
    type Err = columns::UnknownState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        columns::state(text, &[Self::Operator, Self::Taskprov], Self::as_str)
    }
}

impl Trial {
    const ALL: [Self; 3] = [Self::None, Self::Running, Self::Passed];

    /// How it is stored.
    pub(crate) const fn number(self) -> i64 {
        match self {
            Self::None => 0,
            Self::Running => 1,
            Self::Passed => 2,
        }
    }

    /// What is stored as `number`.
    pub(crate) fn of(number: i64) -> Self {
        Self::ALL.into_iter().find(|trial| trial.number() == number).unwrap_or_default()
    }
}

/// What is called when the tasks of this database change.
pub const CHANGED: &str = "tasks";
