//! The map in memory: two generations of digests with their answers.
//!
//! Every answer is kept for at least one window, and gone after two turns. Most answers are the same few bytes, and those are
//! held once. The number of requests is what may run out. Bytes never do: when half of them are taken, of longer answers
//! is kept that there was one, so that nobody's long answers keep others out.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use mica_envelope::{AnswerLock, EncDigest};
use mica_service::key_life::Moment;
use tracing::warn;

use super::{
    Answer,
    blocks::{Known, Place},
    slot::{Pending, Slot, slot},
    table::Found,
};
use crate::config::ReplayConfig;

/// The map with its bounds.
pub(super) struct Memory {
    pub(super) promised_from: u64,
    generations: Mutex<Generations>,
    window: u64,
    max_requests: usize,
    max_bytes: usize,
}

/// What is known of a request.
pub(super) enum Recalled {
    /// Nothing: it is yours.
    New(Slot),
    /// It came before.
    Met(Met),
    /// Nothing, and there is no room for so many more seconds.
    Full(u64),
}

/// What is known of a request that came before.
pub(super) enum Met {
    /// Its answer.
    Kept(Answer),
    /// Somebody works on it.
    Waiting(Pending),
    /// It came before this process began: the database has its answer there.
    InStore(Place),
}

enum Entry {
    Waiting(Pending),
    Kept(Answer),
    InStore(Place),
}

struct Generations {
    current: Generation,
    previous: Generation,
    since: u64,
    /// The latest answer: most are like it.
    common: Answer,
}

#[derive(Default)]
struct Generation {
    entries: HashMap<EncDigest, Entry>,
    requests: usize,
    /// Of the answers as they are stored.
    bytes: usize,
    /// What its operator was told already.
    told: Told,
}

/// What was logged of a generation: each once.
#[derive(Default)]
struct Told {
    nearly_full: bool,
    full: bool,
    not_kept: bool,
}

/// How much is remembered in the current window, and how much may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fill {
    pub(crate) requests: usize,
    pub(crate) bytes: usize,
    pub(crate) max_requests: usize,
    pub(crate) max_bytes: usize,
}

impl Memory {
    /// The map as the database knows it.
    pub(super) fn new(limits: &ReplayConfig, found: &Found) -> Self {
        let known =
            |known: &[Known]| known.iter().map(|known| (known.enc, Entry::InStore(known.place))).collect();
        let current = Generation {
            entries: known(&found.current),
            requests: found.requests,
            bytes: found.bytes,
            told: Told::default(),
        };
        let previous = Generation { entries: known(&found.previous), ..Generation::default() };
        let generations = Generations { current, previous, since: found.since, common: Answer::new() };
        Self {
            promised_from: found.promised_from,
            generations: Mutex::new(generations),
            window: limits.window.as_secs(),
            max_requests: limits.max_requests,
            max_bytes: limits.max_bytes,
        }
    }

    /// What is known of `enc`, if anything is.
    pub(super) fn known(&self, enc: EncDigest, moment: Moment) -> Option<Met> {
        let mut generations = self.lock();
        generations.turn(moment, self.window);
        generations.find(&enc)
    }

    /// What is known of `enc`; what is not is claimed.
    pub(super) fn recall(&self, enc: EncDigest, moment: Moment) -> Recalled {
        let mut generations = self.lock();
        generations.turn(moment, self.window);
        if let Some(met) = generations.find(&enc) {
            return Recalled::Met(met);
        }
        let Generations { current, since, .. } = &mut *generations;
        if current.requests >= self.max_requests {
            current.told.once_full();
            return Recalled::Full(self.window.saturating_sub(moment.age_of(*since)).max(1));
        }
        let (slot, pending) = slot();
        current.requests += 1;
        if current.requests >= self.max_requests / 5 * 4 {
            current.told.once_nearly_full();
        }
        current.entries.insert(enc, Entry::Waiting(pending));
        Recalled::New(slot)
    }

    /// The answer as it is kept: [`GONE`] when there is no room for it.
    pub(super) fn fit(&self, answer: &Answer) -> Answer {
        let mut generations = self.lock();
        let Generations { current, common, .. } = &mut *generations;
        if !current.takes(answer.len(), self.max_bytes) {
            current.told.once_not_kept();
            return GONE;
        }
        if answer != common {
            // A copy of its own: the bytes may be a piece of a larger block.
            *common = Answer::copy_from_slice(answer);
        }
        common.clone()
    }

    /// How full the current window is.
    pub(super) fn fill(&self, moment: Moment) -> Fill {
        let mut generations = self.lock();
        generations.turn(moment, self.window);
        let Generation { requests, bytes, .. } = generations.current;
        Fill { requests, bytes, max_requests: self.max_requests, max_bytes: self.max_bytes }
    }

    /// Puts the answer where the claim is.
    pub(super) fn keep(&self, enc: EncDigest, answer: &Answer) {
        let mut generations = self.lock();
        let Generations { current, previous, .. } = &mut *generations;
        for generation in [current, previous] {
            if let Some(entry) = generation.entries.get_mut(&enc) {
                *entry = Entry::Kept(answer.clone());
            }
        }
    }

    /// Takes a claim back.
    pub(super) fn forget(&self, enc: EncDigest) {
        let mut generations = self.lock();
        if generations.current.entries.remove(&enc).is_some() {
            generations.current.requests = generations.current.requests.saturating_sub(1);
        }
        generations.previous.entries.remove(&enc);
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        // A map that a panicking thread left behind is still a map.
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generation {
    /// Whether an answer is kept. What is stored is counted in any case, as it is found again after a restart.
    fn takes(&mut self, answer: usize, most: usize) -> bool {
        let after = self.bytes.saturating_add(answer).saturating_add(AnswerLock::OVERHEAD);
        let fits = after <= if answer > SHORT { most / 2 } else { most };
        self.bytes = if fits { after } else { self.bytes.saturating_add(AnswerLock::OVERHEAD) };
        fits
    }
}

impl Told {
    fn once_nearly_full(&mut self) {
        if !mem::replace(&mut self.nearly_full, true) {
            warn!(
                "the memory of answers is four fifths full: raise replay.max_requests, or have relays limit clients"
            );
        }
    }

    fn once_full(&mut self) {
        if !mem::replace(&mut self.full, true) {
            warn!("the memory of answers is full: new requests are told 503 until the window ends");
        }
    }

    fn once_not_kept(&mut self) {
        if !mem::replace(&mut self.not_kept, true) {
            warn!("long answers fill replay.max_bytes: of more of them is kept only that they were given");
        }
    }
}

impl Generations {
    fn find(&self, enc: &EncDigest) -> Option<Met> {
        let entry = self.current.entries.get(enc).or_else(|| self.previous.entries.get(enc))?;
        Some(match entry {
            Entry::Kept(answer) => Met::Kept(answer.clone()),
            Entry::Waiting(pending) => Met::Waiting(pending.clone()),
            Entry::InStore(place) => Met::InStore(*place),
        })
    }

    fn turn(&mut self, moment: Moment, window: u64) {
        if !moment.is_sure {
            return;
        }
        let Moment { now, .. } = moment;
        if moment.is_before(self.since) {
            // A clock was ahead. What is here lives one window longer by it.
            self.since = now;
        }
        if moment.age_of(self.since) < window {
            return;
        }
        // One at a time, however late it is: the current one took answers until now.
        self.previous = mem::take(&mut self.current);
        self.since = now;
    }
}

/// Kept in place of an answer for which there was no room. No answer is empty: it begins with its status.
pub(super) const GONE: Answer = Answer::from_static(&[]);
/// Most answers are no longer than this; longer ones may fill no more than half of the bytes.
const SHORT: usize = 256;
