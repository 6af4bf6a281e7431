//! How much a process takes in at once, in requests and in the bytes of their bodies.
//!
//! In the journey of a report this is the door of every server on the way. What a sender announces takes no room: room
//! is taken for bytes as they arrive, and given back when they are gone. A part of it is kept for small bodies, so that
//! a few who send much, or much and slowly, do not shut the door to the many who send little.
//! It counts bytes and must never learn what they say or who sent them.

use std::pin::pin;
use std::sync::Arc;

use axum::BoxError;
use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt as _;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::listener::is_too_slow;

/// What is free of both.
pub struct Room {
    requests: Arc<Semaphore>,
    bytes: Halls,
}

/// The bytes: all of them, and those of them that large bodies may have.
struct Halls {
    all: Share,
    large: Share,
}

/// So many bytes, and what is free of them.
struct Share {
    free: Arc<Semaphore>,
    most: usize,
}

/// What one request takes up, and its answer after it. Dropped, it is free again.
pub struct Place {
    /// Answers that came without their requests' place take bytes alone.
    _request: Option<OwnedSemaphorePermit>,
    bytes: Taken,
}

/// Bytes and their place: it is free when the last of them is gone, wherever they went.
struct Housed {
    bytes: Bytes,
    _place: Place,
}

impl AsRef<[u8]> for Housed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bytes, and what they were made of.
struct Made {
    bytes: Bytes,
    _of: Bytes,
}

impl AsRef<[u8]> for Made {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What one body takes of the bytes. Small bodies take nothing of what is there for the large ones.
struct Taken {
    all: OwnedSemaphorePermit,
    large: OwnedSemaphorePermit,
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
    /// It breaks off.
    #[error("the body breaks off")]
    Incomplete,
    /// It came too slowly.
    #[error("the body comes too slowly")]
    TooSlow,
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Room(..)")
    }
}

impl Room {
    /// Room for so many requests, and for so many bytes of bodies that are complete or on their way. A quarter of the
    /// bytes is for bodies of no more than [`SMALL`] alone.
    pub fn new(requests: usize, bytes: usize) -> Self {
        let most = bytes.clamp(1, u32::MAX as usize);
        Self {
            requests: Arc::new(Semaphore::new(requests.clamp(1, Semaphore::MAX_PERMITS))),
            bytes: Halls { all: Share::new(most), large: Share::new(most - most / 4) },
        }
    }

    /// Reads a body of no more than `limit` bytes, and refuses it before it is read when the room is full. The place
    /// is to be kept for as long as the bytes are.
    ///
    /// The body takes up to twice what has arrived of it, and counts as a request once it is complete: whoever sends
    /// slowly is in nobody's way but with the bytes that were sent, and for as long as the listener bears it. One that
    /// is larger than what large bodies may have takes all of that.
    pub async fn read<B>(&self, body: B, limit: usize) -> Result<(Bytes, Place), Refused>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let least = announced(&body, limit)?;
        if self.requests.available_permits() == 0 || self.bytes.is_full_for(least) {
            return Err(Refused::Full);
        }
        let mut bytes = self.bytes.take(0, 0)?;
        let read = self.fill(body, limit, (&mut bytes, 0)).await?;
        let request = Arc::clone(&self.requests).try_acquire_owned().map_err(|_| Refused::Full)?;
        Ok((read, Place { _request: Some(request), bytes }))
    }

    /// Reads the answer to a request of ours: with a `place`, into that of the request, which has left it; else into
    /// one of its own, without which answers of no more than [`ANSWER`] do. The place is kept with the bytes.
    pub async fn read_answer<B>(&self, body: B, limit: usize, place: Option<Place>) -> Result<Bytes, Refused>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let free = if place.is_some() { 0 } else { ANSWER };
        let mut place = match place {
            Some(place) => place,
            None => Place { _request: None, bytes: self.bytes.take(0, 0)? },
        };
        let read = self.fill(body, limit, (&mut place.bytes, free)).await?;
        Ok(place.house(read))
    }

    /// Reads a body into what it has taken, and takes more as it grows beyond that and what is free for all.
    async fn fill<B>(
        &self,
        body: B,
        limit: usize,
        (taken, free): (&mut Taken, usize),
    ) -> Result<Bytes, Refused>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let mut body = pin!(body);
        let least = announced(&body, limit)?;
        let longest =
            body.size_hint().upper().and_then(|length| usize::try_from(length).ok()).unwrap_or(limit);
        let mut read: Vec<u8> = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(refused)?.into_data() else { continue };
            let length = read.len().saturating_add(data.len());
            if length > limit {
                return Err(Refused::TooLarge);
            }
            if length > read.capacity() {
                let ahead = read.len().saturating_mul(2).min(longest).max(length);
                let mut grow = |to| if to > free { self.bytes.grow(taken, to, least) } else { Ok(to) };
                let capacity = grow(ahead).or_else(|_| grow(length))?;
                read.reserve_exact(capacity.saturating_sub(read.len()));
            }
            read.extend_from_slice(&data);
        }
        read.shrink_to_fit();
        taken.shrink_to(read.len());
        Ok(Bytes::from(read))
    }

    /// A place for bytes that are here already, if there is one right now.
    pub fn take(&self, length: usize) -> Option<Place> {
        let request = Arc::clone(&self.requests).try_acquire_owned().ok()?;
        let bytes = self.bytes.take(length.max(1), length).ok()?;
        Some(Place { _request: Some(request), bytes })
    }

    /// Makes a place that was a request's one for an answer of so many bytes. Whether there is room: if not, it stays as
    /// it is, and does for answers of no more than [`ANSWER`].
    pub fn fit(&self, place: &mut Place, length: usize) -> bool {
        if self.bytes.grow(&mut place.bytes, length, length).is_err() {
            return length <= ANSWER;
        }
        place.bytes.shrink_to(length);
        true
    }

    /// Bytes that were made of an answer. It goes when there is a place for them; while there is none, they stand in its
    /// place, and it is kept with them: what is in memory is never more than twice what is counted.
    pub fn in_place_of(&self, answer: Bytes, made: Bytes) -> Bytes {
        if made.len() <= ANSWER {
            return made;
        }
        match self.bytes.take(made.len(), made.len()) {
            Ok(bytes) => Place { _request: None, bytes }.house(made),
            Err(_) => Bytes::from_owner(Made { bytes: made, _of: answer }),
        }
    }

    /// How many bytes are free.
    pub fn free_bytes(&self) -> usize {
        self.bytes.all.free.available_permits()
    }
}

impl Place {
    /// The bytes, which keep the place from now on.
    pub fn house(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Housed { bytes, _place: self })
    }
}

impl Halls {
    /// Whether a body that will be at least so long can be refused at once.
    fn is_full_for(&self, least: usize) -> bool {
        let free = |share: &Share| share.free.available_permits();
        free(&self.all) == 0 || (least > SMALL && free(&self.large) == 0)
    }

    /// So many bytes for a body that will be at least `least` long.
    fn take(&self, length: usize, least: usize) -> Result<Taken, Refused> {
        let large = if length.max(least) > SMALL { length } else { 0 };
        Ok(Taken { large: self.large.take(large)?, all: self.all.take(length)? })
    }

    /// Makes it so many bytes, if they are free; else it stays as it is.
    fn grow(&self, taken: &mut Taken, length: usize, least: usize) -> Result<usize, Refused> {
        let missing = |share: &Share, has: &OwnedSemaphorePermit| {
            length.min(share.most).saturating_sub(has.num_permits())
        };
        let is_large = length.max(least) > SMALL;
        let large = self.large.take(if is_large { missing(&self.large, &taken.large) } else { 0 })?;
        taken.all.merge(self.all.take(missing(&self.all, &taken.all))?);
        taken.large.merge(large);
        Ok(length)
    }
}

impl Share {
    fn new(most: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(most)), most }
    }

    fn take(&self, length: usize) -> Result<OwnedSemaphorePermit, Refused> {
        let length = u32::try_from(length.min(self.most)).unwrap_or(u32::MAX);
        Arc::clone(&self.free).try_acquire_many_owned(length).map_err(|_| Refused::Full)
    }
}

impl Taken {
    /// Gives back what was taken in advance and is not needed.
    fn shrink_to(&mut self, length: usize) {
        for part in [&mut self.all, &mut self.large] {
            let spare = part.num_permits().saturating_sub(length);
            drop(part.split(spare));
        }
    }
}

/// How long a body is at least, by its own account.
fn announced(body: &impl Body, limit: usize) -> Result<usize, Refused> {
    let least = body.size_hint().lower();
    if least > limit as u64 { Err(Refused::TooLarge) } else { Ok(usize::try_from(least).unwrap_or(limit)) }
}

fn refused(error: impl Into<BoxError>) -> Refused {
    if is_too_slow(&*error.into()) { Refused::TooSlow } else { Refused::Incomplete }
}

/// A body of no more bytes is small: the uploads of most tasks are.
pub const SMALL: usize = 64 << 10;

/// What an answer needs no place for: there are never more of them than there are requests.
pub const ANSWER: usize = 1 << 10;

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;
