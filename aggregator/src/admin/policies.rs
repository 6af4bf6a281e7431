//! The policies of one aggregator for its operator: every version that was ever in force, word for word, and what is left of
//! its budgets.

use mica_dp::Policy;
use mica_service::store::StoreError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Desk, DeskError};
use crate::budget::{self, BudgetList, BudgetView};
use crate::store::policies::{self, PolicyRow};

/// Every version of every policy that was ever in force here.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct PolicyList {
    /// By their names and versions.
    pub policies: Vec<PolicySummary>,
}

/// One version of a policy in one line.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct PolicySummary {
    /// The policy's own name.
    pub id: String,
    /// Its version.
    pub version: u32,
    /// SHA-256 of its text: what every charge of the ledger names.
    pub sha256: String,
    /// When it was first loaded here, in seconds since 1970.
    pub loaded_at: u64,
    /// The second before which it releases nothing, where it says so.
    pub effective_from: Option<u64>,
    /// Whether it decides now.
    pub in_force: bool,
}

/// One version of a policy.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct PolicyDetail {
    /// The same as in lists.
    pub summary: PolicySummary,
    /// The file, word for word.
    pub text: String,
    /// Its budgets, with what is spent of them here. A budget of the same name in another version is the same budget,
    /// with that version's limit.
    pub budgets: Vec<BudgetView>,
}

impl Desk {
    /// Every version of every policy that was ever in force here.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn policies(&self) -> Result<PolicyList, DeskError> {
        let rows = self.policy_rows().await?;
        Ok(PolicyList { policies: rows.iter().map(|row| self.summary(row)).collect() })
    }

    /// One version of a policy; without a number that which is in force, else the newest.
    ///
    /// # Errors
    /// When there is none, or the database fails.
    pub async fn policy(&self, id: &str, version: Option<u32>) -> Result<PolicyDetail, DeskError> {
        let mut rows = self.policy_rows().await?;
        rows.retain(|row| row.policy_id == id && version.is_none_or(|version| row.version == version));
        let decides = rows.iter().position(|row| self.summary(row).in_force);
        let last = rows.len().checked_sub(1);
        let at = decides.or(last).ok_or_else(|| DeskError::UnknownPolicy(id.to_owned()))?;
        let row = rows.swap_remove(at);
        let policy =
            Policy::parse(&row.policy_id, &row.text).map_err(|_| StoreError::corrupt("policies", "text"))?;
        let mut budgets = budget::status(&self.store, &policy, self.clock.now()).await?;
        budgets.retain(|budget| policy.budget(&budget.account.budget_id).is_some());
        let summary = self.summary(&row);
        for budget in &mut budgets {
            budget.in_force &= summary.in_force;
        }
        Ok(PolicyDetail { summary, text: row.text, budgets: BudgetList::of(&budgets).budgets })
    }

    /// The budgets of the policy in force, and every other that was ever charged.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn budgets(&self) -> Result<BudgetList, DeskError> {
        let budgets = budget::status(&self.store, &self.policy.get(), self.clock.now()).await?;
        Ok(BudgetList::of(&budgets))
    }

    async fn policy_rows(&self) -> Result<Vec<PolicyRow>, StoreError> {
        self.store
            .read("list_policies", move |mut tx| async move {
                let rows = policies::all(&mut tx).await?;
                Ok((tx, rows))
            })
            .await
    }

    fn summary(&self, row: &PolicyRow) -> PolicySummary {
        let now = self.policy.get();
        let policy = Policy::parse(&row.policy_id, &row.text).ok();
        let effective_from =
            policy.and_then(|policy| policy.in_force(0).err()).map(|not_yet| not_yet.effective_from);
        let loaded = now.sha256() == row.sha256 && now.id() == row.policy_id;
        PolicySummary {
            id: row.policy_id.clone(),
            version: row.version,
            sha256: hex::encode(row.sha256),
            loaded_at: row.loaded_at,
            effective_from,
            in_force: loaded && now.in_force(self.clock.now()).is_ok(),
        }
    }
}
