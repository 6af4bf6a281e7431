//! The policy file: what may be released, with how much noise, and who pays.
//!
//! One TOML file (schema `dp-policy/1`) from which noise, charges, limits, intervals and the public statement are
//! derived. Everything wrong in a file is found in one reading and reported with its place and a remedy; a key
//! that nothing would keep is refused, never passed over. Reading files and clocks is the caller's.

mod advice;
mod budget;
mod catalogue;
mod codes;
mod contribution;
mod date;
mod diff;
mod header;
mod history;
mod limit;
mod loss;
mod payers;
mod read;
mod reader;
mod release;
mod schema;
mod selector;
mod source;
mod tasks;
mod template;
#[cfg(test)]
mod tests;
mod unmatched;
mod vdaf;
mod window;

use mica_diagnostic::{Diagnostic, Severity};

pub use self::budget::{Budget, CeilingException, PrivacyUnit, Variant};
pub use self::codes::{WARNINGS, not_allowable};
pub use self::diff::Change;
use self::header::Header;
pub use self::history::ChargedBudget;
pub use self::limit::Limit;
pub(crate) use self::limit::is_small_delta;
use self::reader::{Place, Reader, Section};
use self::release::Release;
pub use self::schema::json_schema;
pub use self::tasks::{Decision, Refusal, TaskFacts};
use self::unmatched::Unmatched;
use crate::plan::{Charge, NotYetInForce, Payer, PolicyRef, ReleasePlan};
use crate::rational::Rational;
use crate::statement::Statement;

/// A policy file that was read without an error.
#[derive(Clone, Debug)]
pub struct Policy {
    file: String,
    text: String,
    origin: PolicyRef,
    header: Header,
    budgets: Vec<Budget>,
    releases: Vec<Release>,
    unmatched: Unmatched,
    warnings: Vec<Diagnostic>,
    allowed: Vec<String>,
}

impl Policy {
    /// Reads a policy; `file` is the name that findings carry. Where there is an error, all findings are returned, in
    /// the file's order; a policy without one keeps its [warnings](Self::warnings).
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
        let root = Section::new(&reader, "the policy file", 0, document.as_table());
        let policy = read::read(&root, (file, text));
        let findings = reader.into_findings();
        match policy {
            Some(policy) if findings.iter().all(|it| it.severity == Severity::Warning) => {
                Ok(Self { warnings: findings, ..policy })
            }
            _ => Err(findings),
        }
    }

    /// What whoever loads the policy should have read and meant, in the file's order.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// The policy, with the warnings whose codes its operator has read and means.
    #[must_use]
    pub fn allowing<S: AsRef<str>>(self, codes: &[S]) -> Self {
        Self { allowed: codes.iter().map(|code| code.as_ref().to_owned()).collect(), ..self }
    }

    /// Whether the operator has allowed warnings with this code.
    pub fn allows(&self, code: &str) -> bool {
        self.allowed.iter().any(|allowed| allowed == code)
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

    /// Name, version and hash together, as the ledger keeps them.
    pub fn origin(&self) -> &PolicyRef {
        &self.origin
    }

    /// Seconds since 1970 before which nothing is released under this version.
    pub fn effective_from(&self) -> Option<u64> {
        self.header.effective_from
    }

    /// Whether anything is released under this version at `now`, in seconds since 1970.
    pub fn in_force(&self, now: u64) -> Result<(), NotYetInForce> {
        NotYetInForce::check(self.header.effective_from, now)
    }

    /// Why the policy is as it is, in its author's words.
    pub fn justification(&self) -> &str {
        &self.header.justification
    }

    /// Who answers for the policy.
    pub fn owner(&self) -> Option<&str> {
        self.header.owner.as_deref()
    }

    /// The ε that no budget may imply without a written exception.
    pub fn epsilon_ceiling(&self) -> Option<&Rational> {
        self.header.epsilon_ceiling.as_ref()
    }

    /// The budgets, in the file's order.
    pub fn budgets(&self) -> &[Budget] {
        &self.budgets
    }

    /// The budget with that name.
    pub fn budget(&self, id: &str) -> Option<&Budget> {
        self.budgets.iter().find(|budget| budget.id == id)
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
            one_task: release.selector.is_one_task(),
            terms: release.terms.clone(),
            statement: Statement::new(&release.terms),
            sensitivity: release.sensitivity.clone(),
            charges: release.charges.clone(),
            payers: release.charges.iter().filter_map(|charge| self.payer(charge)).collect(),
            report_delta: release.report_delta.clone(),
            budgets: release.charges.iter().filter_map(|it| self.budget(&it.budget_id)).cloned().collect(),
            effective_from: self.header.effective_from,
            owner: self.header.owner.clone(),
            justification: self.header.justification.clone(),
        }
    }
}
