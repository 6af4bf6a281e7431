//! Requests that left together, and their answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use mica_service::http::{HttpClient, PeerError};
use mica_service::room::{Place, Room};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::Instrument as _;

use super::Answer;

/// A request, what it takes up, and who waits for its answer.
pub(super) struct Parcel {
    pub(super) request: Request<Bytes>,
    pub(super) place: Place,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// Requests that leave together.
pub(super) struct Batch {
    parcels: Vec<Parcel>,
    /// How long the answers wait for each other.
    wait: Duration,
    rng: StdRng,
}

/// An answer that waits for the others. Its bytes keep their place.
struct Held {
    answer: Answer,
    to: oneshot::Sender<Answer>,
}

impl Parcel {
    /// Sends a request that waits for nobody, and hands its answer out at once. A client that goes away stops nothing.
    pub(super) async fn carry(self, gateway: HttpClient, room: Arc<Room>) {
        let Self { request, place, answer: to } = self;
        let answer = gateway.send_within(request, &room, Some(place)).await;
        // A client that went away does not want it any more.
        let _ = to.send(answer);
    }
}

impl Batch {
    pub(super) fn new(parcels: Vec<Parcel>, wait: Duration, rng: StdRng) -> Self {
        Self { parcels, wait, rng }
    }

    /// Sends each request once, in an order that is drawn, and hands the answers out in another one: all at once when
    /// the last is there, and those that are there whenever they have waited long enough.
    pub(super) async fn carry(mut self, gateway: HttpClient, room: Arc<Room>) {
        self.parcels.shuffle(&mut self.rng);
        let mut under_way = JoinSet::new();
        for parcel in self.parcels {
            let Parcel { request, place, answer: to } = parcel;
            let (gateway, room) = (gateway.clone(), Arc::clone(&room));
            let exchange = async move { (gateway.send_within(request, &room, Some(place)).await, to) };
            under_way.spawn(exchange.in_current_span());
        }
        let mut held = Vec::new();
        let mut round = Instant::now() + self.wait;
        loop {
            tokio::select! {
                biased;
                answered = under_way.join_next() => match answered {
                    Some(Ok((answer, to))) => {
                        if matches!(answer, Err(PeerError::NoRoom { .. })) {
                            // There is no room to let answers wait in.
                            hand_out(&mut held, &mut self.rng);
                        }
                        if held.is_empty() {
                            round = round.max(Instant::now() + self.wait);
                        }
                        held.push(Held { answer, to });
                    }
                    // The client of one that failed is told so by the end of its channel.
                    Some(Err(_)) => {}
                    None => break,
                },
                () = sleep_until(round), if !held.is_empty() => {
                    hand_out(&mut held, &mut self.rng);
                    round = Instant::now() + self.wait;
                }
            }
        }
        hand_out(&mut held, &mut self.rng);
    }
}

fn hand_out(held: &mut Vec<Held>, rng: &mut StdRng) {
    held.shuffle(rng);
    for Held { answer, to } in held.drain(..) {
        // A client that went away does not want it any more.
        let _ = to.send(answer);
    }
}
