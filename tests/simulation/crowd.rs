//! Many seeds at once, as many as there are cores.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crate::gate;
use crate::run::{self, On};

/// Runs these seeds, or those that the environment asks for.
///
/// # Panics
/// When a run fails, with everything that is needed to see why.
pub(crate) fn check_all(on: On, seeds: Range<u64>) {
    let seeds = asked_for().unwrap_or(seeds);
    let started = Instant::now();
    let (next, failures) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::SeqCst);
        if seed >= seeds.end || failures.lock().expect("no thread panics with it").len() >= ENOUGH {
            return;
        }
        if let Err(failure) = run::check(on, seed) {
            failures.lock().expect("no thread panics with it").push(failure);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let took = started.elapsed().as_secs_f64();
    let edges = gate::edges_of_death().len();
    eprintln!("simulated {} seeds on {on:?} in {took:.1} s; died at {edges} edges", seeds.end - seeds.start);
    let failures = failures.into_inner().expect("no thread panicked");
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// `MICA_SIMULATION_SEED=7` or `MICA_SIMULATION_SEEDS=100..200`.
fn asked_for() -> Option<Range<u64>> {
    if let Ok(seed) = std::env::var("MICA_SIMULATION_SEED") {
        let seed: u64 = seed.parse().expect("MICA_SIMULATION_SEED is a number");
        return Some(seed..seed + 1);
    }
    let seeds = std::env::var("MICA_SIMULATION_SEEDS").ok()?;
    let (start, end) = seeds.split_once("..").expect("MICA_SIMULATION_SEEDS is a range such as 100..200");
    let number = |text: &str| text.parse().expect("MICA_SIMULATION_SEEDS is a range such as 100..200");
    Some(number(start)..number(end))
}

/// Whether the environment names seeds.
pub(crate) fn is_asked_for_seeds() -> bool {
    asked_for().is_some()
}

/// Whether these tests have a server. Without one they say so, or fail, as everywhere.
pub(crate) fn has_postgres() -> bool {
    let server = std::env::var_os("MICA_TEST_POSTGRES").is_some();
    let left_out = std::env::var("MICA_TEST_SQLITE_ONLY").is_ok_and(|value| value == "1");
    assert!(server || left_out, "this test also runs on PostgreSQL: run `cargo xtask test`");
    server
}

/// So many failures tell as much as more would.
const ENOUGH: usize = 3;
