//! The other way round: a wanted accuracy, and what it costs.

use super::Paying;
use super::compare::Choice;
use crate::accountant::{Measure, Span, Use};
use crate::conversion::rho_of_pure;
use crate::mechanism::Mechanism;
use crate::rational::Rational;
use crate::sensitivity::Sensitivity;
use crate::units::charge_units;

/// What one mechanism costs at a wanted accuracy.
#[derive(Clone, Debug)]
pub struct Price {
    /// The noise, and the loss that a policy file would ask for.
    pub choice: Choice,
    /// How many such releases each budget pays for.
    pub fits: Vec<Fit>,
}

/// How many releases a budget pays for in one of its windows.
#[derive(Clone, Debug)]
pub struct Fit {
    /// The budget.
    pub budget_id: String,
    /// The cost of one release in its units; nothing when the mechanism cannot be charged to it.
    pub units: Option<i64>,
    /// Releases with reports of one window; nothing when there may be any number, thanks to the caps.
    pub releases: Option<u64>,
}

/// Steps of a scale or a σ that are tried: those of the grid that σ is rounded to.
const GRID: u64 = 1024;

impl Price {
    /// The least loss at which both aggregators' noise is within ±`half_width` of the truth with probability 0.95, by
    /// Laplace and by Gaussian noise.
    pub fn of(sensitivity: &Sensitivity, half_width: u64, paying: &[Paying]) -> Vec<Self> {
        let laplace = |steps: u64| {
            let epsilon = Rational::whole(sensitivity.l1.clone()).divided_by(&on_grid(steps))?;
            let choice = rounded_up(&epsilon);
            Some(Choice::new(Mechanism::discrete_laplace(sensitivity, &choice).ok()?, choice))
        };
        let gaussian = |steps: u64| {
            let sigma = on_grid(steps);
            let twice = sigma.times(&sigma).times(&Rational::whole(2u8));
            let rho = rounded_up(&Rational::whole(sensitivity.l2_squared.clone()).divided_by(&twice)?);
            Some(Choice::new(Mechanism::discrete_gaussian(sensitivity, &rho).ok()?, rho))
        };
        let found = [most_noise(half_width, laplace), most_noise(half_width, gaussian)];
        found
            .into_iter()
            .flatten()
            .map(|choice| {
                let fits = paying.iter().map(|budget| fit(&choice, budget)).collect();
                Self { choice, fits }
            })
            .collect()
    }
}

fn on_grid(steps: u64) -> Rational {
    Rational::over::<GRID>(steps)
}

/// Up to the nearest multiple of 10⁻¹², as policy files are written.
fn rounded_up(loss: &Rational) -> Rational {
    charge_units(loss).map_or_else(|| loss.clone(), crate::units::units_to_rational)
}

/// The largest parameter on the grid with which results are as close as wanted.
fn most_noise(half_width: u64, with: impl Fn(u64) -> Option<Choice>) -> Option<Choice> {
    let enough = |steps: u64| with(steps).filter(|choice| choice.half_width <= half_width);
    let (mut low, mut high) = (GRID / 2, half_width.saturating_mul(2 * GRID).saturating_add(GRID));
    let mut best = enough(low);
    best.as_ref()?;
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if let Some(choice) = enough(middle) {
            (low, best) = (middle, Some(choice));
        } else {
            high = middle;
        }
    }
    best
}

/// Releases that `budget` pays for when all their reports are of one piece of data time.
fn fit(choice: &Choice, budget: &Paying) -> Fit {
    let cost = match (&choice.mechanism, budget.account.measure) {
        (Mechanism::DiscreteLaplace { .. }, Measure::Epsilon)
        | (Mechanism::DiscreteGaussian { .. }, Measure::Rho) => Some(choice.loss.clone()),
        (Mechanism::DiscreteLaplace { .. }, Measure::Rho) => Some(rho_of_pure(&choice.loss)),
        (Mechanism::DiscreteGaussian { .. }, Measure::Epsilon) => None,
    };
    let units = cost.as_ref().and_then(charge_units);
    let budget_id = budget.account.budget_id.clone();
    let Some(cost) = units else { return Fit { budget_id, units, releases: Some(0) } };
    let second = Span::of_reports(0, 1).expect("a second is a span");
    let mut usage = budget.account.usage(&Paying { units: cost, ..budget.clone() }.proposal(second));
    let spends = |usage: &Use| {
        budget.account.fullest(std::slice::from_ref(usage), usage.span).spent <= budget.account.limit
    };
    usage.releases = u64::from(u32::MAX);
    if spends(&usage) {
        return Fit { budget_id, units, releases: None };
    }
    let (mut fitting, mut beyond) = (0, usage.releases);
    while fitting + 1 < beyond {
        usage.releases = fitting + (beyond - fitting) / 2;
        if spends(&usage) {
            fitting = usage.releases;
        } else {
            beyond = usage.releases;
        }
    }
    Fit { budget_id, units, releases: Some(fitting) }
}
