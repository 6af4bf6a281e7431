//! Where the answer to one request is put by whoever works on it, for those who sent the same again meanwhile.
//!
//! Nearly every answer is put here with nobody waiting for it, so that costs no more than a lock.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use tokio::sync::Notify;

use super::{Answer, encoded};
use crate::problem::Problem;

/// Where the answer is put. Dropped before that, it says that nobody knows what became of the request.
pub(super) struct Slot(Arc<Shared>);

/// Where the answer will be. Clones wait for the same.
#[derive(Clone)]
pub(super) struct Pending(Arc<Shared>);

#[derive(Default)]
struct Shared {
    news: Mutex<News>,
    changed: Notify,
}

#[derive(Default)]
enum News {
    #[default]
    None,
    Answer(Answer),
    GivenUp,
    Lost,
}

/// Both ends.
pub(super) fn slot() -> (Slot, Pending) {
    let shared = Arc::new(Shared::default());
    (Slot(Arc::clone(&shared)), Pending(shared))
}

impl Slot {
    pub(super) fn send(&self, answer: Answer) {
        self.0.tell(News::Answer(answer));
    }

    pub(super) fn give_up(&self) {
        self.0.tell(News::GivenUp);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.tell(News::Lost);
    }
}

impl Shared {
    /// The first news count.
    fn tell(&self, news: News) {
        let mut known = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*known, News::None) {
            drop(mem::replace(&mut *known, news));
            drop(known);
            self.changed.notify_waiters();
        }
    }

    fn look(&self) -> Poll<Option<Answer>> {
        match &*self.news.lock().unwrap_or_else(PoisonError::into_inner) {
            News::None => Poll::Pending,
            News::Answer(answer) => Poll::Ready(Some(answer.clone())),
            News::GivenUp => Poll::Ready(None),
            News::Lost => Poll::Ready(Some(encoded(&Problem::BAD_TARGET.inside()))),
        }
    }
}

impl Pending {
    /// The answer, once it is there; `None` when nothing was asked after all. Whoever worked on it may also have failed
    /// without leaving one: then nobody asks again.
    pub(super) async fn answer(self) -> Option<Answer> {
        loop {
            // Begun before it is looked: what is told in between is not missed.
            let changed = self.0.changed.notified();
            if let Poll::Ready(answer) = self.0.look() {
                return answer;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_who_waits_is_told_the_same_whenever_they_came() {
        let (slot, pending) = slot();
        let early = tokio::spawn(pending.clone().answer());
        tokio::task::yield_now().await;
        assert!(!early.is_finished());
        slot.send(Answer::from_static(b"it"));
        assert_eq!(early.await.unwrap().as_deref(), Some(&b"it"[..]));
        drop(slot);
        assert_eq!(pending.answer().await.as_deref(), Some(&b"it"[..]), "what was said is not taken back");
    }

    #[tokio::test]
    async fn who_gives_up_has_asked_nothing_and_who_vanishes_may_have() {
        let (given_up, nothing) = slot();
        given_up.give_up();
        assert_eq!(nothing.answer().await, None);
        let (lost, unknown) = slot();
        let waits = tokio::spawn(unknown.answer());
        tokio::task::yield_now().await;
        drop(lost);
        assert_eq!(waits.await.unwrap(), Some(encoded(&Problem::BAD_TARGET.inside())));
    }
}
