//! How many connections each caller has, so that nobody has them all.
//!
//! Kept is a number for each hash of an address, as long as one of its connections lasts: never more numbers than connections.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::callers::Caller;

/// What each caller has taken of the connections of one listener.
pub(super) struct Shares {
    most: usize,
    taken: Mutex<HashMap<u64, usize>>,
}

/// One connection of a caller.
pub(super) struct Share {
    shares: Arc<Shares>,
    caller: u64,
}

/// Connections that were closed because their callers have enough of them; said once a minute.
#[derive(Default)]
pub(super) struct TurnedAway {
    times: u64,
    told: Option<Instant>,
}

impl Shares {
    /// So many connections for each caller, and for whoever it is one.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), taken: Mutex::default() })
    }

    /// One more connection of this caller until the returned value is dropped. Nothing, if it has all that it may have.
    pub(super) fn take(self: &Arc<Self>, caller: Caller) -> Option<Share> {
        let caller = caller.hash();
        let mut taken = self.taken();
        let number = taken.entry(caller).or_default();
        if *number >= self.most {
            return None;
        }
        *number += 1;
        Some(Share { shares: Arc::clone(self), caller })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Entry::Occupied(mut taken) = self.shares.taken().entry(self.caller) {
            *taken.get_mut() -= 1;
            if *taken.get() == 0 {
                taken.remove();
            }
        }
    }
}

impl TurnedAway {
    pub(super) fn one_more(&mut self) {
        self.times += 1;
        if self.told.is_none_or(|told| told.elapsed() >= A_MINUTE) {
            let times = std::mem::take(&mut self.times);
            tracing::warn!(times, "connections were closed: their client has as many as one client may have");
            self.told = Some(Instant::now());
        }
    }
}

const A_MINUTE: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::super::Callers;
    use super::*;

    #[test]
    fn a_caller_has_its_share_and_no_more_and_nothing_is_kept_of_one_who_left() {
        let (shares, callers) = (Shares::new(2), Callers::new(64));
        let of = |text: &str| callers.of(text.parse().expect("an address"));
        let (one, other) = (of("192.0.2.1"), of("2001:db8::1"));
        let first = shares.take(one);
        let second = shares.take(one);
        assert!(first.is_some() && second.is_some() && shares.take(one).is_none());
        let others = [shares.take(other), shares.take(of("2001:db8::2")), shares.take(of("2001:db8::3"))];
        assert_eq!(others.map(|share| share.is_some()), [true, true, false], "a network is one caller");
        drop(first);
        assert!(shares.take(one).is_some_and(|_third| shares.take(one).is_none()));
        drop(second);
        assert!(shares.taken().is_empty());
    }
}
