//! One run, from empty databases to checked figures.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::Request;
use mica_client::{ReportBuilder, TaskBundle, fetch_ohttp_keys};
use mica_collector::{Collector, CollectorTask, Outcome};
use mica_dap::codec::Decode as _;
use mica_dap::hpke_config::{HpkeConfig, HpkeConfigList};
use mica_dap::media::Media;
use mica_dap::resource::Resource;
use mica_dap::time::Interval;
use mica_envelope::{KeyConfigList, Opener, media};
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::tls::Peers;

use crate::database::Databases;
use crate::figures::{Cpu, Figures, Machine, Memory, Speed, Storage, Work, per_report};
use crate::load::{self, Http, Sent, Target, percentile};
use crate::options::{Options, Path};
use crate::parties::{Parties, Role, Task};
use crate::procfs;
use crate::progress::Progress;
use crate::roofline::Bench;
use crate::server::{Server, Usage};
use crate::workload;

/// Does the work and measures it, unless `stop` comes first. Either way nothing is left behind.
pub(crate) async fn run(options: &Options, stop: impl Future<Output = ()>) -> Result<Figures> {
    let roles: &[Role] = match options.path {
        Path::Dap => &[Role::Leader, Role::Helper],
        Path::Full => &[Role::Leader, Role::Helper, Role::Gateway, Role::Relay],
    };
    let parties = Parties::new(roles, options.vdaf_config())?;
    let databases = Databases::create(options.database.as_deref(), parties.folder().to_path_buf()).await?;
    let run = Run { options, roles, parties, databases: &databases, progress: Progress::new() };
    let figures = tokio::select! {
        figures = run.measure() => figures,
        () = stop => Err(anyhow::anyhow!("interrupted")),
    };
    let removed = databases.remove().await;
    let figures = figures?;
    removed?;
    Ok(figures)
}

struct Run<'r> {
    options: &'r Options,
    roles: &'r [Role],
    parties: Parties,
    databases: &'r Databases,
    progress: Progress,
}

/// What the processes and the database server have used up to one moment.
struct Snapshot {
    roles: BTreeMap<Role, Usage>,
    database: Option<Duration>,
    log: Option<u64>,
}

/// The requests of a run, ready to be sent.
struct Requests {
    target: Target,
    bodies: Vec<Bytes>,
    /// One for each body, on the full path.
    openers: Vec<Opener>,
    report_bytes: usize,
}

/// What was seen from the first upload to the result.
struct Measured {
    sent: Sent,
    /// From the last answer to the result.
    waited: Duration,
    /// From the first request to the result.
    took: Duration,
    used: Snapshot,
    memory: BTreeMap<Role, Memory>,
}

impl Run<'_> {
    async fn measure(&self) -> Result<Figures> {
        let load_before = procfs::load_average()?;
        let collector = self.parties.write(|role| self.databases.url(role))?;
        self.progress.step("starting the roles");
        let mut servers = Vec::new();
        for role in self.roles {
            servers.push(Server::start(&self.options.mica, *role, &self.parties).await?);
        }
        let kept_before = self.kept().await?;
        let bench = Bench::new(self.task())?;
        self.progress.step("timing the primitives");
        let first = bench.measure(|leader, helper| self.builder(&bench, &leader.config, &helper.config))?;
        let requests = self.requests(&bench).await?;
        let work = self.work(&requests).await?;
        let measured = self.send_and_collect(&servers, requests, collector).await?;
        self.progress.step("timing the primitives again");
        let again = bench.measure(|leader, helper| self.builder(&bench, &leader.config, &helper.config))?;
        for server in servers {
            server.stop().await?;
        }
        let primitives = first.min(again);
        let Options { reports, path, .. } = *self.options;
        Ok(Figures {
            work,
            machine: Machine {
                processor: procfs::processor(),
                cores: std::thread::available_parallelism().map_or(1, usize::from),
                load_average_before: load_before,
                load_average_after: procfs::load_average()?,
            },
            cpu: Cpu::new(&measured.used.cpu(), measured.used.database, &primitives, path, reports),
            primitives,
            speed: speed(reports, &measured),
            memory: measured.memory,
            storage: storage(reports, &measured.used, &kept_before, &self.kept().await?),
        })
    }

    /// The part that is measured: from the first upload to the checked result.
    async fn send_and_collect(
        &self,
        servers: &[Server],
        requests: Requests,
        collector: CollectorTask,
    ) -> Result<Measured> {
        let idle = memory(servers)?;
        self.progress.step("sending");
        let before = self.snapshot(servers).await?;
        let started = Instant::now();
        let sent = self.send(requests).await?;
        self.progress.step("aggregating and collecting");
        let waiting = Instant::now();
        let outcome = self.collect(collector).await?;
        let (waited, took) = (waiting.elapsed(), started.elapsed());
        let after = self.snapshot(servers).await?;
        self.check(&outcome)?;
        let peak = memory(servers)?;
        let memory = idle
            .into_iter()
            .zip(peak.into_values())
            .map(|((role, (idle, _)), (_, peak))| (role, Memory { idle, peak }))
            .collect();
        Ok(Measured { sent, waited, took, used: before.until(&after)?, memory })
    }

    async fn work(&self, requests: &Requests) -> Result<Work> {
        Ok(Work {
            vdaf: self.options.vdaf_name(),
            reports: self.options.reports,
            connections: self.options.connections,
            path: self.options.path,
            database: self.databases.name().await?,
            report_bytes: requests.report_bytes,
            request_bytes: requests.bodies.first().map_or(0, Bytes::len),
            total_is_right: true,
        })
    }

    fn task(&self) -> &Task {
        &self.parties.task
    }

    /// What makes reports that are sealed to these keys.
    fn builder(&self, bench: &Bench<'_>, leader: &HpkeConfig, helper: &HpkeConfig) -> Result<ReportBuilder> {
        let bundle = self.bundle(bench.gateway_keys());
        Ok(ReportBuilder::new(&bundle, leader.clone(), helper.clone())?)
    }

    fn bundle(&self, ohttp_keys: KeyConfigList) -> TaskBundle {
        let task = self.task();
        TaskBundle {
            task_id: task.id,
            draft: task.draft,
            configuration: task.configuration.clone(),
            relay: String::new(),
            ohttp_keys,
            history_key: None,
        }
    }

    async fn requests(&self, bench: &Bench<'_>) -> Result<Requests> {
        let http = HttpClient::new(HttpOptions::default());
        let leader = hpke_config(&http, &self.parties.url(Role::Leader)?).await?;
        let helper = hpke_config(&http, &self.parties.url(Role::Helper)?).await?;
        self.progress.step("making reports");
        let reports =
            workload::reports(&self.builder(bench, &leader, &helper)?, self.task(), self.options.reports)?;
        let report_bytes = reports.first().map_or(0, Bytes::len);
        if self.options.path == Path::Dap {
            let address = self.parties.address(Role::Leader)?;
            let path =
                format!("/{}", Resource::Reports(self.task().id)).parse().context("a path is no path")?;
            let target = Target { address, path, media: Media::UploadReq.header(), http: Http::One };
            return Ok(Requests { target, bodies: reports, openers: Vec::new(), report_bytes });
        }
        self.progress.step("sealing envelopes");
        let keys =
            fetch_ohttp_keys(&format!("{}ohttp-keys", self.parties.url(Role::Gateway)?), &Peers::default())
                .await?;
        let (bodies, openers) = workload::envelopes(&reports, self.task(), &keys)?.into_iter().unzip();
        let address = self.parties.address(Role::Relay)?;
        let path = http::Uri::from_static("/");
        let target = Target { address, path, media: media::OHTTP_REQUEST, http: Http::One };
        Ok(Requests { target, bodies, openers, report_bytes })
    }

    /// Sends everything, and makes sure that every report was accepted.
    async fn send(&self, requests: Requests) -> Result<Sent> {
        let Requests { target, bodies, openers, .. } = requests;
        let mut sent = load::send(&target, bodies, self.options.connections).await?;
        let answers = std::mem::take(&mut sent.answers);
        if self.options.path == Path::Dap {
            ensure!(answers.is_empty(), "the leader refused {} of the reports", answers.len());
            return Ok(sent);
        }
        workload::open_answers(openers, answers)?;
        Ok(sent)
    }

    async fn collect(&self, task: CollectorTask) -> Result<Outcome> {
        let precision = task.configuration.time_precision();
        let interval =
            Interval::unit(precision.time_of(self.task().time)).context("a time at the end of time")?;
        let collector = Collector::new(task, HttpClient::new(HttpOptions::default())).hurried();
        let collection = collector.collect(interval).await?;
        let waiting = collector.wait(&collection, || ());
        let outcome = tokio::time::timeout(PATIENCE, waiting).await;
        Ok(outcome.with_context(|| format!("no result within {PATIENCE:?}"))??)
    }

    /// A wrong total is no figure.
    fn check(&self, outcome: &Outcome) -> Result<()> {
        let sent = u64::from(self.options.reports);
        ensure!(
            outcome.report_count == sent,
            "{} reports were sent, {} were counted",
            sent,
            outcome.report_count
        );
        let expected = workload::expected(self.task().configuration.vdaf(), self.options.reports);
        ensure!(outcome.values == expected, "the collected total is wrong");
        Ok(())
    }

    async fn snapshot(&self, servers: &[Server]) -> Result<Snapshot> {
        // Asking costs the server a connection; it is asked first, so that the end of one run does not count in it.
        let log = self.databases.log_position().await?;
        let roles = servers.iter().map(|server| Ok((server.role, server.usage()?))).collect::<Result<_>>()?;
        Ok(Snapshot { roles, database: self.databases.cpu_time()?, log })
    }

    async fn kept(&self) -> Result<BTreeMap<Role, u64>> {
        let mut kept = BTreeMap::new();
        for role in [Role::Leader, Role::Helper] {
            kept.insert(role, self.databases.bytes(role).await?);
        }
        Ok(kept)
    }
}

impl Snapshot {
    fn until(&self, after: &Self) -> Result<Self> {
        let between = |role: &Role, usage: &Usage| {
            let before = self.roles.get(role).context("a role appeared in the middle of a run")?;
            let cpu = usage.cpu.saturating_sub(before.cpu);
            Ok((*role, Usage { cpu, written: usage.written.saturating_sub(before.written) }))
        };
        Ok(Self {
            roles: after.roles.iter().map(|(role, usage)| between(role, usage)).collect::<Result<_>>()?,
            database: after.database.zip(self.database).map(|(after, before)| after.saturating_sub(before)),
            log: after.log.zip(self.log).map(|(after, before)| after.saturating_sub(before)),
        })
    }

    fn cpu(&self) -> BTreeMap<Role, Duration> {
        self.roles.iter().map(|(role, usage)| (*role, usage.cpu)).collect()
    }
}

fn memory(servers: &[Server]) -> Result<BTreeMap<Role, (u64, u64)>> {
    servers.iter().map(|server| Ok((server.role, procfs::memory(server.pid)?))).collect()
}

fn speed(reports: u32, measured: &Measured) -> Speed {
    let Measured { sent, waited, took, .. } = measured;
    let milliseconds = |permille| percentile(&sent.latencies, permille).as_secs_f64() * 1e3;
    Speed {
        uploads_per_second: f64::from(reports) / sent.took.as_secs_f64(),
        latency_ms_p50: milliseconds(500),
        latency_ms_p99: milliseconds(990),
        latency_ms_max: milliseconds(1_000),
        seconds_from_last_upload_to_result: waited.as_secs_f64(),
        reports_per_second_end_to_end: f64::from(reports) / took.as_secs_f64(),
    }
}

fn storage(
    reports: u32,
    used: &Snapshot,
    before: &BTreeMap<Role, u64>,
    after: &BTreeMap<Role, u64>,
) -> Storage {
    let grown =
        |role: &Role, bytes: &u64| bytes.saturating_sub(before.get(role).copied().unwrap_or_default());
    Storage {
        written: used.roles.iter().map(|(role, usage)| (*role, per_report(usage.written, reports))).collect(),
        write_ahead_log: used.log.map(|bytes| per_report(bytes, reports)),
        kept: after.iter().map(|(role, bytes)| (*role, per_report(grown(role, bytes), reports))).collect(),
    }
}

/// The key that an aggregator would like reports to be sealed to.
async fn hpke_config(http: &HttpClient, endpoint: &str) -> Result<HpkeConfig> {
    let url = Resource::HpkeConfig.url(endpoint);
    let response = http.send(Request::get(url).body(Bytes::new()).context("a URL is no URL")?).await?;
    ensure!(
        response.status().is_success(),
        "an aggregator answers {} instead of its keys",
        response.status()
    );
    let list = HpkeConfigList::decoded(response.body()).context("an aggregator has no keys")?;
    let first = list.configs().iter().find(|config| config.is_supported()).cloned();
    first.context("an aggregator offers no key that can be used")
}

/// For aggregation to catch up with the uploads, and for the collection.
const PATIENCE: Duration = Duration::from_mins(5);
