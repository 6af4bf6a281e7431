//! The lives of keys that others seal to by number: pending, advertised, accepted only, destroyed, forgotten.
//!
//! What is due is a function of the rows, the terms and the time, so that every replica that looks finds the same. A key
//! is accepted before it is advertised, and for twice as long as anybody may keep the list after that; then it is
//! destroyed, and its number rests. Secrets never come near this file.

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyState {
    /// May open; not advertised yet, because another replica may not know it.
    Pending,
    /// May open and is advertised.
    Advertised,
    /// May open; no longer advertised.
    Accepted,
    /// Opens nothing: the secret is gone. The identifier is not given to another key yet.
    Destroyed,
}

impl KeyState {
    /// All states, in the order of a life.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Advertised, Self::Accepted, Self::Destroyed];

    /// The word for people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Advertised => "advertised",
            Self::Accepted => "accepted",
            Self::Destroyed => "destroyed",
        }
    }
}

/// Where in its life a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyLife {
    /// What it may be used for.
    pub state: KeyState,
    /// When it was made.
    pub created_at: u64,
    /// When it came into its state.
    pub entered_at: u64,
    /// When it is to leave its state; nothing while it is advertised.
    pub leaves_at: Option<u64>,
    /// The longest time in seconds for which clients were told to keep its configuration.
    pub cached_for: u64,
}

/// What an operator wants of the keys. `K` is a kind of key: a suite, or a KEM.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a, K> {
    /// The kinds there are keys for.
    pub kinds: &'a [K],
    /// How long a key is advertised, in seconds.
    pub rotate_every: u64,
    /// For how long clients are told to keep the list, in seconds.
    pub cache_for: u64,
    /// The identifier of the very first key.
    pub first_id: u8,
    /// No key is replaced while the one before it is still accepted, so that never more than two of a kind open.
    pub two_at_most: bool,
}

/// A key, as far as its life goes. The kind is unknown for a key of a newer version of this program.
#[derive(Clone, Copy, Debug)]
pub struct Known<K> {
    /// Its identifier.
    pub id: u8,
    /// Its kind.
    pub kind: Option<K>,
    /// Where in its life it is.
    pub life: KeyLife,
}

/// One change that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<K> {
    /// A new key.
    Make {
        /// Its identifier.
        id: u8,
        /// Its kind.
        kind: K,
        /// The state that it begins in.
        state: KeyState,
        /// When it is to leave that.
        leaves_at: Option<u64>,
    },
    /// From one state to the next.
    Move {
        /// The key.
        id: u8,
        /// From where to where.
        states: [KeyState; 2],
        /// When it is to leave the second.
        leaves_at: Option<u64>,
    },
    /// The end of the secret, unless something that was accepted while the key was still needs it.
    Destroy {
        /// The key.
        id: u8,
        /// From when to when it was accepted.
        accepted: [u64; 2],
        /// When its identifier has rested.
        leaves_at: u64,
    },
    /// The end of the identifier's rest.
    Forget {
        /// The key.
        id: u8,
    },
    /// The times of a key that was changed by a clock that was ahead, as a clock that is right would have written them.
    SetBack {
        /// The key.
        id: u8,
        /// When it was made, at the latest.
        created_at: u64,
        /// When it came into its state, at the latest.
        entered_at: u64,
        /// When it is to leave that.
        leaves_at: Option<u64>,
    },
    /// Clients are told to keep the list for longer than before.
    Note,
}

/// What is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due<K> {
    /// In the order in which they are to be carried out.
    pub changes: Vec<Change<K>>,
    /// A key is to be made, and all 256 identifiers are in use.
    pub lacks_identifier: bool,
}

/// A time to look at keys by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970.
    pub now: u64,
    /// The clock has shown so for long enough, and the database's does not contradict it.
    pub is_sure: bool,
    /// For how many seconds the clock has gone on evenly, as far as this process has looked.
    pub even_for: u64,
    /// Somebody set it before that, while this process looked.
    pub was_set: bool,
}

impl Moment {
    /// A time that was looked at once.
    pub const fn at_first_sight(now: u64) -> Self {
        Self { now, is_sure: false, even_for: 0, was_set: false }
    }

    /// How many seconds have passed since then at least. What a clock jumped over when it was set has not passed.
    pub fn age_of(&self, since: u64) -> u64 {
        let age = self.now.saturating_sub(since);
        if self.was_set { age.min(self.even_for) } else { age }
    }

    /// When that is over which began and was to end then, for what cannot be undone: not before so much time has passed. By
    /// the clock alone, one that was behind and is put right would end it too soon.
    pub fn end_of(&self, began: u64, ends: u64) -> u64 {
        let set_at = self.now.saturating_sub(self.even_for);
        if self.was_set { ends.max(set_at.saturating_add(ends.saturating_sub(began))) } else { ends }
    }

    /// Whether it is over.
    pub fn is_over(&self, began: u64, ends: u64) -> bool {
        self.end_of(began, ends) <= self.now
    }

    /// Whether this was written by a clock that was ahead: by more than the clocks of replicas may differ.
    pub fn is_before(&self, written: u64) -> bool {
        written > self.now.saturating_add(CLOCKS_DIFFER)
    }
}

impl<K: PartialEq> Due<K> {
    /// What may be done of it by a clock that was looked at once: keys that somebody asked for, and those without which
    /// there is none. All else ends or begins something for everybody and cannot be taken back.
    pub fn keep_what_needs_no_clock(&mut self, rotate: &[K]) {
        self.changes.retain(|change| match change {
            Change::Make { kind, state, .. } => *state == KeyState::Advertised || rotate.contains(kind),
            Change::Note => true,
            Change::Move { .. } | Change::Destroy { .. } | Change::Forget { .. } | Change::SetBack { .. } => {
                false
            }
        });
    }
}

/// What is due now. `rotate` are kinds whose key is to be replaced although its time has not come.
pub fn due<K: Copy + PartialEq>(
    keys: &[Known<K>],
    terms: &Terms<'_, K>,
    moment: Moment,
    rotate: &[K],
) -> Due<K> {
    let now = moment.now;
    let mut changes: Vec<Change<K>> = keys.iter().filter_map(|key| ending(key, moment)).collect();
    changes.extend(advertising(keys, terms, now));
    let mut lacks_identifier = false;
    let mut new_ids = Vec::new();
    for kind in terms.kinds {
        let Some(state) = missing(keys, terms, *kind, now, rotate.contains(kind)) else { continue };
        let Some(id) = free_id(keys, &new_ids, terms.first_id) else {
            lacks_identifier = true;
            break;
        };
        new_ids.push(id);
        let leaves_at = (state == KeyState::Pending).then_some(now + PENDING_SECONDS);
        changes.push(Change::Make { id, kind: *kind, state, leaves_at });
    }
    Due { changes, lacks_identifier }
}

/// Keys whose times lie ahead: a clock was wrong when they were written, and by one that is right nothing of what is due
/// would come for as long as that one was ahead. They are taken for keys that came into their state now, so nothing ends
/// sooner than it should; and only by a clock that has gone on evenly for an hour, because one that is behind finds the
/// same.
pub fn set_back<K>(keys: &[Known<K>], moment: Moment) -> Vec<Change<K>> {
    if !moment.is_sure || moment.even_for < CALM_SECONDS {
        return Vec::new();
    }
    let now = moment.now;
    let is_ahead =
        |key: &&Known<K>| moment.is_before(key.life.entered_at) || moment.is_before(key.life.created_at);
    let change = |key: &Known<K>| {
        let KeyLife { state, created_at, entered_at, leaves_at, cached_for } = key.life;
        let stays_for = match state {
            KeyState::Pending => PENDING_SECONDS,
            KeyState::Accepted => 2 * cached_for + PENDING_SECONDS,
            KeyState::Advertised | KeyState::Destroyed => 2 * cached_for,
        };
        Change::SetBack {
            id: key.id,
            // What was sealed to it since the clock was put right is younger.
            created_at: created_at.min(now.saturating_sub(CALM_SECONDS)),
            entered_at: entered_at.min(now),
            leaves_at: leaves_at.map(|leaves_at| leaves_at.min(now + stays_for)),
        }
    };
    keys.iter().filter(is_ahead).map(change).collect()
}

/// What ends for good follows time that has passed, and no clock that jumped over it.
fn ending<K>(key: &Known<K>, moment: Moment) -> Option<Change<K>> {
    let (id, life) = (key.id, key.life);
    let leaves_at = life.leaves_at?;
    // Another replica may accept it for as long as its clock is behind this one.
    let of_all = leaves_at.saturating_add(CLOCKS_DIFFER);
    match life.state {
        KeyState::Accepted if moment.is_over(life.entered_at, of_all) => {
            let accepted = [life.created_at, moment.end_of(life.entered_at, leaves_at)];
            Some(Change::Destroy { id, accepted, leaves_at: moment.now + 2 * life.cached_for })
        }
        KeyState::Destroyed if moment.is_over(life.entered_at, leaves_at) => Some(Change::Forget { id }),
        _ => None,
    }
}

/// Keys that every replica has loaded by now, and those that they replace or that nobody wants any more.
fn advertising<K: Copy + PartialEq>(keys: &[Known<K>], terms: &Terms<'_, K>, now: u64) -> Vec<Change<K>> {
    let is_ready = |key: &&Known<K>| {
        key.life.state == KeyState::Pending && key.life.leaves_at.is_none_or(|leaves_at| leaves_at <= now)
    };
    let ready: Vec<&Known<K>> = keys.iter().filter(is_ready).collect();
    let active = || keys.iter().filter(|key| key.life.state == KeyState::Advertised);
    let is_wanted = |key: &Known<K>| key.kind.is_none_or(|kind| terms.kinds.contains(&kind));
    let is_accepted =
        |kind: Option<K>| keys.iter().any(|key| key.life.state == KeyState::Accepted && key.kind == kind);
    let stays = active().any(is_wanted) || !ready.is_empty();
    let ends = active().filter(|key| {
        let is_replaced = ready.iter().any(|new| new.kind == key.kind);
        let has_room = !terms.two_at_most || !is_accepted(key.kind);
        let is_unwanted = !is_wanted(key) && key.life.entered_at + CALM_SECONDS <= now && has_room;
        is_replaced || (is_unwanted && stays)
    });
    // The old one first, so that there are never two.
    let end = |key: &Known<K>| {
        let cached_for = key.life.cached_for.max(terms.cache_for);
        let leaves_at = Some(now + 2 * cached_for + PENDING_SECONDS);
        Change::Move { id: key.id, states: [KeyState::Advertised, KeyState::Accepted], leaves_at }
    };
    let begin = |key: &&Known<K>| {
        let states = [KeyState::Pending, KeyState::Advertised];
        Change::Move { id: key.id, states, leaves_at: None }
    };
    let mut changes: Vec<Change<K>> = ends.map(end).collect();
    changes.extend(ready.iter().map(begin));
    changes
}

/// Whether a kind lacks a key, and what state a new one begins in.
fn missing<K: Copy + PartialEq>(
    keys: &[Known<K>],
    terms: &Terms<'_, K>,
    kind: K,
    now: u64,
    rotate: bool,
) -> Option<KeyState> {
    if !keys.iter().any(|key| matches!(key.life.state, KeyState::Advertised | KeyState::Pending)) {
        // Nobody has a list yet, so nobody can be told of a key that another replica does not have.
        return Some(KeyState::Advertised);
    }
    let of_kind = || keys.iter().filter(|key| key.kind == Some(kind));
    if of_kind().any(|key| key.life.state == KeyState::Pending) {
        return None;
    }
    if terms.two_at_most && of_kind().any(|key| key.life.state == KeyState::Accepted) {
        return None;
    }
    let active = of_kind().find(|key| key.life.state == KeyState::Advertised);
    // Replicas with different settings would otherwise make and drop keys in turn, until no identifier is left.
    let newest = of_kind().map(|key| key.life.created_at).max();
    let is_calm = newest.is_none_or(|newest| newest + CALM_SECONDS <= now);
    let is_due = active.is_none_or(|key| key.life.entered_at + terms.rotate_every <= now);
    (rotate || (is_due && is_calm)).then_some(KeyState::Pending)
}

/// The next identifier after the newest key's that no key has, so that each rests as long as possible.
fn free_id<K>(keys: &[Known<K>], new_ids: &[u8], first: u8) -> Option<u8> {
    let newest = keys.iter().max_by_key(|key| key.life.created_at).map(|key| key.id);
    let first = newest.map_or(first, |id| id.wrapping_add(1));
    (0..=u8::MAX)
        .map(|step| first.wrapping_add(step))
        .find(|id| keys.iter().all(|key| key.id != *id) && !new_ids.contains(id))
}

/// What is said of a key whose times lay ahead.
pub const WAS_AHEAD: &str = "a clock was ahead when this key came into its state: it is taken to have come into it now, so that \
                             it can be replaced and destroyed in its time";

/// How long a key is accepted before it is advertised: every replica looks for new keys far more often.
pub const PENDING_SECONDS: u64 = 60;

/// How long a kind is left alone after it got a key, unless somebody asks for another.
pub const CALM_SECONDS: u64 = 3_600;

/// By how many seconds the clocks of replicas may differ.
pub const CLOCKS_DIFFER: u64 = 60;
