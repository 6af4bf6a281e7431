//! Who is protected, and who keeps clients within their caps.

use super::*;

const CAPS: &str = "{ max_reports_per_batch = 1, max_reports_per_window = 30, enforced_by = \"client\" }";

/// The good file with a guarantee about single reports.
fn about_reports() -> String {
    edited(&[
        ("privacy_unit = \"client\"", "privacy_unit = \"report\""),
        (&format!("contribution = {CAPS}\n"), ""),
    ])
}

#[test]
fn e030_caps_are_stated_and_consistent() {
    expect_one(
        "max_reports_per_batch = 1, max_reports_per_window = 30",
        "max_reports_per_batch = 5, max_reports_per_window = 4",
        "p.toml:24:42: E030: max_reports_per_batch 5 exceeds max_reports_per_window 4; a batch cannot hold more of a \
         client than a window does",
    );
    fires(
        "E030",
        &[
            ("max_reports_per_batch = 1", "max_reports_per_batch = 0"),
            (", max_reports_per_window = 30", ""),
            (&format!("contribution = {CAPS}\n"), ""),
            ("privacy_unit = \"client\"", "privacy_unit = \"report\""),
        ],
    );
    passes("E030", &[("max_reports_per_window = 30", "max_reports_per_window = 1")]);
    assert_eq!(errors(&about_reports()), Vec::<String>::new());
}

#[test]
fn e031_a_guarantee_about_clients_has_an_enforcer() {
    fires(
        "E031",
        &[("enforced_by = \"client\"", "enforced_by = \"none\""), (", enforced_by = \"client\"", "")],
    );
    passes("E031", &[("enforced_by = \"client\"", "enforced_by = \"privacy-pass\"")]);
}

#[test]
fn w032_clients_that_count_themselves_are_an_assumption() {
    let rolling = with("kind = \"lifetime\"", "kind = \"rolling\", length = \"30d\", epoch = \"1d\"");
    let policy = policy(&rolling);
    let [finding] = policy.warnings() else { panic!("{:#?}", policy.warnings()) };
    assert_eq!(
        finding.to_string(),
        "p.toml:24:88: W032: the client-level guarantee rests on clients sending at most 30 reports in any 30 days; it \
         is printed with every statement; allow W032 if your clients count"
    );
    passes("W032", &[("enforced_by = \"client\"", "enforced_by = \"privacy-pass\"")]);
}

#[test]
fn e033_relations_are_those_that_dap_allows() {
    fires("E033", &[("\"replace_one\"", "\"add_or_remove_one\"")]);
    passes("E033", &[("\"replace_one\"", "\"replace_special\"")]);
}

#[test]
fn e034_budgets_that_share_a_release_count_the_same_thing() {
    let charged =
        |budget: &str| GOOD.replacen("[[release]]", budget, 1).replacen("[\"a\"]", "[\"b\", \"a\"]", 1);
    let found = errors(&charged(&SECOND_BUDGET.replacen("replace_one", "replace_special", 1)));
    assert!(found.iter().any(|it| it.contains("E034") && it.contains("neighboring relation")), "{found:#?}");
    let found = errors(&charged(&SECOND_BUDGET.replacen("client", "report", 1)));
    assert!(found.iter().any(|it| it.contains("budgets \"a\" (client) and \"b\" (report)")), "{found:#?}");
    let alike =
        charged(&SECOND_BUDGET.replacen("\"pure\"\nepsilon = 2", "\"approx\"\nepsilon = 2\ndelta = 1e-8", 1));
    assert_eq!(errors(&alike), Vec::<String>::new());
}

#[test]
fn reports_are_counted_in_the_shortest_window_that_is_charged() {
    let second = SECOND_BUDGET
        .replacen("\"pure\"\nepsilon = 2", "\"approx\"\nepsilon = 2\ndelta = 1e-8", 1)
        .replacen("kind = \"lifetime\"", "kind = \"rolling\", length = \"30d\", epoch = \"1d\"", 1);
    let text = GOOD.replacen("[[release]]", &second, 1).replacen("[\"a\"]", "[\"b\", \"a\"]", 1);
    let plan = policy(&text).plans().next().unwrap();
    let caps = &plan.terms().contribution;
    assert_eq!(caps.window.to_string(), "any 30 days");
    assert!(
        plan.statement()
            .canonical_json()
            .contains(r#""window":{"epoch_seconds":"86400","kind":"rolling","length_seconds":"2592000"}"#)
    );
    let report = policy(&about_reports()).plans().next().unwrap();
    assert_eq!(report.terms().contribution.window, crate::accountant::Window::Lifetime);
}
