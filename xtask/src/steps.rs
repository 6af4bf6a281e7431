//! The steps of a command: each is announced, timed, and told of again at the end.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::process;

/// What has been done so far, and how it went.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<Step>,
}

struct Step {
    name: &'static str,
    took: Duration,
    passed: bool,
}

impl Steps {
    /// Runs one step; a failure is printed and remembered, and does not keep the next step from running.
    ///
    /// Gives what the step gave, or `None` if it failed.
    pub(crate) fn run<T>(&mut self, name: &'static str, step: impl FnOnce() -> Result<T>) -> Option<T> {
        if process::interrupted() {
            return None;
        }
        eprintln!("== {name}");
        let start = Instant::now();
        let outcome = step();
        let took = start.elapsed();
        match &outcome {
            Ok(_) => eprintln!("== {name}: ok, {:.1} s", took.as_secs_f64()),
            Err(error) => {
                complain(format_args!("{error:#}"));
                eprintln!("== {name}: failed, {:.1} s", took.as_secs_f64());
            }
        }
        self.done.push(Step { name, took, passed: outcome.is_ok() });
        outcome.ok()
    }

    /// Prints one line per step and says whether every one of them passed.
    pub(crate) fn finish(&self) -> bool {
        let width = self.done.iter().map(|step| step.name.len()).max().unwrap_or_default();
        for step in &self.done {
            let outcome = if step.passed { "ok" } else { "FAILED" };
            eprintln!("   {:width$}  {:8.1} s  {outcome}", step.name, step.took.as_secs_f64());
        }
        if process::interrupted() {
            complain("interrupted");
        }
        self.done.iter().all(|step| step.passed) && !process::interrupted()
    }
}

/// Prints one failure.
pub(crate) fn complain(what: impl Display) {
    eprintln!("error: {what}");
}
