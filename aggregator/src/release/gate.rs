//! Reserve, commit, refund: the states of a release and what each writes.

use std::sync::Arc;

use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::collection::CollectionJobReq;
use mica_dap::id::{AggregateShareId, BatchId};
use mica_dap::time::{Interval, TimePrecision};
use mica_dp::accountant::Span;
use mica_dp::ledger::Warned;
use mica_dp::units::format_units;
use mica_dp::{
    BudgetState, ChainHead, ChargeRequest, Decision, EntryKind, Grant, PolicyRef, Protection, ReleaseKey,
    ReleasePlan,
};
use mica_service::compute::ComputePool;
use mica_service::store::{StoreError, Tx};
use num_bigint::BigUint;

use super::draw::draw;
use super::memory;
use super::{BatchTotals, Portion, Refused, ReleaseError};
use crate::high_water::HighWater;
use crate::store::releases::{self, NewRelease, ReleaseRow, ReleaseState};
use crate::store::{
    Scope, buckets, closed_intervals, ledger, ledger_uses, refused_releases, refused_windows,
};
use crate::task::Task;

/// One batch at the gate. The caller holds the lock of the task.
pub(crate) struct Batch<'a> {
    /// The task.
    pub(crate) task: &'a Arc<Task>,
    /// What is closed: the whole interval of the collector's query, also where there was no report, or the batch of the
    /// leader's choice.
    pub(crate) closes: Scope,
    /// The collector's request: it is bound to the sealed share byte for byte.
    pub(crate) request: &'a CollectionJobReq,
    /// What is to be released.
    pub(crate) totals: &'a BatchTotals,
    /// The time, in seconds since the Unix epoch.
    pub(crate) now: u64,
    /// Where noise is added.
    pub(crate) compute: &'a ComputePool,
    /// The noise, drawn before.
    pub(crate) noise: &'a Portion,
    /// How far the ledger had come.
    pub(crate) high_water: &'a HighWater,
}

/// How the helper finds its release again.
#[derive(Clone, Copy)]
pub(crate) struct Reference {
    /// SHA-256 of the leader's request.
    pub(crate) digest: [u8; 32],
    /// The last part of the share's path.
    pub(crate) share_id: AggregateShareId,
}

/// The leader's half of a release: charged and drawn, but the buckets stay, for the helper may still refuse.
///
/// Returns the number of the release. One that was refunded is taken up again, with the share that was drawn then as
/// long as it is of the same reports, for the same request and with the same noise: nothing of it has left this process,
/// so that drawing anew would be no loss, but two draws for the same are never in the same database.
pub(crate) async fn reserve(tx: &mut Tx, batch: &Batch<'_>) -> Result<i64, ReleaseError> {
    memory::check(tx, batch).await?;
    record(tx, batch, ReleaseState::Reserved, None).await.map(|(release, _)| release)
}

/// The helper's release, all at once; the buckets are scrubbed. Returns the encoded `HpkeCiphertext`.
pub(crate) async fn commit_now(
    tx: &mut Tx,
    batch: &Batch<'_>,
    reference: Reference,
) -> Result<Vec<u8>, ReleaseError> {
    let (_, sealed) = record(tx, batch, ReleaseState::Committed, Some(reference)).await?;
    settle_charges(tx, batch.task, &batch.key(), Settlement::Commit(batch.high_water), batch.now).await?;
    buckets::scrub(tx, batch.task.key, batch.closes).await?;
    Ok(sealed)
}

/// The helper has answered: what was charged stays charged, the buckets are scrubbed.
pub(crate) async fn commit(
    tx: &mut Tx,
    task: &Task,
    release: i64,
    high_water: &HighWater,
    now: u64,
) -> Result<(), ReleaseError> {
    let row = turn(tx, release, ReleaseState::Committed).await?;
    settle_charges(tx, task, &key_of(task, &row)?, Settlement::Commit(high_water), now).await?;
    buckets::scrub(tx, task.key, scope_of(&row.release.batch_key)?).await?;
    refused_releases::forget(tx, task.key, &row.release.batch_key).await?;
    let data = data_of(task, &row)?;
    refused_windows::forget_meeting(tx, task.key, (data.from(), data.to())).await?;
    Ok(())
}

/// The helper has refused for good, and nothing of the share has left this process: what was charged is given back and
/// the interval is open again. The drawn share stays in the row.
pub(crate) async fn refund(
    tx: &mut Tx,
    task: &Task,
    release: i64,
    high_water: &HighWater,
    now: u64,
) -> Result<(), ReleaseError> {
    let row = turn(tx, release, ReleaseState::Refunded).await?;
    closed_intervals::reopen(tx, release).await?;
    settle_charges(tx, task, &key_of(task, &row)?, Settlement::Refund(high_water), now).await
}

/// Charge, draw, store, close.
async fn record(
    tx: &mut Tx,
    batch: &Batch<'_>,
    state: ReleaseState,
    reference: Option<Reference>,
) -> Result<(i64, Vec<u8>), ReleaseError> {
    let task = batch.task;
    let earlier = releases::by_batch_key(tx, task.key, &batch.batch_key()).await?;
    let standing = earlier.as_ref().is_some_and(|row| row.release.state != ReleaseState::Refunded);
    if standing || closed_intervals::overlapping(tx, task.key, batch.closes).await? {
        return Err(Refused::Collected.into());
    }
    let grant = charge(tx, batch).await?;
    let mechanism = match grant.protection() {
        Protection::Noise { mechanism, .. } => mechanism.to_string(),
        Protection::WithoutDp(_) => "none".to_owned(),
    };
    let sealed_share = if let Some(row) = earlier.filter(|row| batch.was_drawn_for(row, &mechanism)) {
        // Paid for again, drawn for once.
        row.release.sealed_share
    } else {
        let (task, share) = (Arc::clone(task), batch.totals.share.clone());
        let request = batch.request.bytes().to_vec();
        let noise = match grant.protection() {
            Protection::Noise { mechanism, length } => Some(batch.noise.take(mechanism, *length).await),
            Protection::WithoutDp(_) => None,
        };
        batch.compute.run(move || draw(&task, (grant, noise), share, &request)).await?
    };
    let release = batch.row(state, reference, mechanism, sealed_share);
    let id = match releases::replace_refunded(tx, &release).await? {
        Some(id) => id,
        None => releases::insert(tx, &release).await?,
    };
    closed_intervals::close(tx, task.key, batch.closes, id).await?;
    Ok((id, release.sealed_share))
}

/// Takes from every budget of the release or from none.
async fn charge(tx: &mut Tx, batch: &Batch<'_>) -> Result<Grant, ReleaseError> {
    let head = head(tx, batch.high_water).await?;
    match &batch.task.decision {
        Decision::Release(plan) => charge_budgets(tx, plan, batch, head).await,
        Decision::WithoutDp(exception) => {
            let (vdaf, count) = (&batch.task.vdaf, batch.totals.report_count);
            if BigUint::from(count) * vdaf.max_coordinate() * 2_u8 >= vdaf.field_modulus() {
                return Err(Refused::Overflow.into());
            }
            Ok(Grant::without_dp(exception, batch.key(), batch.now)?)
        }
    }
}

/// Where the ledger ends, provided that it never ended later.
async fn head(tx: &mut Tx, high_water: &HighWater) -> Result<ChainHead, ReleaseError> {
    let head = ledger::head(tx).await?;
    if let Err(setback) = high_water.check(tx, head).await? {
        tracing::error!(%setback, "nothing is released");
        return Err(Refused::SetBack.into());
    }
    Ok(head)
}

async fn charge_budgets(
    tx: &mut Tx,
    plan: &ReleasePlan,
    batch: &Batch<'_>,
    head: ChainHead,
) -> Result<Grant, ReleaseError> {
    let data = batch.data();
    let mut states = Vec::new();
    for charge in plan.charges() {
        let needed = plan.account(charge).needed_after(data);
        let uses = ledger_uses::of_budget(tx, &charge.budget_id, needed).await?;
        states.push(BudgetState { budget_id: charge.budget_id.clone(), uses });
    }
    let request =
        ChargeRequest { key: batch.key(), report_count: batch.totals.report_count, data, now: batch.now };
    let charged = mica_dp::ledger::charge(plan, request, &states, head)?;
    for (entry, usage) in charged.entries().iter().zip(charged.uses()) {
        ledger_uses::add(tx, usage).await?;
        ledger::append(tx, entry).await?;
    }
    for warned in charged.warned().to_vec() {
        // Not before it is true, and not again for every attempt of the transaction.
        tx.after_commit(move || warn(&warned));
    }
    let stored = ledger::entries_of(tx, &batch.key()).await?;
    charged.recorded(&stored).map_err(ReleaseError::fault)
}

fn warn(Warned { budget_id, window, spent, limit }: &Warned) {
    let (spent, limit) = (format_units(*spent), format_units(*limit));
    tracing::warn!(budget = budget_id, %window, spent, limit, "a budget is spent as far as its warn_at");
}

/// What becomes of charges, and how far their ledger had come.
#[derive(Clone, Copy)]
enum Settlement<'a> {
    Commit(&'a HighWater),
    Refund(&'a HighWater),
}

/// Makes the charges of a release final, or gives them back. A release without noise has none.
async fn settle_charges(
    tx: &mut Tx,
    task: &Task,
    key: &ReleaseKey,
    settlement: Settlement<'_>,
    now: u64,
) -> Result<(), ReleaseError> {
    if matches!(task.decision, Decision::WithoutDp(_)) {
        return Ok(());
    }
    let (Settlement::Commit(high_water) | Settlement::Refund(high_water)) = settlement;
    let head = head(tx, high_water).await?;
    let recorded = ledger::entries_of(tx, key).await?;
    let entries = match settlement {
        Settlement::Commit(_) => mica_dp::ledger::commit(&recorded, now, head),
        Settlement::Refund(_) => mica_dp::ledger::refund(&recorded, now, head),
    };
    for entry in entries.map_err(ReleaseError::fault)? {
        if entry.kind == EntryKind::Refund && !ledger_uses::take_back(tx, &entry.usage()).await? {
            return Err(StoreError::corrupt("budget_uses", "releases").into());
        }
        ledger::append(tx, &entry).await?;
    }
    Ok(())
}

/// A reserved release becomes a committed or a refunded one; only a reserved one does.
async fn turn(tx: &mut Tx, release: i64, to: ReleaseState) -> Result<ReleaseRow, ReleaseError> {
    if !releases::set_state(tx, release, ReleaseState::Reserved, to).await? {
        return Err(ReleaseError::fault(anyhow::anyhow!("release {release} is not reserved")));
    }
    let row = releases::by_id(tx, release).await?;
    row.ok_or_else(|| StoreError::corrupt("releases", "id").into())
}

impl Batch<'_> {
    pub(super) fn batch_key(&self) -> Vec<u8> {
        match self.closes {
            Scope::Interval(interval) => interval.encoded(),
            Scope::Batch(batch) => batch.encoded(),
        }
    }

    /// When the reports were made, as far as whoever asks can choose it: the whole interval of the query, or else the
    /// smallest around the reports.
    pub(super) fn data(&self) -> Span {
        let interval = match self.closes {
            Scope::Interval(interval) => interval,
            Scope::Batch(_) => self.totals.interval,
        };
        span(self.task.configuration.time_precision(), interval)
    }

    fn key(&self) -> ReleaseKey {
        ReleaseKey::new(*self.task.id.as_bytes(), &self.batch_key(), self.request.agg_param())
    }

    /// Whether the share in a refunded release is of the same reports, for the same request and with this noise.
    fn was_drawn_for(&self, row: &ReleaseRow, mechanism: &str) -> bool {
        let BatchTotals { report_count, checksum, .. } = *self.totals;
        let drawn = &row.release;
        (drawn.report_count, drawn.checksum) == (report_count, checksum)
            && drawn.request == self.request.bytes()
            && drawn.mechanism == mechanism
    }

    fn row(
        &self,
        state: ReleaseState,
        reference: Option<Reference>,
        mechanism: String,
        sealed_share: Vec<u8>,
    ) -> NewRelease {
        let policy = policy_of(&self.task.decision);
        NewRelease {
            task: self.task.key,
            batch_key: self.batch_key(),
            request: self.request.bytes().to_vec(),
            request_digest: reference.map(|reference| reference.digest),
            share_id: reference.map(|reference| reference.share_id),
            state,
            report_count: self.totals.report_count,
            checksum: self.totals.checksum,
            interval: self.totals.interval,
            sealed_share,
            policy_id: policy.id.clone(),
            policy_version: u64::from(policy.version),
            policy_sha256: policy.sha256,
            mechanism,
            created_at: self.now,
        }
    }
}

/// Whether the reports of `query` can be one batch of the task, by the caps that its noise was made for.
pub(crate) fn one_batch(task: &Task, query: Interval) -> Result<(), Refused> {
    match &task.decision {
        Decision::Release(plan) => Ok(plan.one_batch(span(task.configuration.time_precision(), query))?),
        Decision::WithoutDp(_) => Ok(()),
    }
}

/// The seconds of an interval; all time where it has none.
pub(crate) fn span(precision: TimePrecision, interval: Interval) -> Span {
    let (from, to) = (precision.start_of(interval.start()), precision.start_of(interval.end()));
    Span::of_reports(from, to).unwrap_or(Span::ALL)
}

pub(super) fn policy_of(decision: &Decision) -> &PolicyRef {
    match decision {
        Decision::Release(plan) => plan.policy(),
        Decision::WithoutDp(exception) => exception.policy(),
    }
}

/// When the reports of a release were made, as its charge says it.
pub(super) fn data_of(task: &Task, row: &ReleaseRow) -> Result<Span, StoreError> {
    let interval = match scope_of(&row.release.batch_key)? {
        Scope::Interval(interval) => interval,
        Scope::Batch(_) => row.release.interval,
    };
    Ok(span(task.configuration.time_precision(), interval))
}

fn key_of(task: &Task, row: &ReleaseRow) -> Result<ReleaseKey, StoreError> {
    let request = CollectionJobReq::decoded(&row.release.request)
        .map_err(|_| StoreError::corrupt("releases", "request"))?;
    Ok(ReleaseKey::new(*task.id.as_bytes(), &row.release.batch_key, request.agg_param()))
}

fn scope_of(batch_key: &[u8]) -> Result<Scope, StoreError> {
    let batch = BatchId::from_slice(batch_key).map(Scope::Batch);
    batch
        .or_else(|| Interval::decoded(batch_key).ok().map(Scope::Interval))
        .ok_or_else(|| StoreError::corrupt("releases", "batch_key"))
}
