//! CPU time per request, the time that relay and gateway add, what merging saves, and the same of other programs.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;

use super::figures::{Beside, Figures, Latency, Merging, PerRequest, Side, Waits};
use super::pace;
use super::stage::{GatewayKind, Plan, RelayKind, Stage, Used};
use super::target::Sink;
use super::work::Work;
use super::{Options, What};
use crate::load::{self, Http, Sent, Target};
use crate::progress::Progress;
use crate::workload;

/// What all measurements share: the target and the reports.
pub(super) struct Ruler<'o> {
    pub(super) options: &'o Options,
    pub(super) work: Work,
    pub(super) progress: Progress,
    sink: Sink,
}

/// What a run of many requests cost.
struct Run {
    used: Used,
    sent: Sent,
    /// Requests that the target got.
    arrived: u64,
}

impl<'o> Ruler<'o> {
    pub(super) fn new(options: &'o Options, progress: Progress) -> Result<Self> {
        progress.step("making reports");
        let sink = Sink::start()?;
        let work = Work::new(sink.address, options.requests.min(MOST_REPORTS))?;
        Ok(Self { options, work, progress, sink })
    }

    /// Bytes of a report and of a request.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.work.reports.first().map_or(0, Bytes::len), self.work.request_bytes)
    }

    /// The databases that a gateway is measured on.
    pub(super) fn databases(&self) -> Vec<Option<&'o str>> {
        std::iter::once(None).chain(self.options.database.as_deref().map(Some)).collect()
    }

    pub(super) fn plan<'p>(&'p self, database: Option<&'p str>) -> Plan<'p> {
        Plan {
            mica: &self.options.mica,
            database,
            target: self.sink.address,
            relay: RelayKind::Ours,
            gateway: GatewayKind::Ours,
            relay_lines: "",
            route_lines: "",
        }
    }

    /// CPU time at full speed and, if asked for, latencies at half of it, for both versions of HTTP.
    pub(super) async fn costs_and_latency(
        &self,
        database: Option<&str>,
        latency: bool,
        figures: &mut Figures,
    ) -> Result<()> {
        for http in Http::BOTH {
            self.progress.step(&format!("CPU time, {}", http.name()));
            let stage = Stage::start(&self.plan(database)).await?;
            let name = stage.database().await?;
            let run = self.run(&stage, &stage.through_relay(http)).await?;
            let cost = PerRequest::new(http, name.clone(), run.used, self.options.requests, &run.sent);
            let rate = cost.per_second / 2.0;
            figures.cpu.push(cost);
            if latency {
                self.progress.step(&format!("latency, {}, {rate:.0} requests a second", http.name()));
                figures.latency.push(self.added(&stage, http, rate, name).await?);
            }
            stage.stop().await?;
        }
        Ok(())
    }

    /// Slices through relay and gateway and slices straight to the target take turns, so that whatever else the machine
    /// does meets both.
    async fn added(&self, stage: &Stage, http: Http, rate: f64, database: String) -> Result<Latency> {
        let (mut through, mut direct) = (Vec::new(), Vec::new());
        let slice = usize::try_from(self.options.requests)? / SLICES;
        for _ in 0..SLICES {
            let (bodies, openers) = self.work.sealed(&stage.keys, slice)?;
            let lines = usize::from(self.options.connections);
            let mut sent = pace::send(&stage.through_relay(http), bodies, rate, lines).await?;
            workload::open_answers(openers, std::mem::take(&mut sent.answers))?;
            through.extend(sent.latencies);
            let target = self.work.direct(self.sink.address, http)?;
            let bodies = self.work.reports.iter().cycle().take(slice).cloned().collect();
            direct.extend(pace::send(&target, bodies, rate, lines).await?.latencies);
        }
        Ok(Latency::new(http, database, rate, Waits::of(through), Waits::of(direct)))
    }

    /// Uploads alone and merged, one after the other on the same database.
    pub(super) async fn merging(&self, database: Option<&str>) -> Result<Vec<Merging>> {
        let mut rows = Vec::new();
        for (merged, lines) in [(false, ""), (true, MERGE)] {
            self.progress.step(if merged { "merging" } else { "not merging" });
            let plan = Plan { route_lines: lines, ..self.plan(database) };
            let stage = Stage::start(&plan).await?;
            let name = stage.database().await?;
            let run = self.run(&stage, &stage.through_relay(Http::Two)).await?;
            stage.stop().await?;
            rows.push(Merging::new(merged, name, run.used, self.options.requests, run.arrived));
        }
        Ok(rows)
    }

    /// Each of our two and another of its kind, in the same place under the same load.
    pub(super) async fn others(&self) -> Result<Vec<Beside>> {
        let mut rows = Vec::new();
        if let Some(program) = &self.options.other_relay {
            let relays =
                [RelayKind::Ours, RelayKind::Other(program), RelayKind::Ours, RelayKind::Other(program)];
            let mut sides = Vec::new();
            for relay in relays {
                self.progress.step("a relay beside ours");
                let stage = Stage::start(&Plan { relay, ..self.plan(None) }).await?;
                let run = self.run(&stage, &stage.through_relay(Http::One)).await?;
                stage.stop().await?;
                sides.push(Side::new(run.used.relay, self.options.requests, &run.sent));
            }
            rows.push(Beside::new("relay", "ohttp-relay 0.0.11", &sides)?);
        }
        if let Some(program) = &self.options.other_gateway {
            let gateways = [
                GatewayKind::Ours,
                GatewayKind::Other(program),
                GatewayKind::Ours,
                GatewayKind::Other(program),
            ];
            let mut sides = Vec::new();
            for gateway in gateways {
                self.progress.step("a gateway beside ours");
                let stage = Stage::start(&Plan { gateway, ..self.plan(None) }).await?;
                let run = self.run(&stage, &stage.to_gateway(Http::One)?).await?;
                stage.stop().await?;
                sides.push(Side::new(run.used.gateway, self.options.requests, &run.sent));
            }
            rows.push(Beside::new("gateway", "ohttp-gateway 1.0.2", &sides)?);
        }
        if rows.is_empty() && self.options.only.contains(&What::Others) {
            bail!("there is nothing to compare with: give --other-relay or --other-gateway");
        }
        Ok(rows)
    }

    /// Sends all requests as fast as they are answered, and checks the answers.
    async fn run(&self, stage: &Stage, target: &Target) -> Result<Run> {
        let count = usize::try_from(self.options.requests)?;
        let (bodies, openers) = self.work.sealed(&stage.keys, count)?;
        let (before, arrived) = (stage.used()?, self.sink.requests());
        let mut sent = load::send(target, bodies, self.options.connections).await?;
        let used = before.until(stage.used()?);
        let arrived = self.sink.requests() - arrived;
        workload::open_answers(openers, std::mem::take(&mut sent.answers))
            .context("this is not what should be measured")?;
        Ok(Run { used, sent, arrived })
    }
}

impl Used {
    fn until(self, after: Self) -> Self {
        let between = |before: Duration, after: Duration| after.saturating_sub(before);
        Self {
            relay: between(self.relay, after.relay),
            gateway: between(self.gateway, after.gateway),
            database: self.database.zip(after.database).map(|(before, after)| between(before, after)),
        }
    }
}

/// Enough for no two requests of a run to be alike where it matters: identifiers within one merged upload.
const MOST_REPORTS: u32 = 20_000;
const SLICES: usize = 5;
const MERGE: &str = "merge = { reports = 64, wait = \"5ms\" }";
