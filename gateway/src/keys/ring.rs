//! The keys of one moment, as requests use them, and what is published of them.

use std::time::Duration;

use mica_envelope::{
    GatewayKeys, OpenError, Opened, Unwrap as _,
    history::{Entry, History},
    media,
};
use mica_service::{
    key_life::{KeyLife, KeyState, Moment},
    store::StoreError,
};

use super::{table::KeyRow, turn};
use crate::publish::Published;

/// The keys of one moment. Secrets never leave it.
pub(crate) struct Ring {
    keys: GatewayKeys,
    /// From when to when those are accepted that are no longer advertised.
    ends: Vec<(u8, [u64; 2])>,
    /// The list, byte for byte as the history has it.
    pub(crate) list: Published,
    /// The history.
    pub(crate) history: Published,
    mark: Mark,
}

/// What a ring was made of.
#[derive(PartialEq, Eq)]
pub(super) struct Mark(Vec<(u8, KeyLife)>, Option<u64>);

impl Mark {
    pub(super) fn of(rows: &[KeyRow], newest: Option<&Entry>) -> Self {
        Self(rows.iter().map(|row| (row.key_id, row.life)).collect(), newest.map(|entry| entry.number))
    }
}

impl Ring {
    /// The keys of these rows. Published is what the history says, so that replicas say the same whatever their settings.
    pub(super) fn new(rows: &[KeyRow], history: &History, cache_for: u64) -> Result<Self, StoreError> {
        let corrupt = |_| StoreError::corrupt("gateway_keys", "state");
        let newest = history.newest().ok_or_else(|| StoreError::corrupt("gateway_key_history", "number"))?;
        let published = turn::ids(&newest.list);
        let (mut advertised, mut others, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            let Some(key) = turn::key(row)? else { continue };
            if published.contains(&row.key_id) {
                advertised.push(key);
            } else {
                others.push(key);
            }
            let ends_at = row.life.leaves_at.filter(|_| row.life.state == KeyState::Accepted);
            ends.extend(ends_at.map(|at| (row.key_id, [row.life.entered_at, at])));
        }
        Ok(Self {
            keys: GatewayKeys::new(advertised).map_err(corrupt)?.accepting(others).map_err(corrupt)?,
            ends,
            list: Published::new(&newest.list, media::OHTTP_KEYS, Duration::from_secs(cache_for)),
            history: Published::new(history.to_json().as_bytes(), "application/json", HISTORY_MAX_AGE),
            mark: Mark::of(rows, Some(newest)),
        })
    }

    /// Opens a request with the key that its first byte names, if that is accepted at this time.
    pub(crate) fn open(&self, sealed: &[u8], moment: Moment) -> Result<Opened, OpenError> {
        let is_over =
            |id: &u8| self.ends.iter().any(|(key, [began, ends])| key == id && moment.is_over(*began, *ends));
        if sealed.first().is_some_and(is_over) {
            return Err(OpenError::UnknownKey);
        }
        self.keys.open(sealed)
    }

    pub(super) fn is_of(&self, mark: &Mark) -> bool {
        self.mark == *mark
    }
}

/// It only grows: a copy that is behind is not wrong.
const HISTORY_MAX_AGE: Duration = Duration::from_hours(1);
