//! Those who wait: who joins, and who leaves together when.
//!
//! In the journey of a report this is the list on the wall of the relay's waiting room. Whether a pool leaves and who is in
//! it is decided in one step, under the one lock of whoever owns it: between the two, somebody could leave who has waited
//! for nothing. It must never learn what is in a request.

use std::collections::HashMap;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::STRAGGLERS_WAIT;
use super::batch::{Batch, Parcel};
use super::setting::{MOST_REQUESTS, Mixing};
use crate::clients::Sender;

/// Who waits for whom.
pub(super) struct Queue {
    pub(super) mixing: Option<Mixing>,
    pub(super) draining: bool,
    /// In the order in which they came.
    waiting: Vec<Waiting>,
    /// How many requests of each sender wait.
    senders: HashMap<Sender, usize>,
    next: u64,
    rng: StdRng,
}

struct Waiting {
    number: u64,
    since: Instant,
    sender: Sender,
    parcel: Parcel,
}

/// What came of a request that joined.
pub(super) enum Joined {
    /// It waits under this number.
    Waits(u64),
    /// It leaves at once, with these.
    Leaves(Box<Batch>),
    /// Nobody waits for anybody here.
    Alone(Box<Parcel>),
    /// Too many wait, and some of them are of the same sender.
    Refused,
}

impl Queue {
    pub(super) fn new(mixing: Option<Mixing>, rng: StdRng) -> Self {
        Self { mixing, draining: false, waiting: Vec::new(), senders: HashMap::new(), next: 0, rng }
    }

    /// A pool is full when so many different senders wait in it. What one sends beyond its first waits with the others and
    /// is not counted: nobody alone can fill it.
    pub(super) fn join(&mut self, now: Instant, sender: Sender, parcel: Parcel) -> Joined {
        let Some(mixing) = self.mixing else { return Joined::Alone(Box::new(parcel)) };
        if self.waiting.len() >= MOST_REQUESTS && self.senders.contains_key(&sender) {
            return Joined::Refused;
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        *self.senders.entry(sender).or_default() += 1;
        self.waiting.push(Waiting { number, since: now, sender, parcel });
        if self.senders.len() < mixing.requests {
            return Joined::Waits(number);
        }
        self.take().map_or(Joined::Waits(number), |batch| Joined::Leaves(Box::new(batch)))
    }

    /// Takes out a request whose client went away. Whether it was there.
    pub(super) fn withdraw(&mut self, number: u64) -> bool {
        let Some(place) = self.waiting.iter().position(|waiting| waiting.number == number) else {
            return false;
        };
        let Waiting { sender, .. } = self.waiting.remove(place);
        if let Some(many) = self.senders.get_mut(&sender) {
            *many -= 1;
            if *many == 0 {
                self.senders.remove(&sender);
            }
        }
        true
    }

    /// When the oldest will have waited long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        let wait = self.mixing?.wait;
        let wait = if self.draining { wait.min(STRAGGLERS_WAIT) } else { wait };
        self.waiting.first().map(|oldest| oldest.since + wait)
    }

    /// All who wait, if the oldest of them has waited long enough by now.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Batch> {
        if self.due()? <= now { self.take() } else { None }
    }

    /// All who wait.
    pub(super) fn take(&mut self) -> Option<Batch> {
        if self.waiting.is_empty() {
            return None;
        }
        self.senders.clear();
        let parcels = std::mem::take(&mut self.waiting).into_iter().map(|waiting| waiting.parcel).collect();
        let wait = self.mixing.map_or(Duration::ZERO, |mixing| mixing.wait);
        Some(Batch::new(parcels, wait, StdRng::from_rng(&mut self.rng)))
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}
