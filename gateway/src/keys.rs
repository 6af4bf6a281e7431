//! Keys of the gateway: kept in its own database, made when there is none.

use mica_envelope::{GatewayKey, GatewayKeys, Ikm, Kem};
use mica_service::{
    clock::Clock,
    store::{Dialect, Fields, Store, StoreError, Tx, signed},
};

use crate::BuildError;

/// All stored keys, the newest first. The first start makes one; every later start finds it.
pub(crate) async fn load_or_create(store: &Store, clock: &Clock) -> Result<GatewayKeys, BuildError> {
    let now = signed(clock.now())?;
    let rows = store
        .tx("load_or_create_keys", move |mut tx| async move {
            lock(&mut tx).await?;
            let mut rows = load(&mut tx).await?;
            if rows.is_empty() {
                rows.push(create(&mut tx, now).await?);
            }
            Ok((tx, rows))
        })
        .await?;
    let keys = rows.iter().map(|row| GatewayKey::from_ikm(row.key_id, row.kem, &row.ikm));
    Ok(GatewayKeys::new(keys.collect::<Result<_, _>>()?)?)
}

struct Row {
    key_id: u8,
    kem: Kem,
    ikm: Ikm,
}

async fn lock(tx: &mut Tx) -> Result<(), StoreError> {
    let lock = match tx.dialect() {
        Dialect::Sqlite => "-- lock_keyring\nSELECT id FROM gateway_keyring WHERE id = 1",
        Dialect::Postgres => "-- lock_keyring\nSELECT id FROM gateway_keyring WHERE id = 1 FOR UPDATE",
    };
    sqlx::query(lock).fetch_one(tx.connection()).await?;
    Ok(())
}

async fn load(tx: &mut Tx) -> Result<Vec<Row>, StoreError> {
    sqlx::query("-- load_keys\nSELECT key_id, kem, ikm FROM gateway_keys ORDER BY created_at DESC, key_id")
        .fetch_all(tx.connection())
        .await?
        .iter()
        .map(|row| {
            let fields = Fields::of("gateway_keys", row);
            let corrupt = |column| StoreError::corrupt("gateway_keys", column);
            let kem = u16::try_from(fields.integer("kem")?).ok().and_then(Kem::from_id);
            Ok(Row {
                key_id: u8::try_from(fields.integer("key_id")?).map_err(|_| corrupt("key_id"))?,
                kem: kem.ok_or_else(|| corrupt("kem"))?,
                ikm: Ikm::from_bytes(fields.array("ikm")?),
            })
        })
        .collect()
}

/// A key under a random identifier: a gateway that lost its database then rarely offers an old identifier again.
async fn create(tx: &mut Tx, now: i64) -> Result<Row, StoreError> {
    let (kem, ikm) = (Kem::X25519HkdfSha256, Ikm::random());
    let key_id = rand::random::<u8>();
    sqlx::query(
        "-- create_key\nINSERT INTO gateway_keys (key_id, kem, ikm, created_at, updated_by) \
         VALUES ($1, $2, $3, $4, 'load_or_create_keys')",
    )
    .bind(i64::from(key_id))
    .bind(i64::from(kem.id()))
    .bind(ikm.as_bytes().to_vec())
    .bind(now)
    .execute(tx.connection())
    .await?;
    tracing::info!(key_id, "made a key");
    Ok(Row { key_id, kem, ikm })
}
