//! The files to start from: each is read, and every figure in its comments and in their README is the one computed.

use std::fs;
use std::path::{Path, PathBuf};

use mica_diagnostic::Severity;
use mica_dp::{NoiseOf, Policy, ReleasePlan};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies")
}

fn text(file: &str) -> String {
    fs::read_to_string(folder().join(file)).expect("the file is there")
}

/// The only release of a file to start from.
fn plan(file: &str) -> ReleasePlan {
    let policy = Policy::parse(file, &text(file)).unwrap_or_else(|findings| panic!("{findings:#?}"));
    let mut plans = policy.plans();
    let plan = plans.next().expect("one release");
    assert!(plans.next().is_none());
    plan
}

/// What the comments of a file say, and so does its row in the README.
#[track_caller]
fn says(file: &str, figures: &[String]) {
    let text = text(file);
    let readme = text_of_readme_row(file);
    for figure in figures {
        assert!(text.contains(figure.as_str()), "{file} does not say {figure:?}");
    }
    let half_width = figures.iter().find(|it| it.starts_with('±')).expect("an interval");
    assert!(readme.contains(half_width.as_str()), "the README does not say {half_width} of {file}");
}

fn text_of_readme_row(file: &str) -> String {
    let readme = text("README.md");
    readme.lines().find(|line| line.contains(&format!("({file})"))).expect("a row").to_owned()
}

fn half_width(plan: &ReleasePlan) -> String {
    format!("±{} ", plan.mechanism().half_width(0.95, NoiseOf::BothAggregators))
}

/// `epsilon 2.1772 at delta 1e-8`, as `explain` prints it after this word.
fn implied(plan: &ReleasePlan, line: &str) -> String {
    let explained = plan.explain();
    let line = explained.lines().find(|it| it.starts_with(line)).expect("such a line");
    let epsilon = line.split("epsilon = ").nth(1).expect("an epsilon").split(' ').next().expect("a number");
    format!("epsilon {epsilon} at delta")
}

#[test]
fn every_file_to_start_from_is_right_and_warns_of_nothing_but_clients_that_count() {
    let mut read = 0;
    for entry in fs::read_dir(folder()).expect("the folder is there") {
        let path = entry.expect("the folder can be read").path();
        if path.extension().is_some_and(|it| it == "toml") {
            let text = fs::read_to_string(&path).expect("the file can be read");
            let policy = Policy::parse(&path.display().to_string(), &text)
                .unwrap_or_else(|findings| panic!("{findings:#?}"));
            for warning in policy.warnings() {
                assert_eq!(
                    (warning.code.as_str(), warning.severity),
                    ("W032", Severity::Warning),
                    "{warning}"
                );
                assert!(text.contains("--allow W032"), "{} does not say how to check it", path.display());
            }
            read += 1;
        }
    }
    assert_eq!(read, 5);
}

#[test]
fn the_first_counter_says_what_it_costs() {
    let plan = plan("first-counter.toml");
    assert_eq!(plan.mechanism().to_string(), "discrete_laplace(scale=2)");
    let cost = format!("costs it {};", plan.loss_in_a_window().decimal());
    says("first-counter.toml", &[half_width(&plan), cost, "scale 2 for each".to_owned()]);
}

#[test]
fn the_page_load_histogram_says_what_it_costs() {
    let file = "page-load-histogram.toml";
    let plan = plan(file);
    assert_eq!(plan.mechanism().to_string(), "discrete_gaussian(sigma=20)");
    let rho = format!("it loses rho {},", plan.loss_in_a_window().decimal());
    let budget = &plan.budgets()[0];
    let whole = format!("epsilon {} at delta", mica_dp::printed_epsilon(budget.epsilon().expect("finite")));
    let warned = mica_dp::units::format_units(budget.warn_at_units().expect("it warns"));
    says(
        file,
        &[
            half_width(&plan),
            rho,
            implied(&plan, "For what it reports in any 30 days"),
            whole,
            format!("when {warned} is spent"),
        ],
    );
}

#[test]
fn the_error_rates_say_what_a_month_costs() {
    let file = "error-rates.toml";
    let plan = plan(file);
    assert_eq!(plan.mechanism().to_string(), "discrete_gaussian(sigma=60)");
    let rho = format!("costs it rho {:.8},", plan.loss_in_a_window().approximate());
    says(
        file,
        &[
            half_width(&plan),
            rho,
            implied(&plan, "For what it reports in any calendar month"),
            "sigma, for each".to_owned(),
        ],
    );
    // 720 batches, 30 of which a client can be in.
    assert_eq!(720 / plan.terms().contribution.max_reports_per_window.get(), 24);
    let worst = mica_dp::units::charge_units(&plan.loss_in_a_window()).expect("it fits");
    let room = plan.budgets()[0].limit_units() - worst;
    assert!(room > 0, "a month of hourly releases fits");
}

#[test]
fn the_survey_says_how_far_an_answer_moves_the_counts() {
    let file = "survey-multihot.toml";
    let plan = plan(file);
    assert_eq!(plan.sensitivity().l1, 6u8.into());
    let (_, scale) = plan.mechanism().parameter();
    let odds = format!("at most {}", mica_dp::printed_factor(plan.terms().loss.amount.approximate()));
    says(file, &[half_width(&plan), odds, format!("scale {scale} for each"), "six of the twelve".to_owned()]);
    assert!(plan.in_force(1_798_761_599).is_err() && plan.in_force(1_798_761_600).is_ok());
}

#[test]
fn the_traffic_sum_says_how_much_a_range_costs() {
    let file = "traffic-sum.toml";
    let plan = plan(file);
    let (_, scale) = plan.mechanism().parameter();
    assert_eq!(plan.loss_in_a_window().decimal(), "3.5");
    says(file, &[half_width(&plan), format!("scale {scale}:")]);
}

#[test]
fn explanations_say_what_is_promised_and_what_is_not() {
    let counter = plan("first-counter.toml").explain();
    for said in [
        "epsilon = 0.5",
        "factor of at most 1.649",
        "±8",
        "report_count",
        "interval",
        "A report is in one batch",
        "peer noise not verified",
        "the releases of one task alone never exhaust it; those of several tasks add up.",
        "in the life of the budget a report loses epsilon 5 at most, and what would pass that is refused",
    ] {
        assert!(counter.contains(said), "{said}: {counter}");
    }
    let histogram = plan("page-load-histogram.toml").explain();
    for said in [
        "rho = 0.0025",
        "epsilon = 0.3647 at delta = 1e-8",
        "at most 1 report in each day (UTC) and 30 reports in any 30 days, and no batch is of more than one such day; the app must",
        "For what it reports in any 30 days a client within its caps loses rho = 0.075, epsilon = 2.1772 at delta = 1e-8, at most by the batches \
         of one task that lie inside",
        "±55",
        "Budget \"telemetry-30d\" holds for all tasks that charge it together",
        "a client within its caps loses rho 0.25 (epsilon 4.1601 at delta 1e-8) at most",
        "A release takes 0.0025 of it",
    ] {
        assert!(histogram.contains(said), "{said}: {histogram}");
    }
}

#[test]
fn an_export_has_the_fields_of_the_registry_and_the_numbers_of_the_plan() {
    let plan = plan("page-load-histogram.toml");
    let export = plan.export();
    assert_eq!(export["statement_sha256"], plan.statement().sha256_hex());
    assert_eq!(export["privacy_unit"], "client");
    assert_eq!(export["contribution"]["enforced_by"], "client");
    assert_eq!(export["noise"]["counted"], "one aggregator");
    assert_eq!(export["noise"]["half_width_95"], 55);
    let epsilon = |value: &serde_json::Value| value["epsilon"].as_f64().expect("a number");
    assert!((epsilon(&export["per_release"]) - 0.364_620_566).abs() < 1e-6);
    assert!((epsilon(&export["one_task_in_a_contribution_window"]) - 2.177_168_534).abs() < 1e-6);
    let deployment = &export["deployment"];
    assert_eq!(deployment["dp_variant"]["variant_name"], "Zero-concentrated DP");
    assert!(
        deployment["dp_variant"]["unprotected_quantities"].as_str().expect("a text").contains("report_count")
    );
    assert_eq!(deployment["privacy_loss"]["privacy_unit"], "client");
    assert!(
        (deployment["privacy_loss"]["privacy_parameters"]["rho"].as_f64().expect("a number") - 0.0025).abs()
            < 1e-9
    );
    assert!(
        deployment["accounting"]["composition"]
            .as_str()
            .expect("a text")
            .contains("0.25 for what is reported in any 30 days that begin at midnight UTC")
    );
    assert!(deployment["implementation"]["mechanisms"].is_string());
}

/// The names that the registry's schema of July 2026 has, and no other: it takes no key that it does not know.
#[test]
fn an_export_has_no_key_that_the_registry_does_not_know() {
    let known: [(&str, &[&str]); 6] = [
        ("basic", &["name", "data_curators", "intended_use", "data_product_type"]),
        ("dp_variant", &["variant_name", "data_domain", "unprotected_quantities"]),
        (
            "privacy_loss",
            &["privacy_unit", "privacy_unit_details", "privacy_parameters", "privacy_parameters_details"],
        ),
        ("deployment_model", &["model_name_details", "release_type", "data_source_type", "access_type"]),
        ("accounting", &["composition", "post_processing"]),
        ("implementation", &["mechanisms", "justification"]),
    ];
    let export = plan("page-load-histogram.toml").export();
    let deployment = export["deployment"].as_object().expect("an object");
    assert_eq!(deployment.len(), known.len());
    for (section, keys) in known {
        let section = deployment[section].as_object().expect("an object");
        assert!(section.keys().all(|key| keys.contains(&key.as_str())), "{section:?}");
        assert_eq!(section.len(), keys.len(), "{section:?}");
    }
}
