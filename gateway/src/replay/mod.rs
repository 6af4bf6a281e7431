//! Answers that are remembered for requests that are sent again.
//!
//! Clients in the wild send the same sealed request again when an answer is lost, and a relay may replay one to watch
//! what happens. Either way the target must see it once, and the sender gets the first answer under a fresh nonce
//! (RFC 9458 6.5). A request is remembered only after its seal was good, so garbage fills nothing; and when there are too
//! many, new ones are refused rather than old ones forgotten.
//!
//! Three layers: a map in memory, which answers nearly everything; the gateway's own database, so that answers outlive
//! the process; and, when that is PostgreSQL, claims in it, so that of several replicas one alone asks the target. What
//! is kept of a request is a digest of the public head of its ciphertext, and the answer, locked with the request itself:
//! never who sent it, never what was asked, never when. An answer may name reports, so the database cannot read it.

mod blocks;
mod date;
mod group;
mod look;
mod memory;
mod questions;
mod slot;
mod table;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mica_envelope::{AnswerLock, EncDigest, InnerResponse, encode_response};
use mica_service::{
    steady::Steady,
    store::{Dialect, Store, StoreError},
    trouble::Trouble,
};
use tokio::time::Instant;
use tracing::{debug, warn};

pub use self::look::{Remembered, remembered};
pub(crate) use self::{date::DateRule, memory::Fill};
use self::{
    memory::{GONE, Memory, Met, Recalled},
    slot::Slot,
    writer::{Standing, Writer},
};
use crate::{
    config::{ReplayConfig, TO_WRITE},
    problem::Problem,
    under_way::UnderWay,
};

/// An answer as it is kept and sealed: binary HTTP without padding.
pub(crate) type Answer = Bytes;

/// The memory. Clones share it.
#[derive(Clone)]
pub(crate) struct Answers {
    memory: Arc<Memory>,
    writer: Writer,
    clock: Steady,
    troubles: Arc<Troubles>,
}

/// What goes wrong with the database, once a minute for all requests.
#[derive(Default)]
struct Troubles {
    unreadable: Trouble,
    unwritable: Trouble,
}

/// What to do with a request.
pub(crate) enum Claim {
    /// Seen for the first time: process it and leave the answer.
    First(Ticket),
    /// Seen before, and this was the answer.
    Again(Answer),
    /// Not now: no room to remember it, or nobody knows yet what became of it. After so many seconds, perhaps.
    Later(u64),
}

/// The duty to leave an answer.
pub(crate) struct Ticket {
    answers: Answers,
    enc: EncDigest,
    lock: AnswerLock,
    slot: Slot,
    /// Until when it is claimed in the database, where replicas claim there.
    until: Option<u64>,
}

/// The bytes under which an answer is kept. One that cannot be written is a failure of the target.
pub(crate) fn encoded(answer: &InnerResponse) -> Answer {
    let mut encoded = encode_response(answer)
        .or_else(|_| encode_response(&Problem::BAD_TARGET.inside()))
        .expect("a constant answer keeps the rules");
    // It is kept for a while, and what is counted of it is its length.
    encoded.shrink_to_fit();
    encoded.into()
}

/// What is told of an answer that was kept, or of which was kept that it was given.
fn told(kept: Answer) -> Answer {
    if kept == GONE { encoded(&Problem::ANSWERED_BEFORE.inside()) } else { kept }
}

/// What was kept. What cannot be read any more, because somebody wrote to the database, was an answer at any rate.
fn unlocked(lock: &AnswerLock, locked: &[u8]) -> Answer {
    let kept = lock.unlock(locked).map_or_else(
        || {
            debug!("a kept answer cannot be read; it is told as given");
            GONE
        },
        Answer::from,
    );
    told(kept)
}

impl Answers {
    /// The memory as the database has it. What is not written yet is under way.
    pub(crate) async fn open(
        store: &Store,
        limits: &ReplayConfig,
        clock: Steady,
        under_way: UnderWay,
    ) -> Result<Self, StoreError> {
        let found = table::open(store, &clock, limits.window).await?;
        let memory = Arc::new(Memory::new(limits, &found));
        let writer = Writer::start(store.clone(), clock.clone(), limits.window, under_way);
        Ok(Self { memory, writer, clock, troubles: Arc::default() })
    }

    /// Since when answers are remembered, in seconds since 1970.
    pub(crate) fn promised_from(&self) -> u64 {
        self.memory.promised_from
    }

    /// How much is remembered.
    pub(crate) fn fill(&self) -> Fill {
        self.memory.fill(self.clock.look())
    }

    /// Asks whether the request called `enc` came before, and waits for its answer if somebody works on it. Whoever is
    /// the first has its answer by the deadline.
    pub(crate) async fn claim(&self, enc: EncDigest, lock: AnswerLock, deadline: Instant) -> Claim {
        match self.memory.recall(enc, self.clock.look()) {
            Recalled::New(slot) => {
                let ticket = Ticket { answers: self.clone(), enc, lock, slot, until: None };
                match self.writer.stuck() {
                    None => self.claim_among_replicas(ticket, deadline).await,
                    Some(seconds) => {
                        ticket.give_up();
                        Claim::Later(seconds)
                    }
                }
            }
            Recalled::Met(met) => self.say_again(met, enc, &lock).await,
            // What is full are the places for new ones; a replica may have answered this one.
            Recalled::Full(seconds) if self.writer.dialect() == Dialect::Postgres => {
                let answer = self.read(self.writer.look_up(enc).await, &lock);
                answer.map_or_else(Claim::Later, |answer| answer.map_or(Claim::Later(seconds), Claim::Again))
            }
            Recalled::Full(seconds) => Claim::Later(seconds),
        }
    }

    /// What was said of the request called `enc` when it came before; waits for it if somebody works on it. A request that
    /// is new is not claimed by this. With `elsewhere`, replicas are asked as well.
    pub(crate) async fn recall(&self, enc: EncDigest, lock: &AnswerLock, elsewhere: bool) -> Option<Claim> {
        if let Some(met) = self.memory.known(enc, self.clock.look()) {
            return Some(self.say_again(met, enc, lock).await);
        }
        if !elsewhere || self.writer.dialect() == Dialect::Sqlite {
            return None;
        }
        match self.read(self.writer.look_up(enc).await, lock) {
            Ok(answer) => answer.map(Claim::Again),
            Err(seconds) => Some(Claim::Later(seconds)),
        }
    }

    async fn say_again(&self, met: Met, enc: EncDigest, lock: &AnswerLock) -> Claim {
        match met {
            Met::Kept(kept) => Claim::Again(told(kept)),
            Met::Waiting(pending) => match pending.answer().await {
                Some(answer) => Claim::Again(answer),
                None => Claim::Later(1),
            },
            Met::InStore(place) => {
                let answer = self.read(self.writer.look_up_in(place, enc).await, lock);
                // It was answered, whether that can be read now or not: nobody is told to come back (RFC 9458 6.5).
                Claim::Again(answer.ok().flatten().unwrap_or_else(|| told(GONE)))
            }
        }
    }

    /// The stored answer, or after how many seconds to ask again.
    fn read(
        &self,
        found: Result<Option<Answer>, StoreError>,
        lock: &AnswerLock,
    ) -> Result<Option<Answer>, u64> {
        let found = found.map_err(|error| {
            if let Some(times) = self.troubles.unreadable.occurs() {
                warn!(times, %error, "the memory of answers cannot be read");
            }
            1_u64
        });
        Ok(found?.map(|locked| unlocked(lock, &locked)))
    }

    /// The same among all who share the database. One process alone has asked everybody when it has asked itself.
    async fn claim_among_replicas(&self, mut ticket: Ticket, deadline: Instant) -> Claim {
        if self.writer.dialect() == Dialect::Sqlite {
            return Claim::First(ticket);
        }
        loop {
            let lease = deadline.saturating_duration_since(Instant::now()).saturating_add(TO_WRITE);
            match self.writer.claim(ticket.enc, lease).await {
                Ok(Standing::Claimed { until }) => {
                    ticket.until = Some(until);
                    return Claim::First(ticket);
                }
                Ok(Standing::Answered(locked)) => {
                    let answer = unlocked(&ticket.lock, &locked);
                    return Claim::Again(ticket.keep(answer));
                }
                Ok(Standing::Claimable { after }) if Instant::now() >= deadline => {
                    ticket.give_up();
                    return Claim::Later(after);
                }
                Ok(Standing::Claimable { .. }) => tokio::time::sleep(POLL).await,
                Err(error) => {
                    if let Some(times) = self.troubles.unwritable.occurs() {
                        warn!(times, %error, "the memory of answers cannot be written");
                    }
                    ticket.give_up();
                    return Claim::Later(1);
                }
            }
        }
    }
}

impl Ticket {
    /// Leaves the answer for whoever sends the request again, and returns when it would survive the end of the process.
    /// An answer for which there is no room is replaced by the statement that there was one.
    pub(crate) async fn leave(self, answer: Answer) {
        let kept = self.answers.memory.fit(&answer);
        match self.lock.lock(&kept) {
            Ok(locked) => self.answers.writer.leave(self.enc, locked).await,
            Err(error) => warn!(%error, "an answer is kept in memory only"),
        }
        self.answers.memory.keep(self.enc, &kept);
        self.slot.send(answer);
    }

    /// The target certainly got nothing: whoever waits for the answer is told the same, and whoever comes next begins anew,
    /// here or at a replica.
    pub(crate) async fn take_back(self, answer: Answer) {
        if let Some(until) = self.until {
            // Else it is free when the claim ends.
            self.answers.writer.release(self.enc, until).await;
        }
        self.answers.memory.forget(self.enc);
        self.slot.send(answer);
    }

    /// A replica has left the answer: whoever waits for it may have it.
    fn keep(self, answer: Answer) -> Answer {
        self.answers.memory.keep(self.enc, &answer);
        self.slot.send(answer.clone());
        answer
    }

    /// Nothing was asked and nothing is known: whoever comes next begins anew.
    fn give_up(self) {
        self.answers.memory.forget(self.enc);
        self.slot.give_up();
    }
}

/// How often an answer is asked for that another replica works on.
const POLL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
