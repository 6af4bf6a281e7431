//! How many threads look after the connections of a relay or a gateway.
//!
//! A runtime of several threads wakes an idle one whenever a busy one has two things to do. Requests here are so short that
//! this costs up to a third of all they take, so there are fewer threads than processors; the others are left to the
//! database, to large envelopes and to the network. docs/performance.md has the figures.

use std::io;
use std::num::NonZeroUsize;
use std::thread;

use mica_service::config::bounds::THREADS;
use tokio::runtime::{Builder, Runtime};

/// A runtime of so many threads; where nothing is said, of one for two processors.
pub(super) fn runtime(threads: Option<NonZeroUsize>) -> io::Result<Runtime> {
    let threads = threads.map_or_else(|| processors().div_ceil(2), NonZeroUsize::get);
    // What is out of bounds is told when the rest of the configuration is looked at.
    Builder::new_multi_thread().worker_threads(threads.min(THREADS)).enable_all().build()
}

/// One for each processor.
pub(super) fn all() -> Option<NonZeroUsize> {
    NonZeroUsize::new(processors())
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_the_threads_that_it_is_told_to_have_and_else_half_of_the_processors() {
        let workers = |threads| runtime(NonZeroUsize::new(threads)).expect("threads").metrics().num_workers();
        assert_eq!(workers(3), 3);
        assert_eq!(workers(1), 1);
        assert_eq!(workers(0), processors().div_ceil(2));
    }
}
