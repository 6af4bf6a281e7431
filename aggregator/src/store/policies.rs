//! The policies that were ever in force: a version has one text for ever, and versions only grow.
//!
//! Whoever adds one reads [`newest`] first, which waits for whoever else does and for whoever charges.

use mica_service::store::{Fields, StoreError, Tx, signed};
use sqlx::any::AnyRow;

use super::columns::found;
use super::locks::{self, Lock};

/// One version of one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRow {
    /// The policy's own name.
    pub policy_id: String,
    /// Its version.
    pub version: u32,
    /// SHA-256 of its text.
    pub sha256: [u8; 32],
    /// The file as it was read.
    pub text: String,
    /// When it was first in force here.
    pub loaded_at: u64,
}

/// The highest version of a policy. Nobody else adds one until the transaction ends.
pub async fn newest(tx: &mut Tx, policy_id: &str) -> Result<Option<PolicyRow>, StoreError> {
    locks::exclusive(tx, Lock::Ledger).await?;
    newest_now(tx, policy_id).await
}

/// The same for those who only look: it waits for nobody.
pub async fn newest_now(tx: &mut Tx, policy_id: &str) -> Result<Option<PolicyRow>, StoreError> {
    let row = sqlx::query(
        "-- newest_policy
         SELECT * FROM policies WHERE policy_id = $1 ORDER BY version DESC LIMIT 1",
    )
    .bind(policy_id)
    .fetch_optional(tx.connection())
    .await?;
    row.as_ref().map(read).transpose()
}

/// The policy of another name that was loaded after every version of this one, if there is any: the newest of those.
pub async fn newer_of_another_name(tx: &mut Tx, policy_id: &str) -> Result<Option<PolicyRow>, StoreError> {
    let row = sqlx::query(
        "-- newer_policy_of_another_name
         SELECT * FROM policies WHERE policy_id <> $1 AND loaded_at > COALESCE(
             (SELECT MAX(loaded_at) FROM policies WHERE policy_id = $1), -1)
         ORDER BY loaded_at DESC, version DESC LIMIT 1",
    )
    .bind(policy_id)
    .fetch_optional(tx.connection())
    .await?;
    row.as_ref().map(read).transpose()
}

/// This version of a policy.
pub async fn by_version(tx: &mut Tx, policy_id: &str, version: u32) -> Result<Option<PolicyRow>, StoreError> {
    let row = sqlx::query(
        "-- policy_by_version
         SELECT * FROM policies WHERE policy_id = $1 AND version = $2",
    )
    .bind(policy_id)
    .bind(i64::from(version))
    .fetch_optional(tx.connection())
    .await?;
    row.as_ref().map(read).transpose()
}

/// All of them, in the order of their names and versions.
pub async fn all(tx: &mut Tx) -> Result<Vec<PolicyRow>, StoreError> {
    let rows = sqlx::query(
        "-- all_policies
         SELECT * FROM policies ORDER BY policy_id, version",
    )
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(read).collect()
}

/// Adds a version. False when it is there already, with whatever text.
pub async fn insert(tx: &mut Tx, policy: &PolicyRow) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- insert_policy
         INSERT INTO policies (policy_id, version, sha256, text, loaded_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (policy_id, version) DO NOTHING",
    )
    .bind(policy.policy_id.as_str())
    .bind(i64::from(policy.version))
    .bind(policy.sha256.as_slice())
    .bind(policy.text.as_str())
    .bind(signed(policy.loaded_at)?)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

fn read(row: &AnyRow) -> Result<PolicyRow, StoreError> {
    let fields = Fields::of("policies", row);
    Ok(PolicyRow {
        policy_id: fields.text("policy_id")?,
        version: u32::try_from(fields.unsigned("version")?).map_err(|_| fields.corrupt("version"))?,
        sha256: fields.array("sha256")?,
        text: fields.text("text")?,
        loaded_at: fields.unsigned("loaded_at")?,
    })
}
