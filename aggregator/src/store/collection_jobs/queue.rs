//! Leader: who works on which collection job, and when next.

use mica_dap::id::CollectionJobId;
use mica_service::store::{Fields, StoreError, Tx, signed};

use super::{CollectionJobRow, read};
use crate::store::columns::{self, found};
use crate::store::lease::{LeaseRequest, LeaseToken};

/// The tasks that have a job which is due, and when the newest of them became so.
pub async fn tasks_with_work(tx: &mut Tx, now: u64) -> Result<Vec<(i64, u64)>, StoreError> {
    let rows = sqlx::query(
        "-- tasks_with_collection_work
         SELECT task, MAX(next_try_at) AS newest FROM collection_jobs
         WHERE state IN ('pending', 'closing', 'reserved', 'abandoned') AND lease_until <= $1 AND next_try_at <= $1
         GROUP BY task",
    )
    .bind(signed(now)?)
    .fetch_all(tx.connection())
    .await?;
    let read = |row| {
        let fields = Fields::of("collection_jobs", row);
        Ok((fields.integer("task")?, fields.unsigned("newest")?))
    };
    rows.iter().map(read).collect()
}

/// Where a job stands among those that are due: when it became so, when it was asked for, its identifier.
pub type Place = (u64, u64, Vec<u8>);

/// The jobs of the task that are due, those that wait longest first: those that come after the place `after`, at most
/// `limit`. Looking at them takes none of them up, and writes nothing.
pub async fn due(
    tx: &mut Tx,
    task: i64,
    now: u64,
    after: Option<&Place>,
    limit: u64,
) -> Result<Vec<CollectionJobRow>, StoreError> {
    let (next_try_at, created_at, id) = match after {
        Some((next_try_at, created_at, id)) => (signed(*next_try_at)?, signed(*created_at)?, id.as_slice()),
        None => (-1, -1, [].as_slice()),
    };
    let rows = sqlx::query(
        "-- due_collection_jobs
         SELECT * FROM collection_jobs
         WHERE task = $1 AND state IN ('pending', 'closing', 'reserved', 'abandoned')
           AND lease_until <= $2 AND next_try_at <= $2
           AND (next_try_at, created_at, id) > ($4, $5, $6)
         ORDER BY next_try_at, created_at, id LIMIT $3",
    )
    .bind(task)
    .bind(signed(now)?)
    .bind(signed(limit)?)
    .bind(next_try_at)
    .bind(created_at)
    .bind(id)
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(read).collect()
}

/// Takes up a job that is due. None when it is not, or somebody else has it.
pub async fn lease(
    tx: &mut Tx,
    id: &CollectionJobId,
    request: LeaseRequest,
) -> Result<Option<CollectionJobRow>, StoreError> {
    let query = columns::for_update_skip_locked(
        tx,
        "-- lease_collection_job
         UPDATE collection_jobs SET attempts = attempts + 1, lease_until = $1, lease_token = $2
         WHERE id = (SELECT id FROM collection_jobs
                     WHERE id = $4 AND state IN ('pending', 'closing', 'reserved', 'abandoned')
                       AND lease_until <= $3 AND next_try_at <= $3",
        ")
         RETURNING *",
    );
    let row = sqlx::query(query)
        .bind(request.until()?)
        .bind(request.token.as_bytes().as_slice())
        .bind(signed(request.now)?)
        .bind(id.as_bytes().as_slice())
        .fetch_optional(tx.connection())
        .await?;
    row.as_ref().map(read).transpose()
}

/// Holds the job longer. False when the lease is lost.
pub async fn renew(tx: &mut Tx, id: &CollectionJobId, request: LeaseRequest) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- renew_collection_job_lease
         UPDATE collection_jobs SET lease_until = $3
         WHERE id = $1 AND lease_token = $2 AND state IN ('pending', 'closing', 'reserved', 'abandoned')",
    )
    .bind(id.as_bytes().as_slice())
    .bind(request.token.as_bytes().as_slice())
    .bind(request.until()?)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Gives a job back until `next_try_at`. False when the lease is lost.
pub async fn retry_at(
    tx: &mut Tx,
    id: &CollectionJobId,
    token: LeaseToken,
    next_try_at: u64,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- retry_collection_job
         UPDATE collection_jobs SET next_try_at = $3, lease_until = 0, lease_token = NULL
         WHERE id = $1 AND lease_token = $2 AND state IN ('pending', 'closing', 'reserved', 'abandoned')",
    )
    .bind(id.as_bytes().as_slice())
    .bind(token.as_bytes().as_slice())
    .bind(signed(next_try_at)?)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Gives a job back whose batch is not complete; others have their turn before it. Nothing failed, so that nothing
/// counts as an attempt, however often it is looked at, and what failed before is over. False when the lease is lost.
pub async fn give_back(
    tx: &mut Tx,
    id: &CollectionJobId,
    token: LeaseToken,
    now: u64,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- give_back_collection_job
         UPDATE collection_jobs SET attempts = 0, next_try_at = $3, lease_until = 0, lease_token = NULL,
             reason = NULL, last_error = NULL, waits_since = NULL
         WHERE id = $1 AND lease_token = $2 AND state IN ('pending', 'closing', 'reserved', 'abandoned')",
    )
    .bind(id.as_bytes().as_slice())
    .bind(token.as_bytes().as_slice())
    .bind(signed(now)?)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Ends every lease, for a process that knows that it is the only one.
pub async fn release_all_leases(tx: &mut Tx) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "-- release_all_collection_job_leases
         UPDATE collection_jobs SET lease_until = 0, lease_token = NULL, next_try_at = 0
         WHERE state IN ('pending', 'closing', 'reserved', 'abandoned') AND (lease_until > 0 OR next_try_at > 0)",
    )
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected())
}
