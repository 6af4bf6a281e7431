//! How much this process takes in at once, in requests and in the bytes of their bodies.
//!
//! A place is taken before a body is read, by the length that its sender announces, and stays with the request for as
//! long as its bytes are kept, whether or not the sender is still there.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is free of both.
pub struct Room {
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    most: usize,
}

/// What one request takes up. Dropped, it is free again.
pub(crate) struct Place {
    _request: OwnedSemaphorePermit,
    bytes: OwnedSemaphorePermit,
}

impl Room {
    /// Room for so many requests with so many bytes together.
    pub(crate) fn new(requests: usize, bytes: usize) -> Self {
        let most = bytes.clamp(1, u32::MAX as usize);
        Self {
            requests: Arc::new(Semaphore::new(requests.clamp(1, Semaphore::MAX_PERMITS))),
            bytes: Arc::new(Semaphore::new(most)),
            most,
        }
    }

    /// A place for a body of this length, if there is one right now. A body larger than the whole room takes all of it.
    pub(crate) fn take(&self, length: usize) -> Option<Place> {
        let request = Arc::clone(&self.requests).try_acquire_owned().ok()?;
        let length = u32::try_from(length.clamp(1, self.most)).unwrap_or(u32::MAX);
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(length).ok()?;
        Some(Place { _request: request, bytes })
    }

    /// How many bytes are free.
    #[cfg(test)]
    pub(crate) fn free_bytes(&self) -> usize {
        self.bytes.available_permits()
    }
}

impl Place {
    /// Gives back what was taken in advance and is not needed.
    pub(crate) fn shrink_to(&mut self, length: usize) {
        let spare = self.bytes.num_permits().saturating_sub(length.max(1));
        drop(self.bytes.split(spare));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn what_turns_out_shorter_than_announced_takes_no_more_than_it_needs() {
        let room = Room::new(9, 100);
        let mut place = room.take(100).expect("an empty room");
        place.shrink_to(30);
        assert_eq!(room.free_bytes(), 70);
        place.shrink_to(90);
        assert_eq!(room.free_bytes(), 70);
        drop(place);
        assert_eq!(room.free_bytes(), 100);
    }
}
