//! How often what happened. Counts outcomes and nothing else: no client, no size, no time.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// What became of one request to the relay resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The gateway answered; its answer was passed on, whatever it was.
    Forwarded,
    /// The gateway answered with something that may not be passed on.
    BadAnswer,
    /// The gateway does not accept this relay: its token, its certificate, or none.
    NotAccepted,
    /// The gateway could not be reached, or the connection broke.
    Unreachable,
    /// The gateway took too long.
    Timeout,
    /// Refused: not POST.
    Method,
    /// Refused: not a sealed request.
    MediaType,
    /// Refused: too large.
    TooLarge,
    /// Refused: too short to be a sealed request, or the client stopped sending.
    Incomplete,
    /// Refused: came too slowly.
    TooSlow,
    /// Refused: no room for it in memory.
    Full,
    /// The client went away before the answer.
    Left,
    /// Refused: shows nothing that opens this relay.
    Stranger,
    /// Refused: this client asks too often.
    Limited,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 14] = [
        Self::Forwarded,
        Self::BadAnswer,
        Self::NotAccepted,
        Self::Unreachable,
        Self::Timeout,
        Self::Method,
        Self::MediaType,
        Self::TooLarge,
        Self::Incomplete,
        Self::TooSlow,
        Self::Full,
        Self::Left,
        Self::Stranger,
        Self::Limited,
    ];

    /// A fixed name for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::BadAnswer => "bad_answer",
            Self::NotAccepted => "not_accepted",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Method => "method",
            Self::MediaType => "media_type",
            Self::TooLarge => "too_large",
            Self::Incomplete => "incomplete",
            Self::TooSlow => "too_slow",
            Self::Full => "full",
            Self::Left => "left",
            Self::Stranger => "stranger",
            Self::Limited => "limited",
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
    }

    fn cell(&self, outcome: Outcome) -> Option<&AtomicU64> {
        self.0.get(outcome as usize)
    }
}
