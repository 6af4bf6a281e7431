//! Tasks and releases.

use mica_dap::id::TaskId;

use super::*;

const OTHER: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";

/// The good file with a second release that has this `match`.
fn two(selector: &str) -> String {
    let release = GOOD.split("[[release]]").nth(1).unwrap().split("[unmatched]").next().unwrap();
    let second = release.replacen("\"x\"", "\"y\"", 1).replacen("{ label = \"page-load\" }", selector, 1);
    GOOD.replacen("[unmatched]", &format!("[[release]]{second}[unmatched]"), 1)
}

fn task(label: &'static str, vdaf: &'static VdafConfig) -> TaskFacts<'static> {
    TaskFacts::new(label, vdaf, 1000)
}

fn histogram() -> &'static VdafConfig {
    Box::leak(Box::new(VdafConfig::histogram(1000)))
}

#[test]
fn e023_vdaf_types_agree() {
    fires("E023", &[("\"page-load\"", "\"page-load\", vdaf_type = \"prio3-sum\"")]);
    passes("E023", &[("\"page-load\"", "\"page-load\", vdaf_type = \"prio3-histogram\"")]);
}

#[test]
fn e040_two_releases_for_one_task_are_refused() {
    let equal = two("{ label = \"page-load\" }");
    assert!(errors(&equal).iter().any(|it| it.contains("E040: releases \"x\" and \"y\"")));
    let overlapping = policy(&two("{ label = \"page*\" }"));
    let refusal = overlapping.release_for(&task("page-load", histogram())).unwrap_err();
    assert_eq!(refusal.code(), Some("E040"), "{refusal}");
    assert!(overlapping.release_for(&task("page-views", histogram())).is_ok());
    let found = overlapping.check_tasks(&[task("page-load", histogram())], false);
    assert_eq!(found[0].code, "E040", "{found:?}");
}

#[test]
fn an_identifier_goes_before_a_label() {
    let text = two(&format!("{{ task_ids = [\"{OTHER}\"] }}"));
    let policy = policy(&text);
    let id = OTHER.parse::<TaskId>().unwrap();
    let release = |id| {
        let facts = TaskFacts { id, ..task("page-load", histogram()) };
        match policy.release_for(&facts) {
            Ok(Decision::Release(plan)) => plan.release_id().to_owned(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((release(Some(id)), release(None)), ("y".to_owned(), "x".to_owned()));
    assert_eq!(release(TaskId::from_slice(&[9; 32])), "x");
    let twice = two(&format!("{{ task_ids = [\"{OTHER}\", \"{OTHER}\"] }}"));
    assert!(errors(&twice)[0].contains("E010"), "{:?}", errors(&twice));
    for bad in ["{ task_ids = [] }", "{ task_ids = [\"short\"] }", "{ task_ids = [1] }"] {
        assert!(errors(&two(bad))[0].contains("E001"), "{bad}");
    }
    let both = two(&format!("{{ task_ids = [\"{OTHER}\"], label = \"z\" }}"));
    assert!(errors(&both)[0].contains("a task is matched by one of them"), "{:?}", errors(&both));
}

#[test]
fn a_vdaf_type_tells_releases_with_one_label_apart() {
    let text = two("{ label = \"page-load\", vdaf_type = \"prio3-count\" }").replacen(
        "{ label = \"page-load\" }",
        "{ label = \"page-load\", vdaf_type = \"prio3-histogram\" }",
        1,
    );
    let (first, second) = text.split_at(text.rfind("[[release]]").unwrap());
    let text = format!(
        "{first}{}",
        second.replacen("{ type = \"prio3-histogram\", length = 1000 }", "{ type = \"prio3-count\" }", 1)
    );
    let policy = policy(&text);
    let release = |vdaf| match policy.release_for(&task("page-load", vdaf)) {
        Ok(Decision::Release(plan)) => plan.release_id().to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!((release(histogram()), release(&VdafConfig::Count)), ("x".to_owned(), "y".to_owned()));
}

#[test]
fn e041_a_release_that_matches_no_task_is_found() {
    let policy = policy(GOOD);
    assert!(policy.check_tasks(&[task("page-load", histogram())], true).is_empty());
    let found = policy.check_tasks(&[task("other", histogram())], false);
    assert_eq!(
        found[0].to_string(),
        "p.toml:18:1: E041: release \"x\" is for tasks labelled \"page-load\", and there are none; correct its match, \
         or remove the release"
    );
    assert_eq!(found[0].severity, Severity::Warning);
    assert_eq!(policy.check_tasks(&[], true)[0].severity, Severity::Error);
}

#[test]
fn e023_e044_tasks_that_differ_from_their_release_are_refused() {
    let refusal = |label, vdaf: &VdafConfig, size| plan(GOOD, label, vdaf, size).unwrap_err().to_string();
    let histogram = VdafConfig::histogram(1000);
    assert!(refusal("page-load", &VdafConfig::histogram(100), 1000).starts_with("E023"));
    assert!(refusal("page-load", &VdafConfig::Count, 1000).starts_with("E023"));
    assert!(refusal("page-load", &histogram, 999).starts_with("E044"));
    assert!(refusal("other", &histogram, 1000).contains("no release of policy \"acme\""));
    let found = policy(GOOD).check_tasks(&[TaskFacts::new("page-load", &histogram, 999)], false);
    assert_eq!(
        found[0].to_string(),
        "p.toml:18:1: E044: task \"page-load\" has min_batch_size 999, release \"x\" says 1000; make them equal"
    );
    fires("E044", &[("min_batch_size = 1000", "min_batch_size = 0")]);
}

#[test]
fn a_task_without_a_sensitivity_is_never_released_with_noise() {
    let poplar = VdafConfig::Poplar1 { bits: 32 };
    let refusal = plan(GOOD, "page-load", &poplar, 1000).unwrap_err().to_string();
    assert!(
        refusal.starts_with("E024: no sensitivity is derived for poplar1, which task \"page-load\" runs"),
        "{refusal}"
    );
    let written = errors(&Policy::for_demo("x", &poplar, 1, "1"));
    assert!(
        written.len() == 1 && written[0].contains("E024: no sensitivity is defined for poplar1"),
        "{written:?}"
    );
    let open = Policy::for_release_without_dp("prefixes have no noise yet", "2099-12-31");
    assert!(matches!(plan(&open, "any", &poplar, 1), Ok(Decision::WithoutDp(_))));
}

#[test]
fn units_of_time_that_lie_across_the_borders_of_windows_are_told() {
    let straddled = |window: &str, precision| {
        policy(&with("{ kind = \"lifetime\" }", window)).budgets()[0].is_straddled_by(precision)
    };
    let rolling = "{ kind = \"rolling\", length = \"30d\", epoch = \"1d\" }";
    let monthly = "{ kind = \"calendar\", unit = \"month\" }";
    for window in [rolling, monthly] {
        assert!(straddled(window, 7 * 3_600), "{window}");
        assert!(!straddled(window, 6 * 3_600), "{window}");
        assert!(!straddled(window, 86_400), "{window}");
    }
    assert!(!straddled("{ kind = \"lifetime\" }", 7 * 3_600));
}

#[test]
fn a_cap_per_batch_that_no_client_could_keep_is_refused() {
    use mica_dap::task::BatchMode;
    let said = |text: &str, batch_mode| {
        let facts = TaskFacts { batch_mode, ..task("page-load", histogram()) };
        let refused = policy(text).release_for(&facts).err().map(|refusal| refusal.to_string());
        let found: Vec<_> = policy(text).check_tasks(&[facts], false);
        assert_eq!(found.iter().map(|it| it.code.as_str()).collect::<Vec<_>>(), vec!["E035"; found.len()]);
        assert_eq!(found.len(), usize::from(refused.is_some()));
        refused
    };
    let caps = |batch: &str, window: &str| {
        let (start, rest) = GOOD.split_once("contribution = {").unwrap();
        let (_, rest) = rest.split_once('}').unwrap();
        format!("{start}contribution = {{ {batch}, enforced_by = \"client\" }}{rest}")
            .replace("{ kind = \"lifetime\" }", window)
    };
    let lifetime = "{ kind = \"lifetime\" }";
    let all = "max_reports_per_batch = 3, max_reports_per_window = 3";
    let few = "max_reports_per_batch = 1, batch_window = \"1d\", max_reports_per_window = 3";
    let dated = "max_reports_per_batch = 3, batch_window = \"1d\", max_reports_per_window = 3";
    let (month, rolling) = (
        "{ kind = \"calendar\", unit = \"month\" }",
        "{ kind = \"rolling\", length = \"30d\", epoch = \"1d\" }",
    );
    let selected = Some(BatchMode::LeaderSelected);
    assert_eq!(said(&caps(all, lifetime), selected), None);
    let why = said(&caps(few, lifetime), selected).expect("it cannot hold");
    assert!(why.contains("as in all (3 and not 1)"), "{why}");
    // Anybody can send a report of last year: a batch that it is put into would be lost with all others in it.
    for unkept in [caps(all, month), caps(all, rolling), caps(dated, lifetime)] {
        let why = said(&unkept, selected).expect("it cannot be kept");
        assert!(why.contains("leave out batch_window"), "{why}");
    }
    for text in [caps(all, month), caps(few, lifetime), caps(dated, lifetime)] {
        assert_eq!(said(&text, Some(BatchMode::TimeInterval)), None);
        assert_eq!(said(&text, None), None);
    }
}
