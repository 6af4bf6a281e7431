//! Answers that were given and not taken: how long a peer may leave them where they are.
//!
//! An answer lies in memory until the last of its bytes has left. A peer that reads slowly, or not at all, would keep
//! it there for as long as it likes; here each answer has a time by which it must be gone.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::pace::BodyPace;

/// The answers on one connection that are not gone yet.
#[derive(Debug)]
pub(super) struct Unread {
    pace: BodyPace,
    state: Mutex<State>,
    given: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// By when each must be gone.
    due: BTreeMap<u64, Instant>,
}

/// One of them, until it is dropped.
struct Waiting {
    all: Arc<Unread>,
    number: u64,
}

/// A body whose bytes are waited for until the last of them is gone.
pub(super) struct Counted<B> {
    body: B,
    waiting: Arc<Waiting>,
}

/// Bytes on their way out, which may be long.
struct Leaving {
    bytes: Bytes,
    _waiting: Arc<Waiting>,
}

impl AsRef<[u8]> for Leaving {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Unread {
    pub(super) fn new(pace: BodyPace) -> Arc<Self> {
        Arc::new(Self { pace, state: Mutex::default(), given: Notify::new() })
    }

    /// The same body. From now on it has the grace of the pace until its first bytes leave, and then the time that
    /// these take.
    pub(super) fn count<B: Body>(self: &Arc<Self>, body: B) -> Counted<B> {
        let number = {
            let mut state = self.lock();
            let number = state.next;
            state.next += 1;
            state.due.insert(number, Instant::now() + self.pace.grace);
            number
        };
        self.given.notify_one();
        Counted { body, waiting: Arc::new(Waiting { all: Arc::clone(self), number }) }
    }

    /// Returns when one of them should be gone and is not.
    pub(super) async fn overdue(&self) {
        loop {
            let earliest = self.lock().due.values().min().copied();
            match earliest {
                Some(due) if due <= Instant::now() => return,
                // One that is given later may have to be gone sooner.
                Some(due) => tokio::select! {
                    () = sleep_until(due) => {}
                    () = self.given.notified() => {}
                },
                None => self.given.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// So many bytes more are on their way.
    fn extend(&self, bytes: usize) {
        let due = Instant::now() + self.all.pace.grace + self.all.pace.worth(bytes);
        self.all.lock().due.insert(self.number, due);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.all.lock().due.remove(&self.number);
    }
}

impl<B> Body for Counted<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let waiting = Arc::clone(&self.waiting);
        Pin::new(&mut self.body).poll_frame(context).map_ok(|frame| {
            frame.map_data(|bytes| {
                waiting.extend(bytes.len());
                Bytes::from_owner(Leaving { bytes, _waiting: waiting })
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use http_body_util::{BodyExt as _, Full};

    use super::*;

    /// In how many seconds the first of them must be gone.
    fn due_in(unread: &Unread) -> Option<u64> {
        let due = unread.lock().due.values().min().copied()?;
        // Some time has passed since.
        Some(due.duration_since(Instant::now()).as_secs() + 1)
    }

    #[tokio::test]
    async fn an_answer_has_the_grace_and_its_bytes_count_until_the_last_of_them_is_gone() {
        let min_bytes_per_second = NonZeroU32::new(1).expect("it is not zero");
        let unread = Unread::new(BodyPace { grace: Duration::from_secs(1_000), min_bytes_per_second });
        assert_eq!(due_in(&unread), None, "there is none");
        let mut answer = unread.count(Full::new(Bytes::from(vec![7; 5_000])));
        assert!(due_in(&unread) <= Some(1_000), "nobody asks for it");
        let bytes = answer.frame().await.expect("one frame").expect("no error").into_data().expect("data");
        drop(answer);
        let part = bytes.slice(4_990..);
        drop(bytes);
        let due = due_in(&unread).expect("a part of it is there");
        assert!((5_000..=6_000).contains(&due), "{due}: a second for each byte");
        drop(part);
        assert_eq!(due_in(&unread), None, "the last of them is gone");
    }

    #[tokio::test]
    async fn what_is_not_gone_in_time_is_noticed_whatever_came_before() {
        let pace = BodyPace { grace: Duration::from_millis(50), ..BodyPace::default() };
        let unread = Unread::new(pace);
        let noticed = tokio::spawn({
            let unread = Arc::clone(&unread);
            async move { unread.overdue().await }
        });
        for _ in 0..3 {
            drop(unread.count(Full::new(Bytes::from_static(b"read at once"))));
            tokio::task::yield_now().await;
        }
        assert!(!noticed.is_finished());
        let _answer = unread.count(Full::new(Bytes::from_static(b"never read")));
        noticed.await.expect("it is noticed");
    }

    #[tokio::test]
    async fn a_short_answer_is_noticed_in_its_time_although_a_longer_one_was_given_before() {
        let min_bytes_per_second = NonZeroU32::new(1).expect("it is not zero");
        let unread = Unread::new(BodyPace { grace: Duration::from_millis(50), min_bytes_per_second });
        let mut long = unread.count(Full::new(Bytes::from(vec![7; 5_000])));
        let _long = long.frame().await.expect("one frame");
        let noticed = tokio::spawn({
            let unread = Arc::clone(&unread);
            async move { unread.overdue().await }
        });
        tokio::task::yield_now().await;
        let _short = unread.count(Full::new(Bytes::from_static(b"never read")));
        let noticed = tokio::time::timeout(Duration::from_mins(1), noticed).await;
        noticed.expect("long before the other is due").expect("it is noticed");
    }
}
