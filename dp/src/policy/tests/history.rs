//! What went before a policy: versions and charges.

use super::*;
use crate::accountant::Span;
use crate::units::UNITS_PER_ONE;

#[test]
fn e050_versions_grow_and_have_one_text() {
    let loaded = policy(GOOD);
    let check = |text: &str| policy(text).check_version(loaded.origin()).map(|it| it.to_string());
    assert_eq!(check(GOOD), None);
    assert_eq!(check(&with("version = 7", "version = 8")), None);
    assert_eq!(check(&with("\"acme\"", "\"other\"")), None);
    assert_eq!(
        check(&format!("{GOOD}\n")).as_deref(),
        Some(
            "p.toml:5:11: E050: policy acme v7 is already loaded with another sha256; write version = 8: each version has one text"
        )
    );
    let older = check(&with("version = 7", "version = 6")).unwrap();
    assert!(older.contains("E050: policy acme v7 is loaded already"), "{older}");
}

#[test]
fn w051_a_limit_below_what_is_spent_is_found() {
    let charged = [ChargedBudget::new(&policy(GOOD).budgets()[0], UNITS_PER_ONE / 5)];
    assert!(policy(GOOD).check_history(&charged).is_empty());
    let found = policy(&with("rho = 0.25", "rho = 0.1")).check_history(&charged);
    assert_eq!(
        found[0].to_string(),
        "p.toml:8:1: W051: budget \"a\": 0.2 is already spent of the new limit 0.1; releases stop until the window \
         moves; allow W051 if that is meant"
    );
    assert_eq!(found[0].severity, Severity::Warning);
}

#[test]
fn w053_a_charged_budget_that_nobody_charges_any_more_is_found() {
    let charged = |until| [ChargedBudget::new(&policy(GOOD).budgets()[0], 1).counting_until(until)];
    let ever = Span::ALL.to();
    assert!(policy(GOOD).check_history(&charged(Some(ever))).is_empty());
    let renamed = policy(&GOOD.replace("\"a\"", "\"a2\""));
    let found = renamed.check_history(&charged(Some(1_795_564_800)));
    assert_eq!(
        found[0].to_string(),
        "p.toml:4:6: W053: budget \"a\" has charges that count until 2026-11-25T00:00:00Z, and this policy does not \
         charge it any more: releases of the same data would begin at nothing; let its releases charge \"a\" too, or \
         allow W053 if that is meant"
    );
    assert_eq!(found[0].severity, Severity::Warning);
    let found = renamed.check_history(&charged(Some(ever)));
    assert!(found[0].what.contains("count for all time"), "{found:?}");
    // What counts beside nothing new is nobody's loss.
    assert!(renamed.check_history(&charged(None)).is_empty());
    // A budget that stands in the file and pays for nothing is left just the same.
    let idle = GOOD.replace("charge = [\"a\"]", "charge = [\"b\"]").replace(
        "[[release]]",
        &format!(
            "{}[[release]]",
            GOOD[GOOD.find("[[budget]]").unwrap()..GOOD.find("[[release]]").unwrap()]
                .replace("id = \"a\"", "id = \"b\"")
        ),
    );
    let found = policy(&idle).check_history(&charged(Some(ever)));
    assert!(matches!(&found[..], [found] if found.code == "W053" && found.line == 8), "{found:?}");
}

/// A release that still pays does not speak for another that does so no more.
#[test]
fn w053_tasks_whose_releases_leave_a_charged_budget_to_others_are_found() {
    let release = |id: &str, label: &str, budget: &str| {
        let one = GOOD.split("[[release]]").nth(1).unwrap().split("[unmatched]").next().unwrap();
        let one = one.replacen("\"x\"", &format!("\"{id}\""), 1).replacen("page-load", label, 1);
        format!("[[release]]{}", one.replace("charge = [\"a\"]", &format!("charge = [\"{budget}\"]")))
    };
    let budgets = GOOD[GOOD.find("[[budget]]").unwrap()..GOOD.find("[[release]]").unwrap()].to_owned();
    let file = |second: &str, releases: &[String]| {
        let head = &GOOD[..GOOD.find("[[release]]").unwrap()];
        let tail = &GOOD[GOOD.find("[unmatched]").unwrap()..];
        policy(&format!("{head}{second}{}{tail}", releases.concat()))
    };
    let b = budgets.replacen("\"a\"", "\"b\"", 1);
    let old = std::sync::Arc::new(file("", &[release("x", "page-load", "a"), release("y", "clicks", "a")]));
    let charged = ChargedBudget::new(old.budget("a").unwrap(), 1).counting_until(Some(Span::ALL.to()));
    let charged = [charged.charged_by(std::sync::Arc::clone(&old))];
    assert!(old.check_history(&charged).is_empty(), "nothing has changed");
    let renamed = file("", &[release("x2", "page-load", "a"), release("y", "clicks", "a")]);
    assert!(renamed.check_history(&charged).is_empty(), "what a release is called is all the same");
    let removed = file("", &[release("x", "page-load", "a")]);
    assert!(removed.check_history(&charged).is_empty(), "tasks that are refused begin nowhere");
    let left = file(&b, &[release("x", "page-load", "a"), release("y2", "clicks", "b")]);
    let found = left.check_history(&charged);
    assert!(matches!(&found[..], [found] if found.code == "W053"), "{found:?}");
    let said = "this policy does not charge it for tasks labelled \"clicks\" any more";
    assert!(found[0].what.contains(said), "{found:?}");
}

#[test]
fn w054_a_policy_of_another_id_is_found() {
    let before = policy(GOOD);
    assert_eq!(before.check_name(before.origin()), None);
    let other = policy(&with("\"acme\"", "\"other-app\"").replace("version = 7", "version = 1"));
    assert_eq!(
        other.check_name(before.origin()).expect("it is another").to_string(),
        "p.toml:4:6: W054: policy acme v7 was in force for the tasks here, and this one has another id: its version is \
         held against none of acme; write id = \"acme\" and version = 8, or allow W054 if another policy is meant"
    );
    assert!(!other.allows("W054") && other.allowing(&["W054"]).allows("W054"));
}

#[test]
fn every_code_that_is_documented_is_one_that_can_be_allowed_or_one_that_cannot() {
    let documented = include_str!("../../../../policies/README.md");
    let row = |line: &str| line.strip_prefix("| ")?.split_once(" |").map(|(codes, _)| codes.to_owned());
    let rows: Vec<String> = documented.lines().filter_map(row).collect();
    let codes = rows.iter().flat_map(|codes| codes.split(", ")).filter(|code| {
        code.len() == 4 && code.starts_with(['E', 'W']) && code[1..].bytes().all(|it| it.is_ascii_digit())
    });
    let codes: Vec<&str> = codes.collect();
    assert!(codes.len() > 30, "{codes:?}");
    for code in codes {
        let (is_warning, said) = (code.starts_with('W') || code == "E041", not_allowable(code));
        let is_error = said.as_ref().is_some_and(|(what, _)| what.contains("is an error"));
        assert_eq!((said.is_none(), is_error), (is_warning, !is_warning), "{code}: {said:?}");
    }
}

#[test]
fn only_warnings_that_exist_can_be_allowed() {
    for code in WARNINGS {
        assert_eq!(not_allowable(code), None);
    }
    let said = |code| not_allowable(code).map(|(what, fix)| format!("{what}; {fix}")).expect("it cannot");
    assert!(said("E014").starts_with("E014 is an error and cannot be allowed; correct the policy"));
    assert_eq!(said("w032"), "there is no warning \"w032\"; did you mean W032?");
    assert!(said("W999").starts_with("there is no warning \"W999\"; "));
    assert!(said("").starts_with("there is no warning \"\"; remove it; the warnings are W013, "));
}

#[test]
fn e052_a_charge_keeps_the_meaning_it_was_made_under() {
    let charged = [ChargedBudget::new(&policy(GOOD).budgets()[0], 1)];
    for (old, new, what) in [
        ("kind = \"lifetime\"", "kind = \"calendar\", unit = \"month\"", "window"),
        ("\"replace_one\"", "\"replace_special\"", "neighboring_relation"),
        ("\"zcdp\"\nrho = 0.25\nreport_delta = 1e-8", "\"approx\"\nepsilon = 1\ndelta = 1e-8", "dp_variant"),
    ] {
        let found = policy(&with(old, new)).check_history(&charged);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].what, format!("budget \"a\" has charges and changes its {what}"));
        assert_eq!((found[0].code.as_str(), found[0].severity), ("E052", Severity::Error));
    }
    let renamed = GOOD.replace("\"a\"", "\"a2\"").replace("calendar", "lifetime");
    assert!(policy(&renamed).check_history(&charged).is_empty());
}
