//! Budgets as they are shown, by `mica budget show` and by the admin API: amounts in digits, times as people write them.

use mica_dp::accountant::{Filled, Span, format_second};
use mica_dp::units::format_units;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::BudgetStatus;

/// All budgets of an aggregator.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct BudgetList {
    /// Those of the policy in force, and every other that was ever charged, by their names.
    pub budgets: Vec<BudgetView>,
}

/// One budget.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct BudgetView {
    /// Its name.
    pub budget: String,
    /// What its limit holds for: `lifetime`, `calendar:month`, `rolling:2592000:86400`.
    pub window: String,
    /// `epsilon` or `rho`: what its amounts are.
    pub counted_in: String,
    /// Of the windows that data of this moment counts in, the fullest.
    pub now: WindowView,
    /// What may be spent in a window, in digits.
    pub limit: String,
    /// What is left in the window of now, in digits.
    pub remaining: String,
    /// The part of the limit that is spent in the window of now, in thousandths, rounded up.
    pub spent_thousandths: u64,
    /// The epsilon that is spent in the window of now, at `delta`; null where no finite one follows.
    pub epsilon: Option<f64>,
    /// The delta at which epsilon is told; null for a pure budget.
    pub delta: Option<String>,
    /// The moment of data time from which more is left than now, where there is one.
    pub renews_at: Option<String>,
    /// The fullest of all windows.
    pub fullest: WindowView,
    /// How many releases it has paid for.
    pub releases: u64,
    /// Whether the policy in force has it.
    pub in_force: bool,
    /// From which amount on the policy wants its operator warned.
    pub warn_at: Option<String>,
    /// Whether as much is spent in the window of now.
    pub warns: bool,
}

/// What is spent in one window of data time.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct WindowView {
    /// Where it begins; null where it is all time.
    pub from: Option<String>,
    /// Where it ends.
    pub to: Option<String>,
    /// The amount in digits.
    pub spent: String,
}

impl From<&BudgetStatus> for BudgetView {
    fn from(budget: &BudgetStatus) -> Self {
        let account = &budget.account;
        Self {
            budget: account.budget_id.clone(),
            window: account.window.name(),
            counted_in: account.measure.name().to_owned(),
            now: WindowView::of(&budget.now),
            limit: format_units(account.limit),
            remaining: format_units(budget.left()),
            spent_thousandths: budget.spent_thousandths(),
            epsilon: budget.epsilon,
            delta: budget.delta.as_ref().map(mica_dp::Rational::decimal),
            renews_at: budget.renews.map(format_second),
            fullest: WindowView::of(&budget.fullest),
            releases: budget.releases,
            in_force: budget.in_force,
            warn_at: budget.warn_at.map(format_units),
            warns: budget.warns(),
        }
    }
}

impl WindowView {
    fn of(filled: &Filled) -> Self {
        let bounds = (filled.window != Span::ALL).then_some(filled.window);
        Self {
            from: bounds.map(|window| format_second(window.from())),
            to: bounds.map(|window| format_second(window.to())),
            spent: format_units(filled.spent),
        }
    }
}

impl BudgetList {
    /// As they are shown.
    #[must_use]
    pub fn of(budgets: &[BudgetStatus]) -> Self {
        Self { budgets: budgets.iter().map(BudgetView::from).collect() }
    }
}
