//! Where a step is cut short. Every edge of every transaction of every process comes by here and is counted.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use mica_service::store::{Moment, StoreError, Verdict, Watch};
use tokio::sync::{mpsc, oneshot};

use crate::plan::{How, Stop};

/// Counts edges, and stops at the one that was chosen.
pub(crate) struct Gate {
    stop: Mutex<Option<Stop>>,
    held: mpsc::UnboundedSender<oneshot::Sender<()>>,
}

/// Whoever was held up: sends the word to go on.
pub(crate) type Word = oneshot::Sender<()>;

impl Gate {
    /// A gate, and where it tells of those it holds up.
    pub(crate) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Word>) {
        let (held, holding) = mpsc::unbounded_channel();
        (Arc::new(Self { stop: Mutex::new(None), held }), holding)
    }

    /// Stops the next step there, or nowhere.
    pub(crate) fn arm(&self, stop: Option<Stop>) {
        *self.stop.lock().expect("nobody panics while holding it") = stop;
    }

    /// Whether this edge is the chosen one.
    fn pass(&self, name: &'static str, moment: Moment) -> Option<How> {
        let mut armed = self.stop.lock().expect("nobody panics while holding it");
        let stop = armed.as_mut()?;
        if stop.edge > 0 {
            stop.edge -= 1;
            return None;
        }
        // Who stands still with a transaction open, or as the only writer of uploads, keeps everybody else out as well.
        if stop.how == How::HeldUp && (moment == Moment::Commit || ALONE.contains(&name)) {
            return None;
        }
        let how = armed.take().map(|stop| stop.how);
        if how == Some(How::Dies) {
            DEATHS.lock().expect("nobody panics while holding it").insert((name, moment));
        }
        how
    }
}

/// Of these a process has one at a time under way, and much waits for it.
const ALONE: [&str; 4] = ["upload", "renew_tasks", "look_at_hpke_keys", "turn_hpke_keys"];

/// Whether an error is one of those that are made here.
pub(crate) fn is_ours(error: &StoreError) -> bool {
    matches!(error, StoreError::Database(why) | StoreError::Unreachable(why) if [DEAD, BROKEN].contains(&why.as_str()))
}

const DEAD: &str = "this process has died";
const BROKEN: &str = "the simulated database has failed";

/// At which edges of which transactions somebody has died, in all runs of this process.
static DEATHS: Mutex<BTreeSet<(&'static str, Moment)>> = Mutex::new(BTreeSet::new());

/// Those edges: the name of the transaction, and how far it was.
pub(crate) fn edges_of_death() -> BTreeSet<(&'static str, Moment)> {
    DEATHS.lock().expect("nobody panics while holding it").clone()
}

/// Watches the transactions of one process for as long as it lives.
pub(crate) struct Watcher {
    gate: Arc<Gate>,
    alive: Arc<AtomicBool>,
}

impl Watcher {
    pub(crate) fn new(gate: &Arc<Gate>, alive: &Arc<AtomicBool>) -> Self {
        Self { gate: Arc::clone(gate), alive: Arc::clone(alive) }
    }

    async fn decide(&self, name: &'static str, moment: Moment) -> Result<(), StoreError> {
        self.living()?;
        match self.gate.pass(name, moment) {
            None => Ok(()),
            Some(How::Dies) => {
                self.alive.store(false, Ordering::SeqCst);
                self.living()
            }
            Some(How::Breaks) if moment == Moment::Begin => Err(StoreError::Database(BROKEN.to_owned())),
            // At the commit nothing is left of it, after the commit all of it is: from here both look alike.
            Some(How::Breaks) => Err(StoreError::Unreachable(BROKEN.to_owned())),
            Some(How::HeldUp) => {
                let (word, go_on) = oneshot::channel();
                let _ = self.gate.held.send(word);
                // Also when the word can come no more: the run is over.
                let _ = go_on.await;
                self.living()
            }
        }
    }

    /// The dead write nothing any more, whatever their code goes on to do.
    fn living(&self) -> Result<(), StoreError> {
        if self.alive.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(StoreError::Database(DEAD.to_owned()))
    }
}

impl Watch for Watcher {
    fn reach(&self, name: &'static str, moment: Moment) -> Verdict<'_> {
        Box::pin(self.decide(name, moment))
    }
}
