//! What was begun and must be finished: exchanges with targets, and answers that are not in the database yet.
//!
//! A relay that goes away does not end what it asked for. So a gateway that is told to stop has to wait for more than its
//! connections, or it would forget what a target has answered and ask it again.

use tokio::sync::watch;

/// How much is under way. Clones share the number.
#[derive(Clone)]
pub(crate) struct UnderWay(watch::Sender<usize>);

/// Something that is under way until this is dropped.
pub(crate) struct Begun(watch::Sender<usize>);

impl UnderWay {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    /// One more.
    pub(crate) fn begin(&self) -> Begun {
        // Nobody waits for more of them.
        self.0.send_if_modified(|number| {
            *number += 1;
            false
        });
        Begun(self.0.clone())
    }

    /// Returns when nothing is under way.
    pub(crate) async fn finished(&self) {
        // The sender is borrowed here, so it is still there: there is nothing else to wait for.
        let _ = self.0.subscribe().wait_for(|number| *number == 0).await;
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.send_if_modified(|number| {
            *number -= 1;
            *number == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_waits_for_the_last() {
        let under_way = UnderWay::new();
        under_way.finished().await;
        let (one, other) = (under_way.begin(), under_way.begin());
        let waiting = tokio::spawn({
            let under_way = under_way.clone();
            async move { under_way.finished().await }
        });
        for begun in [one, other] {
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished());
            drop(begun);
        }
        waiting.await.unwrap();
    }
}
