//! Noised, sealed aggregate shares: one per batch, drawn once, sent unchanged ever after.
//!
//! A row is written in the transaction that charged the ledger and drew the noise. Every later request for the
//! batch is answered from it; a refunded one keeps its share, so that asking again draws no new noise.

use std::str::FromStr;

use mica_dap::batch::Checksum;
use mica_dap::id::{AggregateShareId, TaskId};
use mica_dap::time::Interval;
use mica_service::store::{Fields, StoreError, Tx, signed};
use sqlx::Any;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;

use super::columns::{self, found};
use super::scope::between;

/// How binding a release is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseState {
    /// Charged; the helper has not answered for good.
    Reserved,
    /// Charged for good.
    Committed,
    /// Refused by the helper and not charged.
    Refunded,
}

/// A release as it is made.
#[derive(Clone)]
pub struct NewRelease {
    /// The task.
    pub task: i64,
    /// The batch: the encoded interval of the query, or the batch identifier.
    pub batch_key: Vec<u8>,
    /// Leader: the collector's request, encoded.
    pub request: Vec<u8>,
    /// Helper: SHA-256 of the leader's request.
    pub request_digest: Option<[u8; 32]>,
    /// Helper: the identifier in the share's path.
    pub share_id: Option<AggregateShareId>,
    /// How binding it is.
    pub state: ReleaseState,
    /// How many reports the share sums.
    pub report_count: u64,
    /// The checksum over their identifiers.
    pub checksum: Checksum,
    /// The smallest interval that holds them.
    pub interval: Interval,
    /// The noised share, sealed to the collector, encoded.
    pub sealed_share: Vec<u8>,
    /// The policy that allowed it.
    pub policy_id: String,
    /// The policy's version.
    pub policy_version: u64,
    /// SHA-256 of the policy's text.
    pub policy_sha256: [u8; 32],
    /// The mechanism that drew the noise, or "none".
    pub mechanism: String,
    /// When the noise was drawn.
    pub created_at: u64,
}

/// A stored release.
#[derive(Clone)]
pub struct ReleaseRow {
    /// The release.
    pub id: i64,
    /// What was released.
    pub release: NewRelease,
}

/// Stores the release of a batch. A second one of the same batch is a `Conflict`.
pub async fn insert(tx: &mut Tx, release: &NewRelease) -> Result<i64, StoreError> {
    let query = sqlx::query(
        "-- insert_release
         INSERT INTO releases (task, batch_key, request, request_digest, share_id, state, report_count, checksum,
             interval_start, interval_duration, sealed_share, policy_id, policy_version, policy_sha256, mechanism,
             created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
         RETURNING id",
    );
    let row = bind(query, release)?.fetch_one(tx.connection()).await?;
    Fields::of("releases", &row).integer("id")
}

/// Puts `release` in the place of a refunded one of the same batch. None when there is none that is refunded.
pub async fn replace_refunded(tx: &mut Tx, release: &NewRelease) -> Result<Option<i64>, StoreError> {
    let query = sqlx::query(
        "-- replace_refunded_release
         UPDATE releases SET request = $3, request_digest = $4, share_id = $5, state = $6, report_count = $7,
             checksum = $8, interval_start = $9, interval_duration = $10, sealed_share = $11, policy_id = $12,
             policy_version = $13, policy_sha256 = $14, mechanism = $15, created_at = $16
         WHERE task = $1 AND batch_key = $2 AND state = 'refunded'
         RETURNING id",
    );
    let row = bind(query, release)?.fetch_optional(tx.connection()).await?;
    row.map(|row| Fields::of("releases", &row).integer("id")).transpose()
}

/// The release of that number.
pub async fn by_id(tx: &mut Tx, id: i64) -> Result<Option<ReleaseRow>, StoreError> {
    let query = sqlx::query(
        "-- release_by_id
         SELECT * FROM releases WHERE id = $1",
    );
    first(query.bind(id).fetch_optional(tx.connection()).await?.as_ref())
}

/// The first `most` releases after the one of that number, or from the first on, and the tasks that they are of, without what was released.
pub async fn page(
    tx: &mut Tx,
    after: Option<i64>,
    most: u32,
) -> Result<Vec<(TaskId, ReleaseRow)>, StoreError> {
    let rows = sqlx::query(
        "-- page_of_releases
         SELECT releases.id, task, batch_key, request, request_digest, share_id, state, report_count, checksum,
             interval_start, interval_duration, $1 AS sealed_share, policy_id, policy_version, policy_sha256, mechanism,
             releases.created_at, tasks.task_id
         FROM releases JOIN tasks ON tasks.id = releases.task WHERE releases.id > $2 ORDER BY releases.id LIMIT $3",
    )
    .bind([].as_slice())
    .bind(after.unwrap_or(i64::MIN))
    .bind(i64::from(most))
    .fetch_all(tx.connection())
    .await?;
    let read = |row: &AnyRow| {
        let task = TaskId::new(Fields::of("tasks", row).array("task_id")?);
        Ok((task, read(row)?))
    };
    rows.iter().map(read).collect()
}

/// The release of that batch.
pub async fn by_batch_key(
    tx: &mut Tx,
    task: i64,
    batch_key: &[u8],
) -> Result<Option<ReleaseRow>, StoreError> {
    let query = sqlx::query(
        "-- release_by_batch_key
         SELECT * FROM releases WHERE task = $1 AND batch_key = $2",
    );
    first(query.bind(task).bind(batch_key).fetch_optional(tx.connection()).await?.as_ref())
}

/// Helper: the release that the leader's request of that digest got.
pub async fn by_digest(tx: &mut Tx, task: i64, digest: &[u8; 32]) -> Result<Option<ReleaseRow>, StoreError> {
    let query = sqlx::query(
        "-- release_by_digest
         SELECT * FROM releases WHERE task = $1 AND request_digest = $2 ORDER BY id LIMIT 1",
    );
    first(query.bind(task).bind(digest.as_slice()).fetch_optional(tx.connection()).await?.as_ref())
}

/// Helper: the release under that path of the task.
pub async fn by_share_id(
    tx: &mut Tx,
    task: i64,
    id: &AggregateShareId,
) -> Result<Option<ReleaseRow>, StoreError> {
    let query = sqlx::query(
        "-- release_by_share_id
         SELECT * FROM releases WHERE share_id = $1 AND task = $2",
    );
    first(query.bind(id.as_bytes().as_slice()).bind(task).fetch_optional(tx.connection()).await?.as_ref())
}

/// Helper: forgets the share that the leader has no more use for; that the batch was released stays. False when there is
/// no such share, or not any more.
pub async fn forget_share(tx: &mut Tx, task: i64, id: &AggregateShareId) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- forget_released_share
         UPDATE releases SET sealed_share = $3
         WHERE share_id = $1 AND task = $2 AND length(sealed_share) > 0",
    )
    .bind(id.as_bytes().as_slice())
    .bind(task)
    .bind([].as_slice())
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

/// Moves a release from one state to another. False when it is not in the first.
pub async fn set_state(
    tx: &mut Tx,
    id: i64,
    from: ReleaseState,
    to: ReleaseState,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "-- set_release_state
         UPDATE releases SET state = $3 WHERE id = $1 AND state = $2",
    )
    .bind(id)
    .bind(from.as_str())
    .bind(to.as_str())
    .execute(tx.connection())
    .await?;
    Ok(found(done.rows_affected()))
}

fn bind<'q>(
    query: Query<'q, Any, AnyArguments>,
    release: &'q NewRelease,
) -> Result<Query<'q, Any, AnyArguments>, StoreError> {
    Ok(query
        .bind(release.task)
        .bind(release.batch_key.as_slice())
        .bind(release.request.as_slice())
        .bind(release.request_digest.as_ref().map(<[u8; 32]>::as_slice))
        .bind(release.share_id.as_ref().map(|id| id.as_bytes().as_slice()))
        .bind(release.state.as_str())
        .bind(signed(release.report_count)?)
        .bind(release.checksum.as_bytes().as_slice())
        .bind(signed(release.interval.start().0)?)
        .bind(signed(release.interval.duration().0)?)
        .bind(release.sealed_share.as_slice())
        .bind(release.policy_id.as_str())
        .bind(signed(release.policy_version)?)
        .bind(release.policy_sha256.as_slice())
        .bind(release.mechanism.as_str())
        .bind(signed(release.created_at)?))
}

fn first(row: Option<&AnyRow>) -> Result<Option<ReleaseRow>, StoreError> {
    row.map(read).transpose()
}

fn read(row: &AnyRow) -> Result<ReleaseRow, StoreError> {
    let fields = Fields::of("releases", row);
    let start = fields.unsigned("interval_start")?;
    let end = start.saturating_add(fields.unsigned("interval_duration")?);
    let release = NewRelease {
        task: fields.integer("task")?,
        batch_key: fields.bytes("batch_key")?,
        request: fields.bytes("request")?,
        request_digest: columns::optional_array(&fields, "request_digest")?,
        share_id: columns::optional_array(&fields, "share_id")?.map(AggregateShareId::new),
        state: fields.parsed("state")?,
        report_count: fields.unsigned("report_count")?,
        checksum: Checksum::new(fields.array("checksum")?),
        interval: between(start, end).ok_or_else(|| fields.corrupt("interval_duration"))?,
        sealed_share: fields.bytes("sealed_share")?,
        policy_id: fields.text("policy_id")?,
        policy_version: fields.unsigned("policy_version")?,
        policy_sha256: fields.array("policy_sha256")?,
        mechanism: fields.text("mechanism")?,
        created_at: fields.unsigned("created_at")?,
    };
    Ok(ReleaseRow { id: fields.integer("id")?, release })
}

impl ReleaseState {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Committed => "committed",
            Self::Refunded => "refunded",
        }
    }
}

impl FromStr for ReleaseState {
    type Err = columns::UnknownState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        columns::state(text, &[Self::Reserved, Self::Committed, Self::Refunded], Self::as_str)
    }
}
