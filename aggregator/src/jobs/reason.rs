//! Why a job is not settled yet, in one word that can be stored and counted.
//!
//! The words are part of the interface: they stand in metrics, in `mica doctor` and in the database.

use crate::store::stuck::{StuckWork, Work};

/// Why an attempt did not settle a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No connection, no answer in time, or one that broke off.
    Unreachable,
    /// The connection broke, or the time was over, before all of the request had left.
    Interrupted,
    /// The helper has too much to do.
    Busy,
    /// The helper failed.
    Failing,
    /// The helper works on it, and said so.
    Deferred,
    /// The helper does not accept the leader's credentials.
    Unauthorized,
    /// The helper does not know the task.
    UnknownTask,
    /// The helper does not know the job any more.
    Gone,
    /// The helper refused these very bytes.
    Refused,
    /// The helper takes not even a single report of this size.
    TooLarge,
    /// The helper's answer makes no sense.
    Confused,
    /// Something is missing here: a key, a task, the database.
    Local,
}

impl Reason {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Interrupted => "interrupted",
            Self::Busy => "busy",
            Self::Failing => "failing",
            Self::Deferred => "deferred",
            Self::Unauthorized => "unauthorized",
            Self::UnknownTask => "unknown_task",
            Self::Gone => "gone",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::Confused => "confused",
            Self::Local => "local",
        }
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn advice(word: &str) -> &'static str {
        match word {
            "unreachable" => "check that the helper runs and can be reached from here",
            "interrupted" => {
                "ask the helper's operator how large requests may be, and whether something on the way breaks them off"
            }
            "busy" | "deferred" => "nothing: the helper asked for patience; if it lasts, ask its operator",
            "failing" | "confused" => "ask the helper's operator for its log",
            "unauthorized" => "compare the token or certificate of the task with the helper's",
            "unknown_task" => "give the task to the helper",
            "gone" => "nothing: the job is sent again",
            "refused" => "ask the helper's operator why",
            "lost" => {
                "nothing brings the batch back; find out with the helper's operator why the two disagree about it"
            }
            "too_large" => "ask the helper's operator to take larger requests",
            _ => "see the log of the leader",
        }
    }

    /// The same about this very work, with the command that gives up what it waits for, if a person may have to. `config`
    /// is the leader's configuration file.
    #[must_use]
    pub fn todo(work: &StuckWork, config: &str) -> String {
        let advice = Self::advice(&work.reason);
        let give_up = |job: i64| format!("{advice}; `mica doctor --config {config} --abandon {job}`");
        match (work.work, work.reason.as_str()) {
            (Work::Waiting { job, in_doubt: false, .. }, _) => {
                format!("{} gives its reports up, and the collection goes on without them", give_up(job))
            }
            (Work::Waiting { job, in_doubt: true, .. }, _) => format!(
                "{} gives its reports up, but the helper may have counted them, and then refuses the batch",
                give_up(job)
            ),
            (Work::Aggregation(job, _), "refused" | "too_large") => {
                format!("{} gives its reports up", give_up(job))
            }
            _ => advice.to_owned(),
        }
    }

    /// Whether the helper has refused the request before it looked at a report, so that it has counted none of them.
    pub(crate) fn left_untouched(self) -> bool {
        matches!(self, Self::Unauthorized | Self::UnknownTask | Self::Refused | Self::TooLarge)
    }

    /// Whether the same bytes will meet the same end until a person does something.
    pub(crate) fn needs_a_person(self) -> bool {
        matches!(self, Self::Refused | Self::TooLarge)
    }
}
