//! The aggregation parameter that the shares in a bucket were made under: shares under two parameters do not add up.
//!
//! Only VDAFs that take a parameter have rows here. A bucket belongs to the first parameter that comes along.

use mica_dap::batch::BucketId;
use mica_service::store::{Fields, StoreError, Tx};

use super::Scope;

/// Whether the shares of a bucket are made under `parameter`; the first to ask decides. Waits for an open transaction
/// that asks for the same bucket.
pub async fn claim(tx: &mut Tx, task: i64, bucket: BucketId, parameter: &[u8]) -> Result<bool, StoreError> {
    let (batch, time, _) = Scope::from(bucket).columns();
    sqlx::query(
        "-- claim_bucket
         INSERT INTO bucket_parameters (task, batch_id, time, parameter) VALUES ($1, $2, $3, $4)
         ON CONFLICT (task, batch_id, time) DO NOTHING",
    )
    .bind(task)
    .bind(batch.as_slice())
    .bind(time)
    .bind(parameter)
    .execute(tx.connection())
    .await?;
    let row = sqlx::query(
        "-- bucket_parameter
         SELECT parameter FROM bucket_parameters WHERE task = $1 AND batch_id = $2 AND time = $3",
    )
    .bind(task)
    .bind(batch.as_slice())
    .bind(time)
    .fetch_one(tx.connection())
    .await?;
    Ok(Fields::of("bucket_parameters", &row).bytes("parameter")? == parameter)
}

/// Whether all that is in `scope` was made under `parameter`.
pub async fn all_under(
    tx: &mut Tx,
    task: i64,
    scope: impl Into<Scope>,
    parameter: &[u8],
) -> Result<bool, StoreError> {
    let (batch, start, end) = scope.into().columns();
    let other = sqlx::query(
        "-- bucket_of_another_parameter
         SELECT time FROM bucket_parameters
         WHERE task = $1 AND batch_id = $2 AND time >= $3 AND time < $4 AND parameter <> $5 LIMIT 1",
    )
    .bind(task)
    .bind(batch.as_slice())
    .bind(start)
    .bind(end)
    .bind(parameter)
    .fetch_optional(tx.connection())
    .await?;
    Ok(other.is_none())
}
