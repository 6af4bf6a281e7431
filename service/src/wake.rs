//! Wake-ups by name inside one process: a worker sleeps until somebody has work for it.
//!
//! A wake-up is a hint, never the record of the work: the record is a row, and every sleeper also looks
//! by itself now and then. A name says which kind of work, never whose.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// All the names of one store; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Wake {
    names: Arc<Mutex<HashMap<String, watch::Sender<()>>>>,
}

impl Wake {
    /// No sleepers yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes everyone who sleeps under `name`, and lets the next sleep of the others end at once.
    pub fn notify(&self, name: &str) {
        self.with(name, |sender| sender.send_replace(()));
    }

    /// A sleeper under `name`. Wake-ups between two sleeps are not lost: they end the second one at once.
    pub fn sleeper(&self, name: &str) -> Sleeper {
        Sleeper { receiver: self.with(name, watch::Sender::subscribe) }
    }

    fn with<T>(&self, name: &str, act: impl FnOnce(&watch::Sender<()>) -> T) -> T {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = names.get(name) {
            return act(sender);
        }
        act(names.entry(name.to_owned()).or_insert_with(|| watch::Sender::new(())))
    }
}

/// Sleeps until its name is called.
#[derive(Debug, Clone)]
pub struct Sleeper {
    receiver: watch::Receiver<()>,
}

impl Sleeper {
    /// Returns when the name was called since the last sleep, or after `at_most`. True: it was called.
    pub async fn sleep(&mut self, at_most: Duration) -> bool {
        match tokio::time::timeout(at_most, self.receiver.changed()).await {
            Ok(Ok(())) => true,
            // Every `Wake` is gone: nobody will call, so only the clock is left.
            Ok(Err(_)) => {
                tokio::time::sleep(at_most).await;
                false
            }
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wake_up_between_two_sleeps_is_not_lost() {
        let wake = Wake::new();
        let mut sleeper = wake.sleeper("jobs");
        wake.clone().notify("jobs");
        assert!(sleeper.sleep(Duration::from_mins(1)).await);
        assert!(!sleeper.sleep(Duration::from_millis(1)).await);
    }

    #[tokio::test]
    async fn another_name_wakes_nobody() {
        let wake = Wake::new();
        let mut sleeper = wake.sleeper("jobs");
        wake.notify("collections");
        assert!(!sleeper.sleep(Duration::from_millis(1)).await);
    }
}
