//! Releases without noise, and policies that programs write.

use super::*;

#[test]
fn e042_releasing_without_noise_takes_a_reason_and_a_day() {
    let open = "action = \"release_without_dp\"";
    let refuse = "action = \"refuse\"";
    fires("E042", &[(refuse, open), (refuse, &format!("{open}\njustification = \"open data\""))]);
    fires("E042", &[(refuse, "action = \"refuse\"\nexpires = 2027-01-01")]);
    fires("E001", &[(refuse, &format!("{open}\njustification = \"x\"\nexpires = \"soon\""))]);
    passes("E042", &[(refuse, &format!("{open}\njustification = \"x\"\nexpires = 2027-01-01"))]);
    let written = format!("{open}\njustification = \"open data\"\nexpires = 2026-12-31");
    let text = GOOD.replacen("action = \"refuse\"", &written, 1);
    let Ok(Decision::WithoutDp(exception)) = plan(&text, "other", &VdafConfig::Count, 1) else {
        panic!("the file allows it")
    };
    assert_eq!((exception.justification(), exception.expires()), ("open data", 1_798_761_600));
    // A task that a release is meant for does not fall through to the exception.
    assert!(plan(&text, "page-load", &VdafConfig::Count, 1000).is_err());
}

#[test]
fn w045_releasing_without_noise_is_warned_of_and_told() {
    let open = "action = \"release_without_dp\"\njustification = \"open data\"\nexpires = 2026-12-31";
    fires("W045", &[("action = \"refuse\"", open)]);
    passes("W045", &[("action = \"refuse\"", "action = \"refuse\"")]);
    let without = policy(&with("action = \"refuse\"", open)).without_noise().expect("it is written");
    assert_eq!(
        without.explain(),
        "NOT differentially private: by policy \"acme\" version 7 totals of tasks that no release matches leave without \
         noise before 2027-01-01T00:00:00Z (open data)."
    );
    let export = without.export();
    assert_eq!(
        (export["expires"].as_u64(), export["justification"].as_str()),
        (Some(1_798_761_600), Some("open data"))
    );
    assert!(policy(GOOD).without_noise().is_none());
}

#[test]
fn e042_a_decision_that_has_expired_is_found() {
    let written = "action = \"release_without_dp\"\njustification = \"open data\"\nexpires = 2026-12-31";
    let policy = policy(&with("action = \"refuse\"", written));
    let last = 1_798_761_599;
    assert!(policy.check_time(last).is_empty());
    let found = policy.check_time(last + 1);
    assert_eq!(found[0].code, "E042", "{found:?}");
    assert!(found[0].what.contains("expired on 2026-12-31"), "{}", found[0]);
}

#[test]
fn written_policies_are_read_without_a_finding() {
    let vdafs = [
        VdafConfig::Count,
        VdafConfig::Sum { max_measurement: 1 << 40 },
        VdafConfig::sum_vec(8, u64::MAX),
        VdafConfig::histogram(8),
        VdafConfig::multihot(8, 3),
    ];
    for vdaf in &vdafs {
        for epsilon in ["1", "0.25", "1/3"] {
            let text = Policy::for_demo("page \"load\"", vdaf, 1000, epsilon);
            let decision = plan(&text, "page \"load\"", vdaf, 1000).unwrap();
            let Decision::Release(plan) = decision else { panic!("a demo has noise") };
            assert_eq!(plan.terms().loss.amount, epsilon.parse().unwrap());
            assert_eq!(plan.charges()[0].limit / plan.charges()[0].units, 9 + i64::from(epsilon != "1/3"));
        }
    }
    let text = Policy::for_release_without_dp("tests need exact totals", "2099-12-31");
    assert!(matches!(plan(&text, "any", &VdafConfig::Count, 1), Ok(Decision::WithoutDp(_))));
    assert!(!errors(&Policy::for_demo("x", &VdafConfig::Count, 1, "much")).is_empty());
}
