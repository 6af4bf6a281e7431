//! Whether releases and the entries of the ledger say the same of each other.
//!
//! An entry says when the data was made; the batch that it names says it too, and so does the release. A release without
//! noise has no entry: whether it was allowed is in what its task is bound to, and in the policy that it names.
//!
//! What is held is one line for each release that the ledger knows, and what tasks are bound to.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use mica_dap::codec::Decode as _;
use mica_dap::collection::CollectionJobReq;
use mica_dap::id::TaskId;
use mica_dap::task::TaskConfiguration;
use mica_dap::time::Interval;
use mica_dp::accountant::Span;
use mica_dp::{Decision, EntryKind, Grant, LedgerEntry, Policy, PolicyRef, ReleaseKey, parse_task_info};
use thiserror::Error;

use crate::release;
use crate::store::releases::{NewRelease, ReleaseState};
use crate::task::decide;

/// A release that the ledger does not know so, or an entry that no release is behind.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unpaid {
    /// No entry, or the last of them says otherwise.
    #[error("a noised release of task {task}, {state}, has {found} in the ledger")]
    Release {
        /// The task.
        task: TaskId,
        /// What the release is.
        state: &'static str,
        /// What the ledger says of it.
        found: &'static str,
    },
    /// Something of the entry is not that of the release.
    #[error("ledger entry {sequence}: its {what} is not that of its release")]
    Differs {
        /// The entry.
        sequence: u64,
        /// What differs.
        what: &'static str,
    },
    /// The batch of the entry was made at another time.
    #[error("ledger entry {sequence}: it counts at another time than that of its batch")]
    Time {
        /// The entry.
        sequence: u64,
    },
    /// It left without noise, and was not allowed to.
    #[error("a release of task {task}, {state}, is without noise: {why}")]
    WithoutNoise {
        /// The task.
        task: TaskId,
        /// What the release is.
        state: &'static str,
        /// What it breaks.
        why: String,
    },
    /// There is a charge, and nothing was released for it.
    #[error("ledger entry {sequence}: there is no release that it is of")]
    NoRelease {
        /// The entry.
        sequence: u64,
    },
}

/// What releases are held against, as far as it was read.
pub(crate) struct Reading {
    tasks: HashMap<TaskId, TaskConfiguration>,
    /// Of every release its last entry: all budgets stand alike.
    last: HashMap<ReleaseKey, Last>,
    /// Releases of one policy are alike in these, so each is held once.
    terms: HashSet<Arc<Terms>>,
    /// The first entry that counts at another time than that of its batch.
    at_another_time: Option<u64>,
    /// What was found of the first release of which something was.
    found: Option<Unpaid>,
}

/// What the last entry of a release says.
struct Last {
    sequence: u64,
    kind: EntryKind,
    data: Option<Span>,
    terms: Arc<Terms>,
    /// The release is there.
    released: bool,
}

#[derive(PartialEq, Eq, Hash)]
struct Terms {
    policy: PolicyRef,
    mechanism: String,
}

impl Reading {
    /// Nothing but the tasks was read.
    pub(crate) fn new(tasks: HashMap<TaskId, TaskConfiguration>) -> Self {
        let (last, terms) = (HashMap::new(), HashSet::new());
        Self { tasks, last, terms, at_another_time: None, found: None }
    }

    /// The next entry. The ledger follows its own rules.
    pub(crate) fn entry(&mut self, entry: &LedgerEntry) {
        if entry.kind == EntryKind::AcceptedRestore {
            return;
        }
        let data = entry.counted.as_ref().map(|counted| counted.data);
        let interval = Interval::decoded(entry.key.batch()).ok();
        if let (Some(data), Some(interval)) = (data, interval)
            && self.time_of(&TaskId::new(*entry.key.task_id()), interval).is_some_and(|time| time != data)
        {
            self.at_another_time.get_or_insert(entry.sequence);
        }
        let terms = Terms { policy: entry.policy.clone(), mechanism: entry.mechanism.clone() };
        let terms = self.terms.get(&terms).cloned().unwrap_or_else(|| {
            let terms = Arc::new(terms);
            self.terms.insert(Arc::clone(&terms));
            terms
        });
        let (sequence, kind) = (entry.sequence, entry.kind);
        self.last.insert(entry.key.clone(), Last { sequence, kind, data, terms, released: false });
    }

    /// A release, after all entries. `policies` are the texts that were ever in force.
    pub(crate) fn release(&mut self, task: &TaskId, release: &NewRelease, policies: &[Policy]) {
        let held = self.hold(task, release, policies);
        if let (Err(unpaid), None) = (held, &self.found) {
            self.found = Some(unpaid);
        }
    }

    /// The first thing that does not follow, after all releases.
    pub(crate) fn finish(self) -> Result<(), Unpaid> {
        if let Some(found) = self.found {
            return Err(found);
        }
        let known = |key: &ReleaseKey| self.tasks.contains_key(&TaskId::new(*key.task_id()));
        let gone = self
            .last
            .iter()
            .filter(|(key, last)| last.kind != EntryKind::Refund && !last.released && known(key));
        let gone = gone.map(|(_, last)| last.sequence).min();
        match (self.at_another_time, gone) {
            (Some(time), gone) if gone.is_none_or(|gone| time <= gone) => {
                Err(Unpaid::Time { sequence: time })
            }
            (_, Some(sequence)) => Err(Unpaid::NoRelease { sequence }),
            _ => Ok(()),
        }
    }

    fn hold(&mut self, task: &TaskId, release: &NewRelease, policies: &[Policy]) -> Result<(), Unpaid> {
        let state = release.state.as_str();
        if release.mechanism == "none" {
            let allowed = may_be_without_noise(task, release, self.tasks.get(task), policies);
            return allowed.map_err(|why| Unpaid::WithoutNoise { task: *task, state, why });
        }
        let time = self.time_of(task, interval(release));
        let Some(last) = self.last.get_mut(&key(task, release)) else {
            return Err(Unpaid::Release { task: *task, state, found: "no charge" });
        };
        stands(task, release, last)?;
        if let (Some(data), Some(time)) = (last.data, time)
            && data != time
        {
            return Err(Unpaid::Time { sequence: last.sequence });
        }
        last.released = true;
        Ok(())
    }

    /// The seconds of an interval of a task that is known.
    fn time_of(&self, task: &TaskId, interval: Interval) -> Option<Span> {
        self.tasks.get(task).map(|task| release::span(task.time_precision(), interval))
    }
}

/// Whether a release without noise is one that the policy which it names lets leave so; else why not.
fn may_be_without_noise(
    task: &TaskId,
    release: &NewRelease,
    configuration: Option<&TaskConfiguration>,
    policies: &[Policy],
) -> Result<(), String> {
    let Some(configuration) = configuration else {
        return Err("what its task is bound to cannot be read".to_owned());
    };
    if let Some((_, statement)) = parse_task_info(configuration.task_info()) {
        let statement = hex::encode(statement);
        return Err(format!("the task is bound to the release statement {statement}, which promises noise"));
    }
    let NewRelease { policy_id: id, policy_version: version, .. } = release;
    let named = policies.iter().find(|it| (it.id(), u64::from(it.version())) == (id.as_str(), *version));
    let Some(policy) = named else {
        return Err(format!("the text of policy {id} v{version}, which it names, is not kept"));
    };
    if policy.sha256() != release.policy_sha256 {
        return Err(format!("policy {id} v{version} is kept with another text than it names"));
    }
    let allowed = match decide(*task, configuration, policy) {
        Ok(Decision::WithoutDp(exception)) => {
            Grant::without_dp(&exception, key(task, release), release.created_at)
                .map_err(|refused| refused.to_string())
        }
        Ok(Decision::Release(_)) => Err("the task is released with noise".to_owned()),
        Err(why) => Err(why),
    };
    allowed.map(drop).map_err(|why| format!("policy {id} v{version} does not allow it: {why}"))
}

/// Whether the last entry of a release says what the release says.
fn stands(task: &TaskId, release: &NewRelease, last: &Last) -> Result<(), Unpaid> {
    let (expected, found) = match (release.state, last.kind) {
        (ReleaseState::Reserved, kind) => (EntryKind::Charge, kind),
        (ReleaseState::Committed, kind) => (EntryKind::Commit, kind),
        (ReleaseState::Refunded, kind) => (EntryKind::Refund, kind),
    };
    if expected != found {
        return Err(Unpaid::Release { task: *task, state: release.state.as_str(), found: standing(found) });
    }
    let sequence = last.sequence;
    let Terms { policy, mechanism } = &*last.terms;
    let same = (release.policy_id.as_str(), release.policy_version, release.policy_sha256)
        == (policy.id.as_str(), u64::from(policy.version), policy.sha256);
    if !same {
        return Err(Unpaid::Differs { sequence, what: "policy" });
    }
    if release.mechanism != *mechanism {
        return Err(Unpaid::Differs { sequence, what: "mechanism" });
    }
    Ok(())
}

fn standing(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Charge => "a charge that is not settled",
        EntryKind::Commit => "a charge that is final",
        EntryKind::Refund => "a charge that was given back",
        EntryKind::AcceptedRestore => "no charge",
    }
}

/// What a release is charged for: the interval that was asked for, or that of the reports of a batch.
fn interval(release: &NewRelease) -> Interval {
    Interval::decoded(&release.batch_key).unwrap_or(release.interval)
}

fn key(task: &TaskId, release: &NewRelease) -> ReleaseKey {
    let request = CollectionJobReq::decoded(&release.request);
    let parameter = request.as_ref().map_or(&[][..], CollectionJobReq::agg_param);
    ReleaseKey::new(*task.as_bytes(), &release.batch_key, parameter)
}
