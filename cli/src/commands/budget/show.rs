//! `mica budget show`

use mica_aggregator::budget::{BudgetList, BudgetView, WindowView};
use mica_dp::accountant::Window;
use mica_dp::printed_epsilon;

use crate::args::{Format, Global};
use crate::commands::task::At;
use crate::exit::Failure;
use crate::print;
use crate::screen::Signs;

/// Whose budgets.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  mica budget show --config leader.toml
  mica budget show --admin http://127.0.0.1:8471 --token-file admin.token   where its database is out of reach")]
pub(crate) struct Args {
    #[command(flatten)]
    at: At,
}

/// Does what the command line says.
pub(super) async fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let BudgetList { budgets } = budgets(args).await?;
    match global.output {
        Format::Json => {
            print::json(&serde_json::to_value(BudgetList { budgets }).map_err(Failure::unexpected)?)
        }
        Format::Csv => print::csv(&HEADINGS, &budgets.iter().map(row).collect::<Vec<_>>()),
        Format::Table => {
            let signs = Signs::of_locale();
            let with_bar = |budget| [row(budget), vec![bar(budget, signs)]].concat();
            let headings = [HEADINGS.as_slice(), &["full"]].concat();
            print::columns(&headings, &budgets.iter().map(with_bar).collect::<Vec<_>>())
        }
    }
}

async fn budgets(args: &Args) -> Result<BudgetList, Failure> {
    if let Some(config) = args.at.config() {
        // What this file may not be is said with its place in it.
        super::open(config).await?.store.close().await;
    } else if !args.at.is_given() {
        return Err(Failure::usage("whose budgets? add --config FILE, or --admin URL and --token-file FILE"));
    }
    args.at.open().await?.budgets().await
}

fn row(budget: &BudgetView) -> Vec<String> {
    let window = Window::from_name(&budget.window);
    vec![
        budget.budget.clone(),
        window.map_or_else(|| budget.window.clone(), |window| window.on_grid().to_string()),
        stretch(&budget.now),
        budget.counted_in.clone(),
        budget.now.spent.clone(),
        budget.limit.clone(),
        budget.remaining.clone(),
        epsilon(budget).unwrap_or_default(),
        renews(budget).unwrap_or_default(),
        budget.releases.to_string(),
        if budget.in_force { "yes" } else { "no" }.to_owned(),
        budget.warn_at.clone().unwrap_or_default(),
    ]
}

fn stretch(window: &WindowView) -> String {
    match (&window.from, &window.to) {
        (Some(from), Some(to)) => format!("{from} to {to}"),
        _ => "all time".to_owned(),
    }
}

/// `0.43 at 1e-8`, rounded up where it has more digits than people read.
fn epsilon(budget: &BudgetView) -> Option<String> {
    let printed = printed_epsilon(budget.epsilon?);
    let epsilon = printed.trim_end_matches('0').trim_end_matches('.');
    Some(match &budget.delta {
        Some(delta) => format!("{epsilon} at {delta}"),
        None => epsilon.to_owned(),
    })
}

fn renews(budget: &BudgetView) -> Option<String> {
    match &budget.renews_at {
        Some(at) => Some(at.clone()),
        None if budget.spent_thousandths > 0 => Some("never".to_owned()),
        None => None,
    }
}

/// How full the window of now is, in tenths; anything spent shows. Marked where the policy wants a warning.
fn bar(budget: &BudgetView, signs: Signs) -> String {
    const CELLS: u64 = 10;
    let full = budget.spent_thousandths.div_ceil(1_000 / CELLS);
    let cell = |at| if at < full { signs.choose("█", "#") } else { signs.choose("░", ".") };
    let mark = if budget.warns { " !" } else { "" };
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
