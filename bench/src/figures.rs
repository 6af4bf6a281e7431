//! The figures of one run, in the form in which they are printed as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::options::Path;
use crate::parties::Role;
use crate::roofline::Primitives;

/// Everything that is printed.
#[derive(Serialize)]
pub(crate) struct Figures {
    pub(crate) work: Work,
    pub(crate) machine: Machine,
    /// CPU time in microseconds per report.
    pub(crate) cpu: Cpu,
    /// The same for the primitives alone.
    pub(crate) primitives: Primitives,
    pub(crate) speed: Speed,
    /// In bytes, by role.
    pub(crate) memory: BTreeMap<Role, Memory>,
    pub(crate) storage: Storage,
}

/// What was done.
#[derive(Serialize)]
pub(crate) struct Work {
    pub(crate) vdaf: String,
    pub(crate) reports: u32,
    pub(crate) connections: u16,
    pub(crate) path: Path,
    pub(crate) database: String,
    /// One report, as the leader gets it.
    pub(crate) report_bytes: usize,
    /// One request, as the client sends it.
    pub(crate) request_bytes: usize,
    /// The total was compared with the plain sum and is the same; a run where it is not prints nothing.
    pub(crate) total_is_right: bool,
}

/// What it was done on.
#[derive(Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    /// Over one, five and fifteen minutes: what others did just before.
    pub(crate) load_average_before: [f64; 3],
    pub(crate) load_average_after: [f64; 3],
}

/// CPU time in microseconds per report.
#[derive(Serialize)]
pub(crate) struct Cpu {
    pub(crate) roles: BTreeMap<Role, f64>,
    /// The server; an embedded database is part of its role.
    pub(crate) database: Option<f64>,
    /// Leader, helper and database server, which on the full path also serves the gateway.
    pub(crate) dap: f64,
    /// Relay and gateway.
    pub(crate) envelope: Option<f64>,
    pub(crate) total: f64,
    /// The sum of the primitives.
    pub(crate) roofline: f64,
    /// Total over roofline.
    pub(crate) ratio: f64,
    /// Hours of one core for a hundred million reports.
    pub(crate) core_hours_per_100_million: f64,
}

/// What somebody who waits sees.
#[derive(Serialize)]
pub(crate) struct Speed {
    pub(crate) uploads_per_second: f64,
    pub(crate) latency_ms_p50: f64,
    pub(crate) latency_ms_p99: f64,
    pub(crate) latency_ms_max: f64,
    /// From the last answer to an upload to the opened result.
    pub(crate) seconds_from_last_upload_to_result: f64,
    /// From the first upload to the opened result.
    pub(crate) reports_per_second_end_to_end: f64,
}

/// Resident memory of a process.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Memory {
    /// Before the first upload.
    pub(crate) idle: u64,
    /// At most.
    pub(crate) peak: u64,
}

/// In bytes per report.
#[derive(Serialize)]
pub(crate) struct Storage {
    /// What each role's process had written to its disk.
    pub(crate) written: BTreeMap<Role, f64>,
    /// What a database server added to its write-ahead log.
    pub(crate) write_ahead_log: Option<f64>,
    /// What is still there when all is collected.
    pub(crate) kept: BTreeMap<Role, f64>,
}

impl Cpu {
    /// From the CPU time of every process.
    pub(crate) fn new(
        roles: &BTreeMap<Role, Duration>,
        database: Option<Duration>,
        primitives: &Primitives,
        path: Path,
        reports: u32,
    ) -> Self {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(reports);
        let roles: BTreeMap<Role, f64> = roles.iter().map(|(role, time)| (*role, each(*time))).collect();
        let sum = |of: [Role; 2]| of.iter().filter_map(|role| roles.get(role)).sum::<f64>();
        let database = database.map(each);
        let dap = sum([Role::Leader, Role::Helper]) + database.unwrap_or_default();
        let envelope = (path == Path::Full).then(|| sum([Role::Gateway, Role::Relay]));
        let total = dap + envelope.unwrap_or_default();
        let roofline = primitives.dap() + envelope.map_or(0.0, |_| primitives.envelope);
        Self {
            roles,
            database,
            dap,
            envelope,
            total,
            roofline,
            ratio: total / roofline,
            core_hours_per_100_million: total * 1e8 / 3.6e9,
        }
    }
}

impl Figures {
    /// One object.
    pub(crate) fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).context("cannot write JSON")
    }
}

/// Bytes per report.
#[expect(clippy::cast_precision_loss, reason = "no database of a benchmark has 2^53 bytes")]
pub(crate) fn per_report(bytes: u64, reports: u32) -> f64 {
    bytes as f64 / f64::from(reports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_compares_everything_measured_with_what_it_cannot_do_without() {
        let primitives = Primitives {
            leader_hpke_open: 50.0,
            leader_init: 20.0,
            helper_hpke_open: 50.0,
            helper_init: 25.0,
            leader_continued: 1.0,
            aggregate: 4.0,
            envelope: 50.0,
        };
        let seconds = |tenths: u64| Duration::from_millis(tenths * 100);
        let mut roles = BTreeMap::from([(Role::Leader, seconds(20)), (Role::Helper, seconds(10))]);
        let cpu = Cpu::new(&roles, None, &primitives, Path::Dap, 10_000);
        assert!((cpu.total - 300.0).abs() < 1e-9 && (cpu.ratio - 2.0).abs() < 1e-9);
        roles.extend([(Role::Gateway, seconds(8)), (Role::Relay, seconds(2))]);
        let cpu = Cpu::new(&roles, Some(seconds(10)), &primitives, Path::Full, 10_000);
        assert!((cpu.total - 500.0).abs() < 1e-9 && (cpu.ratio - 2.5).abs() < 1e-9);
        assert_eq!(cpu.envelope.map(f64::round), Some(100.0));
    }
}
