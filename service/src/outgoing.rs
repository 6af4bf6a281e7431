//! The body of a request on its way out: in pieces, so that it is known whether the last of them has left.
//!
//! A connection that breaks before that cannot have delivered the request: what is not whole is none. It must never learn
//! what it carries.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;
use tokio::time::{Sleep, sleep};

/// How much of a request may have left when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// None of it.
    Nothing,
    /// Not all of it.
    Part,
    /// All of it.
    All,
}

/// How far one request has got. Clones are about the same request.
#[derive(Debug, Clone)]
pub(crate) struct Progress(Arc<AtomicU8>);

impl Progress {
    fn of(body: &Bytes) -> Self {
        Self(Arc::new(AtomicU8::new(if body.is_empty() { WHOLE } else { FRESH })))
    }

    /// Notes that the next piece leaves. False: it must not, for the request was stopped.
    fn advance(&self, is_last: bool) -> bool {
        let next = if is_last { WHOLE } else { BEGUN };
        let step = |now| (now != STOPPED).then_some(next);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step).is_ok()
    }

    /// Ends the request and says how much of it has left. Afterwards nothing does.
    pub(crate) fn stop(&self) -> Sent {
        let step = |now| (now != WHOLE).then_some(STOPPED);
        match self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step) {
            Ok(FRESH) => Sent::Nothing,
            Ok(_) => Sent::Part,
            Err(_) => Sent::All,
        }
    }
}

/// A body in pieces.
pub(crate) struct Outgoing {
    rest: Bytes,
    progress: Progress,
    /// For how long the last piece is kept back.
    pause: Option<Duration>,
    until: Option<Pin<Box<Sleep>>>,
}

impl Outgoing {
    /// A body and how far it gets. One that is kept back at the end gives the peer time to refuse it by its announced
    /// length before the whole of it is there.
    pub(crate) fn new(body: Bytes, kept_back: bool) -> (Self, Progress) {
        let progress = Progress::of(&body);
        let pause = (kept_back && body.len() > PIECE).then_some(PAUSE);
        (Self { rest: body, progress: progress.clone(), pause, until: None }, progress)
    }
}

/// The request was given up.
#[derive(Debug, Error)]
#[error("the request was given up")]
pub(crate) struct GivenUp;

impl Body for Outgoing {
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            return Poll::Ready(None);
        }
        let is_last = this.rest.len() <= PIECE;
        if is_last && let Some(pause) = this.pause {
            ready!(this.until.get_or_insert_with(|| Box::pin(sleep(pause))).as_mut().poll(context));
        }
        if !this.progress.advance(is_last) {
            return Poll::Ready(Some(Err(GivenUp)));
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// How large the requests are that each origin is known to take. Clones share what they know.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sizes(Arc<Mutex<BTreeMap<String, usize>>>);

impl Sizes {
    /// Whether a request of that size was taken before, or is small.
    pub(crate) fn takes(&self, origin: &str, bytes: usize) -> bool {
        if bytes <= PIECE {
            return true;
        }
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(origin).is_some_and(|most| bytes <= *most)
    }

    /// Notes whether a request of that size was taken.
    pub(crate) fn learn(&self, origin: &str, bytes: usize, taken: bool) {
        if bytes <= PIECE {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !taken {
            known.remove(origin);
        } else if known.len() < ORIGINS || known.contains_key(origin) {
            let most = known.entry(origin.to_owned()).or_default();
            *most = bytes.max(*most);
        }
    }
}

const PIECE: usize = 64 << 10;

/// Long enough for a refusal to cross the world and come back; paid only for requests larger than any before.
const PAUSE: Duration = Duration::from_millis(300);

/// The most origins that are remembered.
const ORIGINS: usize = 1_024;

const FRESH: u8 = 0;
const BEGUN: u8 = 1;
const WHOLE: u8 = 2;
const STOPPED: u8 = 3;

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn body(length: usize) -> Bytes {
        Bytes::from(vec![7; length])
    }

    #[tokio::test]
    async fn what_is_stopped_before_its_last_piece_never_becomes_whole() {
        let (mut outgoing, progress) = Outgoing::new(body(PIECE + 1), false);
        assert_eq!(
            outgoing.frame().await.expect("a piece").expect("it goes on").into_data().unwrap().len(),
            PIECE
        );
        assert_eq!(progress.stop(), Sent::Part);
        assert!(outgoing.frame().await.expect("an end").is_err());
        assert_eq!(progress.stop(), Sent::Part);
        let (outgoing, progress) = Outgoing::new(body(PIECE), false);
        assert_eq!(progress.stop(), Sent::Nothing);
        assert!(outgoing.collect().await.is_err());
    }

    #[tokio::test]
    async fn what_is_whole_may_have_arrived() {
        for length in [1, PIECE, PIECE + 1, 5 * PIECE] {
            let (outgoing, progress) = Outgoing::new(body(length), false);
            assert_eq!(outgoing.collect().await.expect("nobody stops it").to_bytes(), body(length));
            assert_eq!(progress.stop(), Sent::All);
        }
        assert_eq!(Outgoing::new(Bytes::new(), true).1.stop(), Sent::All, "there is nothing to wait for");
    }

    #[tokio::test]
    async fn the_end_is_kept_back_for_as_long_as_a_refusal_takes() {
        let (mut outgoing, progress) = Outgoing::new(body(2 * PIECE), true);
        outgoing.frame().await.expect("a piece").expect("it goes on");
        let begun = std::time::Instant::now();
        let waiting = tokio::time::timeout(Duration::from_millis(20), outgoing.frame());
        assert!(waiting.await.is_err(), "it is kept back");
        outgoing.frame().await.expect("a piece").expect("it goes on");
        assert!(begun.elapsed() >= PAUSE);
        assert_eq!(progress.stop(), Sent::All);
    }

    #[test]
    fn a_size_is_known_to_be_taken_until_one_is_not() {
        let sizes = Sizes::default();
        assert!(!sizes.takes("a", 2 * PIECE));
        sizes.learn("a", 3 * PIECE, true);
        sizes.learn("a", 2 * PIECE, true);
        assert!(
            sizes.takes("a", 3 * PIECE) && !sizes.takes("a", 3 * PIECE + 1) && !sizes.takes("b", 2 * PIECE)
        );
        sizes.learn("a", 4 * PIECE, false);
        assert!(!sizes.takes("a", 2 * PIECE));
    }
}
