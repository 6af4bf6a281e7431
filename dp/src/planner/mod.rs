//! What a policy buys: how accurate, how often, for how long.
//!
//! For those who write a policy, before anything runs. The costs, the limits and the noise come from the same code that a
//! server releases with; only the batches are imagined: a steady number, each of its own piece of data time.

mod chart;
mod compare;
mod course;
mod pld;
mod price;
#[cfg(test)]
mod tests;
mod transform;

pub use self::chart::chart;
pub use self::compare::{Choice, Comparison};
pub use self::course::{Course, Day, Pace, Workload};
pub use self::price::{Fit, Price};

use crate::accountant::{Account, Caps, Proposal, Span, Within};
use crate::plan::ReleasePlan;
use crate::rational::Rational;

/// A budget that pays for a release, and what it pays.
#[derive(Clone, Debug)]
pub struct Paying {
    /// The budget as the accountant sees it.
    pub account: Account,
    /// What one release costs, in the budget's units.
    pub units: i64,
    /// The same as pure epsilon, when the noise is Laplace.
    pub epsilon_units: Option<i64>,
    /// What a unit contributes at most.
    pub caps: Caps,
    /// Where a batch must lie.
    pub within: Within,
    /// The delta at which epsilon is reported.
    pub report_delta: Option<Rational>,
}

impl Paying {
    /// The budgets that pay for the releases of `plan`, as a server has them.
    pub fn of(plan: &ReleasePlan) -> Vec<Self> {
        let paid = plan.charges().iter().map(|charge| {
            let Proposal { units, epsilon_units, caps, within, .. } =
                plan.proposal(charge, [0; 32], Span::ALL);
            let report_delta = plan.report_delta().cloned();
            Self { account: plan.account(charge), units, epsilon_units, caps, within, report_delta }
        });
        paid.collect()
    }

    /// One release of reports made in `span`.
    fn proposal(&self, span: Span) -> Proposal {
        Proposal {
            task: [0; 32],
            span,
            units: self.units,
            epsilon_units: self.epsilon_units,
            caps: self.caps,
            within: self.within,
        }
    }
}

/// Both mechanisms at what a unit loses in the fullest day of `course`; nothing when no ε follows there.
pub fn compare(plan: &ReleasePlan, course: &Course) -> Option<Comparison> {
    let fullest = course.days.iter().max_by_key(|day| day.spent)?;
    let epsilon = format!("{:.12}", fullest.epsilon?).parse().ok()?;
    let delta = course.paying.report_delta.as_ref();
    Some(Comparison::new(plan.sensitivity(), &epsilon, delta, counted(course)?))
}

/// A smaller ε for the fullest day of `course`, true when nothing about the plan changes with what is released; nothing
/// where none is known.
///
/// # Reference
/// Privacy loss distributions with pessimistic rounding; see Koskela, Jälkö, Honkela, "Computing Tight Differential
/// Privacy Guarantees Using FFT" (2020).
pub fn epsilon_of_a_fixed_plan(plan: &ReleasePlan, course: &Course) -> Option<f64> {
    let reported = course.days.iter().max_by_key(|day| day.spent)?.epsilon?;
    let delta = course.paying.report_delta.as_ref()?.approximate();
    let shifts = pld::shifts(plan.terms())?;
    pld::epsilon(plan.mechanism(), &shifts, counted(course)?, delta).filter(|epsilon| *epsilon < reported)
}

/// The releases that the fullest day of `course` is charged for, as many as one unit can be in.
fn counted(course: &Course) -> Option<u64> {
    let fullest = course.days.iter().max_by_key(|day| day.spent)?;
    let units = course.paying.units.max(1);
    // The part of a release that a cap may leave counts as a whole one.
    let paid = fullest.spent / units + i64::from(fullest.spent % units > 0);
    Some(paid.unsigned_abs().max(1))
}
