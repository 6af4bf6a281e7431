//! Keys, words, numbers and names.

use super::*;
use crate::mechanism::Mechanism;
use crate::units::UNITS_PER_ONE;

#[test]
fn a_good_file_has_no_findings_and_derives_everything() {
    assert_eq!(errors(GOOD), Vec::<String>::new());
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
fn e001_unknown_keys_and_words_are_refused_with_the_nearest_known_one() {
    expect_one(
        "rho_per_release = 0.0025",
        "rho_per_release = 0.0025\nepsilom = 1",
        "p.toml:27:1: E001: unknown field \"epsilom\" in [[release]] \"x\"; did you mean \"epsilon_per_release\"?",
    );
    fires(
        "E001",
        &[
            ("[unmatched]", "[unmached]"),
            ("version = 7", "version = \"seven\""),
            ("dp-policy/1", "dp-policy/2"),
            ("schema = \"dp-policy/1\"", "schema = "),
            ("[policy]", "[policy]\nid = \"twice\""),
            ("each_aggregator", ""),
            ("\"page-load\"", "\"page*load\""),
            ("kind = \"lifetime\"", "kind = \"lifetime\", length = \"30d\""),
            ("kind = \"lifetime\"", "kind = \"rolling\", length = \"30days\", epoch = \"1d\""),
            ("kind = \"lifetime\"", "kind = \"calendar\", unit = \"fortnight\""),
            ("version = 7", "version = 7\neffective_from = 2026-12-01"),
            ("length = 1000", "length = 1000, max_weight = 2"),
        ],
    );
    passes(
        "E001",
        &[
            ("version = 7", "version = 7\neffective_from = 2026-12-01T00:00:00Z\nowner = \"us\""),
            ("on_exhausted", "warn_at = 0.8\non_exhausted"),
        ],
    );
}

#[test]
fn every_misspelt_key_and_word_finds_its_neighbour() {
    for (old, new, near) in [
        ("privacy_unit =", "privacy_units =", "privacy_unit"),
        ("\"client\"\nneigh", "\"clients\"\nneigh", "client"),
        ("\"replace_one\"", "\"replace-one\"", "replace_one"),
        ("\"zcdp\"", "\"zCDP\"", "zcdp"),
        ("kind = \"lifetime\"", "kind = \"lifetimes\"", "lifetime"),
        ("kind = \"lifetime\"", "kind = \"calendar\", unit = \"months\"", "month"),
        ("prio3-histogram", "prio3-histogramm", "prio3-histogram"),
        ("discrete_gaussian", "discrete_gausian", "discrete_gaussian"),
        ("enforced_by = \"client\"", "enforced_by = \"privacypass\"", "privacy-pass"),
        ("label =", "lable =", "label"),
        ("max_reports_per_batch", "max_report_per_batch", "max_reports_per_batch"),
        ("action = \"refuse\"", "action = \"refused\"", "refuse"),
        ("justification", "justificaton", "justification"),
    ] {
        let wanted = format!("did you mean \"{near}\"?");
        let found = errors(&with(old, new));
        assert!(found.iter().any(|it| it.ends_with(&wanted)), "{new}: {found:#?}");
    }
}

#[test]
fn e002_numbers_are_positive_and_finite() {
    expect_one(
        "rho = 0.25",
        "rho = -0.25",
        "p.toml:13:7: E002: rho must be a finite number greater than 0, got -0.25; write a positive decimal or a \
         fraction such as \"1/10\"",
    );
    for bad in ["nan", "inf", "-inf", "-0.0", "0", "0.0"] {
        fires("E002", &[("rho = 0.25", &format!("rho = {bad}"))]);
        fires("E002", &[("rho_per_release = 0.0025", &format!("rho_per_release = {bad}"))]);
        fires("E002", &[("rho_per_release = 0.0025", &format!("noise_scale = {bad}"))]);
    }
    fires(
        "E002",
        &[
            ("version = 7", "version = 0"),
            ("on_exhausted", "warn_at = 1.5\non_exhausted"),
            ("id = \"x\"", "id = \"x\"\naccuracy = { max_half_width = 60, confidence = 1 }"),
        ],
    );
    passes("E002", &[("rho = 0.25", "rho = \"1/4\""), ("rho = 0.25", "rho = 2.5e-1")]);
}

#[test]
fn e003_numbers_are_within_the_resolution_of_the_ledger() {
    expect_one(
        "rho_per_release = 0.0025",
        "rho_per_release = 1e-14",
        "p.toml:26:19: E003: rho_per_release 1e-14 is below the ledger resolution 1e-12; write 1e-12 or more",
    );
    fires(
        "E003",
        &[
            ("rho = 0.25", "rho = 1e10"),
            ("rho_per_release = 0.0025", "noise_scale = 1e9"),
            (
                "rho = 0.25",
                "rho = 0.2500000000000000000000000000000000000000000000000000000000000000000000000000000000000001",
            ),
        ],
    );
    passes("E003", &[("rho_per_release = 0.0025", "rho_per_release = 1e-6")]);
}

#[test]
fn e010_names_are_unique() {
    let twice = GOOD.replacen("[[release]]", &SECOND_BUDGET.replacen("\"b\"", "\"a\"", 1), 1);
    let found = errors(&twice);
    assert!(
        found.iter().any(|it| it.contains("E010: budget id \"a\" is defined at line 9 and line 19")),
        "{found:#?}"
    );
    fires("E010", &[("charge = [\"a\"]", "charge = [\"a\", \"a\"]")]);
    assert!(errors(&GOOD.replacen("[[release]]", SECOND_BUDGET, 1)).is_empty());
}

#[test]
fn e011_charges_name_budgets() {
    expect_one(
        "charge = [\"a\"]",
        "charge = [\"aa\"]",
        "p.toml:23:11: E011: [[release]] \"x\" charges budget \"aa\", which does not exist; did you mean \"a\"?",
    );
    fires("E011", &[("charge = [\"a\"]", "charge = []"), ("charge = [\"a\"]\n", "")]);
    passes("E011", &[("charge = [\"a\"]", "charge = [ 'a' ]")]);
}

#[test]
fn all_findings_of_a_file_come_at_once_and_in_order() {
    let text = GOOD
        .replacen("version = 7", "version = 0\nepsilon_ceilling = 8", 1)
        .replacen("rho = 0.25", "rho = -1", 1)
        .replacen("charge = [\"a\"]", "charge = [\"c\"]", 1)
        .replacen("\"each_aggregator\"", "\"half\"", 1)
        .replacen("action = \"refuse\"", "action = \"release_without_dp\"", 1);
    let found = errors(&text);
    let codes: Vec<&str> = found.iter().filter_map(|it| it.split(": ").nth(1)).collect();
    assert_eq!(codes, ["E002", "E001", "E002", "E011", "E043", "E042", "E042"], "{found:#?}");
}
