//! Budgets: limits, deltas, ceilings, windows, and releases they can pay for.

use super::*;
use crate::conversion::{epsilon_of_zcdp, rho_units_of_approx};
use crate::units::{UNITS_PER_ONE, units_to_rational};

const LIMIT: &str = "dp_variant = \"zcdp\"\nrho = 0.25\nreport_delta = 1e-8";

#[test]
fn e012_deltas_are_where_they_mean_something() {
    fires(
        "E012",
        &[
            ("report_delta = 1e-8\n", ""),
            ("report_delta = 1e-8", "report_delta = 1"),
            ("report_delta = 1e-8", "report_delta = 0"),
            ("report_delta = 1e-8", "report_delta = 0.999999999"),
            ("report_delta = 1e-8", "report_delta = 0.01"),
            ("report_delta = 1e-8", "report_delta = 1e-8\ndelta = 1e-8"),
            ("\"zcdp\"\nrho = 0.25", "\"pure\"\nepsilon = 0.25"),
            (LIMIT, "dp_variant = \"approx\"\nepsilon = 1"),
            (LIMIT, "dp_variant = \"approx\"\nepsilon = 1\ndelta = 1"),
            (LIMIT, "dp_variant = \"approx\"\nepsilon = 1\ndelta = 1e-8\nreport_delta = 1e-8"),
        ],
    );
    passes("E012", &[(LIMIT, "dp_variant = \"approx\"\nepsilon = 1\ndelta = 1e-8")]);
}

#[test]
fn w015_a_limit_that_hides_nothing_is_meant_or_below_a_ceiling() {
    let found = findings(&with("rho = 0.25", "rho = 1000000"));
    let found = found.iter().find(|it| it.code == "W015").expect("it is large");
    assert!(
        found.to_string().starts_with("p.toml:13:7: W015: [[budget]] \"a\" implies epsilon 1008"),
        "{found}"
    );
    assert_eq!(found.severity, Severity::Warning);
    fires(
        "W015",
        &[(LIMIT, "dp_variant = \"approx\"\nepsilon = 10.5\ndelta = 1e-8"), ("rho = 0.25", "rho = 1.3")],
    );
    passes(
        "W015",
        &[("rho = 0.25", "rho = 1"), (LIMIT, "dp_variant = \"approx\"\nepsilon = 10\ndelta = 1e-8")],
    );
    // A ceiling is the policy's own word; what is above it is an error.
    let with_ceiling =
        with("version = 7", "version = 7\nepsilon_ceiling = 40").replace("rho = 0.25", "rho = 4");
    assert!(findings(&with_ceiling).iter().all(|it| it.code != "W015"));
}

#[test]
fn w013_a_delta_is_small_for_its_batches() {
    let finding = findings(&with("report_delta = 1e-8", "report_delta = 1e-3"));
    let finding = finding.iter().find(|it| it.code == "W013").expect("it is large");
    assert_eq!(
        finding.to_string(),
        "p.toml:22:1: W013: delta 0.001 of budget \"a\" is large for batches of 1000; use at most 0.0001, customarily \
         below 1/n^1.1"
    );
    passes("W013", &[("report_delta = 1e-8", "report_delta = 1e-4")]);
}

#[test]
fn e014_budgets_stay_below_the_ceiling_or_say_why_not() {
    let ceiling = "version = 7\nepsilon_ceiling = 4";
    let found = errors(&edited(&[("version = 7", ceiling), ("rho = 0.25", "rho = 4")]));
    assert!(
        found.iter().any(|it| it.contains(
            "E014: [[budget]] \"a\": rho 4 converts to epsilon 20.2 at delta 1e-8, above epsilon_ceiling 4"
        )),
        "{found:#?}"
    );
    fires("E014", &[("version = 7", ceiling)]);
    let exception =
        "on_exhausted = \"refuse\"\nepsilon_ceiling_override = { epsilon = 5, justification = \"x\" }";
    let allowed = edited(&[("version = 7", ceiling), ("on_exhausted = \"refuse\"", exception)]);
    assert_eq!(errors(&allowed), Vec::<String>::new());
    assert_eq!(policy(&allowed).budgets()[0].ceiling_exception().unwrap().justification(), "x");
    let small = allowed.replacen("epsilon = 5", "epsilon = 4.1", 1);
    assert!(errors(&small)[0].contains("above its override 4.1"), "{:?}", errors(&small));
    let useless = allowed.replacen("epsilon = 5", "epsilon = 3", 1);
    assert!(errors(&useless).iter().any(|it| it.contains("is not above epsilon_ceiling 4")));
    fires("E014", &[("on_exhausted = \"refuse\"", exception)]);
    passes("E014", &[("version = 7", "version = 7\nepsilon_ceiling = 4.2")]);
}

#[test]
fn e060_a_release_that_could_never_run_is_refused() {
    expect_one(
        "rho_per_release = 0.0025",
        "rho_per_release = 0.3",
        "p.toml:26:19: E060: [[release]] \"x\" costs 0.3 per collection and budget \"a\" is 0.25: it could never run; \
         spend less per release, or raise the budget",
    );
    passes("E060", &[("rho_per_release = 0.0025", "rho_per_release = 0.25")]);
}

#[test]
fn e070_windows_are_whole() {
    fires(
        "E070",
        &[
            ("kind = \"lifetime\"", "kind = \"rolling\", length = \"30d\""),
            ("kind = \"lifetime\"", "kind = \"rolling\", epoch = \"1d\""),
            ("kind = \"lifetime\"", "kind = \"rolling\", length = \"30d\", epoch = \"7d\""),
            ("kind = \"lifetime\"", "kind = \"rolling\", length = \"30d\", epoch = \"0d\""),
            ("kind = \"lifetime\"", "kind = \"rolling\", length = \"9999999d\", epoch = \"1d\""),
            ("kind = \"lifetime\"", "kind = \"rolling\", length = \"30d\", epoch = \"1s\""),
            ("kind = \"lifetime\"", "kind = \"calendar\""),
        ],
    );
    for (window, read) in [
        ("kind = \"rolling\", length = \"30d\", epoch = \"1d\"", "any 30 days"),
        ("kind = \"rolling\", length = \"8w\", epoch = \"12h\"", "any 56 days"),
        ("kind = \"calendar\", unit = \"quarter\"", "any calendar quarter (UTC)"),
    ] {
        let policy = policy(&with("kind = \"lifetime\"", window));
        assert_eq!(policy.budgets()[0].window().to_string(), read);
    }
}

#[test]
fn e070_epochs_are_no_finer_than_the_times_of_reports() {
    let refusal = |window: &str, precision| {
        let once = ("batch_window = \"30d\", max_reports_per_window = 30", "max_reports_per_window = 1");
        let text = edited(&[("kind = \"lifetime\"", window), once]);
        let vdaf = VdafConfig::histogram(1000);
        let task = TaskFacts { time_precision: Some(precision), ..TaskFacts::new("page-load", &vdaf, 1000) };
        policy(&text).release_for(&task).err().map(|it| it.to_string())
    };
    let hourly = "kind = \"rolling\", length = \"30d\", epoch = \"1h\"";
    assert_eq!(refusal(hourly, 3600), None);
    let refused = refusal(hourly, 7200).expect("two hours are coarser than one");
    assert!(refused.starts_with("E070: task \"page-load\" has a time precision of 7200 s"), "{refused}");
    assert_eq!(refusal("kind = \"lifetime\"", 1 << 40), None);
    assert!(refusal("kind = \"calendar\", unit = \"day\"", 86_401).is_some());
    assert!(refusal("kind = \"calendar\", unit = \"month\"", 28 * 86_400).is_none());
}

#[test]
fn an_approximate_budget_counts_rho_and_never_passes_its_epsilon() {
    for (epsilon, delta) in
        [("1", "1e-6"), ("0.1", "1e-9"), ("8", "1e-5"), ("1/3", "1e-12"), ("1/10", "0.009")]
    {
        let text = with(LIMIT, &format!("dp_variant = \"approx\"\nepsilon = \"{epsilon}\"\ndelta = {delta}"))
            .replacen("rho_per_release = 0.0025", "rho_per_release = 0.00001", 1);
        let policy = policy(&text);
        let budget = &policy.budgets()[0];
        assert_eq!((budget.variant(), budget.limit().dp_variant()), (Variant::Zcdp, "approx"));
        let (epsilon, delta) = (epsilon.parse::<Rational>().unwrap(), delta.parse::<Rational>().unwrap());
        let implied = |units| epsilon_of_zcdp(&units_to_rational(units), &delta).unwrap();
        assert!(implied(budget.limit_units()) <= epsilon.approximate());
        assert!(implied(budget.limit_units() + budget.limit_units() / 1_000_000 + 1) > epsilon.approximate());
        assert_eq!(Some(budget.limit_units()), rho_units_of_approx(&epsilon, &delta), "what is enforced");
    }
}

#[test]
fn operators_are_warned_at_a_part_of_the_limit() {
    let policy = policy(&with("on_exhausted", "warn_at = \"2/3\"\non_exhausted"));
    assert_eq!(policy.budgets()[0].warn_at_units(), Some(166_666_666_667));
    assert_eq!(super::policy(GOOD).budgets()[0].warn_at_units(), None);
}

#[test]
fn laplace_releases_charge_pure_and_concentrated_budgets() {
    let text =
        GOOD.replacen("[[release]]", SECOND_BUDGET, 1).replacen("[\"a\"]", "[\"b\", \"a\"]", 1).replacen(
            "mechanism = \"discrete_gaussian\"\nrho_per_release = 0.0025",
            "mechanism = \"discrete_laplace\"\nepsilon_per_release = \"1/10\"",
            1,
        );
    assert_eq!(errors(&text), Vec::<String>::new());
    let Ok(Decision::Release(plan)) = plan(&text, "page-load", &VdafConfig::histogram(1000), 1000) else {
        panic!("the release matches")
    };
    let charges: Vec<_> = plan.charges().iter().map(|it| (it.budget_id.as_str(), it.units)).collect();
    assert_eq!(charges, [("a", UNITS_PER_ONE / 200), ("b", UNITS_PER_ONE / 10)]);
}
