//! Answers that are remembered for requests that are sent again.
//!
//! Clients in the wild send the same sealed request again when an answer is lost, and a relay may replay one to watch
//! what happens. Either way the target must see it once, and the sender gets the first answer under a fresh nonce
//! (RFC 9458 6.5). A request is remembered only after its seal was good, so garbage fills nothing; and when there is no
//! room, new requests are refused rather than old ones forgotten.
//!
//! Two generations of memory: every answer is kept for at least one window and at most two.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use mica_envelope::{EncDigest, InnerResponse};
use mica_service::clock::Clock;
use tokio::sync::watch;

use crate::{config::ReplayConfig, problem::Problem};

/// The memory. Clones share it.
#[derive(Clone)]
pub(crate) struct Answers {
    generations: Arc<Mutex<Generations>>,
    clock: Clock,
    limits: ReplayConfig,
}

/// What to do with a request.
pub(crate) enum Claim {
    /// Seen for the first time: process it and leave the answer.
    First(Ticket),
    /// Seen before: here is the answer, or will be.
    Again(Pending),
    /// No room to remember it: refuse it.
    Full,
}

/// The duty to leave an answer.
pub(crate) struct Ticket {
    answers: Answers,
    sender: watch::Sender<Option<Arc<InnerResponse>>>,
}

/// An answer that someone else works on or has left.
pub(crate) struct Pending(Slot);

type Slot = watch::Receiver<Option<Arc<InnerResponse>>>;

#[derive(Default)]
struct Generations {
    current: Generation,
    previous: Generation,
    current_since: u64,
}

#[derive(Default)]
struct Generation {
    slots: HashMap<EncDigest, Slot>,
    bytes: usize,
}

impl Answers {
    /// An empty memory.
    pub(crate) fn new(limits: &ReplayConfig, clock: Clock) -> Self {
        let generations = Generations { current_since: clock.now(), ..Generations::default() };
        Self { generations: Arc::new(Mutex::new(generations)), clock, limits: limits.clone() }
    }

    /// Asks whether the request called `enc` came before.
    pub(crate) fn claim(&self, enc: EncDigest) -> Claim {
        let mut generations = self.lock();
        generations.turn(self.clock.now(), self.limits.window.as_secs());
        let known = generations.current.slots.get(&enc).or_else(|| generations.previous.slots.get(&enc));
        if let Some(slot) = known {
            return Claim::Again(Pending(slot.clone()));
        }
        if generations.current.slots.len() >= self.limits.max_requests {
            return Claim::Full;
        }
        let (sender, slot) = watch::channel(None);
        generations.current.slots.insert(enc, slot);
        Claim::First(Ticket { answers: self.clone(), sender })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Generations> {
        // A map that a panicking thread left behind is still a map.
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Leaves the answer for whoever sends the request again. An answer for which there is no room is replaced by the
    /// statement that there was one.
    pub(crate) fn leave(self, answer: &Arc<InnerResponse>) {
        let size = answer.body.len()
            + answer.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let mut generations = self.answers.lock();
        let fits = generations.current.bytes + size <= self.answers.limits.max_bytes;
        if fits {
            generations.current.bytes += size;
        }
        drop(generations);
        let kept = if fits { Arc::clone(answer) } else { Arc::new(Problem::ANSWERED_BEFORE.inside()) };
        self.sender.send_replace(Some(kept));
    }
}

impl Pending {
    /// The answer, once it is there. Whoever worked on it may have failed without leaving one.
    pub(crate) async fn answer(mut self) -> Arc<InnerResponse> {
        match self.0.wait_for(Option::is_some).await.map(|slot| slot.clone()) {
            Ok(Some(answer)) => answer,
            Ok(None) | Err(_) => Arc::new(Problem::BAD_TARGET.inside()),
        }
    }
}

impl Generations {
    fn turn(&mut self, now: u64, window: u64) {
        let age = now.saturating_sub(self.current_since);
        if age < window {
            return;
        }
        let current = std::mem::take(&mut self.current);
        self.previous = if age < window.saturating_mul(2) { current } else { Generation::default() };
        self.current_since = now;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mica_envelope::{ClientEnvelope, GatewayKey, GatewayKeys, InnerRequest, Kem, KeyConfigList, Unwrap};

    use super::*;

    /// Digests of as many different requests.
    fn requests<const N: usize>() -> [EncDigest; N] {
        let gateway =
            GatewayKeys::new(vec![GatewayKey::generate(1, Kem::X25519HkdfSha256).unwrap()]).unwrap();
        let keys = KeyConfigList::parse(gateway.config_list().to_vec()).unwrap();
        let request = InnerRequest {
            method: "GET".into(),
            scheme: "https".into(),
            authority: "a.example".into(),
            path: "/".into(),
            headers: vec![],
            body: "".into(),
        };
        [(); N].map(|()| gateway.open(&ClientEnvelope::seal(&keys, &request).unwrap().0).unwrap().enc)
    }

    fn answers(max_requests: usize, max_bytes: usize) -> (Answers, Clock) {
        let clock = Clock::manual(1_000);
        let limits = ReplayConfig { window: Duration::from_secs(100), max_requests, max_bytes };
        (Answers::new(&limits, clock.clone()), clock)
    }

    fn response(body: &'static str) -> Arc<InnerResponse> {
        Arc::new(InnerResponse { status: 201, headers: vec![], body: body.into() })
    }

    async fn again(answers: &Answers, enc: EncDigest) -> Option<u16> {
        match answers.claim(enc) {
            Claim::Again(pending) => Some(pending.answer().await.status),
            Claim::First(_) | Claim::Full => None,
        }
    }

    fn first(answers: &Answers, enc: EncDigest) -> Ticket {
        match answers.claim(enc) {
            Claim::First(ticket) => ticket,
            Claim::Again(_) | Claim::Full => panic!("it is the first"),
        }
    }

    #[tokio::test]
    async fn an_answer_is_kept_for_one_window_at_least_and_two_at_most() {
        let ([a, b], (answers, clock)) = (requests(), answers(10, 100));
        first(&answers, a).leave(&response("x"));
        clock.advance(99);
        assert_eq!(again(&answers, a).await, Some(201));
        clock.advance(1);
        first(&answers, b).leave(&response("x"));
        assert_eq!(again(&answers, a).await, Some(201));
        clock.advance(100);
        assert_eq!(again(&answers, b).await, Some(201));
        assert_eq!(again(&answers, a).await, None);
        clock.advance(200);
        assert_eq!(again(&answers, b).await, None);
    }

    #[tokio::test]
    async fn whoever_comes_early_waits_for_the_answer() {
        let ([a], (answers, _)) = (requests(), answers(10, 100));
        let ticket = first(&answers, a);
        let waiting = tokio::spawn({
            let answers = answers.clone();
            async move { again(&answers, a).await }
        });
        tokio::task::yield_now().await;
        ticket.leave(&response("x"));
        assert_eq!(waiting.await.unwrap(), Some(201));
    }

    #[tokio::test]
    async fn an_answer_that_never_came_is_a_502_and_not_a_second_attempt() {
        let ([a], (answers, _)) = (requests(), answers(10, 100));
        drop(first(&answers, a));
        assert_eq!(again(&answers, a).await, Some(502));
    }

    #[tokio::test]
    async fn a_full_memory_refuses_the_new_and_keeps_the_old() {
        let ([a, b, c], (answers, _)) = (requests(), answers(2, 100));
        first(&answers, a).leave(&response("x"));
        first(&answers, b).leave(&response("x"));
        assert!(matches!(answers.claim(c), Claim::Full));
        assert_eq!(again(&answers, a).await, Some(201));
    }

    #[tokio::test]
    async fn an_answer_too_long_to_keep_is_remembered_as_given() {
        let ([a], (answers, _)) = (requests(), answers(2, 3));
        first(&answers, a).leave(&response("long"));
        assert_eq!(again(&answers, a).await, Some(409));
    }
}
