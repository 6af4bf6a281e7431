//! Why a batch could not be collected.

use mica_dap::problem::ProblemDocument;
use mica_service::http::PeerError;
use thiserror::Error;

/// A failed collection.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum CollectError {
    /// The leader did not answer.
    #[error(transparent)]
    Unreachable(#[from] PeerError),
    /// The leader does not accept the collector's token.
    #[error(
        "the leader does not accept this collector's token, or the task wants a certificate as well (--certificate, --private-key)"
    )]
    Unauthorized,
    /// The leader, or the helper through it, refused.
    #[error("refused: {}", describe(.0))]
    Refused(Box<ProblemDocument>),
    /// The leader has too much to do, and wants to be left alone for so many seconds.
    #[error("the leader has too much to do; try again in {0} s")]
    Busy(u64),
    /// The leader answered with a status that has no name, and perhaps said why. What begins with 5 may pass.
    #[error("the leader answered {status}{}", said(.detail.as_deref()))]
    Failed {
        /// The status.
        status: u16,
        /// What it said.
        detail: Option<String>,
    },
    /// The answer is not what was asked for.
    #[error("the leader's answer cannot be read: {0}")]
    Answer(String),
    /// A share cannot be opened: key, task configuration or request differ from what was sealed.
    #[error(
        "the {0}'s share cannot be opened: its sealing is bound to another task configuration, request or key"
    )]
    Share(&'static str),
    /// The two shares do not add up to a result of this task.
    #[error("the shares do not add up: {0}")]
    Sum(String),
    /// The task cannot be collected by this program.
    #[error("this program cannot collect the task: {0}")]
    Task(String),
}

fn said(detail: Option<&str>) -> String {
    detail.map(|detail| format!(": {detail}")).unwrap_or_default()
}

fn describe(problem: &ProblemDocument) -> String {
    let what = problem.detail.as_deref().or(problem.title.as_deref()).unwrap_or("no reason given");
    format!("{what} ({})", problem.type_)
}
