//! Privacy budgets and every movement of them. Entries are never changed or removed; each is bound to the one
//! before by its hash, and the schema refuses two successors of one entry.
//!
//! Whoever charges reads [`budget_states`] or [`head`] first: both wait for whoever else is charging.

use mica_dap::id::TaskId;
use mica_service::store::{Fields, StoreError, Tx, signed};
use sqlx::any::AnyRow;

use super::columns::{self, found};
use super::locks::{self, Lock};

/// A budget and what is spent of it, in units of 1e-12.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetRow {
    /// The budget and its window.
    pub budget_id: String,
    /// The limit that the last charge was held against.
    pub limit: i64,
    /// What is spent.
    pub spent: i64,
}

/// A movement of a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryRow {
    /// The budget.
    pub budget_id: String,
    /// The task.
    pub task: TaskId,
    /// The batch that was released.
    pub batch_key: Vec<u8>,
    /// charge, commit or refund.
    pub kind: String,
    /// How much, in units of 1e-12.
    pub units: i64,
    /// The policy that allowed it.
    pub policy_id: String,
    /// The policy's version.
    pub policy_version: u64,
    /// SHA-256 of the policy's text.
    pub policy_sha256: [u8; 32],
    /// The mechanism that drew the noise.
    pub mechanism: String,
    /// The hash of the entry before.
    pub prev_hash: [u8; 32],
    /// The hash of this entry.
    pub entry_hash: [u8; 32],
    /// When it happened.
    pub created_at: u64,
}

/// The budgets of these identifiers and limits, in the given order, each created when it is new. Locked until the
/// transaction ends, and the ledger with them.
pub async fn budget_states(tx: &mut Tx, budgets: &[(&str, i64)]) -> Result<Vec<BudgetRow>, StoreError> {
    locks::exclusive(tx, Lock::Ledger).await?;
    let mut sorted = budgets.to_vec();
    sorted.sort_unstable();
    sorted.dedup_by_key(|(budget_id, _)| *budget_id);
    let mut states = Vec::with_capacity(sorted.len());
    for (budget_id, limit) in sorted {
        sqlx::query(
            "-- create_budget
             INSERT INTO budgets (budget_id, limit_units, spent) VALUES ($1, $2, 0)
             ON CONFLICT (budget_id) DO NOTHING",
        )
        .bind(budget_id)
        .bind(limit)
        .execute(tx.connection())
        .await?;
        let query = columns::for_update(
            tx,
            "-- lock_budget
             SELECT * FROM budgets WHERE budget_id = $1",
        );
        states.push(read_budget(&sqlx::query(query).bind(budget_id).fetch_one(tx.connection()).await?)?);
    }
    let find = |(budget_id, limit): &(&str, i64)| {
        let state = states.iter().find(|state| state.budget_id == *budget_id)?;
        Some(BudgetRow { limit: *limit, ..state.clone() })
    };
    budgets.iter().map(|budget| find(budget).ok_or_else(|| StoreError::corrupt("budgets", "budget_id"))).collect()
}

/// Every budget, in the order of their names.
pub async fn budgets(tx: &mut Tx) -> Result<Vec<BudgetRow>, StoreError> {
    let rows = sqlx::query(
        "-- budgets
         SELECT * FROM budgets",
    )
    .fetch_all(tx.connection())
    .await?;
    let mut budgets = rows.iter().map(read_budget).collect::<Result<Vec<_>, _>>()?;
    budgets.sort_unstable_by(|a, b| a.budget_id.cmp(&b.budget_id));
    Ok(budgets)
}

/// Spends `units` of a budget, unless that would pass `limit`: then false, and nothing is spent.
pub async fn debit(tx: &mut Tx, budget_id: &str, units: i64, limit: i64) -> Result<bool, StoreError> {
    let room = match limit.checked_sub(units) {
        Some(room) if units >= 0 && room >= 0 => room,
        _ => return Ok(false),
    };
    let done = sqlx::query(
        "-- debit_budget
         UPDATE budgets SET spent = spent + $2, limit_units = $3 WHERE budget_id = $1 AND spent <= $4",
    )
    .bind(budget_id)
    .bind(units)
    .bind(limit)
    .bind(room)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Gives `units` back to a budget, unless it has not spent as much: then false, and nothing is given back.
pub async fn credit(tx: &mut Tx, budget_id: &str, units: i64) -> Result<bool, StoreError> {
    if units < 0 {
        return Ok(false);
    }
    let done = sqlx::query(
        "-- credit_budget
         UPDATE budgets SET spent = spent - $2 WHERE budget_id = $1 AND spent >= $2",
    )
    .bind(budget_id)
    .bind(units)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// The hash of the last entry, None when there is none. Nobody else appends until the transaction ends.
pub async fn head(tx: &mut Tx) -> Result<Option<[u8; 32]>, StoreError> {
    locks::exclusive(tx, Lock::Ledger).await?;
    let row = sqlx::query(
        "-- ledger_head
         SELECT entry_hash FROM ledger ORDER BY seq DESC LIMIT 1",
    )
    .fetch_optional(tx.connection())
    .await?;
    row.map(|row| Fields::of("ledger", &row).array("entry_hash")).transpose()
}

/// Appends an entry. One that does not follow [`head`] is a `Conflict`.
pub async fn append(tx: &mut Tx, entry: &EntryRow) -> Result<(), StoreError> {
    sqlx::query(
        "-- append_to_ledger
         INSERT INTO ledger (budget_id, task, batch_key, kind, units, policy_id, policy_version, policy_sha256,
             mechanism, prev_hash, entry_hash, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(entry.budget_id.as_str())
    .bind(entry.task.as_bytes().as_slice())
    .bind(entry.batch_key.as_slice())
    .bind(entry.kind.as_str())
    .bind(entry.units)
    .bind(entry.policy_id.as_str())
    .bind(signed(entry.policy_version)?)
    .bind(entry.policy_sha256.as_slice())
    .bind(entry.mechanism.as_str())
    .bind(entry.prev_hash.as_slice())
    .bind(entry.entry_hash.as_slice())
    .bind(signed(entry.created_at)?)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Every entry, in the order of the chain.
pub async fn entries(tx: &mut Tx) -> Result<Vec<EntryRow>, StoreError> {
    let rows = sqlx::query(
        "-- ledger_entries
         SELECT * FROM ledger ORDER BY seq",
    )
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(read_entry).collect()
}

fn read_budget(row: &AnyRow) -> Result<BudgetRow, StoreError> {
    let fields = Fields::of("budgets", row);
    Ok(BudgetRow {
        budget_id: fields.text("budget_id")?,
        limit: fields.integer("limit_units")?,
        spent: fields.integer("spent")?,
    })
}

fn read_entry(row: &AnyRow) -> Result<EntryRow, StoreError> {
    let fields = Fields::of("ledger", row);
    Ok(EntryRow {
        budget_id: fields.text("budget_id")?,
        task: TaskId::new(fields.array("task")?),
        batch_key: fields.bytes("batch_key")?,
        kind: fields.text("kind")?,
        units: fields.integer("units")?,
        policy_id: fields.text("policy_id")?,
        policy_version: fields.unsigned("policy_version")?,
        policy_sha256: fields.array("policy_sha256")?,
        mechanism: fields.text("mechanism")?,
        prev_hash: fields.array("prev_hash")?,
        entry_hash: fields.array("entry_hash")?,
        created_at: fields.unsigned("created_at")?,
    })
}
