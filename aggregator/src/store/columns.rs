//! Columns that several tables read the same way.

use mica_service::store::{Fields, StoreError, Tx};
use sqlx::AssertSqlSafe;

/// A BYTEA of exactly `N` bytes, or nothing where it is NULL.
pub(super) fn optional_array<const N: usize>(
    fields: &Fields<'_>,
    name: &'static str,
) -> Result<Option<[u8; N]>, StoreError> {
    fields.optional_bytes(name)?.map(|bytes| bytes.try_into().map_err(|_| fields.corrupt(name))).transpose()
}

/// A word that is not one of the states of its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a state of this column")]
pub struct UnknownState;

/// The one of `states` that is written `text`.
pub(super) fn state<S: Copy>(
    text: &str,
    states: &[S],
    word: impl Fn(S) -> &'static str,
) -> Result<S, UnknownState> {
    states.iter().copied().find(|state| word(*state) == text).ok_or(UnknownState)
}

/// Whether a guarded update found its row.
pub(super) fn found(rows: u64) -> bool {
    rows == 1
}

/// A query whose SELECT, which `before` ends with, passes over rows that others are working on.
pub(super) fn for_update_skip_locked(
    tx: &Tx,
    before: &'static str,
    after: &'static str,
) -> AssertSqlSafe<String> {
    AssertSqlSafe([before, tx.for_update_skip_locked(), after].concat())
}

/// A query that locks the rows it selects.
pub(super) fn for_update(tx: &Tx, select: &'static str) -> AssertSqlSafe<String> {
    AssertSqlSafe([select, tx.for_update()].concat())
}
