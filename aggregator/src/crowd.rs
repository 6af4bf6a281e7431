//! Whose requests are being worked on: one task never gets more than half of what the others leave, so that a leader that
//! sends without end keeps no other leader from being served.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mica_dap::id::TaskId;

/// The tasks that are being worked for.
pub(crate) struct Crowd {
    most: usize,
    working: Mutex<HashMap<TaskId, usize>>,
}

/// One request that is being worked on. Dropped, its place is free.
pub(crate) struct Guest {
    crowd: Arc<Crowd>,
    task: TaskId,
}

impl Crowd {
    /// Nobody is here yet; at most `most` will be at once.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), working: Mutex::default() })
    }

    /// A place for a request of the task, if there is one for it.
    pub(crate) fn enter(self: &Arc<Self>, task: TaskId) -> Option<Guest> {
        let mut working = self.working.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = working.get(&task).copied().unwrap_or_default();
        let others = working.values().sum::<usize>() - mine;
        if mine >= self.most.saturating_sub(others).div_ceil(2) {
            return None;
        }
        working.insert(task, mine + 1);
        Some(Guest { crowd: Arc::clone(self), task })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut working = self.crowd.working.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = working.get_mut(&self.task) {
            *count -= 1;
            if *count == 0 {
                working.remove(&self.task);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_sends_without_end_leaves_places_to_the_others() {
        let crowd = Crowd::new(8);
        let (greedy, other, third) = (TaskId::new([1; 32]), TaskId::new([2; 32]), TaskId::new([3; 32]));
        let mut guests: Vec<Guest> = (0..99).filter_map(|_| crowd.enter(greedy)).collect();
        assert_eq!(guests.len(), 4);
        guests.extend((0..99).filter_map(|_| crowd.enter(other)));
        assert_eq!(guests.len(), 6);
        guests.extend(crowd.enter(third));
        assert_eq!(guests.len(), 7);
        assert!(crowd.enter(greedy).is_none());
        drop(guests);
        assert!(crowd.working.lock().unwrap().is_empty());
        assert!(crowd.enter(greedy).is_some());
    }

    #[test]
    fn one_place_is_for_whoever_comes_first() {
        let crowd = Crowd::new(1);
        let first = crowd.enter(TaskId::new([1; 32]));
        assert!(first.is_some() && crowd.enter(TaskId::new([2; 32])).is_none());
        drop(first);
        assert!(crowd.enter(TaskId::new([2; 32])).is_some());
    }
}
