//! Every rule of a policy file: the finding, its place and its remedy.

use mica_dap::vdaf_config::VdafConfig;

use super::*;
use crate::mechanism::Mechanism;
use crate::units::UNITS_PER_ONE;

/// A file without a fault; tests change one line of it.
const GOOD: &str = r#"schema = "dp-policy/1"

[policy]
id = "acme"
version = 7
justification = "DPIA-2026-114"

[[budget]]
id = "a"
privacy_unit = "client"
neighboring_relation = "replace_one"
dp_variant = "zcdp"
rho = 0.25
report_delta = 1e-8
window = { kind = "lifetime" }
on_exhausted = "refuse"

[[release]]
id = "x"
match = { label = "page-load" }
vdaf = { type = "prio3-histogram", length = 1000 }
min_batch_size = 1000
charge = ["a"]
contribution = { max_reports_per_batch = 1, max_reports_per_window = 30, enforced_by = "client" }
mechanism = "discrete_gaussian"
rho_per_release = 0.0025
noise_by = "each_aggregator"
report_count = "public"

[unmatched]
action = "refuse"
"#;

const SECOND_BUDGET: &str = r#"[[budget]]
id = "b"
privacy_unit = "client"
neighboring_relation = "replace_one"
dp_variant = "pure"
epsilon = 2
window = { kind = "lifetime" }
on_exhausted = "refuse"

[[release]]"#;

fn findings(text: &str) -> Vec<String> {
    match Policy::parse("p.toml", text) {
        Ok(_) => Vec::new(),
        Err(findings) => findings.iter().map(ToString::to_string).collect(),
    }
}

/// The findings after one replacement in the good file.
fn after(old: &str, new: &str) -> Vec<String> {
    assert!(GOOD.contains(old), "{old}");
    findings(&GOOD.replacen(old, new, 1))
}

#[track_caller]
fn expect_one(old: &str, new: &str, wanted: &str) {
    assert_eq!(after(old, new), [wanted]);
}

#[track_caller]
fn expect_code(old: &str, new: &str, code: &str) {
    let found = after(old, new);
    assert!(found.iter().any(|finding| finding.contains(&format!(": {code}: "))), "{new}: {found:?}");
}

fn plan(text: &str, label: &str, vdaf: &VdafConfig, min_batch_size: u64) -> Result<Decision, Refusal> {
    Policy::parse("p.toml", text).unwrap().release_for(&TaskFacts { label, vdaf, min_batch_size })
}

#[test]
fn a_good_file_has_no_findings_and_derives_everything() {
    assert_eq!(findings(GOOD), Vec::<String>::new());
    let Ok(Decision::Release(plan)) = plan(GOOD, "page-load", &VdafConfig::histogram(1000), 1000) else {
        panic!("the release matches")
    };
    assert_eq!(plan.mechanism(), &Mechanism::DiscreteGaussian { sigma: "20".parse().unwrap() });
    assert_eq!(plan.sensitivity().l2_squared, 2u8.into());
    let charge = plan.charges().first().unwrap();
    assert_eq!((charge.units, charge.limit), (UNITS_PER_ONE / 400, UNITS_PER_ONE / 4));
    assert_eq!(plan.policy().version, 7);
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    expect_one(
        "rho_per_release = 0.0025",
        "rho_per_release = 0.0025\nepsilom = 1",
        "p.toml:27:1: E001: unknown field \"epsilom\" in [[release]] \"x\"; did you mean \"epsilon_per_release\"?",
    );
    expect_code("[unmatched]", "[unmached]", "E001");
    expect_code("version = 7", "version = \"seven\"", "E001");
    expect_code("dp-policy/1", "dp-policy/2", "E001");
    expect_code("schema = \"dp-policy/1\"", "schema = ", "E001");
    expect_code("[policy]", "[policy]\nid = \"twice\"", "E001");
    expect_code("each_aggregator", "", "E001");
    expect_code("\"page-load\"", "\"page*load\"", "E001");
}

#[test]
fn keys_of_later_versions_are_refused_and_not_passed_over() {
    expect_one(
        "justification = \"DPIA-2026-114\"",
        "justification = \"DPIA-2026-114\"\nepsilon_ceiling = 8.0",
        "p.toml:7:1: E001: \"epsilon_ceiling\" in policy \"acme\" is not supported by this version of mica; remove it: it would have no effect",
    );
    for (old, new) in [
        ("id = \"x\"", "id = \"x\"\naccuracy = { max_half_width = 60, confidence = 0.95 }"),
        ("on_exhausted", "warn_at = 0.8\non_exhausted"),
        ("label = \"page-load\"", "task_ids = []"),
        ("\"zcdp\"", "\"approx\""),
    ] {
        let found = after(old, new);
        assert!(found.iter().any(|it| it.contains("not supported by this version")), "{new}: {found:?}");
    }
    expect_code("kind = \"lifetime\"", "kind = \"rolling\", length = \"30d\"", "E070");
    expect_code("kind = \"lifetime\"", "kind = \"lifetime\", length = \"30d\"", "E001");
}

#[test]
fn numbers_must_be_positive_finite_and_within_the_ledger() {
    expect_one(
        "rho = 0.25",
        "rho = -0.25",
        "p.toml:13:7: E002: rho must be a finite number greater than 0, got -0.25; write a positive decimal or a \
         fraction such as \"1/10\"",
    );
    for bad in ["nan", "inf", "-inf", "-0.0", "0", "0.0"] {
        expect_code("rho = 0.25", &format!("rho = {bad}"), "E002");
        expect_code("rho_per_release = 0.0025", &format!("rho_per_release = {bad}"), "E002");
    }
    expect_one(
        "rho_per_release = 0.0025",
        "rho_per_release = 1e-14",
        "p.toml:26:19: E003: rho_per_release 1/100000000000000 is below the ledger resolution 1e-12; write 1e-12 or more",
    );
    expect_code("rho = 0.25", "rho = 1e10", "E003");
    expect_code("rho = 0.25", "rho = \"1/0\"", "E001");
    expect_code("version = 7", "version = 0", "E002");
    assert_eq!(after("rho = 0.25", "rho = \"1/4\""), Vec::<String>::new());
}

#[test]
fn ids_are_unique_and_charges_name_budgets() {
    let twice = GOOD.replacen("[[release]]", &SECOND_BUDGET.replacen("\"b\"", "\"a\"", 1), 1);
    assert!(
        findings(&twice)
            .iter()
            .any(|it| it.contains("E010: budget id \"a\" is defined at line 9 and line 19"))
    );
    expect_one(
        "charge = [\"a\"]",
        "charge = [\"aa\"]",
        "p.toml:23:11: E011: [[release]] \"x\" charges budget \"aa\", which does not exist; did you mean \"a\"?",
    );
    expect_code("charge = [\"a\"]", "charge = []", "E011");
    expect_code("charge = [\"a\"]\n", "", "E011");
    expect_code("charge = [\"a\"]", "charge = [\"a\", \"a\"]", "E010");
}

#[test]
fn deltas_go_with_zero_concentrated_budgets_only() {
    expect_code("report_delta = 1e-8\n", "", "E012");
    expect_code("report_delta = 1e-8", "report_delta = 1", "E012");
    expect_code("\"zcdp\"\nrho = 0.25", "\"pure\"\nepsilon = 0.25", "E012");
}

#[test]
fn one_loss_that_fits_the_mechanism_is_given() {
    expect_one(
        "rho_per_release = 0.0025",
        "rho_per_release = 0.0025\nepsilon_per_release = 1",
        "p.toml:26:1: E020: found epsilon_per_release and rho_per_release in [[release]] \"x\"; give exactly one of \
         epsilon_per_release and rho_per_release",
    );
    expect_code("rho_per_release = 0.0025\n", "", "E020");
    expect_code("\"discrete_gaussian\"", "\"discrete_laplace\"", "E021");
    expect_code("rho_per_release", "epsilon_per_release", "E021");
    expect_code("rho = 0.25", "epsilon = 0.25", "E021");
    let pure = GOOD.replacen("[[release]]", SECOND_BUDGET, 1).replacen("[\"a\"]", "[\"a\", \"b\"]", 1);
    assert_eq!(
        findings(&pure),
        ["p.toml:34:1: E021: discrete_gaussian gives no pure-DP guarantee, but budget \"b\" is pure; use \
             discrete_laplace, or charge a zcdp budget"]
    );
}

#[test]
fn sensitivity_is_never_typed_and_vdafs_are_known() {
    expect_one(
        "min_batch_size = 1000",
        "min_batch_size = 1000\nsensitivity = 1",
        "p.toml:23:1: E022: sensitivity is derived from vdaf; remove this field",
    );
    expect_code("prio3-histogram", "poplar1", "E024");
    expect_code("length = 1000", "length = 0", "E024");
    expect_code("length = 1000", "width = 1000", "E001");
    expect_code("\"page-load\"", "\"page-load\", vdaf_type = \"prio3-sum\"", "E023");
    expect_code(
        "{ type = \"prio3-histogram\", length = 1000 }",
        "{ type = \"prio3-multihot-count-vec\", length = 3, max_weight = 4 }",
        "E024",
    );
}

#[test]
fn noise_is_neither_too_small_nor_too_large() {
    let loss = "rho_per_release = 0.0025";
    let rich = GOOD.replacen("rho = 0.25", "rho = 100", 1).replacen(loss, "rho_per_release = 10", 1);
    let found = findings(&rich);
    assert!(found.iter().any(|it| it.contains("E026: sigma 81/256 is below the floor 1/2")), "{found:?}");
    let wide = GOOD
        .replacen(
            "\"prio3-histogram\", length = 1000",
            "\"prio3-sum\", max_measurement = 4611686018427387904",
            1,
        )
        .replacen(loss, "rho_per_release = 1e-4", 1);
    let found = findings(&wide);
    assert!(found.iter().any(|it| it.contains("E025: noise can reach 2^7")), "{found:?}");
}

#[test]
fn contribution_caps_are_stated_and_consistent() {
    let caps = "{ max_reports_per_batch = 1, max_reports_per_window = 30, enforced_by = \"client\" }";
    expect_one(
        "max_reports_per_batch = 1, max_reports_per_window = 30",
        "max_reports_per_batch = 5, max_reports_per_window = 4",
        "p.toml:24:42: E030: max_reports_per_batch 5 exceeds max_reports_per_window 4; a batch cannot hold more of a \
         client than a window does",
    );
    expect_code("max_reports_per_batch = 1", "max_reports_per_batch = 0", "E030");
    expect_code(", max_reports_per_window = 30", "", "E030");
    expect_code(&format!("contribution = {caps}\n"), "", "E030");
    expect_code("enforced_by = \"client\"", "enforced_by = \"none\"", "E031");
    expect_code(", enforced_by = \"client\"", "", "E031");
    expect_code("privacy_unit = \"client\"", "privacy_unit = \"report\"", "E030");
    let report = GOOD.replacen("privacy_unit = \"client\"", "privacy_unit = \"report\"", 1).replacen(
        &format!("contribution = {caps}\n"),
        "",
        1,
    );
    assert_eq!(findings(&report), Vec::<String>::new());
}

#[test]
fn relations_and_units_are_those_that_dap_allows() {
    expect_code("\"replace_one\"", "\"add_or_remove_one\"", "E033");
    let other = SECOND_BUDGET.replacen("replace_one", "replace_special", 1);
    let mixed = GOOD.replacen("[[release]]", &other, 1).replacen("[\"a\"]", "[\"b\", \"a\"]", 1);
    assert!(findings(&mixed).iter().any(|it| it.contains("E034")), "{:?}", findings(&mixed));
    let other = SECOND_BUDGET.replacen("client", "report", 1);
    let mixed = GOOD.replacen("[[release]]", &other, 1).replacen("[\"a\"]", "[\"b\", \"a\"]", 1);
    assert!(findings(&mixed).iter().any(|it| it.contains("budgets \"a\" (client) and \"b\" (report)")));
}

#[test]
fn two_releases_for_one_task_are_refused() {
    let release = GOOD.split("[[release]]").nth(1).unwrap().split("[unmatched]").next().unwrap();
    let second = format!("[[release]]{}[unmatched]", release.replacen("\"x\"", "\"y\"", 1));
    let equal = GOOD.replacen("[unmatched]", &second, 1);
    assert!(findings(&equal).iter().any(|it| it.contains("E040: releases \"x\" and \"y\"")));
    let overlapping = GOOD.replacen("[unmatched]", &second.replacen("\"page-load\"", "\"page*\"", 1), 1);
    let refusal = plan(&overlapping, "page-load", &VdafConfig::histogram(1000), 1000).unwrap_err();
    assert!(matches!(refusal, Refusal::Ambiguous { .. }), "{refusal}");
    assert!(plan(&overlapping, "page-views", &VdafConfig::histogram(1000), 1000).is_ok());
}

#[test]
fn a_task_without_a_sensitivity_is_never_released_with_noise() {
    let poplar = VdafConfig::Poplar1 { bits: 32 };
    let refusal = plan(GOOD, "page-load", &poplar, 1000).unwrap_err().to_string();
    assert!(
        refusal.starts_with("E024: no sensitivity is derived for poplar1, which task \"page-load\" runs"),
        "{refusal}"
    );
    let written = findings(&Policy::for_demo("x", &poplar, 1, "1"));
    assert!(
        written.len() == 1 && written[0].contains("E024: no sensitivity is defined for poplar1"),
        "{written:?}"
    );
    let open = Policy::for_release_without_dp("prefixes have no noise yet", "2099-12-31");
    assert!(matches!(plan(&open, "any", &poplar, 1), Ok(Decision::WithoutDp(_))));
}

#[test]
fn releasing_without_noise_takes_a_reason_and_a_day() {
    let open = "action = \"release_without_dp\"";
    expect_code("action = \"refuse\"", open, "E042");
    expect_code("action = \"refuse\"", &format!("{open}\njustification = \"open data\""), "E042");
    expect_code("action = \"refuse\"", "action = \"refuse\"\nexpires = 2027-01-01", "E042");
    expect_code("action = \"refuse\"", &format!("{open}\njustification = \"x\"\nexpires = \"soon\""), "E001");
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
fn half_noise_and_hidden_report_counts_are_refused() {
    expect_code("\"each_aggregator\"", "\"half_each\"", "E043");
    expect_code("report_count = \"public\"", "report_count = \"noised\"", "E001");
    expect_code("min_batch_size = 1000", "min_batch_size = 0", "E044");
}

#[test]
fn a_release_that_could_never_run_is_refused() {
    expect_one(
        "rho_per_release = 0.0025",
        "rho_per_release = 0.3",
        "p.toml:26:19: E060: [[release]] \"x\" costs 0.3 per collection and budget \"a\" is 0.25: it could never run; \
         spend less per release, or raise the budget",
    );
}

#[test]
fn tasks_that_differ_from_their_release_are_refused() {
    let refusal = |label, vdaf: &VdafConfig, size| plan(GOOD, label, vdaf, size).unwrap_err().to_string();
    let histogram = VdafConfig::histogram(1000);
    assert!(refusal("page-load", &VdafConfig::histogram(100), 1000).starts_with("E023"));
    assert!(refusal("page-load", &VdafConfig::Count, 1000).starts_with("E023"));
    assert!(refusal("page-load", &histogram, 999).starts_with("E044"));
    assert!(refusal("other", &histogram, 1000).contains("no release of policy \"acme\""));
}

#[test]
fn laplace_releases_charge_pure_and_concentrated_budgets() {
    let text =
        GOOD.replacen("[[release]]", SECOND_BUDGET, 1).replacen("[\"a\"]", "[\"b\", \"a\"]", 1).replacen(
            "mechanism = \"discrete_gaussian\"\nrho_per_release = 0.0025",
            "mechanism = \"discrete_laplace\"\nepsilon_per_release = \"1/10\"",
            1,
        );
    assert_eq!(findings(&text), Vec::<String>::new());
    let Ok(Decision::Release(plan)) = plan(&text, "page-load", &VdafConfig::histogram(1000), 1000) else {
        panic!("the release matches")
    };
    let charges: Vec<_> = plan.charges().iter().map(|it| (it.budget_id.as_str(), it.units)).collect();
    assert_eq!(charges, [("a", UNITS_PER_ONE / 200), ("b", UNITS_PER_ONE / 10)]);
}

#[test]
fn all_findings_of_a_file_come_at_once_and_in_order() {
    let text = GOOD
        .replacen("version = 7", "version = 0\nepsilon_ceiling = 8", 1)
        .replacen("rho = 0.25", "rho = -1", 1)
        .replacen("charge = [\"a\"]", "charge = [\"c\"]", 1)
        .replacen("\"each_aggregator\"", "\"half\"", 1)
        .replacen("action = \"refuse\"", "action = \"release_without_dp\"", 1);
    let found = findings(&text);
    let codes: Vec<&str> = found.iter().filter_map(|it| it.split(": ").nth(1)).collect();
    assert_eq!(codes, ["E002", "E001", "E002", "E011", "E043", "E042", "E042"], "{found:#?}");
}

#[test]
fn hostile_files_are_findings_and_not_panics() {
    for text in [
        "",
        "\u{0}",
        "= = =",
        "[[budget]]",
        "budget = 1",
        "release = [1]",
        "[[release]]\n[[release.match]]",
        "policy = []",
    ] {
        assert!(!findings(text).is_empty(), "{text:?}");
    }
    for cut in 0..GOOD.len() {
        let _ = Policy::parse("p.toml", &GOOD[..cut]);
    }
    for (at, _) in GOOD.char_indices() {
        let mut text = GOOD.to_owned();
        text.replace_range(at..=at, "9");
        let _ = Policy::parse("p.toml", &text);
    }
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
    assert!(!findings(&Policy::for_demo("x", &VdafConfig::Count, 1, "much")).is_empty());
}
