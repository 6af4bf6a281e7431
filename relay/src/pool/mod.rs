//! The mixing pool: requests wait for each other and leave together, in an order that says nothing.
//!
//! In the journey of a report this is the waiting room of the relay. Whoever sees both sides of a relay could tell by order
//! and time which request is whose; here a request waits until there are so many, or until the oldest of them has waited
//! long enough, and its place among those that leave is drawn. The answers are handed back the same way. The pool must
//! never learn who sent a request, and a client that goes away is dropped in silence: the gateway is told nothing of it.

mod batch;
mod setting;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use mica_service::http::{HttpClient, PeerError};
use mica_service::room::{Place, Room};
use mica_service::shutdown::Shutdown;
use mica_service::telemetry;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use self::batch::{Batch, Parcel};
pub use self::setting::Mixing;
use crate::counters::{Counters, Outcome};

/// What comes of a request at the gateway.
pub(crate) type Answer = Result<Response<Bytes>, PeerError>;

/// Requests on their way to the gateway, with or without waiting for each other.
pub(crate) struct Pool {
    state: Mutex<State>,
    /// The moment at which somebody has waited long enough may have changed.
    changed: Notify,
    gateway: HttpClient,
    room: Arc<Room>,
    counters: Counters,
    released: [AtomicU64; Release::ALL.len()],
}

struct State {
    mixing: Option<Mixing>,
    draining: bool,
    /// In the order in which they came.
    waiting: Vec<Waiting>,
    next: u64,
    rng: StdRng,
}

struct Waiting {
    number: u64,
    since: Instant,
    parcel: Parcel,
}

/// Why requests left together when they did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// There were as many as there should be.
    Full,
    /// The oldest had waited long enough.
    Time,
    /// The relay stops, or mixes otherwise from now on.
    Flush,
}

impl Release {
    pub(crate) const ALL: [Self; 3] = [Self::Full, Self::Time, Self::Flush];

    /// A fixed name for metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Time => "time",
            Self::Flush => "flush",
        }
    }
}

impl Pool {
    /// Draws its orders from the operating system's randomness.
    pub(crate) fn new(
        mixing: Option<Mixing>,
        gateway: HttpClient,
        room: Arc<Room>,
        counters: Counters,
    ) -> Self {
        Self::drawing_from(rand::make_rng(), mixing, gateway, room, counters)
    }

    fn drawing_from(
        rng: StdRng,
        mixing: Option<Mixing>,
        gateway: HttpClient,
        room: Arc<Room>,
        counters: Counters,
    ) -> Self {
        let state = State { mixing, draining: false, waiting: Vec::new(), next: 0, rng };
        let released = Default::default();
        Self { state: Mutex::new(state), changed: Notify::new(), gateway, room, counters, released }
    }

    /// Sends a request when its time has come, and waits for the answer. Nothing: whoever was to bring it failed.
    pub(crate) async fn exchange(&self, request: Request<Bytes>, place: Place) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        let parcel = Parcel { request, place, answer };
        let mut leaving = Leaving { pool: self, number: self.join(parcel), answered: false };
        let answer = answered.await.ok();
        leaving.answered = true;
        answer
    }

    /// Looks after those who wait until it is dropped; `shutdown` sends them off at once.
    pub(crate) async fn keep_time(self: Arc<Self>, shutdown: Shutdown) {
        let mut draining = false;
        loop {
            let due = self.due();
            let long_enough = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.wait(), if !draining => {
                    draining = true;
                    self.lock().draining = true;
                    self.release(Release::Flush);
                }
                () = self.changed.notified() => {}
                () = long_enough => self.release(Release::Time),
            }
        }
    }

    /// Mixes like this from now on. Those who wait are sent off as it was. Whether anything changed.
    pub(crate) fn adopt(&self, mixing: Option<Mixing>) -> bool {
        let mut state = self.lock();
        if state.mixing == mixing {
            return false;
        }
        let batch = self.take(&mut state, Release::Flush);
        state.mixing = mixing;
        drop(state);
        self.send_off(batch);
        true
    }

    /// Says in the log whether requests are mixed, and how.
    pub(crate) fn announce(&self) {
        if let Some(Mixing { requests, wait }) = self.mixing() {
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            tracing::info!(requests, wait_ms, "requests are mixed");
        } else {
            tracing::info!("requests are not mixed: each leaves as it comes");
        }
    }

    /// How this pool mixes.
    pub(crate) fn mixing(&self) -> Option<Mixing> {
        self.lock().mixing
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// How often requests left together for that reason.
    pub(crate) fn released(&self, why: Release) -> u64 {
        self.released.get(why as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    fn join(&self, parcel: Parcel) -> u64 {
        let mut state = self.lock();
        let number = state.next;
        state.next = state.next.wrapping_add(1);
        let Some(mixing) = state.mixing else {
            drop(state);
            self.send_off(Some(Batch::of_one(parcel)));
            return number;
        };
        state.waiting.push(Waiting { number, since: Instant::now(), parcel });
        let waiting = state.waiting.len();
        drop(state);
        if waiting >= mixing.requests {
            self.release(Release::Full);
        } else if waiting == 1 {
            self.changed.notify_one();
        }
        number
    }

    /// When the oldest will have waited long enough.
    fn due(&self) -> Option<Instant> {
        let state = self.lock();
        let wait = state.mixing?.wait;
        let wait = if state.draining { wait.min(STRAGGLERS_WAIT) } else { wait };
        state.waiting.first().map(|oldest| oldest.since + wait)
    }

    /// Sends off all who wait.
    fn release(&self, why: Release) {
        let batch = self.take(&mut self.lock(), why);
        self.send_off(batch);
    }

    fn take(&self, state: &mut State, why: Release) -> Option<Batch> {
        if state.waiting.is_empty() {
            return None;
        }
        let parcels = std::mem::take(&mut state.waiting).into_iter().map(|waiting| waiting.parcel).collect();
        let wait = state.mixing.map_or(Duration::ZERO, |mixing| mixing.wait);
        let rng = StdRng::from_rng(&mut state.rng);
        if let Some(count) = self.released.get(why as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Some(Batch::new(parcels, wait, rng))
    }

    /// Nobody's going away stops what is on its way: to the gateway, all clients are patient.
    fn send_off(&self, batch: Option<Batch>) {
        if let Some(batch) = batch {
            telemetry::spawn(batch.carry(self.gateway.clone(), Arc::clone(&self.room)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of the state is one step: a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client that waits; dropped before the answer, it has gone away.
struct Leaving<'a> {
    pool: &'a Pool,
    number: u64,
    answered: bool,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        self.pool.counters.add(Outcome::Left);
        let mut state = self.pool.lock();
        let place = state.waiting.iter().position(|waiting| waiting.number == self.number);
        // Who waits in place of the oldest may do so for longer.
        if place.map(|place| state.waiting.remove(place)).is_some() {
            drop(state);
            self.pool.changed.notify_one();
        }
    }
}

/// How long a request waits for others at a relay that stops.
const STRAGGLERS_WAIT: Duration = Duration::from_secs(1);
