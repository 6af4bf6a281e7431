//! The map in memory: two generations of digests with their answers.
//!
//! Every answer is kept for at least one window and at most two. Most answers are the same few bytes, and those are
//! held once.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use mica_envelope::EncDigest;
use tokio::sync::watch;

use super::{Answer, encoded, table::Found};
use crate::{config::ReplayConfig, problem::Problem};

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
    /// Its answer.
    Kept(Answer),
    /// Somebody works on it.
    Waiting(Pending),
    /// It came before this process began: the database has its answer.
    InStore,
    /// Nothing, and there is no room for so many more seconds.
    Full(u64),
}

/// Where the answer is put.
pub(super) struct Slot(watch::Sender<News>);

/// Where the answer will be.
pub(super) struct Pending(watch::Receiver<News>);

#[derive(Clone)]
enum News {
    None,
    Answer(Answer),
    GivenUp,
}

enum Entry {
    Waiting(watch::Receiver<News>),
    Kept(Answer),
    InStore,
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
    bytes: usize,
    /// An answer did not fit: no more requests are taken in.
    full: bool,
}

impl Memory {
    /// The map as the database knows it.
    pub(super) fn new(limits: &ReplayConfig, found: &Found) -> Self {
        let known = |digests: &[EncDigest]| digests.iter().map(|&enc| (enc, Entry::InStore)).collect();
        let current = Generation {
            entries: known(&found.current),
            requests: found.requests,
            bytes: found.bytes,
            full: false,
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

    /// What is known of `enc`; what is not is claimed.
    pub(super) fn recall(&self, enc: EncDigest, now: u64) -> Recalled {
        let mut generations = self.lock();
        generations.turn(now, self.window);
        let Generations { current, previous, since, .. } = &mut *generations;
        if let Some(entry) = current.entries.get(&enc).or_else(|| previous.entries.get(&enc)) {
            return match entry {
                Entry::Kept(answer) => Recalled::Kept(answer.clone()),
                Entry::Waiting(news) => Recalled::Waiting(Pending(news.clone())),
                Entry::InStore => Recalled::InStore,
            };
        }
        if current.full || current.requests >= self.max_requests {
            return Recalled::Full((*since + self.window).saturating_sub(now).max(1));
        }
        let (sender, news) = watch::channel(News::None);
        current.requests += 1;
        current.entries.insert(enc, Entry::Waiting(news));
        Recalled::New(Slot(sender))
    }

    /// The answer as it may be kept, or `None` when there is no room for it: then nothing new is taken in either.
    pub(super) fn fit(&self, answer: &Answer) -> Option<Answer> {
        let mut generations = self.lock();
        if *answer == generations.common {
            let common = generations.common.clone();
            return generations.current.takes(common.len(), self.max_bytes).then_some(common);
        }
        let fits = generations.current.takes(answer.len(), self.max_bytes);
        // A copy of its own: the bytes may be a piece of a larger block.
        let kept = fits.then(|| Answer::copy_from_slice(answer));
        if let Some(kept) = &kept {
            generations.common = kept.clone();
        }
        kept
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
    fn takes(&mut self, bytes: usize, most: usize) -> bool {
        let fits = self.bytes.saturating_add(bytes) <= most;
        if fits {
            self.bytes += bytes;
        } else {
            self.full = true;
        }
        fits
    }
}

impl Generations {
    fn turn(&mut self, now: u64, window: u64) {
        let age = now.saturating_sub(self.since);
        if age < window {
            return;
        }
        let current = mem::take(&mut self.current);
        self.previous = if age < window.saturating_mul(2) { current } else { Generation::default() };
        self.since = now;
    }
}

impl Slot {
    pub(super) fn send(&self, answer: Answer) {
        self.0.send_replace(News::Answer(answer));
    }

    pub(super) fn give_up(&self) {
        self.0.send_replace(News::GivenUp);
    }
}

impl Pending {
    /// The answer, once it is there; `None` when nothing was asked after all. Whoever worked on it may also have failed
    /// without leaving one: then nobody asks again.
    pub(super) async fn answer(mut self) -> Option<Answer> {
        match self.0.wait_for(|news| !matches!(news, News::None)).await.map(|news| news.clone()) {
            Ok(News::Answer(answer)) => Some(answer),
            Ok(News::GivenUp) => None,
            Ok(News::None) | Err(_) => Some(encoded(&Problem::BAD_TARGET.inside())),
        }
    }
}
