//! Who is protected, and who keeps clients within their caps.

use super::*;

const CAPS: &str = "{ max_reports_per_batch = 1, batch_window = \"30d\", max_reports_per_window = 30, enforced_by = \"client\" }";

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
        "max_reports_per_batch = 1, batch_window = \"30d\", max_reports_per_window = 30",
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
        "p.toml:24:110: W032: the client-level guarantee rests on clients sending at most 30 reports in any 30 days; it \
         is printed with every statement; allow W032 if your clients count"
    );
    passes("W032", &[("enforced_by = \"client\"", "enforced_by = \"privacy-pass\"")]);
}

#[test]
fn w036_tokens_that_nothing_checks_are_an_assumption_too() {
    fires("W036", &[("enforced_by = \"client\"", "enforced_by = \"privacy-pass\"")]);
    passes("W036", &[("enforced_by = \"client\"", "enforced_by = \"client\"")]);
    let policy = policy(&with("enforced_by = \"client\"", "enforced_by = \"privacy-pass\""));
    let [finding] = policy.warnings() else { panic!("{:#?}", policy.warnings()) };
    assert!(finding.what.contains("one-time tokens that no part of mica checks"), "{finding}");
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

#[test]
fn e035_a_client_counts_in_pieces_of_time_and_not_in_batches() {
    expect_one(
        ", batch_window = \"30d\"",
        "",
        "p.toml:24:1: E035: a client sends 1 of 30 reports per batch, and no batch_window says in what time: which of \
         its reports share a batch is decided later; add the length of your batches, such as batch_window = \"1d\"",
    );
    let rolling = with("kind = \"lifetime\"", "kind = \"rolling\", length = \"7d\", epoch = \"1d\"");
    assert_eq!(
        errors(&rolling),
        [
            "p.toml:24:60: E035: batch_window is longer than any 7 days, in which a client's reports are counted; write the \
          length of one batch"
        ]
    );
    fires("E035", &[("batch_window = \"30d\"", "batch_window = \"0d\""), ("\"30d\"", "\"40000d\"")]);
    fires("E001", &[("batch_window = \"30d\"", "batch_window = 30")]);
    // As many in a batch as in all: nothing is left to count per batch.
    passes("E035", &[("batch_window = \"30d\", max_reports_per_window = 30", "max_reports_per_window = 1")]);
    passes("E035", &[("batch_window = \"30d\"", "batch_window = \"1h\"")]);
    let about_report = about_reports().replacen(
        "charge =",
        "contribution = { max_reports_per_batch = 1, batch_window = \"1d\" }\ncharge =",
        1,
    );
    let found = errors(&about_report);
    assert!(
        found.len() == 1 && found[0].contains("E035: ") && found[0].contains("remove batch_window"),
        "{found:#?}"
    );
}

#[test]
fn e035_pieces_of_time_begin_and_end_where_batches_can() {
    let vdaf = VdafConfig::histogram(1000);
    let text = with("batch_window = \"30d\"", "batch_window = \"1h\"");
    let at = |precision| {
        let facts = TaskFacts { time_precision: Some(precision), ..TaskFacts::new("page-load", &vdaf, 1000) };
        policy(&text).release_for(&facts).map(|_| ()).map_err(|refusal| refusal.to_string())
    };
    assert_eq!((at(60), at(3600)), (Ok(()), Ok(())));
    let refused = at(7200).unwrap_err();
    assert!(refused.starts_with("E035: ") && refused.ends_with("make it a multiple of 7200 s"), "{refused}");
    let facts = TaskFacts { time_precision: Some(7), ..TaskFacts::new("page-load", &vdaf, 1000) };
    let found = policy(&text).check_tasks(&[facts], true);
    assert_eq!((found[0].code.as_str(), found[0].line), ("E035", 18));
}

#[test]
fn the_statement_has_the_pieces_of_time_that_clients_count_in() {
    let plan = policy(GOOD).plans().next().unwrap();
    assert!(plan.statement().canonical_json().contains(r#""batch_window_seconds":"2592000""#));
    let other = policy(&with("\"30d\"", "\"29d\"")).plans().next().unwrap();
    assert_ne!(plan.statement().sha256(), other.statement().sha256());
    assert_eq!(plan.export()["contribution"]["batch_window_seconds"], 2_592_000);
    let hourly = policy(&with("\"30d\"", "\"1h\"")).plans().next().unwrap().explain();
    let said = "at most 1 report in each hour (UTC) and 30 reports in the life of the budget, and no batch is of more \
                than one such hour; the app must count";
    assert!(hourly.contains(said), "{hourly}");
    let window = "batch_window = \"30d\", max_reports_per_window = 30";
    let weekly =
        edited(&[(window, "max_reports_per_window = 1"), ("\"lifetime\"", "\"calendar\", unit = \"week\"")]);
    let weekly = policy(&weekly).plans().next().unwrap().explain();
    let said = "at most 1 report in any calendar week (UTC), and no batch is of more time than that; the app must count";
    assert!(weekly.contains(said), "{weekly}");
}

/// Of five reports with two in a batch, two batches have two, and one has the fifth.
#[test]
fn the_loss_in_a_window_has_a_part_for_the_reports_that_are_left_over() {
    let caps =
        [("max_reports_per_batch = 1", "max_reports_per_batch = 2"), ("per_window = 30", "per_window = 5")];
    let gaussian = edited(&caps);
    let plan = policy(&gaussian).plans().next().unwrap();
    assert_eq!(plan.loss_in_a_window(), "0.005625".parse().unwrap(), "2 + (1/2)^2 of 0.0025");
    assert!(plan.explain().contains("loses rho = 0.005625"), "{}", plan.explain());
    let noise = (
        "mechanism = \"discrete_gaussian\"\nrho_per_release = 0.0025",
        "mechanism = \"discrete_laplace\"\nepsilon_per_release = 0.01",
    );
    let plan = policy(&edited(&[caps[0], caps[1], noise])).plans().next().unwrap();
    assert_eq!(plan.loss_in_a_window(), "0.025".parse().unwrap(), "2 + 1/2 of 0.01");
    // What the accountant charges for many such releases is the same.
    let even = policy(&edited(&[caps[0], ("per_window = 30", "per_window = 4")])).plans().next().unwrap();
    assert_eq!(even.loss_in_a_window(), "0.005".parse().unwrap());
}

#[test]
fn noise_is_made_for_all_reports_that_a_unit_has_in_a_batch() {
    let of = |batch: u32| {
        let caps = format!("max_reports_per_batch = {batch}");
        policy(&with("max_reports_per_batch = 1", &caps)).plans().next().unwrap()
    };
    // Rho 0.0025 of a one-hot histogram: sigma is 20 for one report, three times that for three.
    assert_eq!(of(1).mechanism().to_string(), "discrete_gaussian(sigma=20)");
    assert_eq!(of(3).mechanism().to_string(), "discrete_gaussian(sigma=60)");
}

#[test]
fn epsilon_is_reported_at_the_smallest_delta_of_the_budgets_that_pay() {
    for (first, second) in [("1e-8", "1e-6"), ("1e-6", "1e-8")] {
        let budget = SECOND_BUDGET.replacen(
            "\"pure\"\nepsilon = 2",
            &format!("\"zcdp\"\nrho = 2\nreport_delta = {second}"),
            1,
        );
        let text = with("report_delta = 1e-8", &format!("report_delta = {first}"))
            .replacen("[[release]]", &budget, 1)
            .replacen("[\"a\"]", "[\"b\", \"a\"]", 1);
        let plan = policy(&text).plans().next().unwrap();
        assert_eq!(plan.report_delta(), Some(&"1e-8".parse().unwrap()));
        assert!(plan.explain().contains("epsilon = 0.3647 at delta = 1e-8"), "{}", plan.explain());
    }
}
