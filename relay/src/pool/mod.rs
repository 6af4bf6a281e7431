//! The mixing pool: requests wait for each other and leave together, in an order that says nothing.
//!
//! In the journey of a report this is the waiting room of the relay. Whoever sees both sides of a relay could tell by order
//! and time which request is whose; here a request waits until there are so many, or until the oldest of them has waited
//! long enough, and its place among those that leave is drawn. The answers are handed back the same way. The pool must
//! never learn who sent a request, and a client that goes away is dropped in silence: the gateway is told nothing of it.

mod batch;
mod queue;
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
use rand::rngs::StdRng;
use tokio::sync::{Notify, RwLock, oneshot};
use tokio::time::{Instant, sleep_until};

use self::batch::{Batch, Parcel};
use self::queue::{Joined, Queue};
pub use self::setting::Mixing;
use crate::clients::Sender;
use crate::counters::{Counters, Outcome};

/// What comes of a request at the gateway.
pub(crate) type Answer = Result<Response<Bytes>, PeerError>;

/// What became of a request in the pool.
pub(crate) enum Exchanged {
    /// The gateway answered, or did not.
    Answered(Answer),
    /// Whoever was to bring the answer failed.
    Failed,
    /// It was not sent: too many wait, and some of them are of the same sender.
    Refused,
}

/// Requests on their way to the gateway, with or without waiting for each other.
pub(crate) struct Pool {
    queue: Mutex<Queue>,
    /// The moment at which somebody has waited long enough may have changed.
    changed: Notify,
    gateway: HttpClient,
    room: Arc<Room>,
    counters: Counters,
    released: [AtomicU64; Release::ALL.len()],
    /// Each batch that is on its way holds it with others, and so does each request that waits for nobody.
    on_their_way: Arc<RwLock<()>>,
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
        let released = Default::default();
        Self {
            queue: Mutex::new(Queue::new(mixing, rng)),
            changed: Notify::new(),
            gateway,
            room,
            counters,
            released,
            on_their_way: Arc::default(),
        }
    }

    /// Sends a request when its time has come, and waits for the answer.
    pub(crate) async fn exchange(&self, sender: Sender, request: Request<Bytes>, place: Place) -> Exchanged {
        let (answer, answered) = oneshot::channel();
        let parcel = Parcel { request, place, answer };
        let Some(number) = self.join(sender, parcel) else { return Exchanged::Refused };
        let mut leaving = Leaving { pool: self, number, answered: false };
        let answer = answered.await.ok();
        leaving.answered = true;
        answer.map_or(Exchanged::Failed, Exchanged::Answered)
    }

    /// Looks after those who wait until it is dropped; `shutdown` sends them off at once.
    pub(crate) async fn keep_time(self: Arc<Self>, shutdown: Shutdown) {
        let mut draining = false;
        loop {
            let due = self.lock().due();
            let long_enough = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.wait(), if !draining => {
                    draining = true;
                    let batch = {
                        let mut queue = self.lock();
                        queue.draining = true;
                        queue.take()
                    };
                    self.send_off(batch, Release::Flush);
                }
                () = self.changed.notified() => {}
                () = long_enough => self.release_due(Instant::now()),
            }
        }
    }

    /// Mixes like this from now on. Those who wait are sent off as it was. Whether anything changed.
    pub(crate) fn adopt(&self, mixing: Option<Mixing>) -> bool {
        let mut queue = self.lock();
        if queue.mixing == mixing {
            return false;
        }
        let batch = queue.take();
        queue.mixing = mixing;
        drop(queue);
        self.send_off(batch, Release::Flush);
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
        self.lock().len()
    }

    /// How often requests left together for that reason.
    pub(crate) fn released(&self, why: Release) -> u64 {
        self.released.get(why as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// The number of a request among those that wait or waited. None: it was not taken.
    fn join(&self, sender: Sender, parcel: Parcel) -> Option<u64> {
        let mut queue = self.lock();
        let joined = queue.join(Instant::now(), sender, parcel);
        let is_first = queue.len() == 1;
        drop(queue);
        match joined {
            Joined::Waits(number) => {
                if is_first {
                    self.changed.notify_one();
                }
                Some(number)
            }
            Joined::Leaves(batch) => {
                self.send_off(Some(*batch), Release::Full);
                Some(NOBODY)
            }
            Joined::Alone(parcel) => {
                self.let_go(parcel.carry(self.gateway.clone(), Arc::clone(&self.room)));
                Some(NOBODY)
            }
            Joined::Refused => None,
        }
    }

    /// Sends off all who wait, if the oldest has waited long enough by now. Whoever came since a moment was looked up does
    /// not leave by it.
    fn release_due(&self, now: Instant) {
        let batch = self.lock().take_due(now);
        self.send_off(batch, Release::Time);
    }

    fn send_off(&self, batch: Option<Batch>, why: Release) {
        let Some(batch) = batch else { return };
        if let Some(count) = self.released.get(why as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.let_go(batch.carry(self.gateway.clone(), Arc::clone(&self.room)));
    }

    /// Nobody's going away stops what is on its way: to the gateway, all clients are patient.
    fn let_go(&self, carrying: impl Future<Output = ()> + Send + 'static) {
        let on_its_way = Arc::clone(&self.on_their_way).try_read_owned();
        telemetry::spawn(async move {
            carrying.await;
            drop(on_its_way);
        });
    }

    /// Returns when nothing is on its way, neither alone nor with others: also nothing of clients that have gone.
    pub(crate) async fn carried(&self) {
        drop(self.on_their_way.write().await);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Each change of the queue is one step: a panic elsewhere leaves nothing half done.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
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
        let was_there = self.pool.lock().withdraw(self.number);
        // Who waits in place of the oldest may do so for longer.
        if was_there {
            self.pool.changed.notify_one();
        }
    }
}

/// The number of nobody who waits.
const NOBODY: u64 = u64::MAX;
/// How long a request waits for others at a relay that stops.
pub(crate) const STRAGGLERS_WAIT: Duration = Duration::from_secs(1);
