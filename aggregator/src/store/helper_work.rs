//! Helper: requests that were taken in and are worked on later. Whoever works on one holds a lease on its row, and the
//! transaction that settles the job or the share takes the row away: it happens once.

use std::str::FromStr;

use mica_service::store::{Fields, StoreError, Tx, signed};
use sqlx::any::AnyRow;

use super::columns::{self, found};
use super::lease::{LeaseRequest, LeaseToken};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkKind {
    /// Begin an aggregation job.
    Init,
    /// Take an aggregation job one step further.
    Continue,
    /// Release an aggregate share.
    Share,
}

/// A request that is to be worked on.
pub struct NewWork<'a> {
    /// The job or the share.
    pub id: [u8; 16],
    /// The task.
    pub task: i64,
    /// What is to be done.
    pub kind: WorkKind,
    /// The request, as it was received.
    pub request: &'a [u8],
    /// When it was taken in.
    pub created_at: u64,
}

/// A request that somebody works on.
pub struct WorkRow {
    /// The job or the share.
    pub id: [u8; 16],
    /// The task.
    pub task: i64,
    /// What is to be done.
    pub kind: WorkKind,
    /// The request, as it was received.
    pub request: Vec<u8>,
    /// How often it was taken up, this time included.
    pub attempts: u64,
}

/// Puts a request where anybody may take it up at once.
pub async fn insert(tx: &mut Tx, work: &NewWork<'_>) -> Result<(), StoreError> {
    sqlx::query(
        "-- insert_helper_work
         INSERT INTO helper_work (id, task, kind, request, attempts, lease_until, created_at)
         VALUES ($1, $2, $3, $4, 0, $5, $5)",
    )
    .bind(work.id.as_slice())
    .bind(work.task)
    .bind(work.kind.as_str())
    .bind(work.request)
    .bind(signed(work.created_at)?)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// How many requests of the task wait or are being worked on.
pub async fn waiting(tx: &mut Tx, task: i64) -> Result<u64, StoreError> {
    let row = sqlx::query(
        "-- waiting_helper_work
         SELECT CAST(COUNT(*) AS BIGINT) AS waiting FROM helper_work WHERE task = $1",
    )
    .bind(task)
    .fetch_one(tx.connection())
    .await?;
    Fields::of("helper_work", &row).unsigned("waiting")
}

/// How many requests of the task wait or are being worked on, and how many bytes they are.
pub async fn load(tx: &mut Tx, task: i64) -> Result<(u64, u64), StoreError> {
    let row = sqlx::query(
        "-- helper_work_load
         SELECT CAST(COUNT(*) AS BIGINT) AS waiting, CAST(COALESCE(SUM(LENGTH(request)), 0) AS BIGINT) AS bytes
         FROM helper_work WHERE task = $1",
    )
    .bind(task)
    .fetch_one(tx.connection())
    .await?;
    let fields = Fields::of("helper_work", &row);
    Ok((fields.unsigned("waiting")?, fields.unsigned("bytes")?))
}

/// The tasks that have work which is due.
pub async fn tasks_with_work(tx: &mut Tx, now: u64) -> Result<Vec<i64>, StoreError> {
    let rows = sqlx::query(
        "-- tasks_with_helper_work
         SELECT DISTINCT task FROM helper_work WHERE lease_until <= $1",
    )
    .bind(signed(now)?)
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(|row| Fields::of("helper_work", row).integer("task")).collect()
}

/// Takes up the request of the task that has waited longest, if any may be taken up.
pub async fn lease(tx: &mut Tx, task: i64, request: LeaseRequest) -> Result<Option<WorkRow>, StoreError> {
    let query = columns::for_update_skip_locked(
        tx,
        "-- lease_helper_work
         UPDATE helper_work SET attempts = attempts + 1, lease_until = $1, lease_token = $2
         WHERE id = (SELECT id FROM helper_work WHERE task = $4 AND lease_until <= $3
                     ORDER BY lease_until, id LIMIT 1",
        ")
         RETURNING id, task, kind, request, attempts",
    );
    let row = sqlx::query(query)
        .bind(request.until()?)
        .bind(request.token.as_bytes().as_slice())
        .bind(signed(request.now)?)
        .bind(task)
        .fetch_optional(tx.connection())
        .await?;
    row.as_ref().map(read).transpose()
}

/// Holds the request longer. False when the lease is lost.
pub async fn renew(tx: &mut Tx, id: &[u8; 16], request: LeaseRequest) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- renew_helper_work_lease
         UPDATE helper_work SET lease_until = $3 WHERE id = $1 AND lease_token = $2",
    )
    .bind(id.as_slice())
    .bind(request.token.as_bytes().as_slice())
    .bind(request.until()?)
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Gives the request back until `retry_at`; the attempt may not count. False when the lease is lost.
pub async fn fail_attempt(
    tx: &mut Tx,
    id: &[u8; 16],
    token: LeaseToken,
    (retry_at, counts): (u64, bool),
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- fail_helper_work_attempt
         UPDATE helper_work SET lease_until = $3, lease_token = NULL, attempts = attempts - $4
         WHERE id = $1 AND lease_token = $2",
    )
    .bind(id.as_slice())
    .bind(token.as_bytes().as_slice())
    .bind(signed(retry_at)?)
    .bind(i64::from(!counts))
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Takes away the request of work that is done. False when the lease is lost: then nothing of the work may stay.
pub async fn finish(tx: &mut Tx, id: &[u8; 16], token: LeaseToken) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- finish_helper_work
         DELETE FROM helper_work WHERE id = $1 AND lease_token = $2",
    )
    .bind(id.as_slice())
    .bind(token.as_bytes().as_slice())
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Takes away a request that is of no use any more; whoever works on it finds its lease lost.
pub async fn cancel(tx: &mut Tx, id: &[u8; 16]) -> Result<(), StoreError> {
    sqlx::query(
        "-- cancel_helper_work
         DELETE FROM helper_work WHERE id = $1",
    )
    .bind(id.as_slice())
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Takes away the requests of tasks that are over and not served any more. How many those were.
pub async fn forget_expired(tx: &mut Tx, now: u64) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "-- forget_expired_helper_work
         DELETE FROM helper_work WHERE task IN (SELECT id FROM tasks WHERE expires_at <= $1)",
    )
    .bind(signed(now)?)
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected())
}

/// Ends every lease, for a process that knows that it is the only one: whoever held them is dead.
pub async fn release_all_leases(tx: &mut Tx) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "-- release_all_helper_work_leases
         UPDATE helper_work SET lease_until = 0, lease_token = NULL WHERE lease_until > 0",
    )
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected())
}

fn read(row: &AnyRow) -> Result<WorkRow, StoreError> {
    let fields = Fields::of("helper_work", row);
    Ok(WorkRow {
        id: fields.array("id")?,
        task: fields.integer("task")?,
        kind: fields.parsed("kind")?,
        request: fields.bytes("request")?,
        attempts: fields.unsigned("attempts")?,
    })
}

impl WorkKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Continue => "continue",
            Self::Share => "share",
        }
    }
}

impl FromStr for WorkKind {
    type Err = columns::UnknownState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        columns::state(text, &[Self::Init, Self::Continue, Self::Share], Self::as_str)
    }
}
