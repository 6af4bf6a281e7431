//! Helper: answers to aggregation requests. The same bytes get the same answer, under the same path.

use mica_dap::id::AggregationJobId;
use mica_service::store::{Fields, StoreError, Tx, signed};
use sqlx::any::AnyRow;

use super::columns::found;

/// An answered request.
#[derive(Clone)]
pub struct HelperJobRow {
    /// The identifier in the job's path.
    pub id: AggregationJobId,
    /// The task.
    pub task: i64,
    /// SHA-256 of the request.
    pub request_digest: [u8; 32],
    /// The answer, encoded.
    pub response: Vec<u8>,
    /// When it was answered.
    pub created_at: u64,
}

/// Stores an answer. False when the request is answered already (or the identifier is taken): then the caller
/// rolls back and answers what is stored. Waits for an open transaction that inserts the same request.
pub async fn insert(tx: &mut Tx, job: &HelperJobRow) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- insert_helper_job
         INSERT INTO helper_jobs (id, task, request_digest, response, created_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING",
    )
    .bind(job.id.as_bytes().as_slice())
    .bind(job.task)
    .bind(job.request_digest.as_slice())
    .bind(job.response.as_slice())
    .bind(signed(job.created_at)?)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// The answer to the request of that digest.
pub async fn by_digest(
    tx: &mut Tx,
    task: i64,
    digest: &[u8; 32],
) -> Result<Option<HelperJobRow>, StoreError> {
    let row = sqlx::query(
        "-- helper_job_by_digest
         SELECT * FROM helper_jobs WHERE task = $1 AND request_digest = $2",
    )
    .bind(task)
    .bind(digest.as_slice())
    .fetch_optional(tx.connection())
    .await?;
    row.as_ref().map(read).transpose()
}

/// The answer under that path of the task.
pub async fn by_id(
    tx: &mut Tx,
    task: i64,
    id: &AggregationJobId,
) -> Result<Option<HelperJobRow>, StoreError> {
    let row = sqlx::query(
        "-- helper_job_by_id
         SELECT * FROM helper_jobs WHERE id = $1 AND task = $2",
    )
    .bind(id.as_bytes().as_slice())
    .bind(task)
    .fetch_optional(tx.connection())
    .await?;
    row.as_ref().map(read).transpose()
}

/// Replaces the answer, for a row that was inserted earlier in the same transaction to be the first.
pub async fn set_response(tx: &mut Tx, id: &AggregationJobId, response: &[u8]) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- set_helper_job_response
         UPDATE helper_jobs SET response = $2 WHERE id = $1",
    )
    .bind(id.as_bytes().as_slice())
    .bind(response)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Forgets an answer that the leader has no more use for. The same request again would find all its reports
/// to be replays.
pub async fn delete(tx: &mut Tx, task: i64, id: &AggregationJobId) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- delete_helper_job
         DELETE FROM helper_jobs WHERE id = $1 AND task = $2",
    )
    .bind(id.as_bytes().as_slice())
    .bind(task)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

fn read(row: &AnyRow) -> Result<HelperJobRow, StoreError> {
    let fields = Fields::of("helper_jobs", row);
    Ok(HelperJobRow {
        id: AggregationJobId::new(fields.array("id")?),
        task: fields.integer("task")?,
        request_digest: fields.array("request_digest")?,
        response: fields.bytes("response")?,
        created_at: fields.unsigned("created_at")?,
    })
}
