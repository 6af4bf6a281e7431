//! What went before a policy: versions and charges.

use super::*;
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
