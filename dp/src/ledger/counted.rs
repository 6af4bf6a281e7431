//! How an entry of the ledger counts against its budget.

use std::num::NonZeroU32;

use super::entry::LedgerEntry;
use crate::accountant::{Account, Caps, Measure, Proposal, Span, Use, Window, Within};
use crate::canonical::Canonical;

/// What the accountant was told about a charge: with the entry's own budget, units and limit, all that it takes to judge
/// the charge again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The window of the budget.
    pub window: Window,
    /// What the units count.
    pub measure: Measure,
    /// When the reports of the batch were made.
    pub data: Span,
    /// What a privacy unit contributes at most.
    pub caps: Caps,
    /// The cost as pure epsilon, when the noise was Laplace.
    pub epsilon_units: Option<i64>,
}

impl Counted {
    /// How entries of the first schema count, which say nothing of it: each in full, against a limit for all time.
    fn in_full() -> Self {
        let caps = Caps { per_batch: NonZeroU32::MIN, per_window: NonZeroU32::MAX, window: Window::Lifetime };
        Self { window: Window::Lifetime, measure: Measure::Rho, data: Span::ALL, caps, epsilon_units: None }
    }

    pub(super) fn canonical(&self) -> Vec<(&'static str, Canonical)> {
        let epsilon = self.epsilon_units.map_or_else(|| "none".to_owned(), |units| units.to_string());
        vec![
            ("window", Canonical::text(&self.window.name())),
            ("measure", Canonical::text(&self.measure.name())),
            ("data_from", Canonical::text(&self.data.from())),
            ("data_to", Canonical::text(&self.data.to())),
            ("max_reports_per_batch", Canonical::text(&self.caps.per_batch)),
            ("max_reports_per_window", Canonical::text(&self.caps.per_window)),
            ("contribution_window", Canonical::text(&self.caps.window.name())),
            ("epsilon_units", Canonical::text(&epsilon)),
        ]
    }
}

impl LedgerEntry {
    /// The budget as it was when the entry was written.
    pub fn account(&self) -> Account {
        let Counted { window, measure, .. } = self.as_counted();
        Account { budget_id: self.budget_id.clone(), window, measure, limit: self.limit }
    }

    /// What was asked of the budget, or given back to it.
    pub fn proposal(&self) -> Proposal {
        let Counted { data, caps, epsilon_units, .. } = self.as_counted();
        let units = self.units.saturating_abs();
        // It was one batch when it was charged; whether it was by its policy is checked with the policy.
        let within = Within::Window(Window::Lifetime);
        Proposal { task: *self.key.task_id(), span: data, units, epsilon_units, caps, within }
    }

    /// What counts against the budget since a charge, or no more since a refund.
    pub fn usage(&self) -> Use {
        self.account().usage(&self.proposal())
    }

    fn as_counted(&self) -> Counted {
        self.counted.clone().unwrap_or_else(Counted::in_full)
    }
}
