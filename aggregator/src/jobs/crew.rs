//! Who works for which task and with which peer: a bounded number for each task, and half of the free places for each
//! peer, so that one helper that never answers holds up its own tasks and no other, however many those are.

use std::collections::HashMap;

use tokio::task::{Id, JoinError, JoinSet};
use tracing::Instrument as _;

/// Running work, counted by task and by peer.
pub(crate) struct Crew {
    running: JoinSet<bool>,
    of: HashMap<Id, (i64, u64)>,
    most_per_task: usize,
}

impl Crew {
    /// Nobody works yet; at most `most_per_task` will for one task.
    pub(crate) fn new(most_per_task: usize) -> Self {
        Self { running: JoinSet::new(), of: HashMap::new(), most_per_task: most_per_task.max(1) }
    }

    /// Whether somebody can still be put to work for `task`.
    pub(crate) fn has_room(&self, task: i64) -> bool {
        let busy = self.of.values().filter(|(of, _)| *of == task).count();
        busy < self.most_per_task && self.running.len() < MOST
    }

    /// The same, for work that may wait for `peer`: it never gets more than half of what the other peers leave.
    pub(crate) fn has_room_with(&self, task: i64, peer: u64) -> bool {
        let with_it = self.of.values().filter(|(_, with)| *with == peer).count();
        let left = MOST.saturating_sub(self.running.len() - with_it);
        self.has_room(task) && with_it < left.div_ceil(2)
    }

    /// Puts somebody to work. A panic ends that work alone.
    pub(crate) fn spawn(&mut self, task: i64, work: impl Future<Output = bool> + Send + 'static) {
        self.spawn_with(task, 0, work);
    }

    /// The same, for work that may wait for `peer`.
    pub(crate) fn spawn_with(
        &mut self,
        task: i64,
        peer: u64,
        work: impl Future<Output = bool> + Send + 'static,
    ) {
        let handle = self.running.spawn(work.in_current_span());
        self.of.insert(handle.id(), (task, peer));
    }

    /// Waits until somebody is done who has achieved something, so that there may be more, or has left a place that is
    /// `wanted`. Whether it was the former: who achieved nothing would find the same again, at once and for ever.
    pub(crate) async fn next_done(&mut self, wanted: bool) -> bool {
        while let Some(done) = self.running.join_next_with_id().await {
            let achieved = self.forget(done);
            if achieved || wanted {
                return achieved;
            }
        }
        std::future::pending().await
    }

    /// Waits until everybody is done.
    pub(crate) async fn all_done(mut self) {
        while let Some(done) = self.running.join_next_with_id().await {
            self.forget(done);
        }
    }

    fn forget(&mut self, done: Result<(Id, bool), JoinError>) -> bool {
        let (id, achieved) = done.unwrap_or_else(|error| {
            // Its lease runs out, and somebody else takes the job up.
            tracing::error!(%error, "work on a job failed");
            (error.id(), false)
        });
        self.of.remove(&id);
        achieved
    }
}

/// More than this at once gain nothing; those that wait for a silent helper cost little.
const MOST: usize = 256;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

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
        assert!(!crew.next_done(true).await);
        assert!(crew.has_room(2), "who failed has left");
    }

    #[tokio::test]
    async fn a_peer_of_many_tasks_leaves_places_to_the_others() {
        let mut crew = Crew::new(2);
        let (silent, other) = (7, 8);
        for task in 0..1_000 {
            if crew.has_room_with(task, silent) {
                crew.spawn_with(task, silent, std::future::pending());
            }
        }
        let mut peers = 0;
        // Nor can eight of them take all places together.
        for peer in 100..107 {
            for task in 2_000..3_000 {
                if crew.has_room_with(task, peer) {
                    crew.spawn_with(task, peer, std::future::pending());
                    peers += 1;
                }
            }
        }
        assert!(crew.has_room_with(5_000, other), "{peers}");
    }

    #[tokio::test]
    async fn work_that_achieves_nothing_is_no_reason_to_look_again() {
        let brief = Duration::from_millis(50);
        let mut crew = Crew::new(1);
        crew.spawn(1, async { false });
        assert!(timeout(brief, crew.next_done(false)).await.is_err());
        assert!(crew.has_room(1), "but it has left");
        crew.spawn(1, async { true });
        assert!(timeout(brief, crew.next_done(false)).await.is_ok());
    }
}
