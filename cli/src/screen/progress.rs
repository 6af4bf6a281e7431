//! How far something is, on standard error and only where that is a terminal.

use std::fmt::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::Signs;

/// A bar that is gone when it is done: what stays on the screen is the caller's line of result.
#[derive(Clone)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar of this many steps.
    pub(crate) fn steps(signs: Signs, label: &'static str, steps: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(BAR).expect("the template is one").with_key("rate", rate);
        bar.set_style(style.progress_chars(signs.choose("━━┄", "##-")));
        bar.set_prefix(label);
        Self(bar)
    }

    /// A sign of life for something of unknown length.
    pub(crate) fn waiting(signs: Signs, label: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(SPINNER).expect("the template is one");
        bar.set_style(style.tick_chars(signs.choose("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ", "|/-\\ ")));
        bar.set_prefix(label);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    /// One step more.
    pub(crate) fn step(&self) {
        self.0.inc(1);
    }

    /// So many steps are done.
    pub(crate) fn reach(&self, steps: u64) {
        self.0.set_position(steps);
    }

    /// What is being waited for.
    pub(crate) fn say(&self, what: impl Into<String>) {
        self.0.set_message(what.into());
    }

    /// Takes the bar off the screen.
    pub(crate) fn done(&self) {
        self.0.finish_and_clear();
    }
}

/// Steps per second, without the digits that change all the time.
fn rate(state: &ProgressState, out: &mut dyn Write) {
    // What cannot be written is not shown.
    let _ = write!(out, "{:.0}/s", state.per_sec());
}

const BAR: &str = "{prefix:<9} {human_pos}/{human_len} {bar:30} {percent:>3} %   {rate}   {elapsed}";
const SPINNER: &str = "{prefix:<9} {spinner} {msg}   {elapsed}";
