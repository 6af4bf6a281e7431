//! The other way round: a wanted accuracy, and what it costs.

use super::Paying;
use super::compare::Choice;
use super::course::Workload;
use crate::accountant::Measure;
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
    /// How each budget fares.
    pub fits: Vec<Fit>,
}

/// How a budget fares when a planned workload is played through at that cost.
#[derive(Clone, Debug)]
pub struct Fit {
    /// The budget.
    pub budget_id: String,
    /// The cost of one release in its units; nothing when the mechanism cannot be charged to it.
    pub units: Option<i64>,
    /// Releases granted before this budget first refused one; nothing when it never did.
    pub until_refused: Option<u64>,
}

/// Steps of a scale or a σ that are tried: those of the grid that σ is rounded to.
const GRID: u64 = 1024;

impl Price {
    /// The least loss at which both aggregators' noise is within ±`half_width` of the truth with probability 0.95, by
    /// Laplace and by Gaussian noise; and how the budgets fare when all of `workload` is released so.
    pub fn of(
        sensitivity: &Sensitivity,
        half_width: u64,
        paying: &[Paying],
        workload: Workload,
    ) -> Vec<Self> {
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
                let fits = fits(&choice, paying, workload);
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

/// How the budgets fare when every release of `workload` costs what this one does.
fn fits(choice: &Choice, paying: &[Paying], workload: Workload) -> Vec<Fit> {
    let chargeable = |budget: &Paying| {
        let epsilon_units = match choice.mechanism {
            Mechanism::DiscreteLaplace { .. } => charge_units(&choice.loss),
            Mechanism::DiscreteGaussian { .. } => None,
        };
        Some(Paying { units: cost(choice, budget)?, epsilon_units, ..budget.clone() })
    };
    let charged: Vec<Paying> = paying.iter().filter_map(chargeable).collect();
    let mut courses = workload.play(&charged).into_iter();
    let fit = |budget: &Paying| {
        let budget_id = budget.account.budget_id.clone();
        match cost(choice, budget).and_then(|units| Some((units, courses.next()?))) {
            Some((units, course)) => {
                Fit { budget_id, units: Some(units), until_refused: course.until_refused }
            }
            None => Fit { budget_id, units: None, until_refused: Some(0) },
        }
    };
    paying.iter().map(fit).collect()
}

/// The cost of one release in the budget's units; nothing when the mechanism cannot be charged to it.
fn cost(choice: &Choice, budget: &Paying) -> Option<i64> {
    match (&choice.mechanism, budget.account.measure) {
        (Mechanism::DiscreteLaplace { .. }, Measure::Epsilon)
        | (Mechanism::DiscreteGaussian { .. }, Measure::Rho) => charge_units(&choice.loss),
        (Mechanism::DiscreteLaplace { .. }, Measure::Rho) => charge_units(&rho_of_pure(&choice.loss)),
        (Mechanism::DiscreteGaussian { .. }, Measure::Epsilon) => None,
    }
}
