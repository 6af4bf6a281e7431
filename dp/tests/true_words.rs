//! What a guarantee says holds for everything it says it of: several tasks, batches over an edge, all values at once.

use std::fs;

use mica_dp::{NoiseOf, Policy, ReleasePlan};

fn text(path: &str) -> String {
    fs::read_to_string(format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))).expect("a file of the repository")
}

#[track_caller]
fn plan(path: &str, change: (&str, &str)) -> ReleasePlan {
    let text = text(path);
    assert!(text.contains(change.0), "{path} has no {}", change.0);
    let policy = Policy::parse(path, &text.replacen(change.0, change.1, 1));
    let policy = policy.unwrap_or_else(|findings| panic!("{findings:#?}"));
    policy.plans().next().expect("one release")
}

const COUNTER: &str = "policies/first-counter.toml";
const TRAFFIC: &str = "policies/traffic-sum.toml";
const PAGE_LOAD: &str = "policies/page-load-histogram.toml";
const ONE_TASK: &str = "match = { task_ids = [\"8BY0RzZMzxvA46_8ymhzycOB9krN-QIGYvg_RsByGec\"] }";

/// Two tasks may have one label, and a batch over the edge of a window is outside the caps.
#[test]
fn a_budget_is_said_to_last_only_for_what_it_lasts() {
    let said = |plan: ReleasePlan| plan.explain().replace('\n', " ");
    let one = said(plan(COUNTER, ("match = { label = \"first-counter\" }", ONE_TASK)));
    assert!(one.contains("the releases of its one task alone never exhaust it."), "{one}");
    let many = said(plan(COUNTER, ("", "")));
    assert!(
        many.contains("the releases of one task alone never exhaust it; those of several tasks add up."),
        "{many}"
    );
    let week = said(plan(TRAFFIC, ("", "")));
    let with_edges = "the releases of one task alone never exhaust it as long as no batch reaches over an edge of that \
                      time; those of several tasks add up.";
    assert!(week.contains(with_edges), "{week}");
    let week = said(plan(TRAFFIC, ("match = { label = \"traffic/*\" }", ONE_TASK)));
    assert!(
        week.contains("the releases of its one task alone never exhaust it as long as no batch"),
        "{week}"
    );
}

/// The capped figure is that of one task and of batches inside a window. What holds for all is the limit of the budget.
#[test]
fn what_a_client_loses_to_all_tasks_is_the_limit_of_the_budget() {
    let plan = plan(PAGE_LOAD, ("", ""));
    let said = plan.explain();
    for words in [
        "at most by the batches of one task that lie inside, however many are released. What several tasks take adds up, \
         and a batch over an edge of that time is charged in full.",
        "holds for all tasks that charge it together, wherever their batches lie: for what it reports in any 30 days that begin",
        "a client within its caps loses rho 0.25 (epsilon 4.1601 at delta 1e-8) at most, and what would pass that is \
         refused.",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let export = plan.export();
    assert!(export.get("per_contribution_window").is_none(), "the name promised too much");
    let capped = &export["one_task_in_a_contribution_window"];
    assert!(
        capped["holds_for"].as_str().is_some_and(|it| it.contains("of one task that lie inside")),
        "{capped}"
    );
    assert_eq!(capped["rho_exact"], "0.075");
    let budget = &export["budgets"][0];
    assert_eq!(budget["limit"], "0.25");
    assert!(budget["holds_for"].as_str().is_some_and(|it| it.starts_with("all tasks")), "{budget}");
}

/// A limit of 8 is 8 for machines too, and what was computed has so few digits that reading and writing keep it.
#[test]
fn numbers_for_auditors_are_those_of_the_file() {
    let eight = plan(TRAFFIC, ("epsilon = 3.5", "epsilon = 8")).export();
    assert_eq!(eight["budgets"][0]["epsilon"].to_string(), "8.0");
    let plan = plan(PAGE_LOAD, ("rho_per_release = 0.0025", "rho_per_release = 0.005"));
    let export = plan.export();
    assert_eq!(export["per_release"]["rho"].to_string(), "0.005");
    assert_eq!(export["per_release"]["rho_exact"], "0.005");
    assert_eq!(export["per_release"]["delta"].to_string(), "1e-8");
    let text = export.to_string();
    let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(read.to_string(), text, "whoever reads and writes it has the same numbers");
}

/// A half-width is that of one value. Of many, some are outside; the width for all at once is printed beside it.
#[test]
fn the_interval_of_a_vector_is_said_to_be_that_of_each_value() {
    let vector = plan(PAGE_LOAD, ("", ""));
    let (each, all) =
        (vector.mechanism().half_width(0.95, NoiseOf::BothAggregators), vector.half_width_of_all());
    assert!(all > each, "{all} {each}");
    let said = vector.explain();
    assert!(said.contains("each value of the result has standard deviation"), "{said}");
    assert!(said.contains(&format!(
        "within ±{each} of the truth in 95 of 100 cases; all 1000 at once are within ±{all}"
    )));
    let noise = vector.export()["noise"].clone();
    assert_eq!(noise["half_width_95_holds_for"], "each value by itself");
    assert_eq!(noise["half_width_95_of_all_values_at_once"], all);
    // A thousand values outside ±w each in one of 20,000 cases: together in one of twenty.
    assert_eq!(all, vector.mechanism().half_width(1.0 - 0.05 / 1000.0, NoiseOf::BothAggregators));
    let one = plan(COUNTER, ("", ""));
    assert_eq!(one.half_width_of_all(), one.mechanism().half_width(0.95, NoiseOf::BothAggregators));
    assert!(!one.explain().contains("each value"));
}
