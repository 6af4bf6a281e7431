//! How much noise: what it is calibrated by, and what it must not be.

use super::*;
use crate::mechanism::Mechanism;

const LOSS: &str = "rho_per_release = 0.0025";
const ID: &str = "id = \"x\"";

#[test]
fn e020_one_number_is_given() {
    expect_one(
        LOSS,
        "rho_per_release = 0.0025\nepsilon_per_release = 1",
        "p.toml:26:1: E020: found epsilon_per_release and rho_per_release in [[release]] \"x\"; give exactly one of \
         epsilon_per_release, rho_per_release and noise_scale",
    );
    fires(
        "E020",
        &[("rho_per_release = 0.0025\n", ""), (LOSS, "rho_per_release = 0.0025\nnoise_scale = 20")],
    );
    passes("E020", &[(LOSS, "noise_scale = 20")]);
}

#[test]
fn e021_losses_fit_their_mechanism_and_their_budget() {
    fires(
        "E021",
        &[
            ("\"discrete_gaussian\"", "\"discrete_laplace\""),
            ("rho_per_release", "epsilon_per_release"),
            ("rho = 0.25", "epsilon = 0.25"),
        ],
    );
    let pure = GOOD.replacen("[[release]]", SECOND_BUDGET, 1).replacen("[\"a\"]", "[\"a\", \"b\"]", 1);
    assert_eq!(
        errors(&pure),
        ["p.toml:34:1: E021: discrete_gaussian gives no pure-DP guarantee, but budget \"b\" is pure; use \
             discrete_laplace, or charge a zcdp or approx budget"]
    );
}

#[test]
fn e022_sensitivity_is_never_typed() {
    expect_one(
        "min_batch_size = 1000",
        "min_batch_size = 1000\nsensitivity = 1",
        "p.toml:23:1: E022: sensitivity is derived from vdaf; remove this field",
    );
    passes("E022", &[("min_batch_size = 1000", "min_batch_size = 1000 # sensitivity = 1")]);
}

#[test]
fn e024_vdafs_are_those_with_a_sensitivity() {
    fires(
        "E024",
        &[
            ("prio3-histogram", "poplar1"),
            ("length = 1000", "length = 0"),
            (
                "{ type = \"prio3-histogram\", length = 1000 }",
                "{ type = \"prio3-multihot-count-vec\", length = 3, max_weight = 4 }",
            ),
        ],
    );
    fires("E001", &[("length = 1000", "width = 1000")]);
    passes(
        "E024",
        &[(
            "{ type = \"prio3-histogram\", length = 1000 }",
            "{ type = \"prio3-multihot-count-vec\", length = 3, max_weight = 3 }",
        )],
    );
}

#[test]
fn e025_noise_stays_within_the_field() {
    let wide = |max: &str| {
        let vdaf = format!("\"prio3-sum\", max_measurement = {max}");
        errors(&edited(&[("\"prio3-histogram\", length = 1000", &vdaf), (LOSS, "rho_per_release = 1e-4")]))
    };
    let found = wide("4611686018427387904");
    assert!(found.iter().any(|it| it.contains("E025: noise can reach 2^7")), "{found:?}");
    assert_eq!(wide("1048576"), Vec::<String>::new());
}

#[test]
fn e026_noise_has_a_floor() {
    let rich = |loss: &str| errors(&edited(&[("rho = 0.25", "rho = 100"), (LOSS, loss)]));
    let found = rich("rho_per_release = 10");
    assert!(found.iter().any(|it| it.contains("E026: sigma 81/256 is below the floor 1/2")), "{found:?}");
    assert!(
        rich("noise_scale = 0.4").iter().any(|it| it.contains("E026") && it.contains("raise noise_scale"))
    );
    assert_eq!(rich("noise_scale = 0.5"), Vec::<String>::new());
}

#[test]
fn e043_half_noise_and_hidden_report_counts_are_refused() {
    fires("E043", &[("\"each_aggregator\"", "\"half_each\"")]);
    fires("E001", &[("report_count = \"public\"", "report_count = \"noised\"")]);
    passes("E043", &[("\"each_aggregator\"", "'each_aggregator'")]);
}

#[test]
fn e061_noise_is_as_narrow_as_is_asked_for() {
    let wanted = |width: u32| format!("{ID}\naccuracy = {{ max_half_width = {width}, confidence = 0.95 }}");
    expect_one(
        ID,
        &wanted(20),
        "p.toml:20:31: E061: the 95% half-width is 55, target 20; needs rho_per_release 0.0183 (13 releases, each in \
         full, from budget \"a\")",
    );
    passes("E061", &[(ID, &wanted(55))]);
    fires("E061", &[(ID, &wanted(54)), (ID, &wanted(5)), (ID, &wanted(1))]);
    let narrow = errors(&with(ID, &wanted(20)).replacen(LOSS, "noise_scale = 20", 1));
    assert!(narrow[0].contains("needs noise_scale 7.3"), "{narrow:?}");
    // What the remedy names is enough.
    let helped = with(ID, &wanted(20)).replacen(LOSS, "rho_per_release = 0.0183", 1);
    assert_eq!(errors(&helped), Vec::<String>::new());
}

#[test]
fn w062_the_other_mechanism_would_need_less_noise() {
    let few = with("max_reports_per_window = 30", "max_reports_per_window = 1");
    let found = findings(&few);
    let found =
        found.iter().find(|it| it.code == "W062").expect("one release is better served by Laplace noise");
    assert!(found.what.starts_with("discrete_laplace needs less noise"), "{found}");
    passes("W062", &[("max_reports_per_window = 30", "max_reports_per_window = 9")]);
    let laplace = "mechanism = \"discrete_laplace\"\nepsilon_per_release = 0.07";
    let many = edited(&[("mechanism = \"discrete_gaussian\"\nrho_per_release = 0.0025", laplace)]);
    let found = findings(&many);
    let found = found
        .iter()
        .find(|it| it.code == "W062")
        .expect("thirty releases are better served by Gaussian noise");
    assert!(found.what.starts_with("discrete_gaussian needs less noise"), "{found}");
    let one = many.replacen("max_reports_per_window = 30", "max_reports_per_window = 1", 1);
    assert!(findings(&one).iter().all(|it| it.code != "W062"));
}

#[test]
fn a_scale_is_the_same_promise_as_the_loss_that_follows_from_it() {
    let statement = |text: &str| policy(text).plans().next().unwrap().statement().clone();
    assert_eq!(statement(GOOD), statement(&with(LOSS, "noise_scale = 20")));
    let laplace = |number: &str| {
        let mechanism = format!("mechanism = \"discrete_laplace\"\n{number}");
        with("mechanism = \"discrete_gaussian\"\nrho_per_release = 0.0025", &mechanism)
    };
    assert_eq!(statement(&laplace("epsilon_per_release = 0.1")), statement(&laplace("noise_scale = 20")));
    let plan = policy(&laplace("noise_scale = 20")).plans().next().unwrap();
    assert_eq!(plan.mechanism(), &Mechanism::DiscreteLaplace { scale: "20".parse().unwrap() });
}
