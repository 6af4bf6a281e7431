//! Which buckets a query covers.
//!
//! Times are clamped to what a column can hold: no report is later, because uploads refuse such times.

use mica_dap::batch::BucketId;
use mica_dap::id::BatchId;
use mica_dap::time::{Duration, Interval, Time};

/// The part of a task's buckets that one query covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All units of time inside.
    Interval(Interval),
    /// The one batch of that name.
    Batch(BatchId),
}

impl From<Interval> for Scope {
    fn from(interval: Interval) -> Self {
        Self::Interval(interval)
    }
}

impl From<BatchId> for Scope {
    fn from(batch: BatchId) -> Self {
        Self::Batch(batch)
    }
}

impl From<BucketId> for Scope {
    fn from(bucket: BucketId) -> Self {
        match bucket {
            // The last time of all has no end and holds no report.
            BucketId::TimeInterval(time) => Self::Interval(
                Interval::unit(Time(time.0.min(u64::MAX - 1)))
                    .expect("a unit before the last time has an end"),
            ),
            BucketId::LeaderSelected(batch) => Self::Batch(batch),
        }
    }
}

impl Scope {
    /// The columns `batch_id`, first time and time after the last.
    pub(super) fn columns(&self) -> (Vec<u8>, i64, i64) {
        match self {
            Self::Interval(interval) => (Vec::new(), clamp(interval.start()), clamp(interval.end())),
            Self::Batch(batch) => (batch.as_bytes().to_vec(), 0, 1),
        }
    }
}

/// A time as columns hold it; beyond the last, the last.
pub(super) fn clamp(time: Time) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

/// The interval between two stored times, if it is one.
pub(super) fn between(start: u64, end: u64) -> Option<Interval> {
    Interval::new(Time(start), Duration(end.checked_sub(start)?)).ok()
}
