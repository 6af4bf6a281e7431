//! How often what happened. Counts outcomes and nothing else: no task, no size, no time.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Something that became of a request, or that was noticed about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A target answered.
    Forwarded,
    /// Answered from memory: the same request had come before.
    Again,
    /// Refused before opening: not POST, another media type, too large, incomplete, no room for it in memory.
    NotOpened,
    /// Refused: none of the relays that are served.
    Stranger,
    /// Refused: no key opens it.
    Key,
    /// Refused inside: not a message we accept.
    Invalid,
    /// Refused inside: its date is too far from ours.
    Date,
    /// Refused inside: not in the route table.
    NoRoute,
    /// Told 503 inside, before anything was sent: no memory left to remember the answer, too many at its target, or nobody
    /// knows yet what became of the same request.
    Full,
    /// Told 502 inside: the target gave no usable answer, or one that there was no room for.
    BadTarget,
    /// Told 502 inside: the target got nothing, because there was no connection. It is not remembered.
    Unreached,
    /// Told 504 inside: the target took too long.
    Timeout,
    /// Noticed: the request was not padded to a shared size.
    Unpadded,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 13] = [
        Self::Forwarded,
        Self::Again,
        Self::NotOpened,
        Self::Stranger,
        Self::Key,
        Self::Invalid,
        Self::Date,
        Self::NoRoute,
        Self::Full,
        Self::BadTarget,
        Self::Unreached,
        Self::Timeout,
        Self::Unpadded,
    ];

    /// A fixed name for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Again => "again",
            Self::NotOpened => "not_opened",
            Self::Stranger => "stranger",
            Self::Key => "key",
            Self::Invalid => "invalid",
            Self::Date => "date",
            Self::NoRoute => "no_route",
            Self::Full => "full",
            Self::BadTarget => "bad_target",
            Self::Unreached => "unreached",
            Self::Timeout => "timeout",
            Self::Unpadded => "unpadded",
        }
    }
}

/// A number for each outcome. Clones share the numbers.
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<[AtomicU64; Outcome::ALL.len()]>);

impl Counters {
    /// How often `outcome` occurred.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.cell(outcome).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    pub(crate) fn add(&self, outcome: Outcome) {
        if let Some(cell) = self.cell(outcome) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
        tracing::debug!(outcome = outcome.label());
    }

    fn cell(&self, outcome: Outcome) -> Option<&AtomicU64> {
        self.0.get(outcome as usize)
    }
}
