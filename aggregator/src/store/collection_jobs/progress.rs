//! Leader: how a collection job goes on, from pending to its end.

use mica_dap::id::{BatchId, CollectionJobId};
use mica_service::store::{StoreError, Tx};

use super::CollectionState;
use crate::store::columns::found;
use crate::store::lease::LeaseToken;

/// Notes what a job still waits for, and whether it has closed its interval. False when the lease is lost or the job
/// is past that.
pub async fn set_fence(
    tx: &mut Tx,
    id: &CollectionJobId,
    token: LeaseToken,
    (state, fence): (CollectionState, i64),
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- set_collection_job_fence
         UPDATE collection_jobs SET state = $3, fence = $4
         WHERE id = $1 AND lease_token = $2 AND state IN ('pending', 'closing')",
    )
    .bind(id.as_bytes().as_slice())
    .bind(token.as_bytes().as_slice())
    .bind(state.as_str())
    .bind(fence)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Notes the batch that was picked for a job, which waits for what is under way for it from now on. False when the lease
/// is lost or the job has a batch.
pub async fn set_batch(
    tx: &mut Tx,
    id: &CollectionJobId,
    token: LeaseToken,
    batch: &BatchId,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- set_collection_job_batch
         UPDATE collection_jobs SET state = 'closing', batch_id = $3
         WHERE id = $1 AND lease_token = $2 AND state = 'pending' AND batch_id IS NULL",
    )
    .bind(id.as_bytes().as_slice())
    .bind(token.as_bytes().as_slice())
    .bind(batch.as_bytes().as_slice())
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Notes where the helper keeps its share. False when the lease is lost or the helper is not being asked.
pub async fn set_location(
    tx: &mut Tx,
    id: &CollectionJobId,
    token: LeaseToken,
    location: Option<&str>,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- set_collection_job_location
         UPDATE collection_jobs SET helper_location = $3
         WHERE id = $1 AND lease_token = $2 AND state IN ('reserved', 'abandoned')",
    )
    .bind(id.as_bytes().as_slice())
    .bind(token.as_bytes().as_slice())
    .bind(location)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Notes the release of a job that waits. False when the lease is lost or the job is past that.
pub async fn set_reserved(
    tx: &mut Tx,
    id: &CollectionJobId,
    token: LeaseToken,
    release: i64,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- set_collection_job_reserved
         UPDATE collection_jobs SET state = 'reserved', release_id = $3
         WHERE id = $1 AND lease_token = $2 AND state IN ('pending', 'closing')",
    )
    .bind(id.as_bytes().as_slice())
    .bind(token.as_bytes().as_slice())
    .bind(release)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Lets the jobs of a task that wait for segments wait for those up to `fence`, for what they waited for moved there.
pub async fn raise_fences(tx: &mut Tx, task: i64, fence: i64) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "-- raise_fences
         UPDATE collection_jobs SET fence = $2 WHERE task = $1 AND fence < $2 AND state IN ('pending', 'closing')",
    )
    .bind(task)
    .bind(fence)
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected())
}

/// Answers a reserved job; one that was deleted since ends without its answer. False when the lease is lost or the job
/// is not reserved.
pub async fn set_released(
    tx: &mut Tx,
    id: &CollectionJobId,
    token: LeaseToken,
    response: &[u8],
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- set_collection_job_released
         UPDATE collection_jobs
         SET response = CASE state WHEN 'reserved' THEN $3 END,
             state = CASE state WHEN 'reserved' THEN 'released' ELSE 'deleted' END, lease_token = NULL
         WHERE id = $1 AND lease_token = $2 AND state IN ('reserved', 'abandoned')",
    )
    .bind(id.as_bytes().as_slice())
    .bind(token.as_bytes().as_slice())
    .bind(response)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Refuses a job that is under way; one that was deleted since just ends. False when the lease is lost or the job is over.
pub async fn set_failed(
    tx: &mut Tx,
    id: &CollectionJobId,
    token: LeaseToken,
    problem: &str,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- set_collection_job_failed
         UPDATE collection_jobs
         SET problem = CASE state WHEN 'abandoned' THEN NULL ELSE $3 END,
             state = CASE state WHEN 'abandoned' THEN 'deleted' ELSE 'failed' END, lease_token = NULL
         WHERE id = $1 AND lease_token = $2 AND state IN ('pending', 'closing', 'reserved', 'abandoned')",
    )
    .bind(id.as_bytes().as_slice())
    .bind(token.as_bytes().as_slice())
    .bind(problem)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Forgets a job and its answer at the collector's wish; its release and its charge stay. A job that is reserved is
/// hidden at once and driven to its end, for the helper may have answered already. False when there is none.
pub async fn delete(tx: &mut Tx, task: i64, id: &CollectionJobId) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- delete_collection_job
         UPDATE collection_jobs
         SET lease_token = CASE state WHEN 'reserved' THEN lease_token END,
             state = CASE state WHEN 'reserved' THEN 'abandoned' ELSE 'deleted' END, response = NULL, problem = NULL
         WHERE id = $1 AND task = $2 AND state NOT IN ('deleted', 'abandoned')",
    )
    .bind(id.as_bytes().as_slice())
    .bind(task)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}
