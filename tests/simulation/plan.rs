//! What happens in a run, and what goes wrong meanwhile: all of it a function of the seed.

use mica_dap::Draft;
use mica_dap::task::BatchMode;

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The draft that the task speaks.
    pub(crate) draft: Draft,
    /// How reports are put into batches.
    pub(crate) batch_mode: BatchMode,
    /// No smaller batch is released.
    pub(crate) min_batch_size: u64,
    /// Whether the helper answers jobs and shares later.
    pub(crate) deferred: bool,
    /// How many leaders share one database.
    pub(crate) leaders: usize,
    /// What is counted.
    pub(crate) counted: Counted,
    /// Whether totals leave with noise.
    pub(crate) noise: Noise,
    /// How the aggregators get to know the task.
    pub(crate) comes: Comes,
    /// How long HPKE keys live.
    pub(crate) keys: KeyLives,
    /// Whether the leader's operator ends the task in the middle.
    pub(crate) retires: bool,
    /// By how many seconds the helper's clock is behind everybody else's.
    pub(crate) helper_behind: u64,
    /// How many reports the leader puts in a batch, where it selects.
    pub(crate) target_size: u64,
    /// The most reports in one aggregation job: small, so that there are many.
    pub(crate) job_reports: usize,
    /// The most that the helper takes: where it takes fewer, jobs must be cut.
    pub(crate) helper_takes: usize,
}

/// What a report says: which of the buckets is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// As a value of a histogram.
    Buckets,
    /// As a vector with a single one.
    Vectors,
    /// As a string of bits, of Poplar1: its jobs take two rounds.
    Strings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noise {
    None,
    /// Discrete Laplace, by each aggregator.
    Drawn,
}

/// How a task gets to an aggregator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comes {
    /// From a file, before it starts.
    ByFile,
    /// With requests.
    WithRequests,
}

/// How long HPKE keys live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyLives {
    /// Longer than most runs.
    Long,
    /// An hour each, and as long in the caches of clients.
    Short,
}

/// One step of a run: what is done, what becomes of the messages it sends, and whether it is cut short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) action: Action,
    /// What becomes of the first message, of the second, and so on; the rest arrive.
    pub(crate) faults: Vec<Fault>,
    pub(crate) stop: Option<Stop>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A client sends reports to a leader.
    Upload { leader: usize, reports: Vec<Sending> },
    /// A leader takes one step with an aggregation job.
    Aggregate { leader: usize },
    /// A leader takes one step with each collection.
    Collect { leader: usize },
    /// The helper works on what it has promised an answer to.
    Answer,
    /// The collector asks for a batch: units from the first, and how many of them; or for the next, where the leader
    /// selects.
    Ask { leader: usize, start: u64, units: u64 },
    /// The collector asks how far one of its collections is.
    Poll { leader: usize, which: usize },
    /// The collector gives up one of its collections.
    Delete { leader: usize, which: usize },
    /// Time passes.
    Wait { seconds: u64 },
    /// A message that was on its way for long arrives.
    Arrive { which: usize },
    /// Something that was held up goes on.
    GoOn { which: usize },
    /// A process dies and is started again.
    Die { party: Party },
    /// A process looks for what has changed: tasks that were ended, keys whose time has come.
    Renew { party: Party },
    /// The leader's operator ends the task.
    Retire,
    /// The leader misbehaves: it puts the reports of a job that the helper has answered into another one.
    Replay { which: usize },
    /// What no correct system does, to see whether the oracle sees it.
    Sabotage(Sabotage),
}

impl Action {
    /// Whether somebody dies by it.
    pub(crate) fn kills(&self) -> bool {
        matches!(self, Self::Die { .. })
    }
}

/// A report of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    /// A new one, made so many units of time ago.
    Fresh { age: u64, flaw: Option<Flaw> },
    /// One that was sent before.
    Again { which: usize },
    /// A new one under the identifier of one that was sent before.
    SameName { which: usize },
}

/// What is wrong with a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The two shares are of different sharings.
    BadProof,
    /// The leader's share was changed on the way.
    DamagedLeaderShare,
    /// The helper's share was changed on the way.
    DamagedHelperShare,
    /// Sealed to a key that the leader does not have.
    UnknownKey,
    /// Made tomorrow.
    Future,
    /// Made before the task began.
    BeforeTheTask,
}

/// Who runs in a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    Leader(usize),
    Helper,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// It never arrives.
    Lost,
    /// The connection breaks before all of it has left, and the sender knows.
    Torn,
    /// It arrives, and its answer does not.
    AnswerLost,
    /// It arrives twice; the second answer is the one that is seen.
    Twice,
    /// It arrives after its sender has given up.
    Late,
    /// It arrives, and once more after a while.
    Echo,
    /// The peer is too busy: 503.
    Busy,
}

/// Where a step is cut short: at which edge of a transaction, counted from the beginning of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) edge: u32,
    pub(crate) how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// The process whose transaction it is dies.
    Dies,
    /// It stands still until it is told to go on.
    HeldUp,
    /// The database fails; of a commit it stays open whether it happened.
    Breaks,
}

/// Defects made on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// Both aggregators forget that they have seen the first report, and it is sent again.
    ForgetIdentifiers,
    /// The helper forgets which reports it has counted.
    ForgetAtHelper,
    /// The leader loses what it has accepted and not aggregated.
    LoseSegments,
    /// From now on the helper's answers say of one report in each job that it was refused.
    LieAboutOneReport,
    /// The leader's jobs are taken up by nobody.
    FreezeJobs,
    /// An aggregator draws the noise of a released batch once more, and keeps that share in place of the first.
    DrawAgain(Party),
}
