//! From a policy file to a noised share, the way an aggregator goes.

#![expect(clippy::cast_precision_loss, reason = "counts of a test are far below 2^52")]

use mica_dap::hpke::NoisedShare as _;
use mica_dap::vdaf::Vdaf;
use mica_dap::vdaf_config::VdafConfig;
use mica_dp::accountant::Span;
use mica_dp::{
    BudgetState, ChainHead, ChargeRequest, Decision, Grant, Noise, NoiseOf, PerturbError, Policy, Protection,
    ReleaseKey, ReleasePlan, TaskFacts, ledger, parse_task_info, perturb,
};
use num_bigint::BigInt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use zeroize::Zeroizing;

const FIRST_COUNTER: &str = include_str!("../../policies/first-counter.toml");
const PAGE_LOAD: &str = include_str!("../../policies/page-load-histogram.toml");

fn plan(text: &str, label: &str, vdaf: &VdafConfig, min_batch_size: u64) -> ReleasePlan {
    let policy = Policy::parse("policy.toml", text).expect("the file is right");
    match policy.release_for(&TaskFacts::new(label, vdaf, min_batch_size)) {
        Ok(Decision::Release(plan)) => *plan,
        other => panic!("{other:?}"),
    }
}

fn grant(plan: &ReleasePlan) -> Grant {
    let states: Vec<_> = plan
        .charges()
        .iter()
        .map(|charge| BudgetState { budget_id: charge.budget_id.clone(), uses: Vec::new() })
        .collect();
    let key = ReleaseKey::new([1; 32], b"batch", b"");
    let request =
        ChargeRequest { key, report_count: 1000, data: Span::of_reports(0, 3600).expect("an hour"), now: 0 };
    let charged = ledger::charge(plan, request, &states, ChainHead::EMPTY).expect("the budget is whole");
    let stored = charged.entries().to_vec();
    charged.recorded(&stored).expect("it is stored")
}

/// An encoded share of `truth`.
fn share(vdaf: &dyn Vdaf, truth: &[i64]) -> Zeroizing<Vec<u8>> {
    let zero = vdaf.aggregate(&[], None, &[]).expect("an empty total");
    let truth: Vec<BigInt> = truth.iter().copied().map(BigInt::from).collect();
    Zeroizing::new(vdaf.add_noise(&zero, &truth).expect("one number per coordinate"))
}

/// What an encoded share says.
fn read(vdaf: &dyn Vdaf, share: &[u8]) -> Vec<i128> {
    let zero = vdaf.aggregate(&[], None, &[]).expect("an empty total");
    vdaf.unshard_signed(&[], share, &zero, 0).expect("two shares")
}

fn noised(plan: &ReleasePlan, vdaf: &dyn Vdaf, truth: &[i64], rng: &mut StdRng) -> Vec<i128> {
    let noise = Noise::draw(plan.mechanism(), truth.len(), rng);
    let noised =
        perturb(grant(plan), Some(noise), share(vdaf, truth), vdaf).expect("a share of the plan's length");
    read(vdaf, noised.for_sealing())
}

#[test]
fn two_aggregators_together_add_twice_the_variance() {
    let plan = plan(FIRST_COUNTER, "first-counter", &VdafConfig::Count, 100);
    let vdaf = VdafConfig::Count.instantiate().expect("a VDAF");
    let mut rng = StdRng::seed_from_u64(11);
    let releases = 4000;
    let (mut both, mut one) = (0.0, 0.0);
    for _ in 0..releases {
        let leader = noised(&plan, &*vdaf, &[500], &mut rng)[0] - 500;
        let helper = noised(&plan, &*vdaf, &[-300], &mut rng)[0] + 300;
        both += ((leader + helper) as f64).powi(2);
        one += (leader as f64).powi(2);
    }
    let (both, one) = (both / f64::from(releases), one / f64::from(releases));
    let mechanism = plan.mechanism();
    // The mean of 4000 squares of Laplace noise is within 6.5 of its standard deviations: 23 %.
    assert!((both / mechanism.variance(NoiseOf::BothAggregators) - 1.0).abs() < 0.23, "{both}");
    assert!((one / mechanism.variance(NoiseOf::OneAggregator) - 1.0).abs() < 0.23, "{one}");
    assert!(
        one / mechanism.variance(NoiseOf::BothAggregators) < 0.77,
        "the test would notice one lost noise"
    );
}

#[test]
fn intervals_cover_as_often_as_they_say() {
    let plan = plan(PAGE_LOAD, "page-load/v2", &VdafConfig::histogram(1000), 1000);
    let width = plan.mechanism().half_width(0.95, NoiseOf::BothAggregators);
    let vdaf = VdafConfig::histogram(1000).instantiate().expect("a VDAF");
    let mut rng = StdRng::seed_from_u64(12);
    let mut inside = 0u32;
    for _ in 0..4 {
        let leader = noised(&plan, &*vdaf, &[10; 1000], &mut rng);
        let helper = noised(&plan, &*vdaf, &[-10; 1000], &mut rng);
        inside += leader
            .iter()
            .zip(&helper)
            .map(|(a, b)| u32::from((a + b).unsigned_abs() <= u128::from(width)))
            .sum::<u32>();
    }
    let share = f64::from(inside) / 4000.0;
    assert!((share - 0.95).abs() < 0.02, "{share}");
}

#[test]
fn a_written_exception_adds_nothing_until_it_expires() {
    let text = Policy::for_release_without_dp("exact totals for a test", "2030-01-01");
    let policy = Policy::parse("policy.toml", &text).expect("the file is right");
    let facts = TaskFacts::new("any", &VdafConfig::Count, 1);
    let Ok(Decision::WithoutDp(exception)) = policy.release_for(&facts) else { panic!("the file allows it") };
    let key = || ReleaseKey::new([1; 32], b"batch", b"");
    let grant = Grant::without_dp(&exception, key(), exception.expires() - 1).expect("still valid");
    assert!(matches!(grant.protection(), Protection::WithoutDp(_)));
    let vdaf = VdafConfig::Count.instantiate().expect("a VDAF");
    let exact = perturb(grant, None, share(&*vdaf, &[41]), &*vdaf).expect("nothing is added");
    assert_eq!(read(&*vdaf, exact.for_sealing()), [41]);
    let expired = Grant::without_dp(&exception, key(), exception.expires()).expect_err("expired");
    assert!(expired.to_string().contains("has expired"));
    assert!(exception.explain().starts_with("NOT differentially private"));
}

#[test]
fn a_share_of_another_length_is_not_noised() {
    let plan = plan(PAGE_LOAD, "page-load/v2", &VdafConfig::histogram(1000), 1000);
    let vdaf = VdafConfig::Count.instantiate().expect("a VDAF");
    let noise = Noise::draw(plan.mechanism(), 1000, &mut StdRng::seed_from_u64(14));
    let perturbed = perturb(grant(&plan), Some(noise), share(&*vdaf, &[41]), &*vdaf);
    assert!(matches!(perturbed, Err(PerturbError::Vdaf(_))));
}

#[test]
fn only_the_granted_noise_is_added() {
    let counter = plan(FIRST_COUNTER, "first-counter", &VdafConfig::Count, 100);
    let other = plan(PAGE_LOAD, "page-load/v2", &VdafConfig::histogram(1000), 1000);
    let vdaf = VdafConfig::Count.instantiate().expect("a VDAF");
    let mut rng = StdRng::seed_from_u64(15);
    let mut draw = |mechanism, length| Some(Noise::draw(mechanism, length, &mut rng));
    let (mechanism, another) = (counter.mechanism(), other.mechanism());
    for wrong in [None, draw(another, 1), draw(mechanism, 2), draw(mechanism, 0)] {
        let perturbed = perturb(grant(&counter), wrong, share(&*vdaf, &[41]), &*vdaf);
        assert!(matches!(perturbed, Err(PerturbError::OtherNoise)));
    }
    assert!(perturb(grant(&counter), draw(mechanism, 1), share(&*vdaf, &[41]), &*vdaf).is_ok());
}

#[test]
fn statements_are_bound_to_tasks_by_their_hash() {
    let counter = plan(FIRST_COUNTER, "first-counter", &VdafConfig::Count, 100);
    let statement = counter.statement();
    assert_eq!(
        statement.canonical_json(),
        r#"{"contribution":{"enforced_by":"none","max_reports_per_batch":1,"max_reports_per_window":1,"window":{"kind":"lifetime"}},"loss_per_release":{"epsilon":"1/2"},"mechanism":{"name":"discrete_laplace","scale":"2"},"min_batch_size":"100","neighboring_relation":"replace_one","noise_by":"each_aggregator","privacy_unit":"report","schema":"dp-statement/1","unprotected_quantities":["interval","report_count"],"vdaf":{"type":"prio3-count"}}"#
    );
    let task_info = statement.task_info("first-counter").expect("the label is short");
    assert_eq!(task_info.len(), "first-counter".len() + 36);
    assert_eq!(parse_task_info(&task_info), Some(("first-counter", statement.sha256())));
    assert_eq!(statement.task_info(&"x".repeat(219)).expect("the longest label").len(), 255);
    assert!(statement.task_info(&"x".repeat(220)).is_err());
    assert!(statement.task_info("a\0b").is_err());
    for strange in [&b""[..], b"label", b"label\0dp1", &[0; 36], &task_info[1..]] {
        assert_eq!(parse_task_info(strange).is_some(), strange == &task_info[1..], "{strange:?}");
    }
}

#[test]
fn what_does_not_change_the_promise_does_not_change_the_statement() {
    let statement = |text: &str| plan(text, "first-counter", &VdafConfig::Count, 100).statement().sha256();
    let reference = statement(FIRST_COUNTER);
    let bare: String = FIRST_COUNTER.split_inclusive('\n').filter(|line| !line.starts_with('#')).collect();
    assert_eq!(statement(&bare), reference);
    assert_eq!(statement(&FIRST_COUNTER.replace("epsilon = 5", "epsilon = 50")), reference);
    assert_eq!(statement(&FIRST_COUNTER.replace("\"1/2\"", "0.50")), reference);
    assert_eq!(statement(&FIRST_COUNTER.replace("you@", "me@")), reference);
    assert_ne!(statement(&FIRST_COUNTER.replace("\"1/2\"", "0.51")), reference);
    assert_ne!(statement(&FIRST_COUNTER.replace("replace_one", "replace_special")), reference);
}
