//! How full the memory is, for an operator who looks from beside: how many, and nothing of any request.

use mica_service::store::{Store, StoreError};

use super::table;
use crate::config::ReplayConfig;

/// What the database holds of the current window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Requests.
    pub requests: usize,
    /// Bytes of their answers, as they are stored.
    pub bytes: usize,
    /// For how many more seconds; 0 when the next request begins another window.
    pub seconds_left: u64,
}

/// How much is remembered of the current window at `now`. Nothing is changed, and before the first start there is nothing.
///
/// # Errors
/// When the database fails.
pub async fn remembered(
    store: &Store,
    limits: &ReplayConfig,
    now: u64,
) -> Result<Option<Remembered>, StoreError> {
    let filled = store.read("look_at_memory", |mut tx| async move {
        let filled = table::filled(&mut tx).await?;
        Ok((tx, filled))
    });
    Ok(filled.await?.map(|(since, requests, bytes)| {
        let seconds_left = limits.window.as_secs().saturating_sub(now.saturating_sub(since));
        Remembered { requests, bytes, seconds_left }
    }))
}
