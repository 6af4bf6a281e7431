//! Whether releases and the entries of the ledger say the same of each other.
//!
//! An entry says when the data was made; the batch that it names says it too, and so does the release.

use std::collections::{HashMap, HashSet};

use mica_dap::codec::Decode as _;
use mica_dap::collection::CollectionJobReq;
use mica_dap::id::TaskId;
use mica_dap::time::{Interval, TimePrecision};
use mica_dp::{EntryKind, LedgerEntry, ReleaseKey};
use thiserror::Error;

use crate::release;
use crate::store::releases::{NewRelease, ReleaseState};
use crate::store::tasks::TaskRow;
use crate::task_file::TaskFile;

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
    /// There is a charge, and nothing was released for it.
    #[error("ledger entry {sequence}: there is no release that it is of")]
    NoRelease {
        /// The entry.
        sequence: u64,
    },
}

/// In what each task counts time.
pub(crate) fn precisions(tasks: Vec<TaskRow>) -> HashMap<TaskId, TimePrecision> {
    let files = tasks.into_iter().filter_map(|row| TaskFile::from_row(row.task).ok());
    files.map(|file| (file.task_id, file.configuration.time_precision())).collect()
}

/// Holds every release against its entries, and every entry against its release. The ledger follows its own rules.
pub(crate) fn verify(
    entries: &[LedgerEntry],
    releases: &[(TaskId, NewRelease)],
    precisions: &HashMap<TaskId, TimePrecision>,
) -> Result<(), Unpaid> {
    // Of every release the last entry: all budgets stand alike.
    let last: HashMap<&ReleaseKey, &LedgerEntry> = entries.iter().map(|entry| (&entry.key, entry)).collect();
    let mut seen = HashSet::new();
    for (task, release) in releases {
        let key = key(task, release);
        let Some(entry) = last.get(&key) else {
            let state = release.state.as_str();
            return Err(Unpaid::Release { task: *task, state, found: "no charge" });
        };
        stands(task, release, entry)?;
        if let (Some(counted), Some(precision)) = (&entry.counted, precisions.get(task))
            && counted.data != release::span(*precision, interval(release))
        {
            return Err(Unpaid::Time { sequence: entry.sequence });
        }
        seen.insert(key);
    }
    for entry in entries.iter().filter(|entry| entry.kind != EntryKind::AcceptedRestore) {
        of_its_batch(entry, precisions)?;
        if entry.kind != EntryKind::Refund && last.get(&entry.key).is_some_and(|last| *last == entry) {
            let known = precisions.contains_key(&TaskId::new(*entry.key.task_id()));
            if known && !seen.contains(&entry.key) {
                return Err(Unpaid::NoRelease { sequence: entry.sequence });
            }
        }
    }
    Ok(())
}

/// Whether the last entry of a release says what the release says.
fn stands(task: &TaskId, release: &NewRelease, entry: &LedgerEntry) -> Result<(), Unpaid> {
    let (expected, found) = match (release.state, entry.kind) {
        (ReleaseState::Reserved, kind) => (EntryKind::Charge, kind),
        (ReleaseState::Committed, kind) => (EntryKind::Commit, kind),
        (ReleaseState::Refunded, kind) => (EntryKind::Refund, kind),
    };
    if expected != found {
        return Err(Unpaid::Release { task: *task, state: release.state.as_str(), found: standing(found) });
    }
    let sequence = entry.sequence;
    let policy = &entry.policy;
    let same = (release.policy_id.as_str(), release.policy_version, release.policy_sha256)
        == (policy.id.as_str(), u64::from(policy.version), policy.sha256);
    if !same {
        return Err(Unpaid::Differs { sequence, what: "policy" });
    }
    if release.mechanism != entry.mechanism {
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

/// Whether an entry about an interval counts at the time of that interval.
fn of_its_batch(entry: &LedgerEntry, precisions: &HashMap<TaskId, TimePrecision>) -> Result<(), Unpaid> {
    let precision = precisions.get(&TaskId::new(*entry.key.task_id()));
    let interval = Interval::decoded(entry.key.batch()).ok();
    match (&entry.counted, precision, interval) {
        (Some(counted), Some(precision), Some(interval))
            if counted.data != release::span(*precision, interval) =>
        {
            Err(Unpaid::Time { sequence: entry.sequence })
        }
        _ => Ok(()),
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
