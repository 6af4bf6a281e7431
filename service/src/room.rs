//! How much a process takes in at once, in requests and in the bytes of their bodies.
//!
//! In the journey of a report this is the door of every server on the way. What a sender announces takes no room: room
//! is taken for bytes as they arrive, and given back when they are gone.
//! It counts bytes and must never learn what they say or who sent them.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt as _;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is free of both.
pub struct Room {
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    most: usize,
}

/// What one request takes up. Dropped, it is free again.
pub struct Place {
    _request: OwnedSemaphorePermit,
    bytes: OwnedSemaphorePermit,
}

/// Why a body was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// There is no room right now.
    #[error("there is no room for the body")]
    Full,
    /// It is longer than was allowed.
    #[error("the body is too long")]
    TooLarge,
    /// It breaks off, or took too long.
    #[error("the body breaks off")]
    Incomplete,
}

impl Room {
    /// Room for so many requests, and for so many bytes of bodies that are complete or on their way.
    pub fn new(requests: usize, bytes: usize) -> Self {
        let most = bytes.clamp(1, u32::MAX as usize);
        Self {
            requests: Arc::new(Semaphore::new(requests.clamp(1, Semaphore::MAX_PERMITS))),
            bytes: Arc::new(Semaphore::new(most)),
            most,
        }
    }

    /// Reads a body of no more than `limit` bytes, and refuses it before it is read when the room is full. The place
    /// is to be kept for as long as the bytes are.
    ///
    /// The body takes up to twice what has arrived of it, and counts as a request once it is complete: whoever sends
    /// slowly is in nobody's way but with the bytes that were sent. One that is larger than the whole room takes all
    /// of it.
    pub async fn read<B: Body<Data = Bytes>>(
        &self,
        body: B,
        limit: usize,
    ) -> Result<(Bytes, Place), Refused> {
        let mut body = pin!(body);
        let announced = body.size_hint();
        if announced.lower() > limit as u64 {
            return Err(Refused::TooLarge);
        }
        if self.requests.available_permits() == 0 || self.bytes.available_permits() == 0 {
            return Err(Refused::Full);
        }
        let longest = announced.upper().and_then(|length| usize::try_from(length).ok()).unwrap_or(limit);
        let mut taken = self.bytes(0)?;
        let mut read: Vec<u8> = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Refused::Incomplete)?.into_data() else { continue };
            let length = read.len().saturating_add(data.len());
            if length > limit {
                return Err(Refused::TooLarge);
            }
            if length > read.capacity() {
                let ahead = read.len().saturating_mul(2).min(longest).max(length);
                let capacity = self.grow(&mut taken, ahead).or_else(|_| self.grow(&mut taken, length))?;
                read.reserve_exact(capacity.saturating_sub(read.len()));
            }
            read.extend_from_slice(&data);
        }
        let request = Arc::clone(&self.requests).try_acquire_owned().map_err(|_| Refused::Full)?;
        read.shrink_to_fit();
        let mut place = Place { _request: request, bytes: taken };
        place.shrink_to(read.len());
        Ok((Bytes::from(read), place))
    }

    /// A place for bytes that are here already, if there is one right now.
    pub fn take(&self, length: usize) -> Option<Place> {
        let request = Arc::clone(&self.requests).try_acquire_owned().ok()?;
        let bytes = self.bytes(length.max(1)).ok()?;
        Some(Place { _request: request, bytes })
    }

    /// How many bytes are free.
    pub fn free_bytes(&self) -> usize {
        self.bytes.available_permits()
    }

    /// Makes it so many bytes, if they are free.
    fn grow(&self, taken: &mut OwnedSemaphorePermit, length: usize) -> Result<usize, Refused> {
        let missing = length.min(self.most).saturating_sub(taken.num_permits());
        taken.merge(self.bytes(missing)?);
        Ok(length)
    }

    fn bytes(&self, length: usize) -> Result<OwnedSemaphorePermit, Refused> {
        let length = u32::try_from(length.min(self.most)).unwrap_or(u32::MAX);
        Arc::clone(&self.bytes).try_acquire_many_owned(length).map_err(|_| Refused::Full)
    }
}

impl Place {
    /// Gives back what was taken in advance and is not needed.
    fn shrink_to(&mut self, length: usize) {
        let spare = self.bytes.num_permits().saturating_sub(length);
        drop(self.bytes.split(spare));
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Duration;

    use http_body::Frame;
    use http_body_util::Full;
    use tokio::sync::mpsc;

    use super::*;

    /// A body that is sent piece by piece, of no announced length.
    struct Pieces(mpsc::UnboundedReceiver<Option<Bytes>>);

    /// The other end of it.
    struct Sending(mpsc::UnboundedSender<Option<Bytes>>);

    fn pieces() -> (Sending, Pieces) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Sending(sender), Pieces(receiver))
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = ();

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, ()>>> {
            self.0.poll_recv(context).map(|piece| Some(piece?.map(Frame::data).ok_or(())))
        }
    }

    impl Sending {
        async fn send(&self, length: usize) {
            self.0.send(Some(Bytes::from(vec![7; length]))).expect("somebody reads");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }

        fn break_off(self) {
            self.0.send(None).expect("somebody reads");
        }
    }

    /// A body that has arrived in these pieces.
    async fn arrived(lengths: &[usize]) -> Pieces {
        let (sender, body) = pieces();
        for length in lengths {
            sender.send(*length).await;
        }
        body
    }

    #[test]
    fn a_room_is_full_by_bytes_or_by_requests() {
        let room = Room::new(2, 100);
        let first = room.take(80).expect("an empty room");
        assert!(room.take(21).is_none());
        let second = room.take(20).expect("it just fits");
        drop(first);
        let third = room.take(0).expect("it takes little");
        assert!(room.take(0).is_none(), "two requests are there");
        drop((second, third));
        assert_eq!(room.free_bytes(), 100);
        assert!(room.take(1_000).is_some(), "whatever is larger than the room comes alone");
    }

    #[tokio::test]
    async fn a_body_takes_what_has_arrived_and_is_given_back_when_its_sender_leaves() {
        let room = Arc::new(Room::new(1, 1_000));
        let (sender, body) = pieces();
        let reading = tokio::spawn({
            let room = Arc::clone(&room);
            async move { room.read(body, 1_000).await.map(|(bytes, _)| bytes.len()) }
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(room.free_bytes(), 1_000, "nothing has arrived");
        for (length, free) in [(10, 990), (10, 980), (1, 960), (19, 960), (900, 60)] {
            sender.send(length).await;
            assert_eq!(room.free_bytes(), free);
        }
        let (bytes, place) = room.read(Full::from(vec![1; 60]), 1_000).await.expect("it just fits");
        assert_eq!((bytes.len(), room.free_bytes()), (60, 0));
        drop(place);
        sender.break_off();
        assert_eq!(reading.await.expect("no panic"), Err(Refused::Incomplete));
        assert_eq!(room.free_bytes(), 1_000);
    }

    #[tokio::test]
    async fn a_body_that_was_read_takes_its_length_and_is_whole() {
        let room = Room::new(1, 1_000);
        let (sender, body) = pieces();
        let sending = async move {
            for length in [1, 200, 3, 200, 1] {
                sender.send(length).await;
            }
        };
        let (read, ()) = tokio::join!(room.read(body, 405), sending);
        let (bytes, place) = read.expect("there is room");
        assert_eq!((bytes, room.free_bytes()), (Bytes::from(vec![7; 405]), 595));
        assert_eq!(room.read(Full::from("x"), 9).await.err(), Some(Refused::Full), "one request is there");
        drop(place);
        assert_eq!(room.free_bytes(), 1_000);
    }

    #[tokio::test]
    async fn what_is_too_long_or_finds_no_room_is_refused_and_leaves_nothing_behind() {
        let room = Room::new(9, 100);
        assert_eq!(room.read(Full::from(vec![0; 51]), 50).await.err(), Some(Refused::TooLarge));
        assert_eq!(room.read(arrived(&[30, 30]).await, 50).await.err(), Some(Refused::TooLarge));
        let place = room.take(60).expect("an empty room");
        assert_eq!(room.read(arrived(&[30, 30]).await, 90).await.err(), Some(Refused::Full));
        assert!(room.read(arrived(&[30, 10]).await, 90).await.is_ok(), "it just fits");
        let rest = room.take(40).expect("all is given back");
        let (_sender, never) = pieces();
        assert_eq!(room.read(never, 90).await.err(), Some(Refused::Full), "it is not waited for");
        drop((place, rest));
        assert!(room.read(arrived(&[60, 60]).await, 500).await.is_ok(), "it is alone");
        assert_eq!(room.free_bytes(), 100);
    }
}
