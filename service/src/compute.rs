//! Threads for heavy arithmetic: opening envelopes, verifying and adding shares.
//!
//! None of it may run on the threads that answer the network, where a millisecond of arithmetic is a
//! millisecond of silence for everybody. The pool is bounded: whoever brings more work than it holds
//! waits before handing it over, with nothing queued meanwhile.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tracing::Span;

/// A fixed number of threads. Clones share them; they end when the last clone is gone.
#[derive(Clone)]
pub struct ComputePool {
    jobs: Sender<Job>,
    places: Arc<Semaphore>,
    threads: usize,
}

type Job = Box<dyn FnOnce() + Send>;

impl ComputePool {
    /// One thread for every core.
    pub fn new() -> Self {
        Self::with_threads(thread::available_parallelism().map_or(1, usize::from))
    }

    /// Exactly `threads` threads, at least one.
    ///
    /// # Panics
    /// When the operating system refuses to start a thread.
    pub fn with_threads(threads: usize) -> Self {
        let threads = threads.max(1);
        let (jobs, received) = channel::<Job>();
        let received = Arc::new(Mutex::new(received));
        for number in 0..threads {
            let received = Arc::clone(&received);
            thread::Builder::new()
                .name(format!("compute-{number}"))
                .spawn(move || work(&received))
                .expect("a machine that cannot start a thread cannot run a server");
        }
        Self { jobs, places: Arc::new(Semaphore::new(threads * PLACES_PER_THREAD)), threads }
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// How many jobs can be handed over right now without waiting.
    pub fn free_places(&self) -> usize {
        self.places.available_permits()
    }

    /// Runs `job` on one of the threads. A panic of the job is a panic here.
    pub async fn run<T, F>(&self, job: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        received(self.hand_over(job).await).await
    }

    /// Applies `f` to every item, `chunk` of them per job, on as many threads as are free. The results
    /// come in the order of the items.
    pub async fn map<I, O, F>(&self, items: Vec<I>, chunk: usize, f: F) -> Vec<O>
    where
        I: Send + 'static,
        O: Send + 'static,
        F: Fn(I) -> O + Send + Sync + 'static,
    {
        let f = Arc::new(f);
        let mut outcomes = Vec::new();
        let (mut results, mut items) = (Vec::with_capacity(items.len()), items.into_iter());
        loop {
            let part: Vec<I> = items.by_ref().take(chunk.max(1)).collect();
            if part.is_empty() {
                break;
            }
            let f = Arc::clone(&f);
            outcomes
                .push(self.hand_over(move || part.into_iter().map(|item| f(item)).collect::<Vec<O>>()).await);
        }
        for outcome in outcomes {
            results.extend(received(outcome).await);
        }
        results
    }

    async fn hand_over<T, F>(&self, job: F) -> oneshot::Receiver<thread::Result<T>>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed");
        let (sender, receiver) = oneshot::channel();
        let span = Span::current();
        let job = move || {
            // Given back also when the job panics or nobody waits for its result any more.
            let _place: OwnedSemaphorePermit = place;
            if !sender.is_closed() {
                let outcome = catch_unwind(AssertUnwindSafe(|| span.in_scope(job)));
                let _ = sender.send(outcome);
            }
        };
        self.jobs.send(Box::new(job)).expect("the threads live as long as the pool");
        receiver
    }
}

impl Default for ComputePool {
    fn default() -> Self {
        Self::new()
    }
}

async fn received<T>(outcome: oneshot::Receiver<thread::Result<T>>) -> T {
    match outcome.await.expect("a job is always run while its result is waited for") {
        Ok(value) => value,
        Err(panic) => resume_unwind(panic),
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}

/// Enough that no thread waits for the network side between two jobs.
const PLACES_PER_THREAD: usize = 8;

#[cfg(test)]
mod tests {
    use super::ComputePool;

    #[tokio::test]
    async fn results_come_in_the_order_of_the_items() {
        let pool = ComputePool::with_threads(4);
        let squares = pool.map((0..1_000_u64).collect(), 7, |n| n * n).await;
        assert_eq!(squares, (0..1_000).map(|n| n * n).collect::<Vec<u64>>());
        assert!(pool.map(Vec::<u64>::new(), 7, |n| n).await.is_empty());
    }

    #[tokio::test]
    async fn a_panic_reaches_the_caller_and_leaves_the_threads_alive() {
        let pool = ComputePool::with_threads(1);
        let other = pool.clone();
        let failed = tokio::spawn(async move { other.run(|| panic!("on purpose")).await }).await;
        assert!(failed.unwrap_err().is_panic());
        assert_eq!(pool.run(|| 7).await, 7);
    }

    #[tokio::test]
    async fn whoever_brings_too_much_waits_before_handing_it_over() {
        let pool = ComputePool::with_threads(1);
        let (release, gate) = std::sync::mpsc::channel::<()>();
        let busy = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(move || gate.recv()).await }
        });
        let places = super::PLACES_PER_THREAD;
        let mut waiting = Vec::new();
        for _ in 1..places + 3 {
            let pool = pool.clone();
            waiting.push(tokio::spawn(async move { pool.run(|| ()).await }));
        }
        while pool.free_places() > 0 {
            tokio::task::yield_now().await;
        }
        release.send(()).unwrap();
        busy.await.unwrap().unwrap();
        for task in waiting {
            task.await.unwrap();
        }
        while pool.free_places() < places {
            tokio::task::yield_now().await;
        }
    }
}
