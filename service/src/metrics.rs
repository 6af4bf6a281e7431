//! Figures as Prometheus reads them (text format 0.0.4), and how long things took.
//!
//! Every server shows its figures in this form. Labels are words of ours, fixed when the program is written, or names that
//! the operator gave: a figure must never name a client, an address or a size that one of them chose.

use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Collects figures.
#[derive(Default)]
pub struct Text(String);

impl Text {
    /// Begins a family: its name, its kind (`counter`, `gauge`, `histogram`), and a sentence without its full stop.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        writeln!(self.0, "# HELP {name} {help}.\n# TYPE {name} {kind}")
            .expect("a string can always be written to");
    }

    /// Adds one figure.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let pairs: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
        writeln!(self.0, "{name}{labels} {value}").expect("a string can always be written to");
    }

    /// A family of one figure.
    pub fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// A family of times in seconds.
    pub fn times(&mut self, name: &str, help: &str, times: &Times) {
        self.family(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        let mut sum = 0;
        for (cell, most) in times.cells.iter().zip(MOST) {
            sum += cell.load(Ordering::Relaxed);
            self.sample(&bucket, &[("le", most.1)], sum);
        }
        let micros = times.sum_micros.load(Ordering::Relaxed);
        self.sample(&format!("{name}_sum"), &[], format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000));
        self.sample(&format!("{name}_count"), &[], sum);
    }

    /// All that was written.
    pub fn into_string(self) -> String {
        self.0
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// How often something took how long, in a few coarse steps.
#[derive(Debug, Default)]
pub struct Times {
    cells: [AtomicU64; MOST.len()],
    sum_micros: AtomicU64,
}

impl Times {
    /// It took so long once more.
    pub fn add(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let cell = MOST.iter().position(|(most, _)| micros <= *most).and_then(|step| self.cells.get(step));
        if let Some(cell) = cell {
            cell.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

/// The steps in microseconds, and as they are written in seconds.
const MOST: [(u64, &str); 9] = [
    (1_000, "0.001"),
    (5_000, "0.005"),
    (25_000, "0.025"),
    (100_000, "0.1"),
    (500_000, "0.5"),
    (2_000_000, "2"),
    (10_000_000, "10"),
    (30_000_000, "30"),
    (u64::MAX, "+Inf"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_in_steps_that_hold_all_the_smaller_ones() {
        let times = Times::default();
        for millis in [0, 1, 2, 600, 40_000] {
            times.add(Duration::from_millis(millis));
        }
        let mut text = Text::default();
        text.times("x_seconds", "How long", &times);
        let text = text.into_string();
        for line in [
            "# TYPE x_seconds histogram",
            "x_seconds_bucket{le=\"0.001\"} 2",
            "x_seconds_bucket{le=\"0.5\"} 3",
            "x_seconds_bucket{le=\"2\"} 4",
            "x_seconds_bucket{le=\"+Inf\"} 5",
            "x_seconds_sum 40.603000",
            "x_seconds_count 5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
