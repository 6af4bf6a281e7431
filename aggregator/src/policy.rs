//! Which policy decides how results leave, and which may take its place.
//!
//! Every version that was ever in force is kept word for word, so that each charge of the ledger can be derived again
//! from the text that it names. Versions only grow, and a version has one text: otherwise two readers of the ledger
//! could take the same charge for different promises.

use std::sync::{Arc, PoisonError, RwLock};

use mica_diagnostic::{Diagnostic, Severity};
use mica_dp::accountant::Span;
use mica_dp::{Budget, ChargedBudget, LedgerEntry, Policy, PolicyRef};
use mica_service::store::{Store, StoreError, Tx};
use thiserror::Error;

use crate::shared::Shared;
use crate::store::policies::{self, PolicyRow};
use crate::store::tasks::{self, TaskRow};
use crate::store::{ledger, ledger_uses};
use crate::task::Task;
use crate::task_file::TaskFile;

/// The policy in force. Clones follow each other.
#[derive(Clone)]
pub struct PolicyInForce(Arc<RwLock<Arc<Policy>>>);

impl PolicyInForce {
    /// The policy of this moment. Whoever decides several things by it asks once.
    #[must_use]
    pub fn get(&self) -> Arc<Policy> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set(&self, policy: Policy) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }
}

impl From<Policy> for PolicyInForce {
    fn from(policy: Policy) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(policy))))
    }
}

/// Why a policy does not come into force.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was promised or spent before does not allow it.
    #[error("{}", lines(.0))]
    Refused(Vec<Diagnostic>),
    /// What was charged before cannot be compared with this version: each budget with the reason.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Unread(Vec<Unread>),
    /// Tasks would not be served any more: each with the reason.
    #[error("under this policy {} could not be served any more: {}", count(.0), .0.join("; "))]
    Unserved(Vec<String>),
}

/// A budget whose newest charge names a policy that cannot be read here any more: nobody can tell whether another version
/// reads the budget as it was charged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "E052: budget \"{budget}\" was charged under policy {policy} v{version}, and {why}: it cannot be told whether this \
     version changes what its charges mean; start once with the file of policy {policy} v{version} whose sha256 is \
     {sha256}, or restore the database from a copy that has it (`mica budget verify` tells which entries name it)"
)]
pub struct Unread {
    budget: String,
    policy: String,
    version: u32,
    sha256: String,
    why: &'static str,
}

fn lines(findings: &[Diagnostic]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn count(tasks: &[String]) -> String {
    if tasks.len() == 1 { "a task".to_owned() } else { format!("{} tasks", tasks.len()) }
}

/// Makes sure that this version may be in force here, and keeps its text. Every start and every reload passes here.
pub(crate) async fn admit(store: &Store, policy: &Policy, now: u64) -> Result<(), PolicyError> {
    let findings = store
        .tx("admit_policy", move |mut tx| async move {
            let newest = policies::newest(&mut tx, policy.id()).await?;
            let findings = findings(&mut tx, policy, newest.as_ref(), now).await?;
            if findings.as_ref().is_ok_and(|findings| !findings.iter().any(|it| blocks(policy, it))) {
                policies::insert(&mut tx, &row(policy, now)).await?;
            }
            Ok((tx, findings))
        })
        .await?;
    let findings = findings.map_err(PolicyError::Unread)?;
    let blocking: Vec<Diagnostic> =
        findings.iter().filter(|it| blocks(policy, it)).map(how_to_allow).collect();
    if !blocking.is_empty() {
        return Err(PolicyError::Refused(blocking));
    }
    for finding in policy.warnings().iter().chain(&findings) {
        tracing::warn!(%finding, "the policy is taken");
    }
    if let Err(not_yet) = policy.in_force(now) {
        tracing::warn!(policy = policy.id(), version = policy.version(), "{not_yet}");
    }
    Ok(())
}

/// Whether a finding keeps a policy from being served here: an error, or that spending would be forgotten, where nobody
/// has allowed it. A lower limit (W051) is stricter and holds nothing up; what is wrong in the file alone was seen before.
fn blocks(policy: &Policy, finding: &Diagnostic) -> bool {
    let forgets = FORGETS.contains(&finding.code.as_str());
    finding.severity == Severity::Error || (forgets && !policy.allows(&finding.code))
}

/// The warnings that budgets which were charged would begin at nothing.
const FORGETS: [&str; 2] = ["W053", "W054"];

fn how_to_allow(finding: &Diagnostic) -> Diagnostic {
    if finding.severity == Severity::Error {
        return finding.clone();
    }
    let fix = format!("{} (policy_allow = [\"{}\"] in the configuration)", finding.fix, finding.code);
    Diagnostic { fix, ..finding.clone() }
}

/// What was loaded or spent before that stands against this version, or should be known of it.
async fn findings(
    tx: &mut Tx,
    policy: &Policy,
    newest: Option<&PolicyRow>,
    now: u64,
) -> Result<Result<Vec<Diagnostic>, Vec<Unread>>, StoreError> {
    let newest =
        newest.map(|row| PolicyRef { id: row.policy_id.clone(), version: row.version, sha256: row.sha256 });
    if let Some(finding) = newest.and_then(|newest| policy.check_version(&newest)) {
        return Ok(Ok(vec![finding]));
    }
    let charged = charged(tx, policy, now).await?;
    let renamed = renamed(tx, policy, now).await?;
    Ok(charged.map(|charged| {
        let mut findings = policy.check_history(&charged);
        findings.extend(renamed);
        findings.extend(policy.check_time(now));
        findings
    }))
}

/// W054: whether tasks are served here that another policy was in force for until now.
async fn renamed(tx: &mut Tx, policy: &Policy, now: u64) -> Result<Option<Diagnostic>, StoreError> {
    let Some(before) = policies::newer_of_another_name(tx, policy.id()).await? else { return Ok(None) };
    let states = tasks::states(tx, now).await?;
    if !states.iter().any(|(_, retired_at)| retired_at.is_none()) {
        return Ok(None);
    }
    let PolicyRow { policy_id: id, version, sha256, .. } = before;
    Ok(policy.check_name(&PolicyRef { id, version, sha256 }))
}

/// What stands against a policy at one aggregator, before it is loaded there.
#[derive(Clone, Debug, Default)]
pub struct Objections {
    /// From the versions that were loaded and the budgets that were charged: E050, E052, W051, W053, W054, and E042 by the
    /// date.
    pub findings: Vec<Diagnostic>,
    /// The budgets of which nobody can say any more what their charges meant.
    pub unread: Vec<Unread>,
    /// The tasks that take reports now and could not be served any more, each with the reason.
    pub unserved: Vec<String>,
}

/// What a start or a reload with `policy` would be told. Nothing is written, and nobody waits.
///
/// # Errors
/// When the database fails.
pub async fn objections(store: &Store, policy: &Policy, now: u64) -> Result<Objections, StoreError> {
    let (findings, newest, rows) = store
        .read("policy_objections", move |mut tx| async move {
            let newest = policies::newest_now(&mut tx, policy.id()).await?;
            let findings = findings(&mut tx, policy, newest.as_ref(), now).await?;
            let rows = tasks::all_tasks(&mut tx).await?;
            Ok((tx, (findings, newest, rows)))
        })
        .await?;
    let before = newest.and_then(|row| Policy::parse("the policy before", &row.text).ok());
    let lost = |row: TaskRow| {
        let (key, file) = (row.key, TaskFile::from_row(row.task).ok()?);
        let why = Task::resolve(key, file.clone(), policy).err()?;
        let was_served = before.as_ref().is_none_or(|before| Task::resolve(key, file, before).is_ok());
        was_served.then(|| why.to_string())
    };
    let serving = rows.into_iter().filter(|row| row.retired_at.is_none());
    let (findings, unread) = findings.map_or_else(|unread| (Vec::new(), unread), |found| (found, Vec::new()));
    Ok(Objections { findings, unread, unserved: serving.filter_map(lost).collect() })
}

/// Every budget with charges, as the policy had it that its newest charge names; or those of which nobody can say.
async fn charged(
    tx: &mut Tx,
    policy: &Policy,
    now: u64,
) -> Result<Result<Vec<ChargedBudget>, Vec<Unread>>, StoreError> {
    let moment = Span::of_reports(now, now.saturating_add(1)).unwrap_or(Span::ALL);
    let (mut charged, mut unread) = (Vec::new(), Vec::new());
    for entry in ledger::newest_by_budget(tx).await? {
        let kept = policies::by_version(tx, &entry.policy.id, entry.policy.version).await?;
        let (budget, then) = match as_charged(&entry, kept.as_ref(), policy) {
            Ok(charged) => charged,
            Err(why) => {
                let PolicyRef { id, version, sha256 } = entry.policy;
                let sha256 = hex::encode(sha256);
                unread.push(Unread { budget: entry.budget_id, policy: id, version, sha256, why });
                continue;
            }
        };
        let uses = ledger_uses::of_budget(tx, &entry.budget_id, Span::ALL.from()).await?;
        let account = entry.account();
        let until = account.counts_until(&uses).filter(|second| *second > moment.from());
        let charge = ChargedBudget::new(&budget, account.fullest(&uses, moment).spent);
        charged.push(charge.counting_until(until).charged_by(then));
    }
    Ok(if unread.is_empty() { Ok(charged) } else { Err(unread) })
}

/// The budget as the policy has it that the entry names, and that policy. `policy` is the one to be taken: it may be the one that is missed.
fn as_charged(
    entry: &LedgerEntry,
    kept: Option<&PolicyRow>,
    policy: &Policy,
) -> Result<(Budget, Arc<Policy>), &'static str> {
    let named = &entry.policy;
    let text = match kept {
        Some(kept) if kept.sha256 == named.sha256 => &kept.text,
        Some(_) => return Err("its text that is kept is another"),
        None if (policy.id(), policy.version(), policy.sha256())
            == (named.id.as_str(), named.version, named.sha256) =>
        {
            policy.text()
        }
        None => return Err("its text is not kept"),
    };
    let then = Policy::parse("kept", text).map_err(|_| "its text that is kept is no policy")?;
    if then.sha256() != named.sha256 {
        return Err("its text that is kept was changed");
    }
    let budget = then.budget(&entry.budget_id).cloned().ok_or("its text that is kept has no such budget")?;
    Ok((budget, Arc::new(then)))
}

fn row(policy: &Policy, now: u64) -> PolicyRow {
    PolicyRow {
        policy_id: policy.id().to_owned(),
        version: policy.version(),
        sha256: policy.sha256(),
        text: policy.text().to_owned(),
        loaded_at: now,
    }
}

/// Brings another policy into force while an aggregator runs.
#[derive(Clone)]
pub struct PolicyReload {
    pub(crate) shared: Arc<Shared>,
}

impl PolicyReload {
    /// Whether `policy` is in force already, to the letter.
    #[must_use]
    pub fn is_in_force(&self, policy: &Policy) -> bool {
        self.shared.tasks.policy().get().sha256() == policy.sha256()
    }

    /// Brings `policy` into force for every release that begins from now on. A release under way ends under the policy
    /// it began with: its charge names the version that its noise is from.
    ///
    /// # Errors
    /// When the version may not follow, when a task could not be served any more, or the database fails. The old policy
    /// stays in force then.
    pub async fn adopt(&self, policy: Policy) -> Result<(), PolicyError> {
        self.shared.tasks.adopt(policy).await
    }
}
