use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use mica_dap::hpke::NoisedShare as _;
use mica_dp::accountant::Span;
use mica_dp::{BudgetState, ChainHead, ChargeRequest, Grant, ReleaseKey, ReleasePlan, ledger, perturb};
use zeroize::Zeroizing;

use super::*;
use crate::release::tests::task;

const BRIEF: Duration = Duration::from_millis(30);
const LONG: Duration = Duration::from_secs(20);

fn at_once(mechanism: &Mechanism, length: usize) -> Noise {
    Noise::draw(mechanism, length, &mut rand::rng())
}

fn slowly(mechanism: &Mechanism, length: usize) -> Noise {
    thread::sleep(BRIEF);
    at_once(mechanism, length)
}

/// The first draws of a process are quick, the others take so long that nobody who waits for them goes unnoticed.
fn first_four_then_hardly_ever(mechanism: &Mechanism, length: usize) -> Noise {
    static DRAWN: AtomicUsize = AtomicUsize::new(0);
    if DRAWN.fetch_add(1, Ordering::SeqCst) >= MOST_OF_A_KIND {
        thread::sleep(LONG);
    }
    at_once(mechanism, length)
}

fn plan(task: &Task) -> &ReleasePlan {
    let Decision::Release(plan) = &task.decision else { panic!("it releases with noise") };
    plan
}

fn grant(plan: &ReleasePlan) -> Grant {
    let whole =
        |charge: &mica_dp::Charge| BudgetState { budget_id: charge.budget_id.clone(), uses: Vec::new() };
    let states: Vec<_> = plan.charges().iter().map(whole).collect();
    let key = ReleaseKey::new([7; 32], b"batch", b"");
    let request = ChargeRequest { key, report_count: 10, data: Span::ALL, now: 0 };
    let charged = ledger::charge(plan, request, &states, ChainHead::EMPTY).expect("the budget is whole");
    let stored = charged.entries().to_vec();
    charged.recorded(&stored).expect("it is stored")
}

fn counts(reserve: &NoiseReserve) -> (usize, usize) {
    let shelves = reserve.0.locked();
    (shelves.iter().map(|it| it.ready.len()).sum(), shelves.iter().map(|it| it.coming).sum())
}

async fn stocked(reserve: &NoiseReserve, task: &Task) {
    reserve.stock(task);
    while counts(reserve) != (MOST_OF_A_KIND, 0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn every_draw_shorter_than_a_step_is_used_at_the_same_moment() {
    let (begun, step) = (Instant::now(), step(1));
    for took in [0, 1, 999, 50_000, 99_999, 100_000] {
        assert_eq!(due(begun, begun + Duration::from_micros(took), step), begun + GRID, "{took} µs");
    }
    assert_eq!(due(begun, begun + Duration::from_micros(100_001), step), begun + 2 * GRID);
    assert_eq!(super::step(100_000), 50 * GRID, "long vectors take long");
}

#[tokio::test]
async fn noise_that_was_not_ready_is_used_on_the_grid() {
    let task = task();
    for sampler in [at_once, slowly] {
        let reserve = NoiseReserve::with_sampler(ComputePool::with_threads(1), sampler);
        let begun = Instant::now();
        drop(reserve.portion(&task).await);
        assert!(begun.elapsed() >= GRID, "never when the draw is done");
    }
}

#[tokio::test]
async fn a_release_waits_for_no_draw_where_noise_is_ready() {
    let task = task();
    let compute = ComputePool::with_threads(1);
    let reserve = NoiseReserve::with_sampler(compute, first_four_then_hardly_ever);
    stocked(&reserve, &task).await;
    let begun = Instant::now();
    for _ in 0..MOST_OF_A_KIND {
        let portion = reserve.portion(&task).await;
        portion.take(plan(&task).mechanism(), 1).await;
    }
    assert!(begun.elapsed() < LONG, "somebody waited for a draw");
    assert_eq!(counts(&reserve).1, MOST_OF_A_KIND, "others are drawn meanwhile");
}

#[tokio::test]
async fn no_two_releases_use_the_same_noise() {
    let policy = mica_dp::Policy::for_demo("t", &mica_dap::vdaf_config::VdafConfig::Count, 2, "1/1000000000");
    let policy = mica_dp::Policy::parse("policy.toml", &policy).expect("a policy");
    let vdaf = mica_dap::vdaf_config::VdafConfig::Count;
    let facts = mica_dp::TaskFacts::new("t", &vdaf, 2);
    let Ok(Decision::Release(plan)) = policy.release_for(&facts) else { panic!("it releases with noise") };
    let vdaf = vdaf.instantiate().expect("a VDAF");
    let zero = vdaf.aggregate(&[], None, &[]).expect("an empty total");
    let reserve = NoiseReserve::new(ComputePool::with_threads(2));
    let releases = 40;
    let mut seen = BTreeSet::new();
    for _ in 0..releases {
        // Some of it comes from the reserve, some is drawn on the way, and some comes back unused.
        drop(Portion {
            reserve: reserve.clone(),
            noise: Mutex::new(Some(reserve.ready(plan.mechanism(), 1).await)),
        });
        let noise = reserve.ready(plan.mechanism(), 1).await;
        let share = Zeroizing::new(zero.clone());
        let noised = perturb(grant(&plan), Some(noise), share, &*vdaf).expect("granted noise");
        seen.insert(vdaf.unshard_signed(&[], noised.for_sealing(), &zero, 0).expect("two shares"));
    }
    assert_eq!(seen.len(), releases, "of numbers around a billion, no two are the same");
}

#[tokio::test]
async fn what_is_not_used_is_ready_again_and_what_is_kept_is_bounded() {
    let task = task();
    let reserve = NoiseReserve::new(ComputePool::with_threads(2));
    stocked(&reserve, &task).await;
    drop(reserve.portion(&task).await);
    assert!(counts(&reserve).0 >= MOST_OF_A_KIND);
    let mechanism = plan(&task).mechanism();
    assert_eq!(reserve.0.missing(mechanism, MOST_COORDINATES + 1), None, "too long to be drawn ahead");
    for length in 2..2 * MOST_KINDS {
        reserve.0.shelf(mechanism, length, |shelf| shelf.ready.push(at_once(mechanism, length)));
        reserve.0.missing(mechanism, 1);
    }
    assert!(reserve.0.locked().len() <= MOST_KINDS);
}
