//! One budget's account: what one more release would cost, and whether it fits.
//!
//! A filter: it looks at what was granted so far and at what is asked, and says yes or no. Nothing is remembered
//! here; a refused request leaves everything as it was, and a later one that fits is granted.

use super::batch::Within;
use super::cap::Measure;
use super::renewal;
use super::span::Span;
use super::timeline::{Piece, Timeline};
use super::usage::{Block, Caps, Grid, Use};
use super::window::Window;
use crate::conversion::{NoFiniteEpsilon, reported_epsilon};
use crate::rational::Rational;
use crate::units::format_units;

/// A budget, as far as the accountant is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The budget's name; uses of other budgets are passed over.
    pub budget_id: String,
    /// The window its limit holds for.
    pub window: Window,
    /// What its units count.
    pub measure: Measure,
    /// The most units in any window.
    pub limit: i64,
}

/// A release that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The task.
    pub task: [u8; 32],
    /// When the reports of the batch were made; [`Span::ALL`] when nothing better is known.
    pub span: Span,
    /// What a unit with `caps.per_batch` reports in the batch loses, in the budget's units; below zero counts as zero.
    pub units: i64,
    /// The same as pure epsilon, when the noise is Laplace.
    pub epsilon_units: Option<i64>,
    /// What a unit contributes to the task at most.
    pub caps: Caps,
    /// The pieces of time in each of which a unit has at most `caps.per_batch` reports.
    pub within: Within,
}

/// A release that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a release that is not stored as a use was not counted"]
pub struct Admitted {
    /// What to store: one more release of the stored use that [`Use::is_like`] it, or a use of its own.
    pub usage: Use,
    /// The fullest window that meets the release.
    pub window: Span,
    /// Units spent in that window before.
    pub before: i64,
    /// Units spent in that window with the release.
    pub after: i64,
}

/// A release that does not fit, and what would.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "budget \"{budget_id}\" is exhausted for {window}: {} of {} spent, {} requested, {} left",
    format_units(*.spent), format_units(*.limit), format_units(*.requested), format_units(*.left)
)]
pub struct OverBudget {
    /// The budget.
    pub budget_id: String,
    /// The window that would hold the most, of those that meet the release.
    pub window: Span,
    /// Units spent in that window.
    pub spent: i64,
    /// Units by which the release would raise that.
    pub requested: i64,
    /// The most units in any window.
    pub limit: i64,
    /// Units left in that window.
    pub left: i64,
    /// The data time, in seconds since 1970, from which an equal release fits with what is spent now; nothing when no
    /// time will do.
    pub renews: Option<i64>,
    /// The most units that a release of the same task and span could cost and fit.
    pub fits: i64,
}

/// What one window holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    /// The window.
    pub window: Span,
    /// Units spent in it.
    pub spent: i64,
}

impl Account {
    /// Whether `proposal` fits beside `uses`.
    ///
    /// # Privacy
    /// If every release that left was admitted, then no privacy unit within its caps loses more than `limit` by the
    /// releases that meet any one window, whichever order they came in and however they were chosen. The answer
    /// depends on times, costs and caps, never on what was measured.
    ///
    /// # Reference
    /// Feldman, Zrnic, "Individual Privacy Accounting via a Rényi Filter" (2021); Rogers, Roth, Ullman, Vadhan,
    /// "Privacy Odometers and Filters" (2016). The argument with its assumptions is in `docs/privacy.md`.
    ///
    /// # Cost
    /// `O(u log u)` time and `O(u)` memory for `u` uses; a refusal takes about fifty times as long, for the search
    /// of what would fit.
    pub fn admit(&self, uses: &[Use], proposal: &Proposal) -> Result<Admitted, OverBudget> {
        let usage = self.usage(proposal);
        let (start, after) = self.fullest_start(uses, &usage);
        let window = self.timeline().window_at(start);
        let before = self.timeline().spent_in(self.own(uses), window);
        if after <= i128::from(self.limit) {
            return Ok(Admitted { usage, window, before: saturated(before), after: saturated(after) });
        }
        Err(OverBudget {
            budget_id: self.budget_id.clone(),
            window,
            spent: saturated(before),
            requested: saturated(after - before),
            limit: self.limit,
            left: saturated((i128::from(self.limit) - before).max(0)),
            renews: renewal::renews(self, uses, &usage, proposal.span),
            fits: renewal::fits(self, uses, &usage),
        })
    }

    /// The short answer: the use to store if `proposal` fits, without a reason if it does not.
    pub fn fits(&self, uses: &[Use], proposal: &Proposal) -> Option<Use> {
        let usage = self.usage(proposal);
        let (_, after) = self.fullest_start(uses, &usage);
        (after <= i128::from(self.limit)).then_some(usage)
    }

    /// The data time, in seconds since 1970, from which an equal release fits that does not fit now; nothing when this one
    /// fits, or when no time will do.
    pub fn renews(&self, uses: &[Use], proposal: &Proposal) -> Option<i64> {
        let usage = self.usage(proposal);
        let (_, after) = self.fullest_start(uses, &usage);
        if after <= i128::from(self.limit) {
            return None;
        }
        renewal::renews(self, uses, &usage, proposal.span)
    }

    /// Whether no window that meets `span` holds more than the limit.
    pub(crate) fn holds(&self, uses: &[Use], span: Span) -> bool {
        let (_, most) = fullest(&self.timeline().pieces(self.own(uses), span));
        most <= i128::from(self.limit)
    }

    /// The use that `proposal` would be.
    ///
    /// # Privacy
    /// In a batch of `n` pieces of time a unit may have `n` times the reports that its noise was made for, and loses `n`
    /// times the epsilon, or `n²` times the rho: that is what such a release costs. As the dearer release that it is, it
    /// may then share the caps with others: with `j ≤ n·c` reports the unit loses `(j/nc)²` of the cost, no more than
    /// a unit with `min(j, c)` of `c`.
    pub fn usage(&self, proposal: &Proposal) -> Use {
        let pieces = i128::from(proposal.within.pieces(proposal.span));
        let times = |units: i64, power: u32| {
            // At most 2³⁹ seconds, squared, and 63 bits.
            saturated(i128::from(units.max(0)).saturating_mul(pieces.saturating_pow(power)))
        };
        Use {
            budget_id: self.budget_id.clone(),
            task: proposal.task,
            span: self.grid(&proposal.caps).snap(proposal.span),
            units: match self.measure {
                Measure::Epsilon => times(proposal.units, 1),
                Measure::Rho => times(proposal.units, 2),
            },
            epsilon_units: proposal.epsilon_units.map(|units| times(units, 1)),
            caps: proposal.caps,
            releases: 1,
        }
    }

    /// Uses that end at this second or earlier need not be loaded to judge a release of `span`.
    pub fn needed_after(&self, span: Span) -> i64 {
        match self.window {
            Window::Lifetime => Span::ALL.from(),
            Window::Calendar(unit) => unit.containing(span.from()).from(),
            Window::Rolling(rolling) => self.window.cell(span.from()).from().saturating_sub(rolling.length()),
        }
    }

    /// The second of data time up to which what was paid for counts beside new data, and nothing when nothing was paid for.
    pub fn counts_until(&self, uses: &[Use]) -> Option<i64> {
        let last = self.own(uses).map(|usage| usage.span.to()).max()?;
        Some(match self.window {
            Window::Lifetime => Span::ALL.to(),
            Window::Calendar(unit) => unit.containing(last - 1).to(),
            Window::Rolling(rolling) => last.saturating_add(rolling.length()).min(Span::ALL.to()),
        })
    }

    /// Counts `new` beside `uses`, together with one that no window of this budget tells apart from it. What is stored by
    /// servers keeps their times; this is for stories that are long and only told.
    pub(crate) fn count(&self, uses: &mut Vec<Use>, new: Use) {
        let block = |usage: &Use| match (self.window, self.grid(&usage.caps).block(usage.span)) {
            (Window::Lifetime | Window::Calendar(_), Block::Fixed(block)) => Some(block),
            _ => None,
        };
        let alike = |usage: &Use| {
            usage.costs_as(&new)
                && (usage.span == new.span || block(usage).is_some_and(|it| block(&new) == Some(it)))
        };
        match uses.iter_mut().rev().find(|usage| alike(usage)) {
            Some(usage) => {
                usage.releases += new.releases;
                usage.span = usage.span.with(new.span);
            }
            None => uses.push(new),
        }
    }

    /// What `window`, one of the budget's, holds.
    pub fn spent_in(&self, uses: &[Use], window: Span) -> i64 {
        saturated(self.timeline().spent_in(self.own(uses), window))
    }

    /// The fullest of the windows that meet `span`; the earliest of several.
    pub fn fullest(&self, uses: &[Use], span: Span) -> Filled {
        let pieces = self.timeline().pieces(self.own(uses), span);
        let (start, spent) = fullest(&pieces);
        Filled { window: self.timeline().window_at(start), spent: saturated(spent) }
    }

    /// What `window` holds when it is added up as pure ε; nothing when the noise of some release in it was not Laplace.
    pub fn pure_epsilon_in(&self, uses: &[Use], window: Span) -> Option<i64> {
        if self.own(uses).any(|usage| usage.span.meets(window) && usage.epsilon_units.is_none()) {
            return None;
        }
        let epsilon = Timeline {
            measure: Measure::Epsilon,
            amount: |usage| usage.epsilon_units.unwrap_or(i64::MAX),
            ..self.timeline()
        };
        Some(saturated(epsilon.spent_in(self.own(uses), window)))
    }

    /// The ε to report for `window`, one of the budget's: the smaller of the bounds that hold. A budget of ρ needs
    /// `delta`, unless all its noise was Laplace.
    pub fn epsilon_in(
        &self,
        uses: &[Use],
        window: Span,
        delta: Option<&Rational>,
    ) -> Result<f64, NoFiniteEpsilon> {
        let spent = self.spent_in(uses, window);
        match self.measure {
            Measure::Epsilon => reported_epsilon(i64::MAX, Some(spent), None),
            Measure::Rho => reported_epsilon(spent, self.pure_epsilon_in(uses, window), delta),
        }
    }

    pub(super) fn timeline(&self) -> Timeline {
        Timeline { window: self.window, measure: self.measure, amount: |usage| usage.units }
    }

    pub(super) fn grid(&self, caps: &Caps) -> Grid {
        Grid { budget: self.window, contribution: caps.window }
    }

    pub(super) fn own<'a>(&'a self, uses: &'a [Use]) -> impl Iterator<Item = &'a Use> {
        uses.iter().filter(|usage| usage.budget_id == self.budget_id)
    }

    /// What all windows that meet `usage` would hold with it.
    pub(super) fn pieces_with(&self, uses: &[Use], usage: &Use) -> Vec<Piece> {
        self.timeline().pieces(self.own(uses).chain([usage]), usage.span)
    }

    fn fullest_start(&self, uses: &[Use], usage: &Use) -> (i64, i128) {
        fullest(&self.pieces_with(uses, usage))
    }
}

fn fullest(pieces: &[Piece]) -> (i64, i128) {
    // The earliest of those that hold the most.
    let most = pieces.iter().rev().max_by_key(|piece| piece.spent);
    most.map_or((Span::ALL.from(), 0), |piece| (piece.from, piece.spent))
}

pub(super) fn saturated(units: i128) -> i64 {
    i64::try_from(units).unwrap_or(if units < 0 { i64::MIN } else { i64::MAX })
}
