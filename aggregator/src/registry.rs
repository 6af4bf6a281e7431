//! The tasks of this process: a picture of the table, renewed when the table changes.
//!
//! Asked for every request and every job, so looking up a task takes no database and waits for nobody. A task is added
//! or retired in the database, by this process or another; whoever runs on the same database follows within seconds.
//! It holds keys and tokens and never prints them.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use mica_dap::id::TaskId;
use mica_dp::Policy;
use mica_service::clock::Clock;
use mica_service::shutdown::Shutdown;
use mica_service::store::{Store, StoreError, Tx};

use crate::callers::Callers;
use crate::credential::Presented;
use crate::policy::{self, PolicyError, PolicyInForce};
use crate::store::tasks::{self, CHANGED, Mark, TaskRow};
use crate::task::{Role, Task};
use crate::task_file::TaskFile;
use crate::taskprov::Taskprov;

/// The tasks of one process, by their names.
pub struct Tasks {
    store: Store,
    clock: Clock,
    role: Role,
    policy: PolicyInForce,
    taskprov: Option<Taskprov>,
    picture: RwLock<Arc<Picture>>,
    /// Held by whoever renews the picture.
    renewing: tokio::sync::Mutex<()>,
    /// When the table was last looked at because of a name that nobody knows.
    looked: Mutex<Option<Instant>>,
}

/// The table as it was.
#[derive(Default)]
struct Picture {
    by_id: HashMap<TaskId, Arc<Task>>,
    by_key: HashMap<i64, Arc<Task>>,
    base_paths: BTreeSet<String>,
    /// Whoever may ask for something of one of them.
    callers: Callers,
    /// The tasks that this process cannot serve, and why.
    unserved: HashMap<i64, String>,
    mark: Mark,
}

impl Tasks {
    /// The tasks in the database that `role` can serve under `policy`.
    ///
    /// # Errors
    /// When the database fails. A task that cannot be served is logged and left out.
    pub async fn load(store: Store, clock: Clock, role: Role, policy: Policy) -> Result<Self, StoreError> {
        let tasks = Self {
            store,
            clock,
            role,
            policy: policy.into(),
            taskprov: None,
            picture: RwLock::default(),
            renewing: tokio::sync::Mutex::default(),
            looked: Mutex::default(),
        };
        tasks.renew().await?;
        Ok(tasks)
    }

    /// Lets tasks come with requests.
    pub(crate) fn set_taskprov(&mut self, taskprov: Option<Taskprov>) {
        self.taskprov = taskprov;
    }

    /// Under which terms tasks may come with requests; nothing where they may not.
    pub(crate) fn taskprov(&self) -> Option<&Taskprov> {
        self.taskprov.as_ref()
    }

    /// The task of this name.
    pub fn by_id(&self, id: &TaskId) -> Option<Arc<Task>> {
        self.picture().by_id.get(id).cloned()
    }

    /// The task with this number in the database.
    pub fn by_key(&self, key: i64) -> Option<Arc<Task>> {
        self.picture().by_key.get(&key).cloned()
    }

    /// All of them, in no order.
    pub fn all(&self) -> Vec<Arc<Task>> {
        self.picture().by_id.values().cloned().collect()
    }

    /// Whether some task lets in who shows this. One look, however many tasks there are.
    pub(crate) fn know(&self, shown: &Presented) -> bool {
        self.picture().callers.know(shown)
    }

    /// Why the task with this number is not served; nothing when it is.
    pub fn why_unserved(&self, key: i64) -> Option<String> {
        self.picture().unserved.get(&key).cloned()
    }

    /// The policy that decides how results leave.
    pub fn policy(&self) -> &PolicyInForce {
        &self.policy
    }

    /// The task of this name, also when it was added a moment ago by somebody else. Asked for names that nobody knows,
    /// it looks into the database only now and then.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find(&self, id: &TaskId) -> Result<Option<Arc<Task>>, StoreError> {
        if let Some(task) = self.by_id(id) {
            return Ok(Some(task));
        }
        self.look_again().await?;
        Ok(self.by_id(id))
    }

    /// The longest base path of a task that `path` lies under, and what comes after it.
    pub(crate) fn under_base_path(&self, path: &str) -> Option<String> {
        let picture = self.picture();
        let rest = |base: &String| {
            let rest = path.strip_prefix(base.trim_end_matches('/'))?;
            rest.starts_with('/').then_some(rest)
        };
        // A task that comes with a request may be the first of its endpoint.
        let coming = self.taskprov.as_ref().map(Taskprov::base_path);
        picture
            .base_paths
            .iter()
            .chain(&coming)
            .filter_map(rest)
            .min_by_key(|rest| rest.len())
            .map(ToOwned::to_owned)
    }

    /// Renews the picture for the sake of something unknown, unless that was done a moment ago.
    pub(crate) async fn look_again(&self) -> Result<(), StoreError> {
        {
            let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            if looked.is_some_and(|at| at.elapsed() < BETWEEN_LOOKS) {
                return Ok(());
            }
            *looked = Some(Instant::now());
        }
        self.renew().await
    }

    /// Follows the table until `shutdown`.
    pub(crate) async fn follow(&self, shutdown: Shutdown) {
        let mut sleeper = self.store.wake().sleeper(CHANGED);
        while !shutdown.is_triggered() {
            tokio::select! {
                _ = sleeper.sleep(POLL) => {}
                () = shutdown.wait() => return,
            }
            if let Err(error) = self.renew().await {
                tracing::error!(%error, "could not look for changed tasks");
            }
        }
    }

    /// Makes the picture what the table is now.
    ///
    /// # Errors
    /// When the database fails; the picture stays as it was.
    pub async fn renew(&self) -> Result<(), StoreError> {
        let _alone = self.renewing.lock().await;
        let old = self.picture();
        let (now, known) = (self.clock.now(), &old);
        let changes = self
            .store
            .read("renew_tasks", move |mut tx| async move {
                let changes = changes(&mut tx, known, now).await?;
                Ok((tx, changes))
            })
            .await?;
        if let Some(changes) = changes {
            let picture = self.apply(&self.policy.get(), &old, changes);
            warn_of_unserved(&picture, &old);
            self.show(picture);
        }
        Ok(())
    }

    /// Makes `policy` the one that decides, for every task at once.
    ///
    /// # Errors
    /// When a task that reports are taken for could not be served under it, when it may not follow the versions before
    /// it, or the database fails. Nothing has changed then.
    pub(crate) async fn adopt(&self, policy: Policy) -> Result<(), PolicyError> {
        let _alone = self.renewing.lock().await;
        let (old, now) = (self.picture(), self.clock.now());
        let nothing = &Picture::default();
        let all = self.store.read("tasks_under_policy", move |mut tx| async move {
            let all = changes(&mut tx, nothing, now).await?;
            Ok((tx, all))
        });
        let Some(all) = all.await? else { return Err(StoreError::corrupt("tasks", "id").into()) };
        let picture = self.apply(&policy, nothing, all);
        let lost = |task: &&Arc<Task>| !task.is_retired() && picture.unserved.contains_key(&task.key);
        let lost: Vec<&Arc<Task>> = old.by_key.values().filter(lost).collect();
        if !lost.is_empty() {
            let why = lost.iter().filter_map(|task| picture.unserved.get(&task.key).cloned());
            return Err(PolicyError::Unserved(why.collect()));
        }
        policy::admit(&self.store, &policy, now).await?;
        warn_of_unserved(&picture, &old);
        self.policy.set(policy);
        self.show(picture);
        Ok(())
    }

    fn show(&self, picture: Picture) {
        *self.picture.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(picture);
    }

    fn picture(&self) -> Arc<Picture> {
        Arc::clone(&self.picture.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn apply(&self, policy: &Policy, old: &Picture, changes: Changes) -> Picture {
        let mut picture = Picture { mark: changes.mark, ..Picture::default() };
        picture.base_paths.insert("/".to_owned());
        let mut added: HashMap<i64, TaskRow> = changes.added.into_iter().map(|row| (row.key, row)).collect();
        for (key, retired_at) in changes.states {
            let task = match (old.by_key.get(&key), added.remove(&key)) {
                (Some(known), _) => Ok(Arc::clone(known)),
                (None, Some(row)) => self.resolve(policy, row).map(Arc::new),
                (None, None) => match old.unserved.get(&key) {
                    Some(why) => Err(why.clone()),
                    None => continue,
                },
            };
            match task {
                Ok(task) => {
                    task.set_retired(retired_at);
                    picture.base_paths.insert(task.base_path());
                    picture.callers.add(task.expected());
                    picture.by_id.insert(task.id, Arc::clone(&task));
                    picture.by_key.insert(key, task);
                }
                Err(why) => {
                    picture.unserved.insert(key, why);
                }
            }
        }
        picture
    }

    fn resolve(&self, policy: &Policy, row: TaskRow) -> Result<Task, String> {
        let (key, origin, trial) = (row.key, row.task.origin, row.trial);
        let file = TaskFile::from_row(row.task)?;
        if file.role != self.role {
            return Err(format!("it is for the {}, and this is the {}", file.role, self.role));
        }
        let task = Task::resolve(key, file, policy).map_err(|error| error.to_string())?;
        task.set_trial(trial);
        Ok(task.came_by(origin))
    }
}

/// Says which tasks are not served from now on. Not before it is so: a policy that is only tried leaves all as it was.
fn warn_of_unserved(picture: &Picture, old: &Picture) {
    for (task, why) in picture.unserved.iter().filter(|(key, _)| !old.unserved.contains_key(*key)) {
        tracing::warn!(task, %why, "a task in the database is not served");
    }
}

/// What is in the table and not in the picture.
struct Changes {
    mark: Mark,
    states: Vec<(i64, Option<u64>)>,
    added: Vec<TaskRow>,
}

async fn changes(tx: &mut Tx, known: &Picture, now: u64) -> Result<Option<Changes>, StoreError> {
    let mark = tasks::mark(tx, now).await?;
    if mark == known.mark && !known.base_paths.is_empty() {
        return Ok(None);
    }
    let states = tasks::states(tx, now).await?;
    let is_known = |key: &i64| known.by_key.contains_key(key) || known.unserved.contains_key(key);
    let unknown: Vec<i64> = states.iter().map(|(key, _)| *key).filter(|key| !is_known(key)).collect();
    let added = if unknown.len() > FEW {
        tasks::all_tasks(tx).await?
    } else {
        let mut added = Vec::with_capacity(unknown.len());
        for key in unknown {
            added.extend(tasks::task_by_key(tx, key).await?);
        }
        added
    };
    Ok(Some(Changes { mark, states, added }))
}

/// So many tasks are read one by one; more of them all at once.
const FEW: usize = 32;

/// How often the table is looked at without being told to: how long a replica may lag.
const POLL: Duration = Duration::from_secs(2);

/// How often it is looked at for the sake of unknown names: anybody can make those up.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
