//! Noise that is there before it is asked for.
//!
//! A larger number takes longer to draw, and whoever times an answer that waits for its draw learns how large the noise
//! in it is: with one honest helper, the leader would. So noise is drawn ahead, as soon as reports of a task are counted,
//! and moved into the release that uses it. Where none is ready, it is drawn before the transaction of the release begins
//! and used at the next step of a fixed grid of time after that, never when the draw happens to be done; and what is drawn
//! ahead becomes ready on the same grid, so that not even being ready says how long it took.
//!
//! What is ready is in memory only, and little of it. It is never written down or logged, and dropped once used.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mica_dp::{Decision, Mechanism, Noise};
use mica_service::compute::ComputePool;
use mica_service::telemetry;
use rand::SeedableRng as _;
use rand::rngs::{StdRng, SysRng};

use crate::task::Task;

/// The noise that is ready in this process. Clones share it.
#[derive(Clone)]
pub(crate) struct NoiseReserve(Arc<Inner>);

struct Inner {
    shelves: Mutex<Vec<Shelf>>,
    compute: ComputePool,
    sampler: fn(&Mechanism, usize) -> Noise,
}

/// Noise of one kind. The last shelf is the one that was wanted last.
struct Shelf {
    mechanism: Mechanism,
    length: usize,
    ready: Vec<Noise>,
    /// How many are being drawn for it.
    coming: usize,
}

impl NoiseReserve {
    /// Nothing is ready yet.
    pub(crate) fn new(compute: ComputePool) -> Self {
        Self::with_sampler(compute, |mechanism, length| {
            let mut seeded =
                StdRng::try_from_rng(&mut SysRng).expect("the operating system has random numbers");
            Noise::draw(mechanism, length, &mut seeded)
        })
    }

    /// The same with another way to draw.
    pub(crate) fn with_sampler(compute: ComputePool, sampler: fn(&Mechanism, usize) -> Noise) -> Self {
        Self(Arc::new(Inner { shelves: Mutex::default(), compute, sampler }))
    }

    /// Draws ahead for the releases of a task whose batches fill up, in the background.
    pub(crate) fn stock(&self, task: &Task) {
        if let Some((mechanism, length)) = wanted(task) {
            self.fill(mechanism, length);
        }
    }

    /// The noise for the next release of the task, if it needs any. To be asked for before the transaction of the release.
    pub(crate) async fn portion(&self, task: &Task) -> Portion {
        let noise = match wanted(task) {
            Some((mechanism, length)) => Some(self.ready(mechanism, length).await),
            None => None,
        };
        Portion { reserve: self.clone(), noise: Mutex::new(noise) }
    }

    /// A portion of this very noise.
    #[cfg(test)]
    pub(super) fn portion_of(&self, noise: Noise) -> Portion {
        Portion { reserve: self.clone(), noise: Mutex::new(Some(noise)) }
    }

    /// For a request that is worked on later: nothing is drawn for it now.
    pub(crate) fn no_portion(&self) -> Portion {
        Portion { reserve: self.clone(), noise: Mutex::new(None) }
    }

    /// What is ready, or what is drawn now, at a time that does not tell how long that took.
    async fn ready(&self, mechanism: &Mechanism, length: usize) -> Noise {
        let ready = self.0.shelf(mechanism, length, |shelf| shelf.ready.pop());
        self.fill(mechanism, length);
        match ready {
            Some(noise) => noise,
            None => self.draw(mechanism, length).await,
        }
    }

    async fn draw(&self, mechanism: &Mechanism, length: usize) -> Noise {
        let (begun, sampler, mechanism) = (Instant::now(), self.0.sampler, mechanism.clone());
        let noise = self.0.compute.run(move || sampler(&mechanism, length)).await;
        tokio::time::sleep_until(due(begun, Instant::now(), step(length)).into()).await;
        noise
    }

    fn fill(&self, mechanism: &Mechanism, length: usize) {
        let Some(missing) = self.0.missing(mechanism, length) else { return };
        let (reserve, mechanism) = (self.clone(), mechanism.clone());
        // Ends with the runtime; what was being drawn is lost, and nothing with it.
        telemetry::spawn(async move {
            for left in (0..missing).rev() {
                let coming = Coming { inner: &reserve.0, mechanism: &mechanism, length, left };
                let noise = reserve.draw(&mechanism, length).await;
                mem::forget(coming);
                reserve.0.shelf(&mechanism, length, |shelf| {
                    shelf.coming = shelf.coming.saturating_sub(1);
                    shelf.ready.push(noise);
                });
            }
        });
    }
}

impl Inner {
    fn locked(&self) -> MutexGuard<'_, Vec<Shelf>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shelf<T>(&self, mechanism: &Mechanism, length: usize, f: impl FnOnce(&mut Shelf) -> T) -> T {
        let mut shelves = self.locked();
        let at = shelves.iter().position(|shelf| shelf.length == length && shelf.mechanism == *mechanism);
        let mut wanted = match at {
            Some(at) => shelves.remove(at),
            None => Shelf { mechanism: mechanism.clone(), length, ready: Vec::new(), coming: 0 },
        };
        let done = f(&mut wanted);
        shelves.push(wanted);
        done
    }

    /// How many more to draw of this kind, which are on their way from now on. Makes room where there is none, at the
    /// expense of what was not wanted for longest.
    fn missing(&self, mechanism: &Mechanism, length: usize) -> Option<usize> {
        let each = MOST_OF_A_KIND.min(MOST_COORDINATES / length.max(1));
        let missing = self.shelf(mechanism, length, |shelf| {
            let missing = each.saturating_sub(shelf.ready.len() + shelf.coming);
            shelf.coming += missing;
            missing
        });
        let mut shelves = self.locked();
        while shelves.iter().map(Shelf::coordinates).sum::<usize>() > MOST_COORDINATES
            || shelves.len() > MOST_KINDS
        {
            let last = shelves.len().saturating_sub(1);
            let idle = shelves.iter().take(last).position(|shelf| shelf.coming == 0);
            let Some(idle) = idle else { break };
            shelves.remove(idle);
        }
        (missing > 0).then_some(missing)
    }
}

impl Shelf {
    fn coordinates(&self) -> usize {
        (self.ready.len() + self.coming) * self.length
    }
}

/// Draws that somebody has promised. Forgotten when they came; if they never do, others may try.
struct Coming<'a> {
    inner: &'a Inner,
    mechanism: &'a Mechanism,
    length: usize,
    /// After this one.
    left: usize,
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        let lost = self.left + 1;
        self.inner
            .shelf(self.mechanism, self.length, |shelf| shelf.coming = shelf.coming.saturating_sub(lost));
    }
}

/// The noise of one release that may come about. What is not used goes back.
pub(crate) struct Portion {
    reserve: NoiseReserve,
    noise: Mutex<Option<Noise>>,
}

impl Portion {
    /// The noise, for good. A transaction that is tried again gets other noise than the attempt that failed.
    pub(super) async fn take(&self, mechanism: &Mechanism, length: usize) -> Noise {
        let brought = self.noise.lock().unwrap_or_else(PoisonError::into_inner).take();
        match brought.filter(|noise| noise.is(mechanism, length)) {
            Some(noise) => noise,
            None => self.reserve.ready(mechanism, length).await,
        }
    }
}

/// A release that did not come about has let nothing go.
impl Drop for Portion {
    fn drop(&mut self) {
        let noise = self.noise.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(noise) = noise else { return };
        let mut shelves = self.reserve.0.locked();
        let mut of_a_kind = shelves.iter_mut().filter(|shelf| noise.is(&shelf.mechanism, shelf.length));
        if let Some(shelf) = of_a_kind.next().filter(|shelf| shelf.ready.len() <= MOST_OF_A_KIND) {
            shelf.ready.push(noise);
        }
    }
}

fn wanted(task: &Task) -> Option<(&Mechanism, usize)> {
    match &task.decision {
        Decision::Release(plan) => Some((plan.mechanism(), plan.terms().shape.length())),
        Decision::WithoutDp(_) => None,
    }
}

/// The distance of two points of the grid: several times what drawing takes, also on a slow machine.
fn step(length: usize) -> Duration {
    let steps = length.div_ceil(COORDINATES_PER_STEP).max(1);
    GRID * u32::try_from(steps).unwrap_or(u32::MAX)
}

/// The first point of the grid that begins at `begun`, not itself, at which `now` is over.
fn due(begun: Instant, now: Instant, step: Duration) -> Instant {
    let passed = now.saturating_duration_since(begun).as_nanos().div_ceil(step.as_nanos()).max(1);
    begun + step * u32::try_from(passed).unwrap_or(u32::MAX)
}

/// The smallest step.
const GRID: Duration = Duration::from_millis(100);
/// 50 µs each, where 2 to 20 µs is what one takes.
const COORDINATES_PER_STEP: usize = 2_000;
/// Enough for a few batches at once.
const MOST_OF_A_KIND: usize = 4;
/// In all of it. A number is some 56 bytes, so this is less than 60 MB; longer vectors are never drawn ahead.
const MOST_COORDINATES: usize = 1 << 20;
/// Kinds that are looked after, each with a shelf.
const MOST_KINDS: usize = 256;

#[cfg(test)]
mod tests;
