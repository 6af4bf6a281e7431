//! The aggregator's HPKE keys. Holds private keys: rows have no `Debug`.

use std::str::FromStr;

use mica_service::store::{Fields, StoreError, Tx, signed};
use sqlx::any::AnyRow;
use zeroize::Zeroizing;

use super::columns;

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// May open reports; not advertised yet, because another replica may not know it.
    Pending,
    /// May open reports and is advertised.
    Active,
    /// May open reports; no longer advertised.
    Expired,
}

/// A stored key.
#[derive(Clone)]
pub struct HpkeKeyRow {
    /// The identifier in the configuration.
    pub config_id: u8,
    /// The public configuration, encoded.
    pub config: Vec<u8>,
    /// The private key.
    pub private_key: Zeroizing<Vec<u8>>,
    /// What it may be used for.
    pub state: KeyState,
    /// When it was made.
    pub created_at: u64,
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
         INSERT INTO hpke_keys (config_id, config, private_key, state, created_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (config_id) DO NOTHING",
    )
    .bind(i64::from(key.config_id))
    .bind(key.config.as_slice())
    .bind(key.private_key.as_slice())
    .bind(key.state.as_str())
    .bind(signed(key.created_at)?)
    .execute(tx.connection())
    .await?;
    Ok(columns::found(done.rows_affected()))
}

/// Changes what a key may be used for, if there is such a key.
pub async fn set_key_state(tx: &mut Tx, config_id: u8, state: KeyState) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- set_hpke_key_state
         UPDATE hpke_keys SET state = $2 WHERE config_id = $1",
    )
    .bind(i64::from(config_id))
    .bind(state.as_str())
    .execute(tx.connection())
    .await?;
    Ok(columns::found(done.rows_affected()))
}

fn read(row: &AnyRow) -> Result<HpkeKeyRow, StoreError> {
    let fields = Fields::of("hpke_keys", row);
    Ok(HpkeKeyRow {
        config_id: u8::try_from(fields.integer("config_id")?).map_err(|_| fields.corrupt("config_id"))?,
        config: fields.bytes("config")?,
        private_key: Zeroizing::new(fields.bytes("private_key")?),
        state: fields.parsed("state")?,
        created_at: fields.unsigned("created_at")?,
    })
}

impl KeyState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Expired => "expired",
        }
    }
}

impl FromStr for KeyState {
    type Err = columns::UnknownState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        columns::state(text, &[Self::Pending, Self::Active, Self::Expired], Self::as_str)
    }
}
