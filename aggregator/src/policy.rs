//! Which policy decides how results leave, and which may take its place.
//!
//! Every version that was ever in force is kept word for word, so that each charge of the ledger can be derived again
//! from the text that it names. Versions only grow, and a version has one text: otherwise two readers of the ledger
//! could take the same charge for different promises.

use std::sync::{Arc, PoisonError, RwLock};

use mica_diagnostic::Diagnostic;
use mica_dp::Policy;
use mica_service::store::{Store, StoreError, Tx};
use thiserror::Error;

use crate::shared::Shared;
use crate::store::policies::{self, PolicyRow};

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
    #[error("{0}")]
    Refused(Box<Diagnostic>),
    /// Tasks would not be served any more: each with the reason.
    #[error("under this policy {} could not be served any more: {}", count(.0), .0.join("; "))]
    Unserved(Vec<String>),
}

fn count(tasks: &[String]) -> String {
    if tasks.len() == 1 { "a task".to_owned() } else { format!("{} tasks", tasks.len()) }
}

/// Makes sure that this version may be in force here, and keeps its text. Every start and every reload passes here.
pub(crate) async fn admit(store: &Store, policy: &Policy, now: u64) -> Result<(), PolicyError> {
    let refused = store
        .tx("admit_policy", move |mut tx| async move {
            let refused = objection(&mut tx, policy).await?;
            if refused.is_none() {
                policies::insert(&mut tx, &row(policy, now)).await?;
            }
            Ok((tx, refused))
        })
        .await?;
    match refused {
        Some(finding) => Err(PolicyError::Refused(Box::new(finding))),
        None => Ok(()),
    }
}

async fn objection(tx: &mut Tx, policy: &Policy) -> Result<Option<Diagnostic>, StoreError> {
    let Some(newest) = policies::newest(tx, policy.id()).await? else { return Ok(None) };
    let (id, ours, theirs) = (policy.id(), policy.version(), newest.version);
    let version = &["policy", "version"];
    if ours < theirs {
        let what = format!("policy {id} v{theirs} is loaded already, and versions only grow");
        let fix = format!("write version = {} to go back to these rules", theirs.saturating_add(1));
        return Ok(Some(policy.finding(version, "E050", what, fix)));
    }
    if ours == theirs && policy.sha256() != newest.sha256 {
        let what = format!("policy {id} v{ours} is already loaded with another sha256");
        let fix = format!("write version = {}: each version has one text", theirs.saturating_add(1));
        return Ok(Some(policy.finding(version, "E050", what, fix)));
    }
    Ok(None)
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
