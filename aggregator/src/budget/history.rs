//! What happened, the newest first.

use mica_dap::id::TaskId;
use mica_dp::LedgerEntry;
use mica_service::store::{Store, StoreError};

use crate::store::ledger;

/// Which entries.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Those of this budget.
    pub budget: Option<String>,
    /// Those of this task.
    pub task: Option<TaskId>,
}

impl Filter {
    fn takes(&self, entry: &LedgerEntry) -> bool {
        self.budget.as_ref().is_none_or(|budget| *budget == entry.budget_id)
            && self.task.as_ref().is_none_or(|task| task.as_bytes() == entry.key.task_id())
    }
}

/// The newest entries that `filter` takes, at most so many.
///
/// # Errors
/// When the database fails.
pub async fn history(store: &Store, filter: &Filter, most: usize) -> Result<Vec<LedgerEntry>, StoreError> {
    store
        .read("ledger_history", move |mut tx| async move {
            let (mut found, mut before) = (Vec::new(), u64::MAX);
            while found.len() < most {
                let page = ledger::page(&mut tx, before, PAGE).await?;
                let Some(last) = page.last() else { break };
                before = last.sequence;
                found.extend(page.into_iter().filter(|entry| filter.takes(entry)));
            }
            found.truncate(most);
            Ok((tx, found))
        })
        .await
}

/// So many are read at once.
const PAGE: u32 = 1_000;
