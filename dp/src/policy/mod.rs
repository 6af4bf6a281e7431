//! The policy file: what may be released, with how much noise, and who pays.
//!
//! One TOML file (schema `dp-policy/1`) from which noise, charges, limits, intervals and the public statement are
//! derived. Everything wrong in a file is found in one reading and reported with its place and a remedy; a key
//! that this version does not support is refused, never passed over. Reading files and clocks is the caller's.

mod budget;
mod contribution;
mod reader;
mod release;
mod source;
mod template;
#[cfg(test)]
mod tests;
mod unmatched;
mod vdaf;

use mica_dap::vdaf_config::VdafConfig;
use mica_diagnostic::Diagnostic;

pub use self::budget::{Budget, PrivacyUnit, Variant};
use self::reader::{At, Reader, Section};
use self::release::Release;
use self::unmatched::Unmatched;
use crate::canonical::sha256;
use crate::plan::{Charge, Payer, PolicyRef, ReleasePlan, WithoutDp};
use crate::shape::{NoSensitivity, Shape};
use crate::statement::Statement;

/// A policy file that was read without a finding.
#[derive(Clone, Debug)]
pub struct Policy {
    file: String,
    text: String,
    origin: PolicyRef,
    justification: String,
    owner: Option<String>,
    budgets: Vec<Budget>,
    releases: Vec<Release>,
    unmatched: Unmatched,
}

/// What a policy needs to know of a task.
#[derive(Clone, Copy, Debug)]
pub struct TaskFacts<'a> {
    /// The task's label: `task_info` up to its zero byte.
    pub label: &'a str,
    /// What the task measures.
    pub vdaf: &'a VdafConfig,
    /// The fewest reports in a batch.
    pub min_batch_size: u64,
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
    #[error("E040: task \"{label}\" matches releases \"{first}\" and \"{second}\"; make their labels differ")]
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
}

const SCHEMA: &str = "dp-policy/1";

impl Policy {
    /// Reads a policy; `file` is the name that findings carry. All findings are returned, in the file's order.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Diagnostic>> {
        let reader = Reader::new(file, text);
        let document = match toml_edit::Document::parse(text) {
            Ok(document) => document,
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                let what = error.message().trim().replace('\n', ", ");
                reader.report(at, "E001", what, "correct the TOML on this line");
                return Err(reader.into_findings());
            }
        };
        let policy = read(&Section::new(&reader, "the policy file", 0, document.as_table()), (file, text));
        let findings = reader.into_findings();
        match policy {
            Some(policy) if findings.is_empty() => Ok(policy),
            _ => Err(findings),
        }
    }

    /// The policy's own name.
    pub fn id(&self) -> &str {
        &self.origin.id
    }

    /// The version, which only grows.
    pub fn version(&self) -> u32 {
        self.origin.version
    }

    /// SHA-256 of the file as it was read.
    pub fn sha256(&self) -> [u8; 32] {
        self.origin.sha256
    }

    /// Why the policy is as it is, in its author's words.
    pub fn justification(&self) -> &str {
        &self.justification
    }

    /// Who answers for the policy.
    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// The budgets, in the file's order.
    pub fn budgets(&self) -> &[Budget] {
        &self.budgets
    }

    /// The decision about one task.
    ///
    /// # Privacy
    /// Releases are by name: a task that matches none is refused unless the file says otherwise, and a task that
    /// differs from what its release was written for is refused even then.
    pub fn release_for(&self, task: &TaskFacts<'_>) -> Result<Decision, Refusal> {
        let label = task.label.to_owned();
        let mut matching = self.releases.iter().filter(|release| release.selector.matches(task.label));
        let Some(release) = matching.next() else { return self.unmatched(label) };
        if let Some(second) = matching.next() {
            return Err(Refusal::Ambiguous { label, first: release.id.clone(), second: second.id.clone() });
        }
        let shape = match Shape::try_from(task.vdaf) {
            Ok(shape) => shape,
            Err(NoSensitivity(vdaf)) => return Err(Refusal::NoSensitivity { label, vdaf }),
        };
        let terms = &release.terms;
        if shape != terms.shape {
            let release = release.id.clone();
            return Err(Refusal::OtherVdaf { label, release, task: shape, policy: terms.shape });
        }
        if task.min_batch_size != terms.min_batch_size {
            return Err(Refusal::OtherBatchSize {
                label,
                release: release.id.clone(),
                task: task.min_batch_size,
                policy: terms.min_batch_size,
            });
        }
        Ok(Decision::Release(Box::new(self.plan(release))))
    }

    /// What every release of the file promises and costs, in the file's order, whether or not there is a task for it.
    pub fn plans(&self) -> impl Iterator<Item = ReleasePlan> {
        self.releases.iter().map(|release| self.plan(release))
    }

    fn payer(&self, charge: &Charge) -> Option<Payer> {
        let budget = self.budgets.iter().find(|budget| budget.id == charge.budget_id)?;
        Some(Payer { window: budget.window(), variant: budget.variant() })
    }

    fn plan(&self, release: &Release) -> ReleasePlan {
        ReleasePlan {
            policy: self.origin.clone(),
            release_id: release.id.clone(),
            terms: release.terms.clone(),
            statement: Statement::new(&release.terms),
            sensitivity: release.sensitivity.clone(),
            charges: release.charges.clone(),
            payers: release.charges.iter().filter_map(|charge| self.payer(charge)).collect(),
            report_delta: release.report_delta.clone(),
        }
    }

    fn unmatched(&self, label: String) -> Result<Decision, Refusal> {
        match &self.unmatched {
            Unmatched::Refuse => Err(Refusal::NoRelease { policy: self.origin.id.clone(), label }),
            Unmatched::ReleaseWithoutDp { justification, expires } => Ok(Decision::WithoutDp(WithoutDp {
                policy: self.origin.clone(),
                justification: justification.clone(),
                expires: *expires,
            })),
        }
    }
}

fn read(root: &Section<'_>, (file, text): (&str, &str)) -> Option<Policy> {
    root.refuse_other_keys(&["schema", "policy", "budget", "release", "unmatched"], &[]);
    if let Some(At { value: schema, at }) = root.required_text("schema", "\"dp-policy/1\"")
        && schema != SCHEMA
    {
        let what = format!("unknown schema \"{schema}\"");
        root.reader.report(at, "E001", what, format!("this version reads schema = \"{SCHEMA}\""));
    }
    let header = read_header(root);
    let budget_sections = root.sections("budget");
    let known = unique_ids(&budget_sections, "budget");
    let budgets: Vec<Option<Budget>> = budget_sections.iter().map(budget::read).collect();
    let read_budgets: Vec<Budget> = budgets.iter().flatten().cloned().collect();
    let release_sections = root.sections("release");
    unique_ids(&release_sections, "release");
    let releases: Vec<Option<Release>> =
        release_sections.iter().map(|section| release::read(section, &read_budgets, &known)).collect();
    refuse_equal_selectors(&release_sections, &releases);
    let unmatched = match root.section("unmatched") {
        Some(section) => unmatched::read(&section),
        None if root.has("unmatched") => None,
        None => Some(Unmatched::Refuse),
    };
    if budget_sections.is_empty() && !release_sections.is_empty() && !root.has("budget") {
        root.reader.report(
            0,
            "E011",
            "the policy has releases and no budget",
            "add a [[budget]] that pays for them",
        );
    }
    let (id, version, justification, owner) = header?;
    Some(Policy {
        file: file.to_owned(),
        text: text.to_owned(),
        origin: PolicyRef { id, version, sha256: sha256(text.as_bytes()) },
        justification,
        owner,
        budgets: budgets.into_iter().collect::<Option<_>>()?,
        releases: releases.into_iter().collect::<Option<_>>()?,
        unmatched: unmatched?,
    })
}

fn read_header(root: &Section<'_>) -> Option<(String, u32, String, Option<String>)> {
    if !root.has("policy") {
        root.missing("[policy]", "a table with id, version and justification");
    }
    let header = root.section("policy")?;
    header.refuse_other_keys(
        &["id", "version", "owner", "justification"],
        &["effective_from", "epsilon_ceiling"],
    );
    let id = header.required_text("id", "\"a-name\"");
    let justification = header.required_text("justification", "\"why these numbers\"");
    let owner = header.text("owner");
    if !header.has("version") {
        header.missing("version", "1");
    }
    let version = header.counting("version", "E002");
    Some((id?.value, version?.value.get(), justification?.value, owner.map(|it| it.value)))
}

/// The ids of all sections, and a finding for every one that comes a second time.
fn unique_ids(sections: &[Section<'_>], kind: &str) -> Vec<String> {
    let mut seen: Vec<(String, usize)> = Vec::new();
    for section in sections {
        let Some(At { value: id, at }) = section.text("id") else { continue };
        if let Some((_, first)) = seen.iter().find(|(known, _)| *known == id) {
            let (first, second) = (section.reader.line(*first), section.reader.line(at));
            let what = format!("{kind} id \"{id}\" is defined at line {first} and line {second}");
            section.reader.report(at, "E010", what, "give every one its own id");
        } else {
            seen.push((id, at));
        }
    }
    seen.into_iter().map(|(id, _)| id).collect()
}

/// Two releases for the very same label can never be told apart; overlaps of prefixes are seen per task.
fn refuse_equal_selectors(sections: &[Section<'_>], releases: &[Option<Release>]) {
    let read: Vec<_> =
        sections.iter().zip(releases).filter_map(|(section, it)| Some((section, it.as_ref()?))).collect();
    for (index, (section, release)) in read.iter().enumerate() {
        let earlier = read.iter().take(index).find(|(_, other)| other.selector == release.selector);
        if let Some((_, other)) = earlier {
            let what = format!("releases \"{}\" and \"{}\" match the same tasks", other.id, release.id);
            section.reader.report(section.key_place("match"), "E040", what, "give one of them another label");
        }
    }
}
