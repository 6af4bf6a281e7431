//! The sentences of which a statement of guarantee is made, each by a name.
//!
//! A name stands for one thing that is promised, or openly not promised, whatever the numbers in it. `docs/privacy.md` has
//! a row for each, with the tests that hold it; a test in `dp/tests/promises.rs` fails for one without a row.

/// What a sentence of a guarantee says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Which totals are released, and over how many reports at least.
    Totals,
    /// One report is hidden, and no more than one.
    HidesReport,
    /// All reports of a client in a batch are hidden.
    HidesClient,
    /// The caps of a client, which its app must keep.
    CapsByClient,
    /// The caps of a client, said to be kept by one-time tokens, which nothing here checks.
    CapsByTokens,
    /// The loss of a release as ε.
    LossEpsilon,
    /// The loss of a release as ρ, and the ε that follows.
    LossRho,
    /// What all releases together cost a report.
    AllOfAReport,
    /// What the batches of one task inside a contribution window together cost a client.
    AllOfAClient,
    /// The noise of each aggregator.
    Noise,
    /// Whose noise is counted.
    PeerNoise,
    /// How far a result can be off.
    Accuracy,
    /// What a budget keeps a unit's loss to, over all tasks that charge it.
    BudgetLimit,
    /// A budget that the releases of one task never exhaust.
    BudgetLasts,
    /// A budget that ends after so many releases.
    BudgetEnds,
    /// A budget with a longer window than that in which reports are counted.
    BudgetLonger,
    /// What no noise covers.
    NotProtected,
    /// Who decided it, and why.
    Why,
    /// Totals leave without noise.
    WithoutNoise,
}

/// One sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// What it says.
    pub promise: Promise,
    /// In these words.
    pub text: String,
}

impl Promise {
    /// All there are.
    pub const ALL: [Self; 19] = [
        Self::Totals,
        Self::HidesReport,
        Self::HidesClient,
        Self::CapsByClient,
        Self::CapsByTokens,
        Self::LossEpsilon,
        Self::LossRho,
        Self::AllOfAReport,
        Self::AllOfAClient,
        Self::Noise,
        Self::PeerNoise,
        Self::Accuracy,
        Self::BudgetLimit,
        Self::BudgetLasts,
        Self::BudgetEnds,
        Self::BudgetLonger,
        Self::NotProtected,
        Self::Why,
        Self::WithoutNoise,
    ];

    /// The name by which `docs/privacy.md` calls it.
    pub fn key(self) -> &'static str {
        match self {
            Self::Totals => "totals",
            Self::HidesReport => "hides-report",
            Self::HidesClient => "hides-client",
            Self::CapsByClient => "caps-by-client",
            Self::CapsByTokens => "caps-by-tokens",
            Self::LossEpsilon => "loss-epsilon",
            Self::LossRho => "loss-rho",
            Self::AllOfAReport => "all-of-a-report",
            Self::AllOfAClient => "all-of-a-client",
            Self::Noise => "noise",
            Self::PeerNoise => "peer-noise",
            Self::Accuracy => "accuracy",
            Self::BudgetLimit => "budget-limit",
            Self::BudgetLasts => "budget-lasts",
            Self::BudgetEnds => "budget-ends",
            Self::BudgetLonger => "budget-longer",
            Self::NotProtected => "not-protected",
            Self::Why => "why",
            Self::WithoutNoise => "without-noise",
        }
    }

    pub(crate) fn says(self, text: impl Into<String>) -> Sentence {
        Sentence { promise: self, text: text.into() }
    }
}
