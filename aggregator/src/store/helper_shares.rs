//! Helper: aggregate shares that were asked for and are not released. Those that are stand in
//! [`releases`](super::releases), under the same identifier.

use std::str::FromStr;

use mica_dap::id::AggregateShareId;
use mica_service::store::{Fields, StoreError, Tx, signed};
use sqlx::any::AnyRow;

use super::columns::{self, found};

/// How far the share is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelperShareState {
    /// To be worked on.
    Waiting,
    /// Refused. The same request is a new one.
    Failed,
}

/// A share that is not released.
#[derive(Clone)]
pub struct HelperShareRow {
    /// The identifier in the share's path.
    pub id: AggregateShareId,
    /// How far it is.
    pub state: HelperShareState,
    /// The problem document of one that failed.
    pub problem: Option<String>,
}

/// Stores a share that is to be worked on. False when the same request waits already; then the caller rolls back and
/// answers what is stored. Waits for an open transaction that inserts the same request.
pub async fn insert(
    tx: &mut Tx,
    task: i64,
    id: &AggregateShareId,
    digest: &[u8; 32],
    created_at: u64,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- insert_helper_share
         INSERT INTO helper_shares (id, task, request_digest, state, created_at)
         VALUES ($1, $2, $3, 'waiting', $4)
         ON CONFLICT DO NOTHING",
    )
    .bind(id.as_bytes().as_slice())
    .bind(task)
    .bind(digest.as_slice())
    .bind(signed(created_at)?)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// The share that the request of that digest waits for.
pub async fn waiting(
    tx: &mut Tx,
    task: i64,
    digest: &[u8; 32],
) -> Result<Option<HelperShareRow>, StoreError> {
    let row = sqlx::query(
        "-- waiting_helper_share
         SELECT * FROM helper_shares WHERE task = $1 AND request_digest = $2 AND state = 'waiting'",
    )
    .bind(task)
    .bind(digest.as_slice())
    .fetch_optional(tx.connection())
    .await?;
    row.as_ref().map(read).transpose()
}

/// The share under that path of the task.
pub async fn by_id(
    tx: &mut Tx,
    task: i64,
    id: &AggregateShareId,
) -> Result<Option<HelperShareRow>, StoreError> {
    let row = sqlx::query(
        "-- helper_share_by_id
         SELECT * FROM helper_shares WHERE id = $1 AND task = $2",
    )
    .bind(id.as_bytes().as_slice())
    .bind(task)
    .fetch_optional(tx.connection())
    .await?;
    row.as_ref().map(read).transpose()
}

/// Notes why a share that waits was refused. False when it does not wait any more.
pub async fn set_failed(tx: &mut Tx, id: &AggregateShareId, problem: &str) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- set_helper_share_failed
         UPDATE helper_shares SET state = 'failed', problem = $2 WHERE id = $1 AND state = 'waiting'",
    )
    .bind(id.as_bytes().as_slice())
    .bind(problem)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Forgets a share that is released now, or of no more use. False when there is no such share.
pub async fn delete(tx: &mut Tx, task: i64, id: &AggregateShareId) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- delete_helper_share
         DELETE FROM helper_shares WHERE id = $1 AND task = $2",
    )
    .bind(id.as_bytes().as_slice())
    .bind(task)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

fn read(row: &AnyRow) -> Result<HelperShareRow, StoreError> {
    let fields = Fields::of("helper_shares", row);
    Ok(HelperShareRow {
        id: AggregateShareId::new(fields.array("id")?),
        state: fields.parsed("state")?,
        problem: fields.column("problem")?,
    })
}

impl FromStr for HelperShareState {
    type Err = columns::UnknownState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        columns::state(text, &[Self::Waiting, Self::Failed], |state| match state {
            Self::Waiting => "waiting",
            Self::Failed => "failed",
        })
    }
}
