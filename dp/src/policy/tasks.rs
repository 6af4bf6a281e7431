//! A policy and a task: which release is for it, and whether it is what the release was written for.

use mica_dap::id::TaskId;
use mica_dap::task::BatchMode;
use mica_dap::vdaf_config::VdafConfig;
use mica_diagnostic::{Diagnostic, Severity};

use super::release::Release;
use super::unmatched::Unmatched;
use super::{Place, Policy};
use crate::accountant::{Window, Within};
use crate::plan::{ReleasePlan, WithoutDp};
use crate::shape::{NoSensitivity, Shape};

/// What a policy needs to know of a task.
#[derive(Clone, Copy, Debug)]
pub struct TaskFacts<'a> {
    /// Its identifier; nothing for a task that is still being made, which is then matched by its label alone.
    pub id: Option<TaskId>,
    /// The task's label: `task_info` up to its zero byte.
    pub label: &'a str,
    /// What the task measures.
    pub vdaf: &'a VdafConfig,
    /// The fewest reports in a batch.
    pub min_batch_size: u64,
    /// The grid of its reports' times in seconds, where it is known.
    pub time_precision: Option<u64>,
    /// How its reports are put into batches, where it is known.
    pub batch_mode: Option<BatchMode>,
}

impl<'a> TaskFacts<'a> {
    /// What is known of a task before it is made.
    pub fn new(label: &'a str, vdaf: &'a VdafConfig, min_batch_size: u64) -> Self {
        Self { id: None, label, vdaf, min_batch_size, time_precision: None, batch_mode: None }
    }
}

/// What a policy says about a task.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Every batch is released with noise, and charged.
    Release(Box<ReleasePlan>),
    /// By a written exception, totals are released as they are.
    WithoutDp(WithoutDp),
}

/// A policy does not let a task be released.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No release matches, and the policy refuses such tasks.
    #[error("no release of policy \"{policy}\" matches task \"{label}\"; add a [[release]] for it")]
    NoRelease {
        /// The policy.
        policy: String,
        /// The task's label.
        label: String,
    },
    /// Two releases match.
    #[error(
        "E040: task \"{label}\" matches releases \"{first}\" and \"{second}\"; make their labels differ, or name the \
         task by its identifier in one of them"
    )]
    Ambiguous {
        /// The task's label.
        label: String,
        /// One release.
        first: String,
        /// Another.
        second: String,
    },
    /// The release was written for another VDAF.
    #[error("E023: task \"{label}\" is {task}, release \"{release}\" says {policy}; write the task's vdaf")]
    OtherVdaf {
        /// The task's label.
        label: String,
        /// The release.
        release: String,
        /// What the task measures.
        task: Shape,
        /// What the policy says.
        policy: Shape,
    },
    /// The release asks for noise on totals for which no noise is defined.
    #[error(
        "E024: no sensitivity is derived for {vdaf}, which task \"{label}\" runs; match no release, and decide \
         under [unmatched] whether its totals may leave without noise"
    )]
    NoSensitivity {
        /// The task's label.
        label: String,
        /// The VDAF.
        vdaf: &'static str,
    },
    /// The release was written for another batch size.
    #[error(
        "E044: task \"{label}\" has min_batch_size {task}, release \"{release}\" says {policy}; make them equal"
    )]
    OtherBatchSize {
        /// The task's label.
        label: String,
        /// The release.
        release: String,
        /// The task's.
        task: u64,
        /// The policy's.
        policy: u64,
    },
    /// A budget is counted on a finer grid than that of the reports' times.
    #[error(
        "E070: task \"{label}\" has a time precision of {precision} s, but budget \"{budget}\" moves in steps of \
         {epoch} s; give the budget an epoch of {precision} s or more"
    )]
    FinerEpoch {
        /// The task's label.
        label: String,
        /// The budget.
        budget: String,
        /// The budget's grid in seconds.
        epoch: u64,
        /// The task's in seconds.
        precision: u64,
    },
    /// The pieces of time in which clients count do not begin and end where batches can.
    #[error(
        "E035: task \"{label}\" has a time precision of {precision} s, and the batch_window of release \"{release}\" is \
         {length} s; make it a multiple of {precision} s"
    )]
    BatchWindowOffGrid {
        /// The task's label.
        label: String,
        /// The release.
        release: String,
        /// The length of a piece in seconds.
        length: u64,
        /// The task's grid in seconds.
        precision: u64,
    },
    /// The leader selects the batches, and a client that sends several reports cannot keep to fewer in each.
    #[error(
        "E035: the leader of task \"{label}\" selects its batches, and no client can know which of its reports share one; \
         let release \"{release}\" allow as many reports of a client per batch as in all ({per_window} and not {per_batch})"
    )]
    CapsOfSelectedBatches {
        /// The task's label.
        label: String,
        /// The release.
        release: String,
        /// The most reports of a client in a batch.
        per_batch: u32,
        /// The most in the window.
        per_window: u32,
    },
    /// The leader selects the batches, whatever their time, and the caps hold for batches of some time only.
    #[error(
        "E035: the leader of task \"{label}\" selects its batches, whatever their time, and one report with an early \
         timestamp would make a batch longer than {within}; leave out batch_window in release \"{release}\", and charge \
         only budgets with a lifetime window"
    )]
    TimeOfSelectedBatches {
        /// The task's label.
        label: String,
        /// The release.
        release: String,
        /// What would have to hold a batch.
        within: Within,
    },
}

impl Refusal {
    /// The rule that the policy and the task break; nothing where the policy has no release for the task, as it may.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::NoRelease { .. } => None,
            Self::Ambiguous { .. } => Some("E040"),
            Self::OtherVdaf { .. } => Some("E023"),
            Self::NoSensitivity { .. } => Some("E024"),
            Self::OtherBatchSize { .. } => Some("E044"),
            Self::FinerEpoch { .. } => Some("E070"),
            Self::BatchWindowOffGrid { .. }
            | Self::CapsOfSelectedBatches { .. }
            | Self::TimeOfSelectedBatches { .. } => Some("E035"),
        }
    }
}

impl Policy {
    /// The decision about one task.
    ///
    /// # Privacy
    /// Releases are by name: a task that matches none is refused unless the file says otherwise, and a task that
    /// differs from what its release was written for is refused even then.
    pub fn release_for(&self, task: &TaskFacts<'_>) -> Result<Decision, Refusal> {
        let Some(release) = self.matching(task)? else { return self.unmatched(task.label) };
        self.check_task(release, task)?;
        Ok(Decision::Release(Box::new(self.plan(release))))
    }

    /// The release for a task: one that names its identifier goes before any that matches its label.
    fn matching(&self, task: &TaskFacts<'_>) -> Result<Option<&Release>, Refusal> {
        if let Some(release) = self.releases.iter().find(|release| release.selector.names(task.id)) {
            return Ok(Some(release));
        }
        let vdaf = Shape::try_from(task.vdaf).map_or(task.vdaf.name(), |shape| shape.name());
        let mut matching = self.releases.iter().filter(|release| release.selector.covers(task.label, vdaf));
        let first = matching.next();
        if let (Some(first), Some(second)) = (first, matching.next()) {
            let (first, second) = (first.id.clone(), second.id.clone());
            return Err(Refusal::Ambiguous { label: task.label.to_owned(), first, second });
        }
        Ok(first)
    }

    /// Whether the task is what the release was written for.
    fn check_task(&self, release: &Release, task: &TaskFacts<'_>) -> Result<(), Refusal> {
        let (label, terms) = (task.label.to_owned(), &release.terms);
        let shape = match Shape::try_from(task.vdaf) {
            Ok(shape) => shape,
            Err(NoSensitivity(vdaf)) => return Err(Refusal::NoSensitivity { label, vdaf }),
        };
        if shape != terms.shape {
            let (release, policy) = (release.id.clone(), terms.shape);
            return Err(Refusal::OtherVdaf { label, release, task: shape, policy });
        }
        if task.min_batch_size != terms.min_batch_size {
            let (release, policy) = (release.id.clone(), terms.min_batch_size);
            return Err(Refusal::OtherBatchSize { label, release, task: task.min_batch_size, policy });
        }
        let charged = release.charges.iter().filter_map(|charge| self.budget(&charge.budget_id));
        for budget in charged {
            if let (Some(epoch), Some(precision)) = (grid(budget.window), task.time_precision)
                && epoch < precision
            {
                return Err(Refusal::FinerEpoch { label, budget: budget.id.clone(), epoch, precision });
            }
        }
        let length = terms.contribution.batch_window.map(|cells| cells.length().unsigned_abs());
        if let (Some(length), Some(precision)) = (length, task.time_precision)
            && !length.is_multiple_of(precision)
        {
            let release = release.id.clone();
            return Err(Refusal::BatchWindowOffGrid { label, release, length, precision });
        }
        match task.batch_mode {
            Some(BatchMode::LeaderSelected) => check_selected(release, label),
            Some(BatchMode::TimeInterval) | None => Ok(()),
        }
    }

    fn unmatched(&self, label: &str) -> Result<Decision, Refusal> {
        let refused = || Refusal::NoRelease { policy: self.origin.id.clone(), label: label.to_owned() };
        self.without_noise().map(Decision::WithoutDp).ok_or_else(refused)
    }

    /// The written exception by which tasks that no release matches leave without noise; nothing where they are refused.
    pub fn without_noise(&self) -> Option<WithoutDp> {
        match &self.unmatched {
            Unmatched::Refuse => None,
            Unmatched::ReleaseWithoutDp { justification, expires, .. } => Some(WithoutDp {
                policy: self.origin.clone(),
                justification: justification.clone(),
                effective_from: self.header.effective_from,
                expires: *expires,
            }),
        }
    }

    /// What is wrong between this policy and all the tasks it is for: tasks that break a rule of their release (E023,
    /// E024, E035, E040, E044, E070), and releases that match none of them (E041: a warning, an error when `strict`).
    pub fn check_tasks(&self, tasks: &[TaskFacts<'_>], strict: bool) -> Vec<Diagnostic> {
        let mut findings = Vec::new();
        for task in tasks {
            let Err(refusal) = self.release_for(task) else { continue };
            let Some(code) = refusal.code() else { continue };
            let release = self.matching(task).ok().flatten();
            let text = refusal.to_string();
            let text = text.strip_prefix(&format!("{code}: ")).unwrap_or(&text);
            let (what, fix) = text.split_once("; ").unwrap_or((text, "correct one of them"));
            let place = release.map_or(Place { line: 1, col: 1 }, |release| release.place);
            findings.push(self.at(place, code, Severity::Error, what, fix));
        }
        for release in &self.releases {
            let is_matched = tasks
                .iter()
                .any(|task| matches!(self.matching(task), Ok(Some(matching)) if matching.id == release.id));
            if !is_matched {
                let severity = if strict { Severity::Error } else { Severity::Warning };
                let what = format!(
                    "release \"{}\" is for {}, and there are none",
                    release.id,
                    release.selector.describe()
                );
                let fix = "correct its match, or remove the release";
                findings.push(self.at(release.place, "E041", severity, what, fix));
            }
        }
        findings
    }
}

/// A client knows which of its reports share an interval, but not which share a batch of the leader's choice: there, all
/// that it sends may end up in one, whenever it was made.
fn check_selected(release: &Release, label: String) -> Result<(), Refusal> {
    let (caps, release) = (&release.terms.contribution, release.id.clone());
    let (per_batch, per_window) = (caps.max_reports_per_batch.get(), caps.max_reports_per_window.get());
    if per_batch != per_window {
        return Err(Refusal::CapsOfSelectedBatches { label, release, per_batch, per_window });
    }
    let within = caps.within();
    if within.can_be_selected() {
        return Ok(());
    }
    Err(Refusal::TimeOfSelectedBatches { label, release, within })
}

/// The seconds of the finest step of a window; nothing for one that has no steps.
fn grid(window: Window) -> Option<u64> {
    // In early 1970 every unit of the calendar is at its shortest.
    const EARLY: i64 = 40 * 86_400;
    match window {
        Window::Lifetime => None,
        Window::Calendar(_) | Window::Rolling(_) => {
            let cell = window.cell(EARLY);
            u64::try_from(cell.to() - cell.from()).ok()
        }
    }
}
