//! When the collections that wait were looked at, in this process: a look costs, and most of them find nothing.
//!
//! All collections of a task are looked at when one of its batches has changed, and seldom otherwise; in between only
//! those that are new or due again. However many wait, looking takes no more than a small part of the time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mica_dap::id::CollectionJobId;

/// What was looked at.
#[derive(Default)]
pub(crate) struct Looks {
    tasks: Mutex<HashMap<i64, OfTask>>,
    passes: Arc<AtomicU64>,
}

/// The collections of one task.
#[derive(Default)]
struct OfTask {
    /// How often one of its batches has changed.
    changes: u64,
    /// The last pass over all collections.
    full: Option<Full>,
    /// When any pass began last, in seconds of the clock that the rows know.
    began: u64,
    each: HashMap<CollectionJobId, Look>,
}

/// A pass over all collections of a task that wait.
#[derive(Clone, Copy)]
struct Full {
    changes: u64,
    ended: Instant,
    took: Duration,
}

/// A moment, in the time of a clock and in what had changed until then.
#[derive(Clone, Copy)]
pub(super) struct Look {
    at: Instant,
    changes: u64,
}

/// A pass that is under way.
pub(super) struct Pass {
    /// Only collections that became due at this time or later; nothing: all.
    pub(super) since: Option<u64>,
    began: Look,
}

impl Looks {
    /// Something has happened to a batch of the task: all its collections are worth a look.
    pub(crate) fn changed(&self, task: i64) {
        self.with(task, |of| of.changes += 1);
    }

    /// The task is forgotten, and its collections are over.
    pub(super) fn forget_task(&self, task: i64) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).remove(&task);
    }

    /// Nothing is known of any collection.
    #[cfg(feature = "testing")]
    pub(super) fn forget(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The tasks that a pass is worth while over, out of those with when the newest of their collections became due.
    pub(super) fn worth_a_pass(&self, tasks: &[(i64, u64)]) -> Vec<i64> {
        let mut known = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let all = known.values().filter_map(|of| of.full).map(|full| full.took).sum();
        let worth = |(task, newest): &(i64, u64)| {
            let of = known.entry(*task).or_default();
            (of.is_due(all) || newest.saturating_add(OVERLAP) >= of.began).then_some(*task)
        };
        tasks.iter().filter_map(worth).collect()
    }

    pub(super) fn begin(&self, task: i64, now: u64) -> Pass {
        self.passes.fetch_add(1, Ordering::Relaxed);
        self.with(task, |of| {
            let since = if of.is_due(Duration::ZERO) { None } else { Some(of.began.saturating_sub(OVERLAP)) };
            of.began = now;
            Pass { since, began: Look { at: Instant::now(), changes: of.changes } }
        })
    }

    /// The pass has come to its end.
    pub(super) fn end(&self, task: i64, pass: &Pass) {
        if pass.since.is_some() {
            return;
        }
        self.with(task, |of| {
            let ended = Instant::now();
            let took = ended.saturating_duration_since(pass.began.at);
            of.full = Some(Full { changes: pass.began.changes, ended, took });
            // What this pass did not meet is over.
            of.each.retain(|_, look| look.at >= pass.began.at);
        });
    }

    /// The moment of a look at the collection; none where it would find what the last one found. Other processes on the
    /// same database are not heard of, so that this never lasts.
    pub(super) fn worth_while(&self, task: i64, id: &CollectionJobId) -> Option<Look> {
        self.with(task, |of| {
            let now = Look { at: Instant::now(), changes: of.changes };
            let idle = of.each.get(id).is_some_and(|last| {
                last.changes == now.changes && now.at.saturating_duration_since(last.at) < BETWEEN_LOOKS
            });
            (!idle).then_some(now)
        })
    }

    pub(super) fn looked_at(&self, task: i64, id: CollectionJobId, look: Look) {
        self.with(task, |of| of.each.insert(id, look));
    }

    /// How many passes there were.
    pub(crate) fn passes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.passes)
    }

    fn with<T>(&self, task: i64, act: impl FnOnce(&mut OfTask) -> T) -> T {
        act(self.tasks.lock().unwrap_or_else(PoisonError::into_inner).entry(task).or_default())
    }
}

impl OfTask {
    /// Whether all collections are to be looked at again; a pass over those of all tasks takes as long as `all`.
    fn is_due(&self, all: Duration) -> bool {
        let Some(full) = self.full else { return true };
        let rest = if full.changes == self.changes {
            (all.max(full.took) * REST).clamp(BETWEEN_LOOKS, LONGEST_REST)
        } else if full.took < BRIEF {
            Duration::ZERO
        } else {
            full.took * PAUSE
        };
        full.ended.elapsed() >= rest
    }
}

/// How long waiting collections are left alone while nothing is heard.
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);
/// The same, however many there are.
const LONGEST_REST: Duration = Duration::from_mins(5);
/// The rest after a pass that nothing has called for is so many times as long as the pass.
const REST: u32 = 200;
/// The same after a pass, when something has changed meanwhile.
const PAUSE: u32 = 9;
/// No rest is needed after a pass as short as this.
const BRIEF: Duration = Duration::from_millis(20);
/// Collections that became due so many seconds before the last pass began are met again, for clocks differ a little.
const OVERLAP: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: i64 = 1;

    fn is_worth(looks: &Looks, newest: u64) -> bool {
        looks.worth_a_pass(&[(TASK, newest)]) == [TASK]
    }

    #[test]
    fn a_collection_that_waits_is_left_alone_until_something_happens() {
        let looks = Looks::default();
        let (one, other) = (CollectionJobId::new([1; 16]), CollectionJobId::new([2; 16]));
        let now = looks.worth_while(TASK, &one).expect("nobody has looked");
        looks.looked_at(TASK, one, now);
        assert!(looks.worth_while(TASK, &one).is_none());
        assert!(looks.worth_while(TASK, &other).is_some());
        looks.changed(2);
        assert!(looks.worth_while(TASK, &one).is_none(), "that was another task");
        looks.changed(TASK);
        assert!(looks.worth_while(TASK, &one).is_some());
        looks.looked_at(TASK, one, now);
        assert!(looks.worth_while(TASK, &one).is_some(), "it was looked at before that happened");
    }

    #[test]
    fn after_a_pass_over_all_only_what_is_new_is_met_until_something_happens() {
        let looks = Looks::default();
        assert!(is_worth(&looks, 10));
        let pass = looks.begin(TASK, 100);
        assert_eq!(pass.since, None);
        looks.end(TASK, &pass);
        assert!(!is_worth(&looks, 10));
        assert!(is_worth(&looks, 101), "one has come");
        assert_eq!(looks.begin(TASK, 200).since, Some(99));
        assert!(!is_worth(&looks, 101), "it was met");
        looks.changed(TASK);
        assert!(is_worth(&looks, 10));
        assert_eq!(looks.begin(TASK, 300).since, None);
    }

    #[test]
    fn a_long_pass_is_followed_by_a_long_rest() {
        let looks = Looks::default();
        let full = |ago: u64, took| {
            let ended = Instant::now().checked_sub(Duration::from_secs(ago)).expect("the machine is up");
            looks.with(TASK, |of| {
                of.full = Some(Full { changes: 0, ended, took: Duration::from_millis(took) });
            });
            is_worth(&looks, 0) || looks.begin(TASK, 1_000).since.is_none()
        };
        looks.begin(TASK, 1_000);
        assert!(full(6, 1));
        assert!(!full(6, 100));
        looks.changed(TASK);
        assert!(full(6, 100), "but not when something has happened");
    }
}
