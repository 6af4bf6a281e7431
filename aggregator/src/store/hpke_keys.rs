//! The aggregator's HPKE keys. Holds private keys: rows have no `Debug`.

pub use mica_service::key_life::{KeyLife, KeyState};
use mica_service::store::{Fields, StoreError, Tx, signed};
use sqlx::any::AnyRow;
use zeroize::Zeroizing;

use super::columns;
use super::locks::{self, Lock};

/// A stored key.
///
/// It cannot be printed:
/// ```compile_fail
/// fn printable<T: std::fmt::Debug>() {}
/// printable::<mica_aggregator::store::hpke_keys::HpkeKeyRow>();
/// ```
#[derive(Clone)]
pub struct HpkeKeyRow {
    /// The identifier in the configuration.
    pub config_id: u8,
    /// The public configuration, encoded.
    pub config: Vec<u8>,
    /// The private key, unless it is destroyed.
    pub private_key: Option<Zeroizing<Vec<u8>>>,
    /// Where in its life it is.
    pub life: KeyLife,
}

/// Waits until nobody else changes keys; they stay as they are until the transaction ends.
pub async fn lock_keys(tx: &mut Tx) -> Result<(), StoreError> {
    locks::exclusive(tx, Lock::HpkeKeys).await
}

/// Every key, the newest first.
pub async fn keys(tx: &mut Tx) -> Result<Vec<HpkeKeyRow>, StoreError> {
    let rows = sqlx::query(
        "-- hpke_keys
         SELECT * FROM hpke_keys ORDER BY created_at DESC, config_id DESC",
    )
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(read).collect()
}

/// Stores a key, unless its identifier is taken.
pub async fn insert_key(tx: &mut Tx, key: &HpkeKeyRow) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- insert_hpke_key
         INSERT INTO hpke_keys
             (config_id, config, private_key, state, created_at, entered_at, leaves_at, cached_for)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (config_id) DO NOTHING",
    )
    .bind(i64::from(key.config_id))
    .bind(key.config.as_slice())
    .bind(key.private_key.as_ref().map(|bytes| bytes.as_slice()))
    .bind(word(key.life.state))
    .bind(signed(key.life.created_at)?)
    .bind(signed(key.life.entered_at)?)
    .bind(key.life.leaves_at.map(signed).transpose()?)
    .bind(signed(key.life.cached_for)?)
    .execute(tx.connection())
    .await?;
    Ok(columns::found(done.rows_affected()))
}

/// Takes a key from one state into the next, if it is in the first.
pub async fn move_key(
    tx: &mut Tx,
    config_id: u8,
    [from, to]: [KeyState; 2],
    now: u64,
    leaves_at: Option<u64>,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- move_hpke_key
         UPDATE hpke_keys SET state = $3, entered_at = $4, leaves_at = $5 WHERE config_id = $1 AND state = $2",
    )
    .bind(i64::from(config_id))
    .bind(word(from))
    .bind(word(to))
    .bind(signed(now)?)
    .bind(leaves_at.map(signed).transpose()?)
    .execute(tx.connection())
    .await?;
    Ok(columns::found(done.rows_affected()))
}

/// Writes other times of a key that stays in its state.
pub async fn set_key_back(
    tx: &mut Tx,
    config_id: u8,
    [created_at, entered_at]: [u64; 2],
    leaves_at: Option<u64>,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- set_hpke_key_back
         UPDATE hpke_keys SET created_at = $2, entered_at = $3, leaves_at = $4 WHERE config_id = $1",
    )
    .bind(i64::from(config_id))
    .bind(signed(created_at)?)
    .bind(signed(entered_at)?)
    .bind(leaves_at.map(signed).transpose()?)
    .execute(tx.connection())
    .await?;
    Ok(columns::found(done.rows_affected()))
}

/// Erases the private key of a key that is expired, and keeps its identifier.
pub async fn destroy_key(tx: &mut Tx, config_id: u8, now: u64, leaves_at: u64) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- destroy_hpke_key
         UPDATE hpke_keys SET state = 'destroyed', private_key = NULL, entered_at = $2, leaves_at = $3
         WHERE config_id = $1 AND state = 'expired'",
    )
    .bind(i64::from(config_id))
    .bind(signed(now)?)
    .bind(signed(leaves_at)?)
    .execute(tx.connection())
    .await?;
    Ok(columns::found(done.rows_affected()))
}

/// Gives the identifier of a destroyed key free.
pub async fn forget_key(tx: &mut Tx, config_id: u8) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- forget_hpke_key
         DELETE FROM hpke_keys WHERE config_id = $1 AND state = 'destroyed'",
    )
    .bind(i64::from(config_id))
    .execute(tx.connection())
    .await?;
    Ok(columns::found(done.rows_affected()))
}

/// Notes for how long clients are told to keep the configurations that are advertised.
pub async fn note_cached_for(tx: &mut Tx, seconds: u64) -> Result<(), StoreError> {
    sqlx::query(
        "-- note_hpke_cached_for
         UPDATE hpke_keys SET cached_for = $1 WHERE cached_for < $1 AND state IN ('pending', 'active')",
    )
    .bind(signed(seconds)?)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Whether a job that was formed between these times is still under way: it may need any key that was made by the first
/// and accepted until the second. A job that was formed before a key was made holds nothing that is sealed to it.
pub async fn is_needed_by_a_job(
    tx: &mut Tx,
    [made_at, accepted_until]: [u64; 2],
) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "-- job_formed_by
         SELECT id FROM aggregation_jobs WHERE state <> 'finished' AND created_at BETWEEN $1 AND $2 LIMIT 1",
    )
    .bind(signed(made_at)?)
    .bind(signed(accepted_until)?)
    .fetch_optional(tx.connection())
    .await?;
    Ok(row.is_some())
}

fn read(row: &AnyRow) -> Result<HpkeKeyRow, StoreError> {
    let fields = Fields::of("hpke_keys", row);
    let life = KeyLife {
        state: columns::state(&fields.text("state")?, &KeyState::ALL, word)
            .map_err(|_| fields.corrupt("state"))?,
        created_at: fields.unsigned("created_at")?,
        entered_at: fields.unsigned("entered_at")?,
        leaves_at: fields.optional_unsigned("leaves_at")?,
        cached_for: fields.unsigned("cached_for")?,
    };
    Ok(HpkeKeyRow {
        config_id: u8::try_from(fields.integer("config_id")?).map_err(|_| fields.corrupt("config_id"))?,
        config: fields.bytes("config")?,
        private_key: fields.optional_bytes("private_key")?.map(Zeroizing::new),
        life,
    })
}

/// The word for a state in its column.
const fn word(state: KeyState) -> &'static str {
    match state {
        KeyState::Pending => "pending",
        KeyState::Advertised => "active",
        KeyState::Accepted => "expired",
        KeyState::Destroyed => "destroyed",
    }
}
