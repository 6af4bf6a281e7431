//! The figures for relay and gateway, in the form in which they are printed as JSON, and the arithmetic behind them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::stage::Used;
use crate::figures::Machine;
use crate::load::{Http, Sent, percentile};
use crate::procfs;

/// Everything that is printed.
#[derive(Serialize)]
pub(super) struct Figures {
    pub(super) requests: u32,
    pub(super) connections: u16,
    /// One report.
    pub(super) report_bytes: usize,
    /// One report in its envelope.
    pub(super) request_bytes: usize,
    pub(super) machine: Option<Machine>,
    pub(super) cpu: Vec<PerRequest>,
    pub(super) latency: Vec<Latency>,
    pub(super) merging: Vec<Merging>,
    pub(super) others: Vec<Beside>,
    pub(super) idle: Vec<Idle>,
    pub(super) crowd: Option<Crowd>,
    pub(super) aims: Vec<Aim>,
}

/// CPU time in microseconds per request, at full speed.
#[derive(Serialize)]
pub(super) struct PerRequest {
    pub(super) http: Http,
    pub(super) database: String,
    pub(super) relay: f64,
    pub(super) gateway: f64,
    /// A database server; an embedded database is part of the gateway.
    pub(super) database_server: Option<f64>,
    /// Relay, gateway and database server.
    pub(super) total: f64,
    pub(super) per_second: f64,
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Waits {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) most: f64,
}

/// What relay and gateway add to the time a target takes.
#[derive(Serialize)]
pub(super) struct Latency {
    pub(super) http: Http,
    pub(super) database: String,
    pub(super) per_second: f64,
    pub(super) through: Waits,
    pub(super) direct: Waits,
    /// The difference of the two at each rank.
    pub(super) added: Waits,
}

/// Uploads alone or merged.
#[derive(Serialize)]
pub(super) struct Merging {
    pub(super) merged: bool,
    pub(super) database: String,
    /// CPU time of the gateway in microseconds per report.
    pub(super) gateway: f64,
    /// Requests that the target got for each report.
    pub(super) target_requests: f64,
}

/// One program in the place of relay or gateway.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Side {
    /// CPU time in microseconds per request.
    pub(super) cpu: f64,
    pub(super) per_second: f64,
}

/// Ours beside another, the better of two runs each.
#[derive(Serialize)]
pub(super) struct Beside {
    pub(super) place: &'static str,
    pub(super) name: &'static str,
    pub(super) ours: Side,
    pub(super) other: Side,
    /// CPU time of ours over that of the other.
    pub(super) ratio: f64,
}

/// Connections that have been served once and say nothing any more. In bytes.
#[derive(Serialize)]
pub(super) struct Idle {
    pub(super) relay: &'static str,
    pub(super) http: Http,
    pub(super) connections: u32,
    pub(super) before: u64,
    pub(super) after: u64,
    pub(super) each: u64,
}

/// Many who connect and say nothing to a relay that takes few connections.
#[derive(Serialize)]
pub(super) struct Crowd {
    pub(super) attempts: u32,
    /// Of which a connection came about.
    pub(super) connected: u32,
    pub(super) max_connections: u32,
    pub(super) seconds: f64,
    /// In bytes.
    pub(super) memory_before: u64,
    pub(super) memory_most: u64,
    /// An honest client on a connection that it keeps.
    pub(super) kept: Honest,
    /// One that connects anew for each request.
    pub(super) anew: Honest,
}

/// How an honest client fared.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Honest {
    pub(super) served: u32,
    pub(super) failed: u32,
    pub(super) p50_ms: f64,
    pub(super) most_ms: f64,
}

/// A figure that was promised.
#[derive(Serialize)]
pub(super) struct Aim {
    pub(super) what: String,
    pub(super) at_most: f64,
    pub(super) measured: f64,
    pub(super) met: bool,
}

impl Figures {
    pub(super) fn new(
        requests: u32,
        connections: u16,
        (report_bytes, request_bytes): (usize, usize),
    ) -> Self {
        Self {
            requests,
            connections,
            report_bytes,
            request_bytes,
            machine: None,
            cpu: Vec::new(),
            latency: Vec::new(),
            merging: Vec::new(),
            others: Vec::new(),
            idle: Vec::new(),
            crowd: None,
            aims: Vec::new(),
        }
    }

    /// When all is measured: on what it was, and what of it was promised.
    pub(super) fn finish(&mut self, load_average_before: [f64; 3]) -> Result<()> {
        self.machine = Some(Machine {
            processor: procfs::processor(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            load_average_before,
            load_average_after: procfs::load_average()?,
        });
        self.aims = self.judged();
        Ok(())
    }

    fn judged(&self) -> Vec<Aim> {
        let cpu = self.cpu.iter().map(|row| {
            let what = format!("relay + gateway, {}, {}: us per report", row.http.name(), row.database);
            Aim::new(what, MOST_CPU, row.relay + row.gateway)
        });
        let latency = self.latency.iter().map(|row| {
            let what = format!("added p99 at half load, {}, {}: ms", row.http.name(), row.database);
            Aim::new(what, MOST_ADDED, row.added.p99)
        });
        let ours = self.idle.iter().filter(|row| row.relay == OURS);
        let idle = ours.map(|row| {
            let what = format!("{} idle connections, {}: MiB", row.connections, row.http.name());
            Aim::new(what, MOST_IDLE, mebibytes(row.after))
        });
        cpu.chain(latency).chain(idle).collect()
    }
}

impl Aim {
    fn new(what: String, at_most: f64, measured: f64) -> Self {
        Self { what, at_most, measured, met: measured <= at_most }
    }
}

impl PerRequest {
    pub(super) fn new(http: Http, database: String, used: Used, requests: u32, sent: &Sent) -> Self {
        let [relay, gateway] = [used.relay, used.gateway].map(|time| each(time, requests));
        let database_server = used.database.map(|time| each(time, requests));
        let total = relay + gateway + database_server.unwrap_or_default();
        let per_second = f64::from(requests) / sent.took.as_secs_f64();
        Self { http, database, relay, gateway, database_server, total, per_second }
    }
}

impl Waits {
    pub(super) fn of(mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        let rank = |permille| percentile(&latencies, permille).as_secs_f64() * 1e3;
        Self { p50: rank(500), p99: rank(990), most: rank(1_000) }
    }
}

impl Latency {
    pub(super) fn new(http: Http, database: String, per_second: f64, through: Waits, direct: Waits) -> Self {
        let added = Waits {
            p50: through.p50 - direct.p50,
            p99: through.p99 - direct.p99,
            most: through.most - direct.most,
        };
        Self { http, database, per_second, through, direct, added }
    }
}

impl Merging {
    pub(super) fn new(merged: bool, database: String, used: Used, reports: u32, arrived: u64) -> Self {
        let arrived = f64::from(u32::try_from(arrived).unwrap_or(u32::MAX));
        let target_requests = arrived / f64::from(reports);
        Self { merged, database, gateway: each(used.gateway, reports), target_requests }
    }
}

impl Side {
    pub(super) fn new(used: Duration, requests: u32, sent: &Sent) -> Self {
        Self { cpu: each(used, requests), per_second: f64::from(requests) / sent.took.as_secs_f64() }
    }
}

impl Beside {
    /// From runs that took turns, ours first.
    pub(super) fn new(place: &'static str, name: &'static str, sides: &[Side]) -> Result<Self> {
        let best = |from: usize| {
            let runs = sides.iter().skip(from).step_by(2).copied();
            runs.min_by(|one, other| one.cpu.total_cmp(&other.cpu)).context("there was no run")
        };
        let (ours, other) = (best(0)?, best(1)?);
        Ok(Self { place, name, ours, other, ratio: ours.cpu / other.cpu })
    }
}

impl Idle {
    pub(super) fn new(relay: &'static str, http: Http, connections: u32, before: u64, after: u64) -> Self {
        let each = after.saturating_sub(before) / u64::from(connections.max(1));
        Self { relay, http, connections, before, after, each }
    }
}

impl Honest {
    pub(super) fn new(latencies: Vec<Duration>, failed: u32) -> Self {
        let served = u32::try_from(latencies.len()).unwrap_or(u32::MAX);
        let waits = Waits::of(latencies);
        Self { served, failed, p50_ms: waits.p50, most_ms: waits.most }
    }
}

fn each(time: Duration, requests: u32) -> f64 {
    time.as_secs_f64() * 1e6 / f64::from(requests)
}

#[expect(clippy::cast_precision_loss, reason = "no process of a benchmark has 2^53 bytes")]
pub(super) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

pub(super) const OURS: &str = "mica";
/// Microseconds per report.
const MOST_CPU: f64 = 100.0;
/// Milliseconds.
const MOST_ADDED: f64 = 5.0;
/// MiB.
const MOST_IDLE: f64 = 200.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(milliseconds: u64) -> Sent {
        Sent { took: Duration::from_millis(milliseconds), latencies: Vec::new(), answers: Vec::new() }
    }

    fn used(relay: u64, gateway: u64, database: Option<u64>) -> Used {
        let [relay, gateway] = [relay, gateway].map(Duration::from_millis);
        Used { relay, gateway, database: database.map(Duration::from_millis) }
    }

    #[test]
    fn costs_are_per_request_and_a_server_counts_with_the_total() {
        let row = PerRequest::new(Http::Two, "x".to_owned(), used(40, 60, Some(25)), 1_000, &sent(500));
        assert_eq!((row.relay, row.gateway, row.database_server), (40.0, 60.0, Some(25.0)));
        assert_eq!((row.total, row.per_second), (125.0, 2_000.0));
        let row = Merging::new(true, "x".to_owned(), used(0, 60, None), 1_000, 125);
        assert_eq!((row.gateway, row.target_requests), (60.0, 0.125));
        let row = Idle::new(OURS, Http::One, 100, 1_000, 21_000);
        assert_eq!(row.each, 200);
    }

    #[test]
    fn what_is_added_is_the_difference_at_each_rank() {
        let all = |factor: u64| (1..=200).map(|number| Duration::from_millis(number * factor)).collect();
        let row = Latency::new(Http::One, "x".to_owned(), 10.0, Waits::of(all(3)), Waits::of(all(1)));
        assert_eq!((row.added.p50, row.added.p99, row.added.most), (200.0, 396.0, 400.0));
    }

    #[test]
    fn the_better_of_two_runs_of_each_is_compared() {
        let side = |cpu| Side { cpu, per_second: 1.0 };
        let row = Beside::new("relay", "x", &[side(30.0), side(90.0), side(20.0), side(80.0)]).unwrap();
        assert_eq!((row.ours.cpu, row.other.cpu, row.ratio), (20.0, 80.0, 0.25));
        assert!(Beside::new("relay", "x", &[side(1.0)]).is_err());
    }

    #[test]
    fn a_figure_that_was_promised_is_judged() {
        let mut figures = Figures::new(1_000, 1, (0, 0));
        for relay in [40, 41] {
            let name = "x".to_owned();
            figures.cpu.push(PerRequest::new(Http::One, name, used(relay, 60, Some(9)), 1_000, &sent(1)));
        }
        figures.idle.push(Idle::new(OURS, Http::One, 1, 0, 201 << 20));
        figures.idle.push(Idle::new("another", Http::One, 1, 0, 1));
        let judged: Vec<(f64, bool)> = figures.judged().iter().map(|aim| (aim.measured, aim.met)).collect();
        assert_eq!(judged, [(100.0, true), (101.0, false), (201.0, false)]);
    }
}
