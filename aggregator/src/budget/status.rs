//! How much of each budget is spent, of the data of this moment and at the most.

use std::collections::BTreeMap;

use mica_dp::accountant::{Account, Caps, Filled, Proposal, Span, Window, Within};
use mica_dp::{Book, Policy, Rational};
use mica_service::store::{Store, StoreError};

use crate::store::{ledger, ledger_uses};

/// One budget.
#[derive(Clone, Debug)]
pub struct BudgetStatus {
    /// Its name, window and limit: as the policy says, or as its newest entry does where no policy in force names it.
    pub account: Account,
    /// Whether the policy in force has it.
    pub in_force: bool,
    /// Of the windows that data of this moment counts in, the fullest.
    pub now: Filled,
    /// The fullest of all windows.
    pub fullest: Filled,
    /// The ε that is spent in the window of now, at `delta`; nothing where no finite one follows.
    pub epsilon: Option<f64>,
    /// The δ at which ε is told; nothing for a pure budget.
    pub delta: Option<Rational>,
    /// The second of data time from which more is left than now, in case anything is spent.
    pub renews: Option<i64>,
    /// How many releases it has paid for.
    pub releases: u64,
    /// The units from which on the policy in force wants its operator warned.
    pub warn_at: Option<i64>,
}

impl BudgetStatus {
    /// Units left in the window of now.
    #[must_use]
    pub fn left(&self) -> i64 {
        self.account.limit.saturating_sub(self.now.spent).max(0)
    }

    /// Whether the window of now is as full as that.
    #[must_use]
    pub fn warns(&self) -> bool {
        self.warn_at.is_some_and(|warn_at| self.now.spent >= warn_at)
    }

    /// The part of the limit that is spent in the window of now, in thousandths, rounded up.
    #[must_use]
    pub fn spent_thousandths(&self) -> u64 {
        let (spent, limit) = (i128::from(self.now.spent.max(0)), i128::from(self.account.limit.max(1)));
        u64::try_from((spent * 1_000 + limit - 1) / limit).unwrap_or(u64::MAX)
    }
}

/// Every budget of `policy`, and every other that was ever charged, by their names.
///
/// # Errors
/// When the database fails.
pub async fn status(store: &Store, policy: &Policy, now: u64) -> Result<Vec<BudgetStatus>, StoreError> {
    let (uses, charged) = store
        .read("budget_status", move |mut tx| async move {
            let uses = ledger_uses::all(&mut tx).await?;
            let charged = ledger::newest_by_budget(&mut tx).await?;
            Ok((tx, (uses, charged)))
        })
        .await?;
    let mut books: BTreeMap<String, (Book, Option<Rational>, bool)> = BTreeMap::new();
    for entry in charged {
        let book = Book { account: entry.account(), uses: Vec::new() };
        books.insert(entry.budget_id, (book, None, false));
    }
    for budget in policy.budgets() {
        let book = Book { account: budget.account(), uses: Vec::new() };
        books.insert(budget.id().to_owned(), (book, budget.report_delta().cloned(), true));
    }
    for usage in uses {
        if let Some((book, ..)) = books.get_mut(&usage.budget_id) {
            book.uses.push(usage);
        }
    }
    let warn_at = |id: &str| policy.budget(id).and_then(mica_dp::Budget::warn_at_units);
    Ok(books
        .into_values()
        .map(|(book, delta, in_force)| of(book, delta, in_force, now))
        .map(|status| BudgetStatus { warn_at: warn_at(&status.account.budget_id), ..status })
        .collect())
}

fn of(book: Book, delta: Option<Rational>, in_force: bool, now: u64) -> BudgetStatus {
    let moment = Span::of_reports(now, now.saturating_add(1)).unwrap_or(Span::ALL);
    let current = book.account.fullest(&book.uses, moment);
    BudgetStatus {
        in_force,
        now: current,
        fullest: book.fullest(),
        epsilon: book.account.epsilon_in(&book.uses, current.window, delta.as_ref()).ok(),
        delta,
        renews: renews(&book, current, moment),
        releases: book.uses.iter().map(|usage| usage.releases).sum(),
        warn_at: None,
        account: book.account,
    }
}

/// When a release would fit that is one unit more than what is left.
fn renews(book: &Book, filled: Filled, moment: Span) -> Option<i64> {
    if filled.spent == 0 {
        return None;
    }
    let units = book.account.limit.saturating_sub(filled.spent).max(0).saturating_add(1);
    let (task, caps) = ([0; 32], Caps::ONE_REPORT);
    let within = Within::Window(Window::Lifetime);
    let proposal = Proposal { task, span: moment, units, epsilon_units: None, caps, within };
    book.account.renews(&book.uses, &proposal)
}

#[cfg(test)]
mod tests {
    use mica_dp::accountant::{Measure, Use};

    use super::*;

    fn book(measure: Measure, window: &str, spent: i64) -> Book {
        let window = Window::from_name(window).expect("a window");
        let account = Account { budget_id: "b".to_owned(), window, measure, limit: 1_000_000_000_000 };
        let proposal = Proposal {
            task: [1; 32],
            span: Span::of_reports(1_795_564_800, 1_795_568_400).expect("an hour"),
            units: spent,
            epsilon_units: Some(spent),
            caps: Caps::ONE_REPORT,
            within: Within::Window(Window::Lifetime),
        };
        let uses: Vec<Use> = (spent > 0).then(|| account.usage(&proposal)).into_iter().collect();
        Book { account, uses }
    }

    #[test]
    fn a_window_that_rolls_on_has_more_left_when_its_oldest_day_is_over() {
        let now = 1_795_570_000;
        let rolling = of(book(Measure::Epsilon, "rolling:604800:86400", 400_000_000_000), None, true, now);
        assert_eq!((rolling.now.spent, rolling.left()), (400_000_000_000, 600_000_000_000));
        assert_eq!(rolling.renews, Some(1_795_564_800 + 604_800));
        assert_eq!(rolling.epsilon, Some(0.4));
        let later =
            of(book(Measure::Epsilon, "rolling:604800:86400", 400_000_000_000), None, true, now + 604_800);
        assert_eq!((later.now.spent, later.fullest.spent, later.renews), (0, 400_000_000_000, None));
        let for_ever = of(book(Measure::Epsilon, "lifetime", 400_000_000_000), None, true, now);
        assert_eq!(for_ever.renews, None);
    }

    #[test]
    fn the_smaller_of_the_bounds_that_hold_is_told() {
        let delta: Rational = "1e-6".parse().expect("a number");
        // What is spent is a rho of 0.005 and an epsilon of 0.005, which is far less than the former converts to.
        let status = of(book(Measure::Rho, "lifetime", 5_000_000_000), Some(delta), true, 1_795_570_000);
        assert_eq!(status.epsilon, Some(0.005));
        // 0.3 is between two numbers of the machine; the one that is told is not the nearer, lower one.
        let status = of(book(Measure::Epsilon, "lifetime", 300_000_000_000), None, true, 1_795_570_000);
        assert_eq!(status.epsilon, Some(0.3_f64.next_up()));
    }
}
