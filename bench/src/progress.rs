//! What is being done right now: one line on standard error, and only when a person is looking at it.

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

/// Tells of steps.
pub(crate) struct Progress {
    started: Instant,
    seen: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), seen: std::io::stderr().is_terminal() }
    }

    /// The next step begins.
    pub(crate) fn step(&self, what: &str) {
        if self.seen {
            // Nothing is lost with it.
            let _ = writeln!(std::io::stderr(), "{:6.1} s  {what}", self.started.elapsed().as_secs_f64());
        }
    }
}
