//! `mica policy plan`: how accurate, how often and for how long, before anything runs.

use std::num::NonZeroU32;
use std::path::PathBuf;

use mica_dp::planner::{
    Choice, Comparison, Course, Pace, Paying, Price, Workload, chart, compare, epsilon_of_a_fixed_plan,
};
use mica_dp::units::format_units;
use mica_dp::{Policy, Rational, ReleasePlan, printed_epsilon};
use mica_service::config::parse_duration;
use serde_json::{Value, json};

use crate::args::{Format, Global};
use crate::exit::Failure;
use crate::{files, print};

/// What to plan.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The policy file
    file: PathBuf,
    /// Plan this release only
    #[arg(long, value_name = "ID")]
    release: Option<String>,
    /// Batches that are released a day, each of its own part of the day; when left out, one for each piece of time in which
    /// clients count their reports (`batch_window`), however long it is, and else one a day
    #[arg(long, value_name = "N")]
    releases_per_day: Option<NonZeroU32>,
    /// For how long
    #[arg(long = "for", value_name = "DURATION", default_value = "30d")]
    length: String,
    /// Say what it would cost that each value is within ± this of the truth, in 95 of 100 cases
    #[arg(long, value_name = "N")]
    wanted_half_width: Option<u64>,
}

/// Everything planned about one release.
struct Planned {
    plan: ReleasePlan,
    workload: Workload,
    now: Choice,
    courses: Vec<Course>,
    comparison: Option<Comparison>,
    fixed: Option<f64>,
    wanted: Option<u64>,
    prices: Vec<Price>,
}

/// Does what the command line says.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let policy = files::policy(&args.file)?;
    let wanted = |plan: &ReleasePlan| args.release.as_ref().is_none_or(|id| id == plan.release_id());
    let plans: Vec<ReleasePlan> = policy.plans().filter(wanted).collect();
    let planned = plans.into_iter().map(|plan| Ok(work_out(workload(args, &plan)?, plan, args)));
    let planned: Vec<Planned> = planned.collect::<Result<_, Failure>>()?;
    if let (Some(id), true) = (&args.release, planned.is_empty()) {
        return Err(Failure::usage(format!(
            "{} has no release \"{id}\"; `mica policy explain` lists them",
            args.file.display()
        )));
    }
    match (global.chart, planned.as_slice(), global.output) {
        (true, [one], _) => print::lines(&chart(&title(&policy, one), &one.courses, &one.now)),
        (true, ..) => Err(Failure::usage("-o svg draws one release; name it with --release ID")),
        (false, _, Format::Json) => print::json(&json!({
            "policy": policy.id(),
            "version": policy.version(),
            "days": days_of_plan(args)?,
            "releases": planned.iter().map(as_json).collect::<Vec<_>>(),
        })),
        (false, _, Format::Csv) => {
            print::csv(&["release", "budget", "day", "granted", "spent", "epsilon"], &days(&planned))
        }
        (false, _, Format::Table) => planned.iter().try_for_each(table),
    }
}

fn days_of_plan(args: &Args) -> Result<NonZeroU32, Failure> {
    let seconds = parse_duration(&args.length).map_err(Failure::usage)?.as_secs();
    let days = u32::try_from(seconds.div_ceil(86_400)).ok().and_then(NonZeroU32::new);
    days.ok_or_else(|| Failure::usage("--for is one day or more; try --for 30d"))
}

/// The batches of one release: as many a day as were asked for, or one of each of its pieces of time.
fn workload(args: &Args, plan: &ReleasePlan) -> Result<Workload, Failure> {
    let days = days_of_plan(args)?;
    let own = Pace::of(plan);
    let workload = Workload { pace: args.releases_per_day.map_or(own, Pace::PerDay), days };
    let release = plan.release_id();
    match workload.releases() {
        None => {
            let most = Workload::MOST;
            return Err(Failure::usage(format!(
                "release \"{release}\": {} for {days} days is more than {most} releases, and no more are played through; plan \
                 a shorter time (--for)",
                workload.pace
            )));
        }
        Some(0) => {
            let within = plan.within();
            return Err(Failure::usage(format!(
                "release \"{release}\": a batch lies within {within}, and none begins in the {days} days that are played through; \
                 plan a longer time (--for)"
            )));
        }
        Some(_) => {}
    }
    workload.is_of_batches(plan).map_err(|wide| {
        let write = own.per_day().map_or_else(
            || "leave --releases-per-day out".to_owned(),
            |parts| format!("write --releases-per-day {parts}, or leave it out"),
        );
        Failure::usage(format!(
            "release \"{release}\": with {}, batches are longer than clients count for: a batch lies within {}; {write}",
            workload.pace, wide.within
        ))
    })?;
    Ok(workload)
}

fn work_out(workload: Workload, plan: ReleasePlan, args: &Args) -> Planned {
    let paying = Paying::of(&plan);
    let courses = workload.play(&paying);
    let comparison = courses.iter().find_map(|course| compare(&plan, course));
    let fixed = courses.iter().find_map(|course| epsilon_of_a_fixed_plan(&plan, course));
    let prices = args
        .wanted_half_width
        .map_or_else(Vec::new, |half_width| Price::of(plan.sensitivity(), half_width, &paying, workload));
    let now = Choice::new(plan.mechanism().clone(), plan.terms().loss.amount.clone());
    Planned { plan, workload, now, courses, comparison, fixed, wanted: args.wanted_half_width, prices }
}

fn title(policy: &Policy, one: &Planned) -> String {
    format!(
        "{} (policy {}, version {}): {} for {} days",
        one.plan.release_id(),
        policy.id(),
        policy.version(),
        one.workload.pace,
        one.workload.days
    )
}

fn table(one: &Planned) -> Result<(), Failure> {
    print::lines(&format!(
        "release \"{}\": {}\n{} within ±{} of the truth in 95 of 100 cases (standard deviation {:.1})\n{} for {} days\n",
        one.plan.release_id(),
        one.now.mechanism.describe(),
        if one.plan.terms().shape.length() > 1 { "each value of a result is" } else { "results are" },
        one.now.half_width,
        one.now.deviation,
        one.workload.pace,
        one.workload.days,
    ))?;
    let budgets: Vec<Vec<String>> = one.courses.iter().map(budget_row).collect();
    let headings =
        ["BUDGET", "IN", "LIMIT", "A RELEASE COSTS", "GRANTED", "FIRST REFUSED AFTER", "EPSILON AT THE END"];
    print::columns(&headings, &budgets)?;
    print::lines("")?;
    print::columns(&["BUDGET", "DAY", "GRANTED", "SPENT", "EPSILON"], &some_days(one))?;
    if let Some(epsilon) = one.fixed {
        print::lines(&format!(
            "\nif nothing about the plan ever depends on a result, epsilon is at most {}; no server counts on that",
            printed_epsilon(epsilon)
        ))?;
    }
    if let Some(comparison) = &one.comparison {
        print::lines(&format!(
            "\nfor {} with the same reports at epsilon {} together{}:",
            releases(comparison.releases),
            printed_epsilon(comparison.epsilon.approximate()),
            comparison
                .better()
                .map(|better| format!(", {} is the better choice", better.mechanism.name()))
                .unwrap_or_default()
        ))?;
        let choices: Vec<Vec<String>> =
            [&comparison.laplace, &comparison.gaussian].into_iter().flatten().map(choice_row).collect();
        print::columns(&["MECHANISM", "LOSS PER RELEASE", "NOISE", "95 OF 100", "DEVIATION"], &choices)?;
    }
    if let Some(wanted) = one.wanted.filter(|_| one.prices.len() < 2) {
        print::lines(&format!(
            "\n{} is as narrow as ±{wanted}: a policy may not ask for so little noise",
            if one.prices.is_empty() { "no noise" } else { "only one kind of noise" }
        ))?;
    }
    if !one.prices.is_empty() {
        print::lines("\nwhat the wanted accuracy costs:")?;
        let prices: Vec<Vec<String>> = one.prices.iter().map(price_row).collect();
        print::columns(
            &["MECHANISM", "LOSS PER RELEASE", "NOISE", "95 OF 100", "DEVIATION", "FIRST REFUSED AFTER"],
            &prices,
        )?;
    }
    print::lines("")
}

fn budget_row(course: &Course) -> Vec<String> {
    let account = &course.paying.account;
    let last = course.days.last().and_then(|day| day.epsilon);
    vec![
        account.budget_id.clone(),
        account.window.on_grid().to_string(),
        format_units(account.limit),
        format_units(course.paying.units),
        format!("{} of {}", course.granted, course.asked),
        course.until_refused.map_or_else(|| "never in this time".to_owned(), releases),
        last.map_or_else(String::new, printed_epsilon),
    ]
}

/// About eight days of each budget, the first and the last among them.
fn some_days(one: &Planned) -> Vec<Vec<String>> {
    let (days, step) = (one.workload.days.get(), one.workload.days.get().div_ceil(7));
    let shown = |day: u32| day == 1 || day == days || day.is_multiple_of(step);
    days_of(one).into_iter().filter(|(day, _)| shown(*day)).map(|(_, row)| row).collect()
}

fn days(planned: &[Planned]) -> Vec<Vec<String>> {
    let named = |one: &Planned, row: Vec<String>| [vec![one.plan.release_id().to_owned()], row].concat();
    planned.iter().flat_map(|one| days_of(one).into_iter().map(|(_, row)| named(one, row))).collect()
}

fn days_of(one: &Planned) -> Vec<(u32, Vec<String>)> {
    let rows = one.courses.iter().flat_map(|course| {
        course.days.iter().map(|day| {
            let epsilon = day.epsilon.map_or_else(String::new, printed_epsilon);
            let budget = course.paying.account.budget_id.clone();
            let row =
                vec![budget, day.day.to_string(), day.granted.to_string(), format_units(day.spent), epsilon];
            (day.day, row)
        })
    });
    rows.collect()
}

fn releases(count: u64) -> String {
    format!("{count} release{}", if count == 1 { "" } else { "s" })
}

fn choice_row(choice: &Choice) -> Vec<String> {
    let (parameter, value) = choice.mechanism.parameter();
    vec![
        choice.mechanism.name().to_owned(),
        loss(choice),
        format!("{parameter} {:.3}", value.approximate()),
        format!("±{}", choice.half_width),
        format!("{:.1}", choice.deviation),
    ]
}

/// As a policy file would write it.
fn loss(choice: &Choice) -> String {
    let key = if choice.mechanism.name() == "discrete_laplace" { "epsilon" } else { "rho" };
    format!("{key}_per_release = {}", decimal(&choice.loss))
}

fn decimal(loss: &Rational) -> String {
    mica_dp::units::charge_units(loss).map_or_else(|| loss.to_string(), format_units)
}

fn price_row(price: &Price) -> Vec<String> {
    let fits = price.fits.iter().map(|fit| match (fit.units, fit.until_refused) {
        (None, _) => format!("{}: not by this mechanism", fit.budget_id),
        (Some(_), None) => format!("{}: never in this time", fit.budget_id),
        (Some(_), Some(count)) => format!("{}: {}", fit.budget_id, releases(count)),
    });
    [choice_row(&price.choice), vec![fits.collect::<Vec<_>>().join(", ")]].concat()
}

fn as_json(one: &Planned) -> Value {
    let courses = one.courses.iter().map(|course| {
        let days = course.days.iter().map(|day| {
            json!({ "day": day.day, "granted": day.granted, "spent": format_units(day.spent), "epsilon": day.epsilon })
        });
        json!({
            "budget": course.paying.account.budget_id,
            "window": course.paying.account.window.kind(),
            "limit": format_units(course.paying.account.limit),
            "cost": format_units(course.paying.units),
            "asked": course.asked,
            "granted": course.granted,
            "granted_before_first_refusal": course.until_refused,
            "days": days.collect::<Vec<_>>(),
        })
    });
    let comparison = one.comparison.as_ref().map(|comparison| {
        json!({
            "releases": comparison.releases,
            "epsilon": comparison.epsilon.approximate(),
            "laplace": comparison.laplace.as_ref().map(choice_json),
            "gaussian": comparison.gaussian.as_ref().map(choice_json),
            "better": comparison.better().map(|choice| choice.mechanism.name()),
        })
    });
    let prices = one.prices.iter().map(|price| {
        let fits = price.fits.iter().map(|fit| {
            json!({ "budget": fit.budget_id, "cost": fit.units.map(format_units), "granted_before_first_refusal": fit.until_refused })
        });
        json!({ "choice": choice_json(&price.choice), "budgets": fits.collect::<Vec<_>>() })
    });
    json!({
        "release": one.plan.release_id(),
        "releases_per_day": one.workload.pace.per_day(),
        "one_release_every_seconds": match one.workload.pace {
            Pace::PerPiece(cells) => Some(cells.length()),
            Pace::PerDay(_) => None,
        },
        "now": choice_json(&one.now),
        "budgets": courses.collect::<Vec<_>>(),
        "epsilon_of_a_fixed_plan": one.fixed,
        "comparison": comparison,
        "wanted_accuracy": prices.collect::<Vec<_>>(),
    })
}

fn choice_json(choice: &Choice) -> Value {
    let (parameter, value) = choice.mechanism.parameter();
    json!({
        "mechanism": choice.mechanism.name(),
        "loss": decimal(&choice.loss),
        parameter: value.to_string(),
        "half_width": choice.half_width,
        "confidence": 0.95,
        "standard_deviation": choice.deviation,
    })
}
