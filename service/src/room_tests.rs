//! What takes room, who is turned away when there is none, and that all of it comes back.

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
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(context).map(|piece| Some(piece?.map(Frame::data).ok_or("it broke".into())))
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
async fn an_answer_takes_the_place_of_its_request_and_keeps_it_until_its_bytes_are_gone() {
    let room = Room::new(1, 1_000);
    let place = room.take(600).expect("an empty room");
    let answer = room.read_answer(Full::from(vec![1; 300]), 400, Some(place)).await.expect("it fits");
    assert_eq!(room.free_bytes(), 700);
    let part = answer.slice(..10);
    drop(answer);
    assert!(room.take(1).is_none(), "a part of it is there: it counts as a request");
    drop(part);
    assert_eq!(room.free_bytes(), 1_000);
    let room = Room::new(2, 1_000);
    let (place, other) = (room.take(100).expect("an empty room"), room.take(500));
    let refused = room.read_answer(arrived(&[300, 300]).await, 2_000, Some(place)).await;
    assert_eq!((refused.err(), room.free_bytes()), (Some(Refused::Full), 500));
    drop(other);
    let long = room.read_answer(Full::from(vec![1; 401]), 400, None).await;
    assert_eq!(long.err(), Some(Refused::TooLarge));
}

#[tokio::test]
async fn an_answer_alone_takes_bytes_and_a_short_one_passes_a_full_room() {
    let room = Room::new(1, 8_000);
    let mut place = room.take(6_000).expect("an empty room");
    let answer = room.read_answer(Full::from(vec![1; 1_500]), 9_000, None).await.expect("it fits");
    assert_eq!(room.free_bytes(), 500);
    let refused = room.read_answer(Full::from(vec![1; ANSWER + 1]), 9_000, None).await;
    assert_eq!(refused.err(), Some(Refused::Full));
    assert!(room.read_answer(Full::from(vec![1; ANSWER]), 9_000, None).await.is_ok());
    assert!(!room.fit(&mut place, 6_501) && room.fit(&mut place, 6_500), "all that is free");
    assert!(room.fit(&mut place, ANSWER), "it shrinks");
    assert_eq!(room.free_bytes(), 8_000 - 1_500 - ANSWER);
    drop((answer, place));
    assert_eq!(room.free_bytes(), 8_000);
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

/// Begins to read a body of this announced length, of which so much has arrived.
async fn half_sent(room: &Arc<Room>, announced: Option<u64>, sent: usize) -> (Sending, Reading) {
    let (sender, pieces) = pieces();
    let body = Announced(pieces, announced);
    let room = Arc::clone(room);
    let reading = tokio::spawn(async move { room.read(body, 1 << 20).await.map(|_| ()) });
    sender.send(sent).await;
    (sender, reading)
}

type Reading = tokio::task::JoinHandle<Result<(), Refused>>;

/// Pieces of an announced length.
struct Announced(Pieces, Option<u64>);

impl Body for Announced {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.1.map(http_body::SizeHint::with_exact).unwrap_or_default()
    }
}

#[tokio::test]
async fn large_bodies_leave_room_for_small_ones() {
    for announced in [Some(100_000), None] {
        let room = Arc::new(Room::new(1_000, 400_000));
        let mut slow = Vec::new();
        for _ in 0..9 {
            slow.push(half_sent(&room, announced, 99_000).await);
        }
        let refused = slow.iter().filter(|(_, reading)| reading.is_finished()).count();
        assert_eq!(refused, 6, "three of them have all that large bodies may have");
        assert_eq!(room.read(Full::from(vec![1; 70_000]), 90_000).await.err(), Some(Refused::Full));
        assert!(room.take(70_000).is_none());
        let mut places = Vec::new();
        for _ in 0..(100_000 / 2_000) {
            places.push(room.read(Full::from(vec![1; 2_000]), 90_000).await.expect("it is small"));
        }
        for (sender, reading) in slow {
            sender.0.send(None).ok();
            reading.await.expect("no panic").expect_err("it broke off");
        }
        drop(places);
        assert_eq!(room.free_bytes(), 400_000);
        assert!(room.take(300_000).is_some(), "the large ones have given back theirs");
    }
}

#[tokio::test]
async fn a_body_that_announces_much_takes_nothing_of_the_room_for_small_ones() {
    let room = Arc::new(Room::new(1_000, 400_000));
    let mut slow = Vec::new();
    for _ in 0..40 {
        slow.push(half_sent(&room, Some(100_000), 10_000).await);
    }
    assert_eq!(room.free_bytes(), 100_000);
    assert!(room.take(60_000).is_some());
}

/// Whatever comes, in whatever pieces and order: what is held is never more than the room, and all of it is given
/// back.
#[tokio::test]
async fn what_is_held_is_never_more_than_the_room() {
    const MOST: usize = 1 << 20;
    let mut state = 7_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap_or(0) % below
    };
    let room = Room::new(10_000, MOST);
    let mut held: Vec<(Bytes, Place)> = Vec::new();
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..3_000 {
        if random(3) == 0 && !held.is_empty() {
            held.swap_remove(random(held.len()));
        }
        let (sender, body) = pieces();
        let most = [3_000, SMALL, 300_000][random(3)];
        for _ in 0..=random(3) {
            sender.0.send(Some(Bytes::from(vec![1; 1 + random(most)]))).expect("it is there");
        }
        drop(sender);
        match room.read(body, 1 << 20).await {
            Ok(read) => held.push(read),
            Err(_) => refused += 1,
        }
        taken = taken.max(held.iter().map(|(bytes, _)| bytes.len()).sum());
        let large: usize = held.iter().map(|(bytes, _)| bytes.len()).filter(|length| *length > SMALL).sum();
        let all: usize = held.iter().map(|(bytes, _)| bytes.len()).sum();
        assert_eq!(all + room.free_bytes(), MOST);
        assert!(large <= MOST / 4 * 3, "{large}");
    }
    assert!(taken > MOST / 4 * 3 && refused > 100, "{taken} {refused}: the room was full now and then");
    held.clear();
    assert_eq!(room.free_bytes(), MOST);
}

#[tokio::test]
async fn what_is_made_of_an_answer_is_counted_until_it_is_gone() {
    let room = Room::new(1, 10_000);
    let answer = || Full::new(Bytes::from(vec![7; 3_000]));
    let read = room.read_answer(answer(), 3_000, None).await.expect("an empty room");
    let made = room.in_place_of(read, Bytes::from(vec![8; 4_000]));
    assert_eq!((made.len(), room.free_bytes()), (4_000, 6_000), "the answer itself is gone");
    drop(made);
    assert_eq!(room.free_bytes(), 10_000);
    // Without room, it stands where the answer stood.
    let read = room.read_answer(answer(), 3_000, None).await.expect("an empty room");
    let _others = room.take(7_000).expect("it just fits");
    let made = room.in_place_of(read, Bytes::from(vec![8; 4_000]));
    assert_eq!((made.len(), room.free_bytes()), (4_000, 0));
    drop(made);
    assert_eq!(room.free_bytes(), 3_000);
    // Short ones need none.
    assert_eq!(room.in_place_of(Bytes::new(), Bytes::from(vec![8; ANSWER])).len(), ANSWER);
    assert_eq!(room.free_bytes(), 3_000);
}
