//! One seed: its plan, its run, its verdict; and of a run that fails, the shortest plan that fails the same way.

use std::fmt::Write as _;

use crate::databases::Databases;
use crate::dice::Dice;
use crate::model::Violation;
use crate::oracle;
use crate::plan::{Setting, Step};
use crate::settle;
use crate::world::World;

/// Where a run keeps its databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Sqlite,
    Postgres,
}

/// What a seed stands for.
pub(crate) fn plan(seed: u64) -> (Setting, Vec<Step>) {
    let mut dice = Dice::new(seed);
    let mut setting = dice.setting();
    let steps = dice.steps(&setting);
    // A job that is too large is cut only if it is certain that the helper has not counted it. Where an answer may be lost
    // the job waits for an operator instead, and the run would have no end.
    if steps.iter().any(|step| step.stop.is_some() || !step.faults.is_empty() || step.action.kills()) {
        setting.helper_takes = setting.job_reports;
    }
    (setting, steps)
}

/// Runs a plan from beginning to end, in virtual time. What is wrong with it.
pub(crate) fn run(on: On, setting: Setting, steps: &[Step]) -> Vec<Violation> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let databases = match on {
            On::Sqlite => Databases::sqlite(),
            On::Postgres => Databases::postgres().await.expect("the tests have a server"),
        };
        let mut world = World::new(setting, databases).await;
        for step in steps {
            world.take(step).await;
        }
        let found = match settle::settle(&mut world).await {
            Ok(()) => oracle::judge(&world).await,
            Err(stuck) => world.model.violations.iter().cloned().chain([stuck]).collect(),
        };
        world.end().await;
        found
    })
}

/// Runs a seed. Of one that fails, everything that is needed to see why.
pub(crate) fn check(on: On, seed: u64) -> Result<(), String> {
    let (setting, steps) = plan(seed);
    let found = run(on, setting, &steps);
    let Some(first) = found.first() else { return Ok(()) };
    let shortest = shorten(on, setting, steps, first);
    Err(tell(on, seed, setting, &shortest, &found))
}

/// Leaves out steps, and what goes wrong in them, as long as it fails in the same way.
fn shorten(on: On, setting: Setting, steps: Vec<Step>, like: &Violation) -> Vec<Step> {
    let mut runs = 0;
    let mut fails = |steps: &[Step]| {
        runs += 1;
        let same = |found: &Violation| std::mem::discriminant(found) == std::mem::discriminant(like);
        runs <= MOST_RUNS && run(on, setting, steps).iter().any(same)
    };
    let mut steps = steps;
    let mut part = steps.len() / 2;
    while part > 0 {
        let mut from = 0;
        while from < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(from..(from + part).min(steps.len()));
            if fails(&fewer) { steps = fewer } else { from += part }
        }
        part /= 2;
    }
    for at in 0..steps.len() {
        let mut calmer = steps.clone();
        calmer[at].faults.clear();
        if calmer[at] != steps[at] && fails(&calmer) {
            steps = calmer;
        }
        let mut calmer = steps.clone();
        calmer[at].stop = None;
        if calmer[at] != steps[at] && fails(&calmer) {
            steps = calmer;
        }
    }
    steps
}

fn tell(on: On, seed: u64, setting: Setting, steps: &[Step], found: &[Violation]) -> String {
    let mut text = format!("seed {seed} on {on:?} fails:\n");
    for violation in found {
        writeln!(text, "  {violation}").expect("a string can always be written to");
    }
    writeln!(text, "with {setting:?}\nthe shortest plan that fails like this:").expect("as before");
    for step in steps {
        writeln!(text, "  {step:?}").expect("as before");
    }
    write!(text, "again: MICA_SIMULATION_SEED={seed} cargo test -p mica-tests --test simulation")
        .expect("as before");
    text
}

/// Of looking for a shorter plan.
const MOST_RUNS: u32 = 300;
