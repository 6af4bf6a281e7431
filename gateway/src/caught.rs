//! Work that may fail in a way that nobody foresaw: the failure ends here, so that whoever asked still gets an answer inside
//! the envelope.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// What `work` gives; nothing when it panics. What it held is dropped then, and nothing of it is looked at again but
/// what may be left half done at any time anyway: maps behind locks, and rows in transactions.
pub(crate) async fn caught<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    std::future::poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::caught;

    #[tokio::test]
    async fn what_panics_gives_nothing_and_what_does_not_gives_what_it_gives() {
        let work = async |fails: bool| {
            tokio::task::yield_now().await;
            assert!(!fails, "on purpose");
            7
        };
        assert_eq!((caught(work(false)).await, caught(work(true)).await), (Some(7), None));
    }
}
