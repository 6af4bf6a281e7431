//! Columns that several tables read the same way.

use mica_service::store::{Fields, StoreError};

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
pub(super) fn state<S: Copy>(text: &str, states: &[S], word: impl Fn(&S) -> &'static str) -> Result<S, UnknownState> {
    states.iter().copied().find(|state| word(state) == text).ok_or(UnknownState)
}

/// Whether a guarded update found its row.
pub(super) fn found(rows: u64) -> bool {
    rows == 1
}
