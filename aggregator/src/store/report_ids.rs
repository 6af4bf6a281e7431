//! Replay protection: a report identifier is new to a task exactly once, for ever.
//!
//! Insert-only, but for tasks that never were in use. The identifiers of one call travel as one value, so that the statement is always the same
//! and has few parameters however many there are; PostgreSQL also answers with one value.

use std::collections::HashSet;

use mica_dap::id::ReportId;
use mica_service::store::{Dialect, Fields, StoreError, Tx, signed};

/// Remembers `ids` and answers for each, in the given order, whether it was new. Of an identifier that occurs
/// several times the first may be new, the others are not. An identifier that another open transaction has
/// inserted makes this one wait for its end.
pub async fn insert_new(tx: &mut Tx, task: i64, ids: &[ReportId]) -> Result<Vec<bool>, StoreError> {
    // Everybody inserts in the same order, so that two who share identifiers cannot wait for each other.
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let query = match tx.dialect() {
        Dialect::Sqlite => SQLITE,
        Dialect::Postgres => POSTGRES,
    };
    let mut new = HashSet::with_capacity(sorted.len());
    for chunk in sorted.chunks(CHUNK) {
        let packed: Vec<u8> = chunk.iter().flat_map(ReportId::as_bytes).copied().collect();
        let rows = sqlx::query(query)
            .bind(task)
            .bind(packed.as_slice())
            .bind(signed(chunk.len() as u64)?)
            .fetch_all(tx.connection())
            .await?;
        for row in &rows {
            let fields = Fields::of("report_ids", row);
            let (ids, rest) = fields.column::<&[u8]>("report_id")?.as_chunks();
            if !rest.is_empty() {
                return Err(fields.corrupt("report_id"));
            }
            new.extend(ids.iter().copied().map(ReportId::new));
        }
    }
    Ok(ids.iter().map(|id| new.remove(id)).collect())
}

/// Forgets the identifiers of tasks that came with uploads, never had a report that was verified, and are forgotten: none of
/// their reports was counted, and nobody can upload to them again.
pub async fn remove_untried(tx: &mut Tx, now: u64) -> Result<(), StoreError> {
    sqlx::query(
        "-- remove_untried_report_ids
         DELETE FROM report_ids WHERE task IN (SELECT id FROM tasks WHERE upload_trial = 1 AND expires_at <= $1)",
    )
    .bind(signed(now)?)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Those of `ids` that are known already. For VDAFs of several rounds, whose reports are looked at before they are counted,
/// and for reports that are refused without being remembered.
pub async fn known(tx: &mut Tx, task: i64, ids: &[ReportId]) -> Result<HashSet<ReportId>, StoreError> {
    let query = match tx.dialect() {
        Dialect::Sqlite => KNOWN_SQLITE,
        Dialect::Postgres => KNOWN_POSTGRES,
    };
    let mut known = HashSet::new();
    for chunk in ids.chunks(CHUNK) {
        let packed: Vec<u8> = chunk.iter().flat_map(ReportId::as_bytes).copied().collect();
        let rows = sqlx::query(query)
            .bind(task)
            .bind(packed.as_slice())
            .bind(signed(chunk.len() as u64)?)
            .fetch_all(tx.connection())
            .await?;
        for row in &rows {
            known.insert(ReportId::new(Fields::of("report_ids", row).array("report_id")?));
        }
    }
    Ok(known)
}

const KNOWN_SQLITE: &str = "-- known_report_ids
    WITH RECURSIVE position (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM position WHERE n + 1 < $3)
    SELECT report_id FROM report_ids
    WHERE task = $1 AND report_id IN (SELECT substr($2, n * 16 + 1, 16) FROM position WHERE n < $3)";

const KNOWN_POSTGRES: &str = "-- known_report_ids
    SELECT report_id FROM report_ids
    WHERE task = $1 AND report_id IN
        (SELECT substr($2, n * 16 + 1, 16) FROM generate_series(0, CAST($3 AS INTEGER) - 1) AS n)";

const SQLITE: &str = "-- insert_new_report_ids
    WITH RECURSIVE position (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM position WHERE n + 1 < $3)
    INSERT INTO report_ids (task, report_id)
    SELECT $1, substr($2, n * 16 + 1, 16) FROM position WHERE n < $3
    ON CONFLICT (task, report_id) DO NOTHING
    RETURNING report_id";

const POSTGRES: &str = "-- insert_new_report_ids
    WITH new AS (
        INSERT INTO report_ids (task, report_id)
        SELECT $1, substr($2, n * 16 + 1, 16) FROM generate_series(0, CAST($3 AS INTEGER) - 1) AS n
        ON CONFLICT (task, report_id) DO NOTHING
        RETURNING report_id)
    SELECT COALESCE(string_agg(report_id, ''), '') AS report_id FROM new";

/// Bounds the size of one statement's value.
const CHUNK: usize = 8_192;
