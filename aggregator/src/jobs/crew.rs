//! Who works for which task: a bounded number for each, so that one helper that never answers holds up its own tasks and
//! no other.

use std::collections::HashMap;

use tokio::task::{Id, JoinError, JoinSet};
use tracing::Instrument as _;

/// Running work, counted by task.
pub(super) struct Crew {
    running: JoinSet<()>,
    of: HashMap<Id, i64>,
    most_per_task: usize,
}

impl Crew {
    /// Nobody works yet; at most `most_per_task` will for one task.
    pub(super) fn new(most_per_task: usize) -> Self {
        Self { running: JoinSet::new(), of: HashMap::new(), most_per_task: most_per_task.max(1) }
    }

    /// Whether somebody can still be put to work for `task`.
    pub(super) fn has_room(&self, task: i64) -> bool {
        let busy = self.of.values().filter(|of| **of == task).count();
        busy < self.most_per_task && self.running.len() < MOST
    }

    /// Puts somebody to work. A panic ends that work alone.
    pub(super) fn spawn(&mut self, task: i64, work: impl Future<Output = ()> + Send + 'static) {
        let handle = self.running.spawn(work.in_current_span());
        self.of.insert(handle.id(), task);
    }

    /// Waits until somebody is done; for ever when nobody works.
    pub(super) async fn next_done(&mut self) {
        match self.running.join_next_with_id().await {
            Some(done) => self.forget(done),
            None => std::future::pending().await,
        }
    }

    /// Waits until everybody is done.
    pub(super) async fn all_done(mut self) {
        while let Some(done) = self.running.join_next_with_id().await {
            self.forget(done);
        }
    }

    fn forget(&mut self, done: Result<(Id, ()), JoinError>) {
        let id = match done {
            Ok((id, ())) => id,
            Err(error) => {
                // Its lease runs out, and somebody else takes the job up.
                tracing::error!(%error, "work on a job failed");
                error.id()
            }
        };
        self.of.remove(&id);
    }
}

/// More than this at once gain nothing; those that wait for a silent helper cost little.
const MOST: usize = 256;

#[cfg(test)]
mod tests {
    use super::Crew;

    #[tokio::test]
    async fn one_task_cannot_take_the_places_of_another() {
        let mut crew = Crew::new(2);
        for _ in 0..2 {
            assert!(crew.has_room(1));
            crew.spawn(1, std::future::pending());
        }
        assert!(!crew.has_room(1));
        assert!(crew.has_room(2));
        crew.spawn(2, async { panic!("on purpose") });
        crew.next_done().await;
        assert!(crew.has_room(2), "who failed has left");
    }
}
