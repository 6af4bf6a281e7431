//! Audits of what one aggregator lets go, as somebody outside sees it: how far apart two neighbouring batches can be told.
//!
//! Many releases of two batches that differ in one report, the event that tells them apart best (Neyman and Pearson), how
//! often it came for each, and from that a lower bound on the privacy loss which is wrong with a probability of at most
//! 10⁻⁶ (two one-sided bounds of Clopper and Pearson). A bound above the claim is a proof that the claim is false. Faults
//! that a server could have are put in on purpose and must be caught by the same numbers.
//!
//! In a vector of 1,000 buckets each pair of neighbours is one trial, because the noise of the coordinates is independent;
//! where it is not, that is found out too. Gaussian noise is audited where its trade-off curve is closest to the total
//! variation: at ε for δ = 10⁻⁹ the events that matter are too rare, and half of the variance would pass.

#![expect(clippy::cast_precision_loss, reason = "counts of a test are far below 2^52")]

use std::sync::Arc;

use mica_dap::hpke::NoisedShare as _;
use mica_dap::vdaf::Vdaf;
use mica_dap::vdaf_config::VdafConfig;
use mica_dp::accountant::Span;
use mica_dp::faults::Fault;
use mica_dp::{
    BudgetState, ChainHead, ChargeRequest, Decision, Grant, Mechanism, Noise, Policy, ReleaseKey,
    ReleasePlan, TaskFacts, ledger, perturb,
};
use num_bigint::BigInt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use zeroize::Zeroizing;

const BUCKETS: usize = 1000;

/// Set by `cargo xtask test --long`: fresh seeds and more releases.
const LONG: &str = "MICA_TEST_LONG";

/// One aggregator under audit.
struct Audited {
    plan: ReleasePlan,
    vdaf: Arc<dyn Vdaf>,
    fault: Option<Fault>,
    rng: StdRng,
}

impl Audited {
    fn new(policy: &str, fault: Option<Fault>, seed: u64) -> Self {
        let vdaf = VdafConfig::histogram(1000);
        let policy = Policy::parse("policy.toml", policy).expect("the file is right");
        let facts = TaskFacts::new("page-load/v2", &vdaf, 1000);
        let Ok(Decision::Release(plan)) = policy.release_for(&facts) else {
            panic!("it releases with noise")
        };
        let seed = if std::env::var_os(LONG).is_none() { seed } else { rand::random() };
        println!("{}, {fault:?}: seed {seed}", plan.mechanism());
        let vdaf = vdaf.instantiate().expect("a VDAF");
        Self { plan: *plan, vdaf, fault, rng: StdRng::seed_from_u64(seed) }
    }

    fn laplace(fault: Option<Fault>, seed: u64) -> Self {
        let audited = Self::new(
            &Policy::for_demo("page-load/v2", &VdafConfig::histogram(1000), 1000, "1/2"),
            fault,
            seed,
        );
        assert_eq!(audited.plan.mechanism().to_string(), "discrete_laplace(scale=4)");
        audited
    }

    fn gaussian(fault: Option<Fault>, seed: u64) -> Self {
        let text = include_str!("../../policies/page-load-histogram.toml");
        let louder = text.replace("rho_per_release = 0.0025", "rho_per_release = 0.04");
        let audited = Self::new(&louder, fault, seed);
        assert_eq!(audited.plan.mechanism().to_string(), "discrete_gaussian(sigma=5)");
        audited
    }

    /// The path of a release: charge, grant, noise, share.
    fn release(&mut self, truth: &[BigInt]) -> Vec<i128> {
        let (grant, mechanism) = (grant(&self.plan), self.plan.mechanism());
        let noise = draw(self.fault, mechanism, &mut self.rng);
        let zero = self.vdaf.aggregate(&[], None, &[]).expect("an empty total");
        let share = Zeroizing::new(self.vdaf.add_noise(&zero, truth).expect("a number per bucket"));
        let noised = perturb(grant, Some(noise), share, &*self.vdaf).expect("granted noise");
        self.vdaf.unshard_signed(&[], noised.for_sealing(), &zero, 0).expect("two shares")
    }

    /// How often the event is seen in so many trials, with a report in the first bucket of a pair, or the second.
    fn count(&mut self, trials: usize, first: bool, event: impl Fn(i128, i128) -> bool) -> Count {
        let truth: Vec<BigInt> = (0..BUCKETS).map(|at| u8::from((at % 2 == 0) == first).into()).collect();
        let (mut seen, mut done) = (0, 0);
        while done < trials {
            let released = self.release(&truth);
            seen += released.chunks_exact(2).filter(|pair| event(pair[0], pair[1])).count();
            done += BUCKETS / 2;
        }
        Count { seen: seen as f64, of: done as f64 }
    }

    /// At least so much epsilon: the odds of the event with the report in either bucket.
    fn epsilon(mut self, trials: usize) -> f64 {
        let event = |first, second| first >= 1 && second <= 0;
        let (one, other) = (self.count(trials, true, event), self.count(trials, false, event));
        (one.at_least() / other.at_most()).ln()
    }

    /// At least so far apart, in standard deviations (the μ of Gaussian differential privacy).
    fn mu(mut self, trials: usize) -> f64 {
        let event = |first, second| first > second;
        let (one, other) = (self.count(trials, true, event), self.count(trials, false, event));
        quantile(one.at_least()) - quantile(other.at_most())
    }
}

fn draw(fault: Option<Fault>, mechanism: &Mechanism, rng: &mut StdRng) -> Noise {
    match fault {
        None => Noise::draw(mechanism, BUCKETS, rng),
        Some(fault) => fault.draw(mechanism, BUCKETS, rng),
    }
}

fn grant(plan: &ReleasePlan) -> Grant {
    let whole =
        |charge: &mica_dp::Charge| BudgetState { budget_id: charge.budget_id.clone(), uses: Vec::new() };
    let states: Vec<_> = plan.charges().iter().map(whole).collect();
    let key = ReleaseKey::new([1; 32], b"batch", b"");
    let request =
        ChargeRequest { key, report_count: 1000, data: Span::of_reports(0, 3600).expect("an hour"), now: 0 };
    let charged = ledger::charge(plan, request, &states, ChainHead::EMPTY).expect("the budget is whole");
    let stored = charged.entries().to_vec();
    charged.recorded(&stored).expect("it is stored")
}

/// So many of so many.
#[derive(Clone, Copy)]
struct Count {
    seen: f64,
    of: f64,
}

/// How often each of two bounds may be wrong: 10⁻⁶ together.
const WRONG: f64 = 5e-7;

impl Count {
    /// The probability below which seeing so many would be a wonder.
    fn at_least(self) -> f64 {
        bisect(0.0, self.seen / self.of, |p| self.at_least_as_many(p) < WRONG)
    }

    /// The probability above which seeing so few would be.
    fn at_most(self) -> f64 {
        1.0 - Self { seen: self.of - self.seen, of: self.of }.at_least()
    }

    /// `P(Binomial(of, p) ≥ seen)`, for p below what was seen: the terms fall from the first on.
    fn at_least_as_many(self, p: f64) -> f64 {
        if self.seen == 0.0 {
            return 1.0;
        }
        if p == 0.0 {
            return 0.0;
        }
        let Self { seen, of } = self;
        let rest = of - seen;
        let missed = if rest == 0.0 { 0.0 } else { rest * (-p).ln_1p() };
        let first = ln_factorial(of) - ln_factorial(seen) - ln_factorial(rest) + seen * p.ln() + missed;
        let (mut term, mut sum, mut at) = (first.exp(), 0.0, seen);
        while term > sum * 1e-17 && at <= of {
            sum += term;
            term *= (of - at) / (at + 1.0) * p / (1.0 - p);
            at += 1.0;
        }
        sum
    }
}

/// The largest number between `low` and `high` up to which `holds` does.
fn bisect(low: f64, high: f64, holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (low, high);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if holds(middle) { low = middle } else { high = middle }
    }
    low
}

fn ln_factorial(n: f64) -> f64 {
    if n < 20.0 {
        let mut product = 1.0;
        let mut at = 2.0;
        while at <= n {
            product *= at;
            at += 1.0;
        }
        return product.ln();
    }
    let stirling = 1.0 / (12.0 * n) - 1.0 / (360.0 * n.powi(3)) + 1.0 / (1260.0 * n.powi(5));
    n * n.ln() - n + 0.5 * (std::f64::consts::TAU * n).ln() + stirling
}

/// Where the normal distribution reaches `p`, between -8 and 8.
fn quantile(p: f64) -> f64 {
    bisect(-8.0, 8.0, |x| normal(x) < p)
}

/// The normal distribution, by its series around zero.
fn normal(x: f64) -> f64 {
    let (mut term, mut sum, mut at) = (x, 0.0, 1.0);
    while f64::abs(term) > 1e-18 {
        sum += term;
        at += 2.0;
        term *= x * x / at;
    }
    0.5 + sum * (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt()
}

fn long(trials: usize) -> usize {
    if std::env::var_os(LONG).is_some() { 10 * trials } else { trials }
}

#[test]
fn bounds_are_those_of_clopper_and_pearson() {
    let close = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-9, "{a} and {b}");
    // All of n: the bound p solves p^n = WRONG. None of n: (1-p)^n = WRONG.
    close(Count { seen: 50.0, of: 50.0 }.at_least(), WRONG.powf(1.0 / 50.0));
    close(Count { seen: 0.0, of: 50.0 }.at_most(), 1.0 - WRONG.powf(1.0 / 50.0));
    assert!(Count { seen: 0.0, of: 50.0 }.at_least() == 0.0);
    // One of n: 1 - (1-p)^n = WRONG.
    close(Count { seen: 1.0, of: 50.0 }.at_least(), -((-WRONG).ln_1p() / 50.0).exp_m1());
    // By the normal approximation, 4.89 standard deviations.
    let half = Count { seen: 500_000.0, of: 1_000_000.0 };
    assert!((half.at_least() - (0.5 - 4.8916 * 0.0005)).abs() < 1e-6, "{}", half.at_least());
    close(quantile(normal(1.0)), 1.0);
    close(normal(1.959_963_984_540_054), 0.975);
}

#[test]
fn laplace_noise_keeps_its_epsilon_and_no_more() {
    let bound = Audited::laplace(None, 1).epsilon(long(200_000));
    assert!(bound <= 0.5, "epsilon is at least {bound}, and 0.5 is claimed");
    assert!(bound > 0.45, "the audit sees nearly all of it: {bound}");
}

#[test]
fn faults_of_laplace_noise_are_caught() {
    for (fault, trials, seed) in [
        (Fault::Lost, 1_000, 2),
        (Fault::SensitivityOfOne, 10_000, 3),
        (Fault::OneForAll, 10_000, 4),
        (Fault::OneSided, 10_000, 5),
        (Fault::TenthLow, 200_000, 6),
    ] {
        let bound = Audited::laplace(Some(fault), seed).epsilon(long(trials));
        println!("{fault:?}: {bound}");
        assert!(bound > 0.5, "{fault:?} went unnoticed: {bound}");
    }
}

/// What is claimed: √2 / σ for a report that moves from one bucket to another.
const MU: f64 = std::f64::consts::SQRT_2 / 5.0;

#[test]
fn gaussian_noise_keeps_its_trade_off_and_no_more() {
    let bound = Audited::gaussian(None, 11).mu(long(100_000));
    println!("{bound} of {MU}");
    assert!(bound <= MU, "mu is at least {bound}, and {MU} is claimed");
    assert!(bound > 0.8 * MU, "the audit sees most of it: {bound}");
}

#[test]
fn faults_of_gaussian_noise_are_caught() {
    let mut faults = vec![
        (Fault::Lost, 1_000, 12),
        (Fault::HalfVariance, 50_000, 13),
        (Fault::OneForAll, 10_000, 14),
        (Fault::TenthLow, 250_000, 15),
    ];
    if std::env::var_os(LONG).is_some() {
        faults.push((Fault::FiftiethLow, 1_000_000, 16));
    }
    for (fault, trials, seed) in faults {
        let bound = Audited::gaussian(Some(fault), seed).mu(long(trials));
        println!("{fault:?}: {bound} of {MU}");
        assert!(bound > MU, "{fault:?} went unnoticed: {bound}");
    }
}
