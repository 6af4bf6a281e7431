//! Every sentence of a guarantee has a row in `docs/privacy.md` that names the tests which hold it.

use std::collections::BTreeSet;
use std::fs;

use mica_dap::vdaf_config::VdafConfig;
use mica_dp::{Decision, Policy, Promise, ReleasePlan, Sentence, TaskFacts};

fn read(path: &str) -> String {
    fs::read_to_string(format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))).expect("a file of the repository")
}

fn plans(path: &str, change: (&str, &str)) -> Vec<ReleasePlan> {
    let text = read(path);
    assert!(text.contains(change.0), "{path}");
    Policy::parse(path, &text.replace(change.0, change.1)).expect("a policy").plans().collect()
}

/// Clients that are said to be kept within their caps by tokens.
const TOKENS: (&str, &str) = ("enforced_by = \"client\"", "enforced_by = \"privacy-pass\"");

/// The sentences of policies that together promise everything that can be promised.
fn sentences() -> Vec<Sentence> {
    let files = ["first-counter", "page-load-histogram", "error-rates", "survey-multihot", "traffic-sum"];
    let files = files.map(|file| format!("policies/{file}.toml"));
    let mut plans: Vec<ReleasePlan> = files.iter().flat_map(|file| plans(file, ("", ""))).collect();
    plans.extend(self::plans("policies/error-rates.toml", TOKENS));
    plans.extend(self::plans("dp/tests/two-budgets.toml", ("", "")));
    let year = "window = { kind = \"lifetime\" }\non_exhausted = \"refuse\"\n\n[[release]]";
    let month = year.replace("\"lifetime\"", "\"calendar\", unit = \"month\"");
    plans.extend(self::plans("dp/tests/two-budgets.toml", (year, &month)));
    let exception = Policy::for_release_without_dp("open data", "2199-12-31");
    let exception = Policy::parse("open.toml", &exception).expect("a policy");
    let Ok(Decision::WithoutDp(exception)) =
        exception.release_for(&TaskFacts::new("t", &VdafConfig::Count, 1))
    else {
        panic!("it releases without noise")
    };
    plans.iter().flat_map(ReleasePlan::sentences).chain([exception.sentence()]).collect()
}

/// The names in the first cells of the table, with the last cells.
fn rows(page: &str) -> Vec<(&str, &str)> {
    let (_, table) = page.split_once("| Sentence | Says | Test |\n").expect("the table of the sentences");
    let rows = table.lines().take_while(|line| line.starts_with('|')).skip(1);
    rows.filter_map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        Some((cells.first()?.trim_matches('`'), *cells.last()?))
    })
    .collect()
}

#[test]
fn every_sentence_of_a_guarantee_has_a_row_with_its_tests_and_no_row_is_of_another_one() {
    let said: BTreeSet<&str> = sentences().iter().map(|it| it.promise.key()).collect();
    let all: BTreeSet<&str> = Promise::ALL.iter().map(|it| it.key()).collect();
    assert_eq!(said, all, "each of them can be said, and nothing else");
    let page = read("docs/privacy.md");
    let rows = rows(&page);
    for key in &all {
        let found: Vec<_> = rows.iter().filter(|(name, _)| name == key).collect();
        assert!(matches!(found[..], [(_, tests)] if tests.matches('`').count() >= 2), "{key}: {found:?}");
    }
    assert_eq!(rows.len(), all.len(), "{rows:?}");
}

#[test]
fn an_explanation_is_its_sentences_and_nothing_else() {
    for plan in plans("policies/page-load-histogram.toml", ("", "")) {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let joined: Vec<String> = plan.sentences().into_iter().map(|it| it.text).collect();
        assert_eq!(words(&plan.explain()), words(&joined.join(" ")));
    }
}

/// Whose noise is counted is in the words and in the export, also in its part for the registry.
#[test]
fn a_guarantee_says_that_the_noise_of_the_peer_is_not_verified() {
    for plan in plans("policies/first-counter.toml", ("", "")) {
        let export = plan.export();
        assert!(
            plan.explain().contains("one honest aggregator; peer noise not verified"),
            "{}",
            plan.explain()
        );
        assert_eq!(export["noise"]["peer_noise_verified"], false);
        let model = export["deployment"]["deployment_model"]["model_name_details"].as_str();
        assert!(model.is_some_and(|it| it.contains("Peer noise not verified")), "{model:?}");
    }
}

#[test]
fn who_publishes_is_left_open_where_a_policy_names_nobody() {
    let owner = "owner = \"you@your-organisation.example\"";
    for (change, curators) in
        [(owner, serde_json::json!(["you@your-organisation.example"])), ("", serde_json::Value::Null)]
    {
        for plan in plans("policies/first-counter.toml", (owner, change)) {
            let basic = plan.export()["deployment"]["basic"].clone();
            assert_eq!(basic.get("data_curators").cloned().unwrap_or_default(), curators);
        }
    }
}

#[test]
fn tokens_that_mica_does_not_check_are_not_said_to_hold() {
    for plan in plans("policies/error-rates.toml", TOKENS) {
        let said = plan.sentences().into_iter().find(|it| it.promise == Promise::CapsByTokens);
        let said = said.expect("its caps are kept by tokens").text;
        assert!(said.contains("are said to enforce it; no part of mica checks them"), "{said}");
    }
}
