//! `mica budget show`

use mica_aggregator::budget::{BudgetStatus, status};
use mica_dp::accountant::{Filled, Measure, Span, format_second};
use mica_dp::printed_epsilon;
use mica_dp::units::format_units;
use mica_service::clock::Clock;
use serde_json::{Value, json};

use super::{Of, open};
use crate::args::{Format, Global};
use crate::exit::Failure;
use crate::screen::Signs;
use crate::{files, print};

/// Does what the command line says.
pub(super) async fn run(of: &Of, global: &Global) -> Result<(), Failure> {
    let opened = open(&of.config).await?;
    let policy = files::policy(&opened.config.policy)?;
    let budgets = status(&opened.store, &policy, Clock::system().now()).await;
    opened.store.close().await;
    let budgets = budgets?;
    match global.output {
        Format::Json => print::json(&json!({ "budgets": budgets.iter().map(object).collect::<Vec<_>>() })),
        Format::Csv => print::csv(&HEADINGS, &budgets.iter().map(row).collect::<Vec<_>>()),
        Format::Table => {
            let signs = Signs::of_locale();
            let with_bar = |budget| [row(budget), vec![bar(budget, signs)]].concat();
            let headings = [HEADINGS.as_slice(), &["full"]].concat();
            print::columns(&headings, &budgets.iter().map(with_bar).collect::<Vec<_>>())
        }
    }
}

fn row(budget: &BudgetStatus) -> Vec<String> {
    let account = &budget.account;
    vec![
        account.budget_id.clone(),
        account.window.to_string(),
        budget.now.window.to_string(),
        measure(account.measure).to_owned(),
        format_units(budget.now.spent),
        format_units(account.limit),
        format_units(budget.left()),
        epsilon(budget).unwrap_or_default(),
        renews(budget).unwrap_or_default(),
        budget.releases.to_string(),
        if budget.in_force { "yes" } else { "no" }.to_owned(),
        budget.warn_at.map(format_units).unwrap_or_default(),
    ]
}

fn object(budget: &BudgetStatus) -> Value {
    let account = &budget.account;
    json!({
        "budget": account.budget_id,
        "window": account.window.name(),
        "counted_in": account.measure.name(),
        "now": filled(&budget.now),
        "limit": format_units(account.limit),
        "remaining": format_units(budget.left()),
        "epsilon": budget.epsilon,
        "delta": budget.delta.as_ref().map(ToString::to_string),
        "renews_at": budget.renews.map(format_second),
        "fullest": filled(&budget.fullest),
        "releases": budget.releases,
        "in_force": budget.in_force,
        "warn_at": budget.warn_at.map(format_units),
        "warns": budget.warns(),
    })
}

fn filled(filled: &Filled) -> Value {
    let bounds = (filled.window != Span::ALL).then_some(filled.window);
    json!({
        "from": bounds.map(|window| format_second(window.from())),
        "to": bounds.map(|window| format_second(window.to())),
        "spent": format_units(filled.spent),
    })
}

fn measure(measure: Measure) -> &'static str {
    measure.name()
}

/// `0.43 at 1e-8`, rounded up where it has more digits than people read.
fn epsilon(budget: &BudgetStatus) -> Option<String> {
    let printed = printed_epsilon(budget.epsilon?);
    let epsilon = printed.trim_end_matches('0').trim_end_matches('.');
    Some(match &budget.delta {
        Some(delta) => format!("{epsilon} at {delta}"),
        None => epsilon.to_owned(),
    })
}

fn renews(budget: &BudgetStatus) -> Option<String> {
    match budget.renews {
        Some(second) => Some(format_second(second)),
        None if budget.now.spent > 0 => Some("never".to_owned()),
        None => None,
    }
}

/// How full the window of now is, in tenths; anything spent shows. Marked where the policy wants a warning.
fn bar(budget: &BudgetStatus, signs: Signs) -> String {
    const CELLS: i128 = 10;
    let (spent, limit) = (i128::from(budget.now.spent), i128::from(budget.account.limit.max(1)));
    let full = ((spent * CELLS + limit - 1) / limit).clamp(0, CELLS);
    let cell = |at| if at < full { signs.choose("█", "#") } else { signs.choose("░", ".") };
    let mark = if budget.warns() { " !" } else { "" };
    (0..CELLS).map(cell).chain([mark]).collect()
}

const HEADINGS: [&str; 12] = [
    "budget",
    "limit_holds_for",
    "now",
    "counted_in",
    "spent",
    "limit",
    "left",
    "epsilon",
    "renews",
    "releases",
    "in_force",
    "warn_at",
];
