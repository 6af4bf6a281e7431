//! What clients and collector have done and seen, and what they may conclude from it.

use std::fmt;

use mica_collector::{Collection, Outcome};
use mica_dap::Draft;
use mica_dap::id::ReportId;
use mica_dap::report::Report;
use mica_dap::report_error::{ReportError, Stage};
use mica_dap::time::Interval;

use crate::plan::Flaw;

/// What no correct system does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A report was accepted and is in no release.
    Lost(String),
    /// A report counts more than once.
    Doubled(String),
    /// Something is counted or released that must not be.
    Wrong(String),
    /// The aggregators do not agree.
    Disagreement(String),
    /// The same question got two answers.
    Contradiction(String),
    /// An answer that nothing in the model allows.
    Answer(String),
    /// It never comes to an end.
    Stuck(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, how) = match self {
            Self::Lost(how) => ("lost", how),
            Self::Doubled(how) => ("doubled", how),
            Self::Wrong(how) => ("wrong", how),
            Self::Disagreement(how) => ("disagreement", how),
            Self::Contradiction(how) => ("contradiction", how),
            Self::Answer(how) => ("answer", how),
            Self::Stuck(how) => ("stuck", how),
        };
        write!(f, "{what}: {how}")
    }
}

/// What its client knows of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Sent, and not answered.
    Unknown,
    /// The leader said that it has it.
    Accepted,
    /// Refused, and no earlier sending can have been accepted.
    Refused,
    /// Refused as one that is there already, after a sending that was not answered.
    Settled,
}

/// A report that was sent at least once. Its place in the list is its bucket.
pub(crate) struct Sent {
    pub(crate) report: Report,
    /// When its client got the lists of keys that it is sealed by.
    pub(crate) listed_at: u64,
    pub(crate) flaw: Option<Flaw>,
    pub(crate) fate: Fate,
}

impl Sent {
    pub(crate) fn name(&self) -> ReportId {
        self.report.metadata.report_id
    }

    /// Whether it can be counted at all.
    pub(crate) fn is_good(&self) -> bool {
        self.flaw.is_none()
    }
}

/// A collection as its collector knows it.
pub(crate) struct Asked {
    pub(crate) interval: Option<Interval>,
    pub(crate) collection: Collection,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) deleted: bool,
}

/// What is known from outside.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) reports: Vec<Sent>,
    pub(crate) asked: Vec<Asked>,
    /// Every interval that was asked for, answered or not: from then on its reports may come too late.
    pub(crate) intervals: Vec<Interval>,
    pub(crate) violations: Vec<Violation>,
    /// Whether the leader's operator has ended the task.
    pub(crate) retired: bool,
    /// When everything that was accepted in the run was worked on.
    pub(crate) drained_at: u64,
}

/// What may be why a report is refused.
#[derive(Clone, Copy)]
pub(crate) struct Excuses {
    pub(crate) draft: Draft,
    /// The leader had been handed that name before.
    pub(crate) repeated: bool,
    /// The keys that it is sealed by may be gone.
    pub(crate) outdated: bool,
}

impl Model {
    /// The leader answered for this report: refused, or not.
    pub(crate) fn answered(&mut self, at: usize, refused: Option<ReportError>, excuses: Excuses) {
        let fate = match refused {
            None => self.accepted(at),
            Some(error) => self.refused(at, error, excuses),
        };
        self.reports[at].fate = fate;
    }

    fn accepted(&mut self, at: usize) -> Fate {
        let name = self.reports[at].name();
        let again = self.reports.iter().any(|sent| sent.name() == name && sent.fate == Fate::Accepted);
        if again {
            self.violations.push(Violation::Answer(format!("report {at} was accepted twice")));
        }
        let flaw = self.reports[at].flaw;
        if matches!(flaw, Some(Flaw::UnknownKey | Flaw::Future | Flaw::BeforeTheTask)) {
            self.violations.push(Violation::Answer(format!("report {at} was accepted with {flaw:?}")));
        }
        Fate::Accepted
    }

    fn refused(&mut self, at: usize, error: ReportError, excuses: Excuses) -> Fate {
        let (sent, Excuses { draft, repeated, outdated }) = (&self.reports[at], excuses);
        let expected = match sent.flaw {
            Some(Flaw::UnknownKey) => draft.unknown_hpke_config(Stage::Upload),
            Some(Flaw::Future) => ReportError::ReportTooEarly,
            Some(Flaw::BeforeTheTask) => draft.before_the_task(Stage::Upload),
            _ => ReportError::ReportReplayed,
        };
        let time = sent.report.metadata.time;
        let late = self.intervals.iter().any(|interval| interval.contains(time));
        let why = expected == ReportError::ReportReplayed && !late && !repeated;
        let gone = outdated && error == draft.unknown_hpke_config(Stage::Upload);
        let ended = self.retired && error == draft.after_the_task(Stage::Upload);
        // An interval that is closing may be open again: what comes meanwhile is not there, and the client is told so.
        let closing = expected == ReportError::ReportReplayed && error == ReportError::ReportDropped && late;
        if (error != expected || why) && !gone && !ended && !closing {
            let detail = format!("report {at} ({:?}) was refused: {error}", sent.flaw);
            self.violations.push(Violation::Answer(detail));
        }
        match sent.fate {
            Fate::Accepted => Fate::Accepted,
            _ if repeated => Fate::Settled,
            _ => Fate::Refused,
        }
    }

    /// What a collection came to.
    pub(crate) fn collected(&mut self, at: usize, outcome: Outcome) {
        if self.asked[at].outcome.as_ref().is_some_and(|earlier| *earlier != outcome) {
            let detail = format!("collection {at} came to two different results");
            self.violations.push(Violation::Contradiction(detail));
        }
        self.asked[at].outcome = Some(outcome);
    }
}
