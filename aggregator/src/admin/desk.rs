//! Where every wish of an operator about tasks ends, whichever way it came: a command on the database, or the admin API.
//!
//! It works on the database alone, so that it does the same beside a running aggregator, inside it, and without one.

use std::collections::BTreeMap;
use std::sync::Arc;

use mica_dap::id::TaskId;
use mica_service::clock::Clock;
use mica_service::http::HttpClient;
use mica_service::store::{Store, StoreError, Tx};
use thiserror::Error;

use super::view::{Circumstances, TaskDetail, TaskExport, TaskList, TaskSummary};
use crate::enrol::{EnrolError, Rules, enrol};
use crate::high_water::HighWater;
use crate::jobs::Reason;
use crate::pace::Paces;
use crate::policy::PolicyInForce;
use crate::store::stuck::{self, Work};
use crate::store::tallies;
use crate::store::tasks::{self, TaskRow};
use crate::task::{Role, Task};
use crate::task_file::TaskFile;

/// The tasks of one aggregator, for its operator.
#[derive(Clone)]
pub struct Desk {
    /// Its database.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// Which of the two it is.
    pub role: Role,
    /// Its policy.
    pub policy: PolicyInForce,
    /// No new task with a smaller minimum batch size is taken.
    pub min_batch_size_floor: u64,
    /// How the other aggregator is reached.
    pub http: HttpClient,
    /// How far its ledger had come.
    pub high_water: HighWater,
    /// How long work takes, where the aggregator runs in this process.
    pub paces: Option<Arc<Paces>>,
}

/// Which tasks to list.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Those after this number.
    pub after: i64,
    /// So many.
    pub most: u32,
}

/// Why a wish is not granted.
#[derive(Debug, Error)]
pub enum DeskError {
    /// The task is not taken.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// There is none.
    #[error("there is no task {0} here; see `mica task list`")]
    Unknown(TaskId),
    /// No version of such a policy was ever in force.
    #[error("no such version of a policy {0} was ever loaded here")]
    UnknownPolicy(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Desk {
    /// Some tasks, each in one line.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list(&self, page: Page) -> Result<TaskList, DeskError> {
        let most = page.most.clamp(1, MOST);
        let (rows, mut reports, mut stuck) = self
            .store
            .read("list_tasks", move |mut tx| async move {
                let rows = tasks::page(&mut tx, page.after, most).await?;
                let reports = tallies_of(&mut tx, &rows).await?;
                let stuck = stuck_of(&mut tx, &rows).await?;
                Ok((tx, (rows, reports, stuck)))
            })
            .await?;
        let next = rows.last().filter(|_| rows.len() == most as usize).map(|row| row.key.to_string());
        let summary = |row: TaskRow| {
            let (reports, stuck) = (reports.remove(&row.key), stuck.remove(&row.key));
            self.read(row, reports.unwrap_or_default(), stuck.unwrap_or_default()).map(|(_, summary)| summary)
        };
        Ok(TaskList { tasks: rows.into_iter().map(summary).collect::<Result<_, _>>()?, next })
    }

    /// Everything about one task; its secrets only on request.
    ///
    /// # Errors
    /// When there is no such task, or the database fails.
    pub async fn show(&self, task: &TaskId, with_secrets: bool) -> Result<TaskDetail, DeskError> {
        let (file, summary) = self.find(task).await?;
        Ok(TaskDetail::of(&file, summary, with_secrets))
    }

    /// Takes a task. True: it was not there before; the same task again is the same task.
    ///
    /// # Errors
    /// When the rules refuse it, or another task has its name.
    pub async fn create(&self, file: &TaskFile) -> Result<(TaskDetail, bool), DeskError> {
        let policy = self.policy.get();
        let rules = Rules {
            role: self.role,
            policy: &policy,
            min_batch_size_floor: self.min_batch_size_floor,
            http: &self.http,
        };
        let stored = enrol(&self.store, file, &rules, self.clock.now()).await?;
        if stored.is_new {
            tracing::info!(task = stored.key, "a task was added");
        }
        Ok((self.show(&file.task_id, false).await?, stored.is_new))
    }

    /// Ends a task: no report is taken from now on, what was taken is still added and can be collected. Ending it again
    /// changes nothing.
    ///
    /// # Errors
    /// When there is no such task, or the database fails.
    pub async fn retire(&self, task: &TaskId) -> Result<TaskDetail, DeskError> {
        let now = self.clock.now();
        let retired = self
            .store
            .tx("retire_task", move |mut tx| async move {
                let Some(row) = tasks::task_by_id(&mut tx, task).await? else { return Ok((tx, None)) };
                let retired = tasks::retire(&mut tx, row.key, now).await?;
                Ok((tx, retired.then_some(row.key)))
            })
            .await?;
        if let Some(key) = retired {
            tracing::info!(task = key, "a task was retired");
        }
        self.show(task, false).await
    }

    /// The task, to take elsewhere.
    ///
    /// # Errors
    /// When there is no such task, or the database fails.
    pub async fn export(&self, task: &TaskId, with_secrets: bool) -> Result<TaskExport, DeskError> {
        let (file, _) = self.find(task).await?;
        Ok(TaskExport::of(&file, with_secrets))
    }

    async fn find(&self, task: &TaskId) -> Result<(TaskFile, TaskSummary), DeskError> {
        let found = self
            .store
            .read("show_task", move |mut tx| async move {
                let Some(row) = tasks::task_by_id(&mut tx, task).await? else { return Ok((tx, None)) };
                let reports = tallies::of_task(&mut tx, row.key).await?;
                let mut stuck = stuck_of(&mut tx, std::slice::from_ref(&row)).await?;
                let stuck = stuck.remove(&row.key).unwrap_or_default();
                Ok((tx, Some((row, reports, stuck))))
            })
            .await?;
        let (row, reports, stuck) = found.ok_or(DeskError::Unknown(*task))?;
        self.read(row, reports.into_iter().collect(), stuck)
    }

    fn read(
        &self,
        row: TaskRow,
        reports: BTreeMap<String, u64>,
        stuck: Vec<String>,
    ) -> Result<(TaskFile, TaskSummary), DeskError> {
        let TaskRow { task, retired_at, .. } = row;
        let (origin, created_at) = (task.origin, task.created_at);
        let file = TaskFile::from_row(task).map_err(|_| StoreError::corrupt("tasks", "configuration"))?;
        let unserved = if file.role == self.role {
            Task::resolve(row.key, file.clone(), &self.policy.get()).err().map(|error| error.why)
        } else {
            Some(format!("it is for the {}, and this is the {}", file.role, self.role))
        };
        let known = Circumstances { origin, created_at, retired_at, unserved, reports, stuck };
        let summary = TaskSummary::of(&file, known);
        Ok((file, summary))
    }
}

/// What is stuck in each of these tasks, one line each.
async fn stuck_of(tx: &mut Tx, rows: &[TaskRow]) -> Result<BTreeMap<i64, Vec<String>>, StoreError> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(BTreeMap::new()) };
    let mut all: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for work in stuck::between(tx, first.key, last.key).await? {
        let line = match work.work {
            // Where the configuration is, only its operator knows.
            Work::Waiting { .. } => format!("{work}; {}", Reason::todo(&work, "FILE")),
            _ => work.to_string(),
        };
        all.entry(work.task).or_default().push(line);
    }
    Ok(all)
}

async fn tallies_of(
    tx: &mut Tx,
    rows: &[TaskRow],
) -> Result<BTreeMap<i64, BTreeMap<String, u64>>, StoreError> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(BTreeMap::new()) };
    let mut all: BTreeMap<i64, BTreeMap<String, u64>> = BTreeMap::new();
    for (task, outcome, reports) in tallies::between(tx, first.key, last.key).await? {
        all.entry(task).or_default().insert(outcome, reports);
    }
    Ok(all)
}

/// The most tasks in one list.
const MOST: u32 = 1_000;
