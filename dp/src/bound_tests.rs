use mica_dap::vdaf_config::VdafConfig;

use super::*;
use crate::policy::{Decision, Policy, TaskFacts};

fn terms_of(epsilon: &str) -> Terms {
    let text = Policy::for_demo("t", &VdafConfig::Count, 10, epsilon);
    let policy = Policy::parse("policy.toml", &text).expect("a policy");
    match policy.release_for(&TaskFacts::new("t", &VdafConfig::Count, 10)) {
        Ok(Decision::Release(plan)) => plan.terms().clone(),
        other => panic!("{other:?}"),
    }
}

fn with(variant: Variant, amount: &str, mechanism: &str) -> Terms {
    let loss = Loss { variant, amount: number(amount) };
    Terms { loss, mechanism: mechanism.parse().expect("a mechanism"), ..terms_of("1/2") }
}

fn number(text: &str) -> Rational {
    text.parse().expect("a number")
}

/// Reads a statement under its own hash.
fn read(terms: &Terms, delta: Option<&str>) -> Result<BoundStatement, NotBound> {
    let statement = Statement::new(terms);
    let json = serde_json::from_str(statement.canonical_json()).expect("JSON");
    BoundStatement::read(&json, statement.sha256(), delta.map(number))
}

/// A count changes by 1: scale 2 gives epsilon 1/2, sigma 10 gives rho 1/200, and nothing in between is rounded.
#[test]
fn a_statement_that_names_less_loss_than_its_noise_gives_is_not_taken_though_the_task_is_bound_to_it() {
    let (pure, zcdp) = (Variant::Pure, Variant::Zcdp);
    for (variant, enough, too_little, noise) in [
        (pure, "0.5", "0.499999999999", "discrete_laplace(scale=2)"),
        (zcdp, "0.005", "0.004999999999", "discrete_gaussian(sigma=10)"),
    ] {
        assert!(read(&with(variant, enough, noise), None).is_ok(), "{noise} gives {enough}");
        let lying = read(&with(variant, too_little, noise), None);
        assert_eq!(lying.err(), Some(NotBound::TooLittleNoise), "{noise} does not give {too_little}");
    }
    // Noise of the one kind says nothing in the units of the other, however much of it there is.
    for (variant, noise) in
        [(zcdp, "discrete_laplace(scale=1000000)"), (pure, "discrete_gaussian(sigma=1000000)")]
    {
        assert_eq!(read(&with(variant, "1", noise), None).err(), Some(NotBound::TooLittleNoise), "{noise}");
    }
}

/// The noise of a count of ten says nothing of a sum, nor caps for batches of a day of batches of any length.
#[test]
fn a_statement_is_held_against_the_task_that_names_it() {
    let count = TaskFacts::new("t", &VdafConfig::Count, 10);
    let check =
        |terms: &Terms, task: &TaskFacts<'_>| read(terms, None).expect("it is its own").check_task(task);
    let other = |what| Err(NotBound::OtherTask(what));
    let terms = terms_of("1/2");
    assert_eq!(check(&terms, &count), Ok(()));
    let sum = TaskFacts { vdaf: &VdafConfig::Sum { max_measurement: 1_000_000 }, ..count };
    assert_eq!(check(&terms, &sum), other("measures something else"));
    let small = TaskFacts { min_batch_size: 1, ..count };
    assert_eq!(check(&terms, &small), other("has another min_batch_size"));
    let selected = TaskFacts { batch_mode: Some(BatchMode::LeaderSelected), ..count };
    assert_eq!(check(&terms, &selected), Ok(()), "the unit is a report");

    let mut capped = terms;
    capped.unit = PrivacyUnit::Client;
    capped.contribution.window = Window::Rolling(Rolling::new(30 * 86_400, 86_400).expect("a window"));
    assert_eq!(check(&capped, &selected), other("lets its leader select the batches"), "whatever their time");
    capped.contribution.window = Window::Lifetime;
    assert_eq!(check(&capped, &selected), Ok(()));
    capped.contribution.max_reports_per_window = NonZeroU32::new(30).expect("not zero");
    assert_eq!(check(&capped, &selected), other("lets its leader select the batches"), "1 of 30");
    assert_eq!(check(&capped, &count), other("has batches of any length"));
    capped.contribution.batch_window = BatchWindow::new(86_400).ok();
    assert_eq!(check(&capped, &count), Ok(()));
    let at = |seconds| TaskFacts { time_precision: Some(seconds), ..count };
    assert_eq!(check(&capped, &at(3_600)), Ok(()));
    assert_eq!(check(&capped, &at(7_000)), other("has batches that lie across its pieces of time"));
}

#[test]
fn an_epsilon_is_told_only_at_a_delta_that_a_policy_may_have() {
    let terms = with(Variant::Zcdp, "0.005", "discrete_gaussian(sigma=10)");
    let at = |delta: &str| read(&terms, Some(delta)).expect("it is its own").epsilon();
    for large in ["0", "0.01", "0.9", "1", "2"] {
        assert_eq!(at(large), None, "{large}");
        let bound = read(&terms, Some(large)).expect("it is its own");
        assert!(!bound.explain().contains("delta"), "{}", bound.explain());
        let told = &bound.export()["per_release"];
        assert_eq!(told, &serde_json::json!({ "rho": 0.005, "rho_exact": "0.005" }));
    }
    let (epsilon, delta) = at("0.0099").expect("it is small");
    assert_eq!(delta, "0.0099");
    assert!(epsilon > number("0.1"), "{}", epsilon.decimal());
    assert!(at("1e-8").expect("it is small").0 > epsilon, "a smaller delta has a larger epsilon");
}

#[test]
fn what_machines_are_told_of_a_statement_is_what_its_policy_tells_them_without_its_own_words() {
    let text = Policy::for_demo("t", &VdafConfig::Count, 10, "1/2");
    let policy = Policy::parse("policy.toml", &text).expect("a policy");
    let plan = policy.plans().next().expect("a release");
    let told = read(plan.terms(), None).expect("it is its own").export();
    let whole = plan.export();
    for (key, value) in told.as_object().expect("an object") {
        if !["schema", "explanation", "deployment"].contains(&key.as_str()) {
            assert_eq!(Some(value), whole.get(key), "{key}");
        }
    }
    for of_the_policy in ["release", "policy", "budgets"] {
        assert!(told.get(of_the_policy).is_none() && whole.get(of_the_policy).is_some(), "{of_the_policy}");
    }
    for of_the_policy in ["/basic/name", "/basic/intended_use", "/accounting/composition"] {
        let deployment = [&told, &whole].map(|it| it["deployment"].pointer(of_the_policy).is_some());
        assert_eq!(deployment, [false, true], "{of_the_policy}");
    }
    assert_eq!(told["deployment"]["privacy_loss"], whole["deployment"]["privacy_loss"]);
}
