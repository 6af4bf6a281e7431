//! Helper: what is kept of the reports of a job between two steps, for VDAFs of more than one round: one row per job.
//!
//! The states are as secret as the shares they were made from, and are gone once the job is done or deleted.

use mica_dap::id::{AggregationJobId, BatchId};
use mica_service::store::{Fields, StoreError, Tx};
use zeroize::Zeroizing;

/// What a job needs to go on.
pub struct HelperStatesRow {
    /// The aggregation parameter.
    pub parameter: Vec<u8>,
    /// The batch of a leader-selected task.
    pub batch: Option<BatchId>,
    /// The reports that go on, encoded.
    pub states: Zeroizing<Vec<u8>>,
}

/// Keeps the states of a job, in place of those it had.
pub async fn put(tx: &mut Tx, job: &AggregationJobId, row: &HelperStatesRow) -> Result<(), StoreError> {
    sqlx::query(
        "-- put_helper_states
         INSERT INTO helper_states (job, parameter, batch_id, states) VALUES ($1, $2, $3, $4)
         ON CONFLICT (job) DO UPDATE SET states = excluded.states",
    )
    .bind(job.as_bytes().as_slice())
    .bind(row.parameter.as_slice())
    .bind(row.batch.as_ref().map_or([].as_slice(), |batch| batch.as_bytes().as_slice()))
    .bind(row.states.as_slice())
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// The states of a job, if a report of it goes on.
pub async fn of_job(tx: &mut Tx, job: &AggregationJobId) -> Result<Option<HelperStatesRow>, StoreError> {
    let row = sqlx::query(
        "-- helper_states_of_job
         SELECT * FROM helper_states WHERE job = $1",
    )
    .bind(job.as_bytes().as_slice())
    .fetch_optional(tx.connection())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let fields = Fields::of("helper_states", &row);
    let batch = fields.bytes("batch_id")?;
    let batch = match batch.as_slice() {
        [] => None,
        bytes => Some(BatchId::from_slice(bytes).ok_or_else(|| fields.corrupt("batch_id"))?),
    };
    let states = Zeroizing::new(fields.bytes("states")?);
    Ok(Some(HelperStatesRow { parameter: fields.bytes("parameter")?, batch, states }))
}

/// Forgets the states of a job that is done or deleted.
pub async fn delete(tx: &mut Tx, job: &AggregationJobId) -> Result<(), StoreError> {
    sqlx::query(
        "-- delete_helper_states
         DELETE FROM helper_states WHERE job = $1",
    )
    .bind(job.as_bytes().as_slice())
    .execute(tx.connection())
    .await?;
    Ok(())
}
