//! Privacy budgets and every movement of them. Entries are never changed or removed; each is bound to the one
//! before by its hash, and the schema refuses two successors of one entry.
//!
//! Whoever charges reads [`budget_states`] or [`head`] first: both wait for whoever else is charging.

use mica_dp::{ChainHead, EntryKind, LedgerEntry, PolicyRef, ReleaseKey};
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
    budgets
        .iter()
        .map(|budget| find(budget).ok_or_else(|| StoreError::corrupt("budgets", "budget_id")))
        .collect()
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

/// Where the chain ends. Nobody else appends until the transaction ends.
pub async fn head(tx: &mut Tx) -> Result<ChainHead, StoreError> {
    locks::exclusive(tx, Lock::Ledger).await?;
    end(tx).await
}

/// The hash of the entry with this number, if the chain goes as far.
pub async fn hash_at(tx: &mut Tx, sequence: u64) -> Result<Option<[u8; 32]>, StoreError> {
    let row = sqlx::query(
        "-- ledger_hash_at
         SELECT entry_hash FROM ledger WHERE seq = $1",
    )
    .bind(signed(sequence)?)
    .fetch_optional(tx.connection())
    .await?;
    row.map(|row| Fields::of("ledger", &row).array("entry_hash")).transpose()
}

/// Where the chain ends at this moment; others may append to it.
pub async fn end(tx: &mut Tx) -> Result<ChainHead, StoreError> {
    let row = sqlx::query(
        "-- ledger_head
         SELECT seq, entry_hash FROM ledger ORDER BY seq DESC LIMIT 1",
    )
    .fetch_optional(tx.connection())
    .await?;
    let Some(row) = row else { return Ok(ChainHead::EMPTY) };
    let fields = Fields::of("ledger", &row);
    Ok(ChainHead { sequence: fields.unsigned("seq")?, hash: fields.array("entry_hash")? })
}

/// Appends an entry. One that does not follow [`head`] is a `Conflict`.
pub async fn append(tx: &mut Tx, entry: &LedgerEntry) -> Result<(), StoreError> {
    sqlx::query(
        "-- append_to_ledger
         INSERT INTO ledger (seq, budget_id, task, batch_key, parameter_sha256, kind, units, limit_units, policy_id,
             policy_version, policy_sha256, policy_release, mechanism, prev_hash, entry_hash, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
    )
    .bind(signed(entry.sequence)?)
    .bind(entry.budget_id.as_str())
    .bind(entry.key.task_id().as_slice())
    .bind(entry.key.batch())
    .bind(entry.key.aggregation_parameter_sha256().as_slice())
    .bind(entry.kind.name())
    .bind(entry.units)
    .bind(entry.limit)
    .bind(entry.policy.id.as_str())
    .bind(i64::from(entry.policy.version))
    .bind(entry.policy.sha256.as_slice())
    .bind(entry.release_id.as_str())
    .bind(entry.mechanism.as_str())
    .bind(entry.prev_hash.as_slice())
    .bind(entry.entry_hash.as_slice())
    .bind(signed(entry.created_at)?)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Every entry, in the order of the chain.
pub async fn entries(tx: &mut Tx) -> Result<Vec<LedgerEntry>, StoreError> {
    let rows = sqlx::query(
        "-- ledger_entries
         SELECT * FROM ledger ORDER BY seq",
    )
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(read_entry).collect()
}

/// The entries of one release, in the order of the chain.
pub async fn entries_of(tx: &mut Tx, release: &ReleaseKey) -> Result<Vec<LedgerEntry>, StoreError> {
    let rows = sqlx::query(
        "-- ledger_entries_of_release
         SELECT * FROM ledger WHERE task = $1 AND batch_key = $2 AND parameter_sha256 = $3 ORDER BY seq",
    )
    .bind(release.task_id().as_slice())
    .bind(release.batch())
    .bind(release.aggregation_parameter_sha256().as_slice())
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

fn read_entry(row: &AnyRow) -> Result<LedgerEntry, StoreError> {
    let fields = Fields::of("ledger", row);
    let version =
        u32::try_from(fields.unsigned("policy_version")?).map_err(|_| fields.corrupt("policy_version"))?;
    Ok(LedgerEntry {
        sequence: fields.unsigned("seq")?,
        kind: EntryKind::from_name(&fields.text("kind")?).ok_or_else(|| fields.corrupt("kind"))?,
        budget_id: fields.text("budget_id")?,
        units: fields.integer("units")?,
        limit: fields.integer("limit_units")?,
        key: ReleaseKey::from_parts(
            fields.array("task")?,
            fields.bytes("batch_key")?,
            fields.array("parameter_sha256")?,
        ),
        release_id: fields.text("policy_release")?,
        mechanism: fields.text("mechanism")?,
        policy: PolicyRef { id: fields.text("policy_id")?, version, sha256: fields.array("policy_sha256")? },
        created_at: fields.unsigned("created_at")?,
        prev_hash: fields.array("prev_hash")?,
        entry_hash: fields.array("entry_hash")?,
    })
}
