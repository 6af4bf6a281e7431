//! What is due in the lives of keys: a function of the rows, the schedule and the time, so that every replica that looks
//! finds the same.
//!
//! pending, advertised, accepted only, destroyed, forgotten. Private keys never come near this file.

use mica_dap::hpke::Suite;

use super::Schedule;
use crate::store::hpke_keys::{KeyLife, KeyState};

/// A key, as far as its life goes. The suite is unknown for a key of a newer version of this program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) id: u8,
    pub(super) suite: Option<Suite>,
    pub(super) life: KeyLife,
}

/// One change that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A new key.
    Make { id: u8, suite: Suite, state: KeyState, leaves_at: Option<u64> },
    /// From one state to the next, to be left at a time.
    Move { id: u8, states: [KeyState; 2], leaves_at: Option<u64> },
    /// The end of the private key, unless a job still needs what was accepted from the first time to the second.
    Destroy { id: u8, accepted: [u64; 2], leaves_at: u64 },
    /// The end of the identifier's rest.
    Forget { id: u8 },
    /// Clients are told to keep the list for longer than before.
    Note,
}

/// What is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) changes: Vec<Change>,
    /// A key is to be made, and all 256 identifiers are in use.
    pub(super) lacks_identifier: bool,
}

/// What is due now. `rotate` are suites whose key is to be replaced although its time has not come.
pub(super) fn due(keys: &[Known], schedule: &Schedule, now: u64, rotate: &[Suite]) -> Due {
    let mut changes: Vec<Change> = keys.iter().filter_map(|key| ending(key, now)).collect();
    changes.extend(advertising(keys, schedule, now));
    let mut lacks_identifier = false;
    let mut new_ids = Vec::new();
    for suite in schedule.suites() {
        let Some(state) = missing(keys, schedule, *suite, now, rotate.contains(suite)) else { continue };
        let Some(id) = free_id(keys, &new_ids) else {
            lacks_identifier = true;
            break;
        };
        new_ids.push(id);
        let leaves_at = (state == KeyState::Pending).then_some(now + PENDING_SECONDS);
        changes.push(Change::Make { id, suite: *suite, state, leaves_at });
    }
    Due { changes, lacks_identifier }
}

fn ending(key: &Known, now: u64) -> Option<Change> {
    let (id, life) = (key.id, key.life);
    let leaves_at = life.leaves_at.filter(|leaves_at| *leaves_at <= now)?;
    match life.state {
        // Another replica may accept it for as long as its clock is behind this one.
        KeyState::Expired if now < leaves_at.saturating_add(CLOCKS_DIFFER) => None,
        KeyState::Expired => {
            let accepted = [life.created_at, leaves_at];
            Some(Change::Destroy { id, accepted, leaves_at: now + 2 * life.cached_for })
        }
        KeyState::Destroyed => Some(Change::Forget { id }),
        KeyState::Pending | KeyState::Active => None,
    }
}

/// Keys that every replica has loaded by now, and those that they replace or that nobody wants any more.
fn advertising(keys: &[Known], schedule: &Schedule, now: u64) -> Vec<Change> {
    let is_ready = |key: &&Known| {
        key.life.state == KeyState::Pending && key.life.leaves_at.is_none_or(|leaves_at| leaves_at <= now)
    };
    let ready: Vec<&Known> = keys.iter().filter(is_ready).collect();
    let active = || keys.iter().filter(|key| key.life.state == KeyState::Active);
    let is_wanted = |key: &Known| key.suite.is_none_or(|suite| schedule.suites().contains(&suite));
    let stays = active().any(is_wanted) || !ready.is_empty();
    let mut changes: Vec<Change> = ready
        .iter()
        .map(|key| Change::Move {
            id: key.id,
            states: [KeyState::Pending, KeyState::Active],
            leaves_at: None,
        })
        .collect();
    changes.extend(
        active()
            .filter(|key| {
                let is_replaced = ready.iter().any(|new| new.suite == key.suite);
                let is_unwanted = !is_wanted(key) && key.life.entered_at + CALM_SECONDS <= now;
                is_replaced || (is_unwanted && stays)
            })
            .map(|key| {
                let cached_for = key.life.cached_for.max(schedule.cache_for());
                let leaves_at = Some(now + 2 * cached_for + PENDING_SECONDS);
                Change::Move { id: key.id, states: [KeyState::Active, KeyState::Expired], leaves_at }
            }),
    );
    changes
}

/// Whether a suite lacks a key, and what state a new one begins in.
fn missing(keys: &[Known], schedule: &Schedule, suite: Suite, now: u64, rotate: bool) -> Option<KeyState> {
    if !keys.iter().any(|key| matches!(key.life.state, KeyState::Active | KeyState::Pending)) {
        // Nobody has a list yet, so nobody can be told of a key that another replica does not have.
        return Some(KeyState::Active);
    }
    let of_suite = || keys.iter().filter(|key| key.suite == Some(suite));
    if of_suite().any(|key| key.life.state == KeyState::Pending) {
        return None;
    }
    let active = of_suite().find(|key| key.life.state == KeyState::Active);
    // Replicas with different settings would otherwise make and drop keys in turn, until no identifier is left.
    let newest = of_suite().map(|key| key.life.created_at).max();
    let is_calm = newest.is_none_or(|newest| newest + CALM_SECONDS <= now);
    let is_due = active.is_none_or(|key| key.life.entered_at + schedule.rotate_every() <= now);
    (rotate || (is_due && is_calm)).then_some(KeyState::Pending)
}

/// The next identifier after the newest key's that no key has, so that each rests as long as possible.
fn free_id(keys: &[Known], new_ids: &[u8]) -> Option<u8> {
    let newest = keys.iter().max_by_key(|key| key.life.created_at).map(|key| key.id);
    let first = newest.map_or(0, |id| id.wrapping_add(1));
    (0..=u8::MAX)
        .map(|step| first.wrapping_add(step))
        .find(|id| keys.iter().all(|key| key.id != *id) && !new_ids.contains(id))
}

/// How long a key is accepted before it is advertised: every replica looks for new keys far more often.
pub(super) const PENDING_SECONDS: u64 = 60;

/// How long a suite is left alone after it got a key, unless somebody asks for another.
const CALM_SECONDS: u64 = 3_600;

/// By how many seconds the clocks of replicas may differ.
pub(super) const CLOCKS_DIFFER: u64 = 60;
