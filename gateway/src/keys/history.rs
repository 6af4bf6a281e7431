//! The tables of the history: what was published, and the key that signs it. Entries are written and never changed.

use mica_envelope::history::{Entry, History, HistoryKey};
use mica_service::store::{Fields, StoreError, Tx, signed};
use sqlx::any::AnyRow;
use zeroize::Zeroizing;

/// The key that signs, made when there is none. Whoever calls this holds the lock of the keys.
pub(super) async fn signing_key(tx: &mut Tx) -> Result<HistoryKey, StoreError> {
    if let Some(seed) = seed(tx).await? {
        return key_of(&seed);
    }
    let seed = Zeroizing::new(rand::random::<[u8; 32]>());
    sqlx::query(
        "-- create_history_key
         INSERT INTO gateway_history_key (id, seed, updated_by) VALUES (1, $1, 'turn_gateway_keys')",
    )
    .bind(seed.to_vec())
    .execute(tx.connection())
    .await?;
    key_of(&seed)
}

/// The newest entry.
pub(super) async fn newest(tx: &mut Tx) -> Result<Option<Entry>, StoreError> {
    let row = sqlx::query(
        "-- newest_history_entry
         SELECT number, since, list, previous, hash, signature FROM gateway_key_history
         ORDER BY number DESC LIMIT 1",
    )
    .fetch_optional(tx.connection())
    .await?;
    row.as_ref().map(read).transpose()
}

/// All of it.
pub(super) async fn whole(tx: &mut Tx) -> Result<History, StoreError> {
    let rows = sqlx::query(
        "-- key_history
         SELECT number, since, list, previous, hash, signature FROM gateway_key_history ORDER BY number",
    )
    .fetch_all(tx.connection())
    .await?;
    let entries = rows.iter().map(read).collect::<Result<_, _>>()?;
    let seed = seed(tx).await?.ok_or_else(|| StoreError::corrupt("gateway_history_key", "seed"))?;
    Ok(History { key: key_of(&seed)?.public(), entries })
}

/// Writes the next entry.
pub(super) async fn append(tx: &mut Tx, entry: &Entry) -> Result<(), StoreError> {
    sqlx::query(
        "-- append_history_entry
         INSERT INTO gateway_key_history (number, since, list, previous, hash, signature, updated_by)
         VALUES ($1, $2, $3, $4, $5, $6, 'turn_gateway_keys')",
    )
    .bind(signed(entry.number)?)
    .bind(signed(entry.since)?)
    .bind(entry.list.as_slice())
    .bind(entry.previous.as_slice())
    .bind(entry.hash.as_slice())
    .bind(entry.signature.as_slice())
    .execute(tx.connection())
    .await?;
    Ok(())
}

async fn seed(tx: &mut Tx) -> Result<Option<Zeroizing<[u8; 32]>>, StoreError> {
    let row = sqlx::query("-- history_key\nSELECT seed FROM gateway_history_key WHERE id = 1")
        .fetch_optional(tx.connection())
        .await?;
    row.map(|row| Fields::of("gateway_history_key", &row).array("seed").map(Zeroizing::new)).transpose()
}

fn key_of(seed: &[u8; 32]) -> Result<HistoryKey, StoreError> {
    HistoryKey::from_seed(seed).map_err(|_| StoreError::corrupt("gateway_history_key", "seed"))
}

fn read(row: &AnyRow) -> Result<Entry, StoreError> {
    let fields = Fields::of("gateway_key_history", row);
    Ok(Entry {
        number: fields.unsigned("number")?,
        since: fields.unsigned("since")?,
        list: fields.bytes("list")?,
        previous: fields.array("previous")?,
        hash: fields.array("hash")?,
        signature: fields.array("signature")?,
    })
}
