//! The table of keys. Holds secrets: rows have no `Debug`.

use mica_envelope::{Ikm, Kem};
use mica_service::{
    key_life::{KeyLife, KeyState},
    store::{Dialect, Fields, StoreError, Tx, signed},
};
use sqlx::any::AnyRow;

/// A stored key.
pub(super) struct KeyRow {
    /// The identifier that clients name it by.
    pub(super) key_id: u8,
    /// Its mechanism; nothing for one of a newer version.
    pub(super) kem: Option<Kem>,
    /// The secret, unless it is destroyed or was not asked for.
    pub(super) ikm: Option<Ikm>,
    /// Where in its life it is.
    pub(super) life: KeyLife,
}

/// Waits until nobody else changes keys; they stay as they are until the transaction ends.
pub(super) async fn lock(tx: &mut Tx) -> Result<(), StoreError> {
    let lock = match tx.dialect() {
        Dialect::Sqlite => "-- lock_keyring\nSELECT id FROM gateway_keyring WHERE id = 1",
        Dialect::Postgres => "-- lock_keyring\nSELECT id FROM gateway_keyring WHERE id = 1 FOR UPDATE",
    };
    sqlx::query(lock).fetch_one(tx.connection()).await?;
    Ok(())
}

/// Every key, the newest first, with its secret.
pub(super) async fn keys(tx: &mut Tx) -> Result<Vec<KeyRow>, StoreError> {
    sqlx::query(
        "-- gateway_keys
         SELECT key_id, kem, ikm, created_at, state, entered_at, leaves_at, cached_for
         FROM gateway_keys ORDER BY created_at DESC, key_id DESC",
    )
    .fetch_all(tx.connection())
    .await?
    .iter()
    .map(|row| Ok(KeyRow { ikm: secret(row)?, ..read(row)? }))
    .collect()
}

/// The same without the secrets: they leave the database only for a ring or a list that changes.
pub(super) async fn lives(tx: &mut Tx) -> Result<Vec<KeyRow>, StoreError> {
    sqlx::query(
        "-- gateway_key_lives
         SELECT key_id, kem, created_at, state, entered_at, leaves_at, cached_for
         FROM gateway_keys ORDER BY created_at DESC, key_id DESC",
    )
    .fetch_all(tx.connection())
    .await?
    .iter()
    .map(read)
    .collect()
}

/// Stores a fresh key, unless its identifier is taken.
pub(super) async fn insert(tx: &mut Tx, (key_id, kem): (u8, Kem), life: KeyLife) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- insert_gateway_key
         INSERT INTO gateway_keys
             (key_id, kem, ikm, created_at, state, entered_at, leaves_at, cached_for, updated_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'turn_gateway_keys')
         ON CONFLICT (key_id) DO NOTHING",
    )
    .bind(i64::from(key_id))
    .bind(i64::from(kem.id()))
    .bind(Ikm::random().as_bytes().to_vec())
    .bind(signed(life.created_at)?)
    .bind(life.state.word())
    .bind(signed(life.entered_at)?)
    .bind(life.leaves_at.map(signed).transpose()?)
    .bind(signed(life.cached_for)?)
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Takes a key from one state into the next, if it is in the first.
pub(super) async fn advance(
    tx: &mut Tx,
    key_id: u8,
    [from, to]: [KeyState; 2],
    now: u64,
    leaves_at: Option<u64>,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- advance_gateway_key
         UPDATE gateway_keys SET state = $3, entered_at = $4, leaves_at = $5, updated_by = 'turn_gateway_keys'
         WHERE key_id = $1 AND state = $2",
    )
    .bind(i64::from(key_id))
    .bind(from.word())
    .bind(to.word())
    .bind(signed(now)?)
    .bind(leaves_at.map(signed).transpose()?)
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Writes other times of a key that stays in its state.
pub(super) async fn set_back(
    tx: &mut Tx,
    key_id: u8,
    [created_at, entered_at]: [u64; 2],
    leaves_at: Option<u64>,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- set_gateway_key_back
         UPDATE gateway_keys SET created_at = $2, entered_at = $3, leaves_at = $4, updated_by = 'turn_gateway_keys'
         WHERE key_id = $1",
    )
    .bind(i64::from(key_id))
    .bind(signed(created_at)?)
    .bind(signed(entered_at)?)
    .bind(leaves_at.map(signed).transpose()?)
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Erases the secret of a key that was accepted, and keeps its identifier.
pub(super) async fn destroy(tx: &mut Tx, key_id: u8, now: u64, leaves_at: u64) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- destroy_gateway_key
         UPDATE gateway_keys
         SET state = 'destroyed', ikm = $4, entered_at = $2, leaves_at = $3, updated_by = 'turn_gateway_keys'
         WHERE key_id = $1 AND state = 'accepted'",
    )
    .bind(i64::from(key_id))
    .bind(signed(now)?)
    .bind(signed(leaves_at)?)
    .bind(Vec::<u8>::new())
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives the identifier of a destroyed key free.
pub(super) async fn forget(tx: &mut Tx, key_id: u8) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- forget_gateway_key
         DELETE FROM gateway_keys WHERE key_id = $1 AND state = 'destroyed'",
    )
    .bind(i64::from(key_id))
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Notes for how long clients are told to keep the configurations that are advertised.
pub(super) async fn note_cached_for(tx: &mut Tx, seconds: u64) -> Result<(), StoreError> {
    sqlx::query(
        "-- note_gateway_cached_for
         UPDATE gateway_keys SET cached_for = $1, updated_by = 'turn_gateway_keys'
         WHERE cached_for < $1 AND state IN ('pending', 'advertised')",
    )
    .bind(signed(seconds)?)
    .execute(tx.connection())
    .await?;
    Ok(())
}

fn secret(row: &AnyRow) -> Result<Option<Ikm>, StoreError> {
    let fields = Fields::of("gateway_keys", row);
    if fields.text("state")? == KeyState::Destroyed.word() {
        return Ok(None);
    }
    Ok(Some(Ikm::from_bytes(fields.array("ikm")?)))
}

fn read(row: &AnyRow) -> Result<KeyRow, StoreError> {
    let fields = Fields::of("gateway_keys", row);
    let word = fields.text("state")?;
    let state = KeyState::ALL.into_iter().find(|state| state.word() == word);
    let state = state.ok_or_else(|| fields.corrupt("state"))?;
    let created_at = fields.unsigned("created_at")?;
    Ok(KeyRow {
        key_id: u8::try_from(fields.integer("key_id")?).map_err(|_| fields.corrupt("key_id"))?,
        kem: u16::try_from(fields.integer("kem")?).ok().and_then(Kem::from_id),
        ikm: None,
        life: KeyLife {
            state,
            created_at,
            entered_at: fields.unsigned("entered_at")?.max(created_at),
            leaves_at: fields.optional_unsigned("leaves_at")?,
            cached_for: fields.unsigned("cached_for")?,
        },
    })
}
