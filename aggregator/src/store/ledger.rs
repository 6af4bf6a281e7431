//! Every movement of privacy budgets. Entries are never changed or removed; each is bound to the one
//! before by its hash, and the schema refuses two successors of one entry.
//!
//! Whoever appends reads [`head`] first, which waits for whoever else does. What the entries add up to is in
//! [`ledger_uses`](super::ledger_uses).

use mica_dp::{ChainHead, EntryKind, LedgerEntry, PolicyRef, ReleaseKey};
use mica_service::store::{Fields, StoreError, Tx, signed};
use sqlx::any::AnyRow;

use super::ledger_counted;
use super::locks::{self, Lock};

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
    let query = sqlx::query(
        "-- append_to_ledger
         INSERT INTO ledger (seq, budget_id, task, batch_key, parameter_sha256, kind, units, limit_units, policy_id,
             policy_version, policy_sha256, policy_release, mechanism, prev_hash, entry_hash, created_at,
             note, data_from, data_to, budget_window, measure, per_batch, per_window, contribution_window,
             epsilon_units)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
             $23, $24, $25)",
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
    .bind(entry.note.as_deref());
    ledger_counted::bind(query, entry.counted.as_ref()).execute(tx.connection()).await?;
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

/// So many entries after the one with this number, or from the first on, in the order of the chain.
pub async fn page_after(tx: &mut Tx, after: Option<u64>, most: u32) -> Result<Vec<LedgerEntry>, StoreError> {
    let rows = sqlx::query(
        "-- ledger_page_after
         SELECT * FROM ledger WHERE seq > $1 ORDER BY seq LIMIT $2",
    )
    .bind(after.map_or(i64::MIN, |after| i64::try_from(after).unwrap_or(i64::MAX)))
    .bind(i64::from(most))
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(read_entry).collect()
}

/// So many entries before the one with this number, the newest first.
pub async fn page(tx: &mut Tx, before: u64, most: u32) -> Result<Vec<LedgerEntry>, StoreError> {
    let rows = sqlx::query(
        "-- ledger_page
         SELECT * FROM ledger WHERE seq < $1 ORDER BY seq DESC LIMIT $2",
    )
    .bind(i64::try_from(before).unwrap_or(i64::MAX))
    .bind(i64::from(most))
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(read_entry).collect()
}

/// The newest entry of each budget that has any.
pub async fn newest_by_budget(tx: &mut Tx) -> Result<Vec<LedgerEntry>, StoreError> {
    let rows = sqlx::query(
        "-- newest_ledger_entries
         SELECT * FROM ledger WHERE seq IN (
             SELECT MAX(seq) FROM ledger WHERE kind <> 'accepted_restore' GROUP BY budget_id)",
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
        counted: ledger_counted::read(&fields)?,
        policy: PolicyRef { id: fields.text("policy_id")?, version, sha256: fields.array("policy_sha256")? },
        note: fields.column::<Option<String>>("note")?,
        created_at: fields.unsigned("created_at")?,
        prev_hash: fields.array("prev_hash")?,
        entry_hash: fields.array("entry_hash")?,
    })
}
