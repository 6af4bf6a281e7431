//! The planner against published values, and against the accountant it plans for.

use std::num::NonZeroU32;

use super::*;
use crate::accountant::{BatchWindow, Measure, Window, Within};
use crate::sensitivity::{NeighboringRelation, Sensitivity};
use crate::shape::Shape;
use crate::units::{UNITS_PER_ONE, charge_units};

fn exact(text: &str) -> Rational {
    text.parse().unwrap()
}

fn histogram() -> Sensitivity {
    Sensitivity::derive(&Shape::Histogram { length: 1000 }, NeighboringRelation::ReplaceOne, 1)
}

fn positive(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn a_day(releases: u32, days: u32) -> Workload {
    Workload { pace: Pace::PerDay(positive(releases)), days: positive(days) }
}

/// A budget of ρ for the life of it, with clients that send `k` reports.
fn paying(limit: &str, cost: &str, window: Window, k: u32) -> Paying {
    let units = |text: &str| charge_units(&exact(text)).unwrap();
    Paying {
        account: Account { budget_id: "b".to_owned(), window, measure: Measure::Rho, limit: units(limit) },
        units: units(cost),
        epsilon_units: None,
        caps: Caps { per_batch: positive(1), per_window: positive(k), window },
        within: Within::Window(Window::Lifetime),
        report_delta: Some(exact("1e-6")),
    }
}

#[test]
fn the_published_comparison_of_the_two_mechanisms_is_met() {
    let delta = exact("1e-6");
    for (epsilon, rho, sigma, scale, gaussian, laplace) in [
        ("0.1", 0.000_321, 55.81, 20.0, 155, 82),
        ("0.5", 0.006_642, 12.27, 4.0, 34, 16),
        ("1", 0.024_356, 6.41, 2.0, 18, 8),
        ("2", 0.088_153, 3.37, 1.0, 9, 4),
        ("4", 0.311_065, 1.79, 0.5, 5, 2),
    ] {
        let comparison = Comparison::new(&histogram(), &exact(epsilon), Some(&delta), 1);
        let ours = comparison.gaussian.as_ref().unwrap();
        assert!((ours.loss.approximate() - rho).abs() < 6e-7, "{epsilon}: {}", ours.loss.approximate());
        assert!((ours.mechanism.parameter().1.approximate() - sigma).abs() < 0.01, "{epsilon}");
        assert_eq!(ours.half_width, gaussian, "{epsilon}");
        let ours = comparison.laplace.as_ref().unwrap();
        assert!((ours.mechanism.parameter().1.approximate() - scale).abs() < 1e-9, "{epsilon}");
        assert_eq!(ours.half_width, laplace, "{epsilon}");
        assert_eq!(comparison.better().unwrap().mechanism.name(), "discrete_laplace");
    }
}

#[test]
fn laplace_is_better_for_a_few_releases_and_gaussian_for_many() {
    let better = |releases| {
        let comparison = Comparison::new(&histogram(), &exact("1"), Some(&exact("1e-6")), releases);
        comparison.better().unwrap().mechanism.name()
    };
    for few in 1..=4 {
        assert_eq!(better(few), "discrete_laplace", "{few}");
    }
    for many in [7, 30, 720] {
        assert_eq!(better(many), "discrete_gaussian", "{many}");
    }
    // Vectors with a large L1 sensitivity are better off with Gaussian noise from the first release on.
    let vector = Shape::SumVec { length: 1000, max_measurement: 255 };
    let vector = Sensitivity::derive(&vector, NeighboringRelation::ReplaceOne, 1);
    let comparison = Comparison::new(&vector, &exact("1"), Some(&exact("1e-6")), 1);
    let deviation = |choice: &Option<Choice>| choice.as_ref().unwrap().deviation / 2f64.sqrt();
    assert!((deviation(&comparison.gaussian) / 36_500.0 - 1.0).abs() < 0.01);
    assert!((deviation(&comparison.laplace) / 361_000.0 - 1.0).abs() < 0.01);
    assert_eq!(comparison.better().unwrap().mechanism.name(), "discrete_gaussian");
}

#[test]
fn the_published_hourly_month_is_met() {
    // sigma 60, 720 hourly releases: the last column is what a unit within its cap loses.
    let workload = a_day(24, 30);
    let month = Window::Rolling(crate::accountant::Rolling::new(30 * 86_400, 86_400).unwrap());
    for (k, rho, epsilon) in [(30, 0.008_33, 0.564), (1, 0.000_28, 0.093), (720, 0.2, 3.13)] {
        let courses = workload.play(&[paying("1", "1/3600", month, k)]);
        let last = courses[0].days.last().unwrap();
        assert!((units_of(last.spent) - rho).abs() < 5.1e-6, "{k}: {last:?}");
        assert!((last.epsilon.unwrap() - epsilon).abs() < 0.005, "{k}: {last:?}");
        assert_eq!((courses[0].granted, courses[0].until_refused), (720, None));
    }
}

fn units_of(units: i64) -> f64 {
    crate::units::units_to_rational(units).approximate()
}

#[test]
fn a_budget_that_runs_out_says_after_how_many_releases() {
    let workload = a_day(3, 20);
    let courses = workload.play(&[
        paying("0.25", "0.0125", Window::Lifetime, 1000),
        paying("9", "1/100", Window::Lifetime, 1000),
    ]);
    assert_eq!(courses[0].until_refused, Some(20));
    // The other budget has room, and is charged for nothing that was refused.
    assert_eq!((courses[1].until_refused, courses[1].granted, courses[1].asked), (None, 20, 60));
    assert_eq!(courses[1].days.last().unwrap().spent, UNITS_PER_ONE / 5);
    assert_eq!(courses[0].days[6].granted, 20);
    // A rolling window gives back what grows old: three a day fit again when their days have passed.
    let week = Window::Rolling(crate::accountant::Rolling::new(7 * 86_400, 86_400).unwrap());
    let courses = workload.play(&[paying("0.1", "0.01", week, 1000)]);
    assert_eq!(courses[0].until_refused, Some(10));
    assert!(courses[0].granted > 20 && courses[0].granted < 60, "{}", courses[0].granted);
}

/// Pieces of five hours begin anew on no midnight, those of a week on Thursdays, and those of 601 seconds hardly ever:
/// whoever collects each of them has as many batches as there are pieces, and not a number a day.
#[test]
fn one_batch_of_each_piece_is_planned_however_long_pieces_are() {
    for (seconds, begun, said) in [
        (5 * 3600, 134, "1 release every 5 hours"),
        (7 * 86_400, 4, "1 release every 7 days"),
        (601, 4025, "1 release every 601 seconds"),
        (3600, 672, "24 releases a day"),
        (86_400, 28, "1 release a day"),
    ] {
        let cells = BatchWindow::new(seconds).unwrap();
        let workload = Workload { pace: Pace::PerPiece(cells), days: positive(28) };
        assert_eq!(workload.pace.to_string(), said);
        // The pieces that begin in these 28 days, counted from 1970, and not by the code under test.
        let (from, to) = (1_704_067_200_u64, 1_704_067_200_u64 + 28 * 86_400);
        assert_eq!(to.div_ceil(seconds) - from.div_ceil(seconds), begun, "{seconds}");
        assert_eq!(workload.releases(), Some(begun), "{seconds}");
        // Room for three: the fourth is the first that is refused, unless clients send no more than three.
        let courses = workload.play(&[paying("0.3", "0.1", Window::Lifetime, 5000)]);
        assert_eq!(
            (courses[0].asked, courses[0].granted, courses[0].until_refused),
            (begun, 3, Some(3)),
            "{seconds}"
        );
        let courses = workload.play(&[paying("0.3", "0.1", Window::Lifetime, 3)]);
        assert_eq!((courses[0].granted, courses[0].until_refused), (begun, None), "{seconds}");
        assert_eq!(courses[0].days.len(), 28);
        // The inverse plays the same batches.
        let prices = Price::of(&histogram(), 20, &[paying("9", "0.01", Window::Lifetime, 5000)], workload);
        let refused = prices.iter().find(|it| it.choice.mechanism.name() == "discrete_gaussian").unwrap();
        assert_eq!(refused.fits[0].until_refused.is_none(), begun < 400, "{seconds}: {refused:?}");
    }
}

#[test]
fn a_plan_has_an_end_and_pieces_that_begin_in_it() {
    let cells = |seconds| Pace::PerPiece(BatchWindow::new(seconds).unwrap());
    assert_eq!(Workload { pace: cells(1), days: positive(1) }.releases(), None);
    assert_eq!(a_day(50_000, 1).releases(), Some(50_000));
    assert_eq!(a_day(50_001, 1).releases(), None);
    // Monday to Wednesday: weeks that are counted from 1970 begin on Thursdays.
    assert_eq!(Workload { pace: cells(7 * 86_400), days: positive(3) }.releases(), Some(0));
    assert_eq!(Workload { pace: cells(7 * 86_400), days: positive(4) }.releases(), Some(1));
}

#[test]
fn a_wanted_accuracy_has_a_price() {
    // 95 of 100 results within 20: rho 0.0192 by the continuous formula, and 13 releases of a budget of 0.25.
    let daily = a_day(1, 100);
    let prices = Price::of(&histogram(), 20, &[paying("0.25", "0.01", Window::Lifetime, 1000)], daily);
    let [laplace, gaussian] = prices.as_slice() else { panic!("{prices:?}") };
    assert!(gaussian.choice.half_width <= 20 && laplace.choice.half_width <= 20);
    let rho = gaussian.choice.loss.approximate();
    assert!((0.018..0.0193).contains(&rho), "{rho}");
    assert_eq!(gaussian.fits[0].until_refused, Some(13));
    // Any less, and results would be too far off.
    let less = gaussian.choice.loss.times(&exact("0.995"));
    let noisier = crate::mechanism::Mechanism::discrete_gaussian(&histogram(), &less).unwrap();
    assert!(Choice::new(noisier, less).half_width > 20);
    // With a cap that the budget covers, there may be any number.
    let capped = Price::of(&histogram(), 20, &[paying("0.25", "0.01", Window::Lifetime, 10)], daily);
    assert_eq!(capped[1].fits[0].until_refused, None);
    assert!(Price::of(&histogram(), 0, &[], daily).is_empty(), "no noise that is allowed is that small");
}

/// A cap that is counted in a shorter window than the budget's is paid for in every such window: what the inverse says
/// lasts is what lasts when it is planned.
#[test]
fn a_price_is_that_of_the_same_plan() {
    let month = Window::Rolling(crate::accountant::Rolling::new(28 * 86_400, 86_400).unwrap());
    let daily = a_day(1, 400);
    let caps = Caps { per_batch: positive(2), per_window: positive(8), window: month };
    let life = Paying { caps, ..paying("0.3", "0.01", Window::Lifetime, 8) };
    let prices = Price::of(&histogram(), 30, std::slice::from_ref(&life), daily);
    for price in &prices {
        let units = price.fits[0].units.unwrap();
        let course = daily.play(&[Paying { units, ..life.clone() }]);
        assert!(course[0].until_refused.is_some(), "{price:?}");
        assert_eq!(price.fits[0].until_refused, course[0].until_refused, "{}", price.choice.mechanism.name());
    }
}

/// Blocks that lie behind are one number each, so that a long plan takes about as long as it is.
#[test]
fn a_plan_of_decades_counts_blocks_and_not_days() {
    let month = Window::Rolling(crate::accountant::Rolling::new(28 * 86_400, 86_400).unwrap());
    let caps = Caps { per_batch: positive(1), per_window: positive(30), window: month };
    let life = Paying { caps, ..paying("9", "0.0001", Window::Lifetime, 30) };
    let (account, mut uses) = (&life.account, Vec::new());
    let mut apart = Vec::new();
    for day in 0..400u64 {
        let span = Span::of_reports(day * 86_400, (day + 1) * 86_400).unwrap();
        let usage = account.fits(&uses, &life.proposal(span)).unwrap();
        account.count(&mut uses, usage.clone());
        apart.push(usage);
        assert_eq!(account.fullest(&uses, span), account.fullest(&apart, span), "day {day}");
    }
    assert_eq!(uses.len(), 400_usize.div_ceil(28));
}

#[test]
fn the_chart_has_axes_labels_bands_and_no_colour() {
    let workload = a_day(2, 10);
    let month = paying("0.25", "0.0125", Window::Lifetime, 1000);
    let named = Paying { account: Account { budget_id: "a<b".to_owned(), ..month.account.clone() }, ..month };
    let courses = workload.play(&[named]);
    let mechanism = crate::mechanism::Mechanism::discrete_gaussian(&histogram(), &exact("0.0025")).unwrap();
    let svg = chart("page \"load\"", &courses, &Choice::new(mechanism, exact("0.0025")));
    for needed in
        ["<svg", "</svg>", ">day<", "100 %", "±55", "+55", "a&lt;b", "&quot;load&quot;", "epsilon", "limit"]
    {
        assert!(svg.contains(needed), "{needed} is missing in {svg}");
    }
    let greys = ["#ccc", "#eee", "#bbb"];
    for colour in svg.split('#').skip(1).map(|rest| format!("#{}", rest.chars().take(3).collect::<String>()))
    {
        assert!(greys.contains(&colour.as_str()), "{colour}");
    }
}
