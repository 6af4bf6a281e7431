//! How a task gets into an aggregator: by a file at the start, by a command, through the admin API or by a request that
//! advertises it, always through these checks and this transaction.
//!
//! What is refused here has never taken a report. It handles keys and tokens, and no message repeats one.

use mica_dap::id::TaskId;
use mica_dp::Policy;
use mica_service::http::HttpClient;
use mica_service::store::{Store, StoreError};
use thiserror::Error;

use crate::store::tasks::{self, Origin, Stored};
use crate::store::{report_ids, tallies};
use crate::task::{Role, Task, TaskError};
use crate::task_file::{TaskFile, Tokens};

/// What an aggregator asks of a new task.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// Whose tasks it takes.
    pub role: Role,
    /// What decides how results leave.
    pub policy: &'a Policy,
    /// No task with a smaller minimum batch size is taken.
    pub min_batch_size_floor: u64,
    /// How the other aggregator is reached, and whether that may be without TLS.
    pub http: &'a HttpClient,
}

/// Why a task is not taken, in a sentence for the operator.
#[derive(Debug, Error)]
pub enum EnrolError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A task that cannot be served.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// A task file that is not for this process.
    #[error(
        "the task file of {task} is for the {theirs}, and this is the {ours}; give it to the other aggregator"
    )]
    OtherRole {
        /// The task.
        task: TaskId,
        /// Whom the file is for.
        theirs: Role,
        /// Who reads it.
        ours: Role,
    },
    /// The database knows another task by this name.
    #[error("task {0} is in the database with other keys or tokens; a task never changes, make a new one")]
    Changed(TaskId),
    /// Batches so small that a total says much about each report in it.
    #[error(
        "task {task} releases batches of {asked} reports, and this aggregator releases none below {floor}; \
         make the task with a min_batch_size of {floor} or more, or lower min_batch_size_floor under [limits]"
    )]
    SmallBatches {
        /// The task.
        task: TaskId,
        /// Its minimum batch size.
        asked: u64,
        /// The least that is taken.
        floor: u64,
    },
    /// An endpoint that cannot be asked.
    #[error(
        "task {task}: the endpoint of the {whose} is not the URL of a server, such as https://example.com/"
    )]
    Endpoint {
        /// The task.
        task: TaskId,
        /// Whose endpoint.
        whose: Role,
    },
    /// A helper that would be asked in the clear.
    #[error("the helper of task {task}: {why}; or make the task anew with an https:// helper")]
    Plain {
        /// The task.
        task: TaskId,
        /// In one sentence.
        why: String,
    },
    /// The helper could not know the leader.
    #[error(
        "the leader would show the helper of task {0} neither a token nor a certificate: write peer_token into the task \
         file, or certificate and private_key under [peer_tls] where the helper knows the leader by its certificate"
    )]
    NothingToShow(TaskId),
    /// Aggregate shares could not be sealed.
    #[error("task {0}: the collector's HPKE configuration names algorithms that this version does not have")]
    CollectorSuite(TaskId),
}

impl Rules<'_> {
    /// Whether a task would be taken that is not there yet.
    ///
    /// # Errors
    /// The first reason not to.
    pub fn check(&self, file: &TaskFile) -> Result<(), EnrolError> {
        self.check_known(file)?;
        let (task, asked) = (file.task_id, file.configuration.min_batch_size());
        if asked < self.min_batch_size_floor {
            return Err(EnrolError::SmallBatches { task, asked, floor: self.min_batch_size_floor });
        }
        for (whose, url) in
            [(Role::Leader, file.configuration.leader_url()), (Role::Helper, file.configuration.helper_url())]
        {
            if !is_endpoint(url) {
                return Err(EnrolError::Endpoint { task, whose });
            }
        }
        let helper = file.configuration.helper_url().parse::<http::Uri>();
        if let (Role::Leader, Ok(helper)) = (self.role, helper) {
            self.http.allow(&helper).map_err(|why| EnrolError::Plain { task, why })?;
        }
        if file.collector.is_supported() { Ok(()) } else { Err(EnrolError::CollectorSuite(task)) }
    }

    /// Whether a task can be served, with what every task must keep to, however long it is there.
    fn check_known(&self, file: &TaskFile) -> Result<(), EnrolError> {
        let (task, ours, theirs) = (file.task_id, self.role, file.role);
        if theirs != ours {
            return Err(EnrolError::OtherRole { task, theirs, ours });
        }
        let has_token = !matches!(file.tokens, Tokens::Leader { to_helper: None, .. });
        if !has_token && !self.http.shows_certificate() {
            return Err(EnrolError::NothingToShow(task));
        }
        Task::resolve(0, file.clone(), self.policy)?;
        Ok(())
    }
}

fn is_endpoint(url: &str) -> bool {
    url.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    })
}

/// Puts the task into the database, or makes sure that it is there unchanged.
///
/// # Errors
/// When the rules refuse it, another task of its name is there, or the database fails.
pub async fn enrol(
    store: &Store,
    file: &TaskFile,
    rules: &Rules<'_>,
    now: u64,
) -> Result<Stored, EnrolError> {
    let is_known = store
        .read("find_task", move |mut tx| async move {
            let known = tasks::task_by_id(&mut tx, &file.task_id).await?.is_some();
            Ok((tx, known))
        })
        .await?;
    // What was taken once is not refused because the rules for new tasks have changed.
    if is_known {
        rules.check_known(file)?;
    } else {
        rules.check(file)?;
    }
    insert(store, file, Origin::Operator, None, now).await
}

/// The transaction, for a task that is checked.
pub(crate) async fn insert(
    store: &Store,
    file: &TaskFile,
    origin: Origin,
    expires_at: Option<u64>,
    now: u64,
) -> Result<Stored, EnrolError> {
    let row = &file.to_row(origin, expires_at, now);
    let stored = store
        .tx("enrol_task", move |mut tx| async move {
            if origin != Origin::Operator {
                report_ids::remove_untried(&mut tx, now).await?;
                tallies::remove_untried(&mut tx, now).await?;
                tasks::remove_untried(&mut tx, now).await?;
            }
            let stored = tasks::insert_task(&mut tx, row).await?;
            Ok((tx, stored))
        })
        .await;
    stored.map_err(|error| match error {
        StoreError::Conflict { .. } => EnrolError::Changed(file.task_id),
        other => other.into(),
    })
}
