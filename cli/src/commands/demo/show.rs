//! The demonstration itself, step by step.

use std::time::Instant;

use mica_aggregator::config::Answers;
use mica_client::TaskBundle;
use mica_collector::{Collector, CollectorTask, Estimate, Outcome};
use mica_dap::Draft;
use mica_dap::id::TaskId;
use mica_dap::task::{BatchMode, TaskConfiguration};
use mica_dap::time::{Interval, Time, TimePrecision};
use mica_dap::vdaf::Measurement;
use mica_dp::{Decision, Policy, ReleasePlan, TaskFacts};
use mica_envelope::KeyConfigList;
use mica_service::clock::Clock;
use mica_service::compute::ComputePool;
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::store::Store;
use rand::RngExt as _;

use super::clients::{Crowd, Uploads};
use super::outcome::{Line, SecondRelease, Shown, Total};
use super::release::Tallies;
use super::scene::Scene;
use super::search::Search;
use super::stage::Stage;
use super::witness::{Counts, Evidence};
use super::{Args, Audience, clients, programme, release};
use crate::deployment::{self, Aggregators, Cast, Ports, Running, Setting, Sockets};
use crate::exit::Failure;
use crate::provision::{Provisioned, TaskSpec, provision};
use crate::screen::{Progress, Row, chart};

/// What a demonstration works with once everything is running.
struct Play<'a> {
    scene: &'a Scene,
    stage: &'a Stage,
    audience: &'a Audience,
    running: &'a Running,
    plan: &'a ReleasePlan,
    /// The last full hour.
    batch: Interval,
    truth: Vec<i128>,
}

/// What is left of the task once both aggregators were told theirs.
struct Made {
    task_id: TaskId,
    configuration: TaskConfiguration,
    collector: CollectorTask,
}

/// Shows everything, and leaves the servers running.
///
/// # Errors
/// When a step did not happen as it must.
pub(super) async fn show(
    args: &Args,
    stage: &Stage,
    audience: &Audience,
    started: Instant,
) -> Result<(Shown, Running), Failure> {
    let seed = args.seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    let dot = audience.signs.dot();
    audience.say(&format!(
        "mica demo {dot} seed {seed} {dot} everything on 127.0.0.1, data in {}",
        stage.describe()
    ))?;
    audience.say("")?;
    let scene = Scene::of(args.task);
    let min_batch_size = u64::from(args.clients / 10).clamp(1, 1_000);
    let policy = stage.policy(&scene, min_batch_size, &args.epsilon)?;
    let plan = plan(&policy, &scene, min_batch_size)?;
    let (running, made, compute) = Box::pin(open(stage, &scene, &policy, min_batch_size)).await?;
    let measurements = scene.measurements(args.clients, seed);
    let performance = Play {
        scene: &scene,
        stage,
        audience,
        running: &running,
        plan: &plan,
        batch: last_hour()?,
        truth: scene.truth(&measurements),
    };
    match Box::pin(performance.perform(made, measurements, compute, started)).await {
        Ok(report) => Ok((report, running)),
        Err(failure) => {
            running.stop().await;
            Err(failure)
        }
    }
}

/// Starts all roles.
async fn open(
    stage: &Stage,
    scene: &Scene,
    policy: &Policy,
    min_batch_size: u64,
) -> Result<(Running, Made, ComputePool), Failure> {
    let sockets = Sockets::bind(&Cast::Both, Ports::default()).await?;
    let spec = TaskSpec {
        label: scene.label.to_owned(),
        leader_url: sockets.addresses().leader.clone(),
        helper_url: sockets.addresses().helper.clone(),
        draft: Draft::default(),
        vdaf: scene.vdaf.clone(),
        time_precision_seconds: HOUR,
        min_batch_size,
        batch_mode: BatchMode::TimeInterval,
        batch_target_size: None,
        task_interval: None,
        prefixes: Vec::new(),
    };
    let made = provision(&spec, policy)?;
    let Provisioned { task_id, configuration, leader, helper, collector, .. } = made;
    let compute = ComputePool::new();
    let setting = Setting {
        folder: &stage.folder,
        databases: &stage.databases,
        logs: &stage.logs,
        clock: Clock::system(),
        compute: compute.clone(),
        task_id,
        answers: Answers::AtOnce,
    };
    let aggregators = Aggregators { leader: Some(leader), helper: Some(helper), policy: policy.clone() };
    let running = deployment::start(sockets, &setting, aggregators).await?;
    Ok((running, Made { task_id, configuration, collector }, compute))
}

impl Play<'_> {
    async fn perform(
        &self,
        made: Made,
        measurements: Vec<Measurement>,
        compute: ComputePool,
        started: Instant,
    ) -> Result<Shown, Failure> {
        let signs = self.audience.signs;
        self.audience.say(&programme::roles(self.running, self.stage, signs))?;
        self.audience.say("")?;
        self.audience.say(&programme::policy(self.plan, self.scene, signs))?;
        self.audience.say("")?;
        let clients = measurements.len() as u64;
        let uploads = self.upload(&made, measurements, compute).await?;
        let tallies = self.aggregate(&made, &uploads, clients).await?;
        let collector = Collector::new(made.collector, HttpClient::new(HttpOptions::default())).hurried();
        let outcome = release::collect(&collector, self.batch).await?;
        if outcome.report_count != tallies.aggregated() {
            return Err(Failure::unexpected(format!(
                "{} reports were verified, and {} are in the batch",
                tallies.aggregated(),
                outcome.report_count
            )));
        }
        let rows = self.rows(&outcome);
        self.reveal(&outcome, &rows)?;
        let (reason, ledger) = self.ask_again(&collector, &outcome).await?;
        let evidence = self.evidence(made.task_id, &uploads).await?;
        evidence.check()?;
        self.audience.say(&evidence.describe(signs))?;
        self.audience.say("")?;
        self.audience.say(&reason.1)?;
        self.audience.say("")?;
        Ok(Shown {
            sent: uploads.sent,
            accepted: tallies.aggregated(),
            rejected: tallies.rejected().map(|(name, reports)| (name.to_owned(), reports)).collect(),
            report_count: outcome.report_count,
            results: rows.iter().map(|row| Total::new(row, CONFIDENCE)).collect(),
            second_release: SecondRelease { refused: true, reason: reason.0 },
            ledger,
            elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    async fn upload(
        &self,
        made: &Made,
        measurements: Vec<Measurement>,
        compute: ComputePool,
    ) -> Result<Uploads, Failure> {
        let signs = self.audience.signs;
        let started = Instant::now();
        let bundle = TaskBundle {
            task_id: made.task_id,
            draft: Draft::default(),
            configuration: made.configuration.clone(),
            relay: self.running.addresses.relay.clone().unwrap_or_default(),
            ohttp_keys: KeyConfigList::parse(self.running.key_config.clone()).map_err(Failure::unexpected)?,
            history_key: None,
        };
        let reports = measurements.len() as u64 + clients::WRONG_PROOFS + clients::REPLAYS + clients::EARLY;
        let progress = Progress::steps(signs, "Reports", reports);
        let time = self.batch.start();
        let crowd = Crowd { bundle, measurements, time, future: Time(time.0 + 4), compute };
        let uploads = crowd.upload(&progress).await;
        progress.done();
        let uploads = uploads?;
        self.audience.say(&programme::reports(&uploads, started.elapsed(), signs))?;
        Ok(uploads)
    }

    async fn aggregate(&self, made: &Made, uploads: &Uploads, clients: u64) -> Result<Tallies, Failure> {
        let signs = self.audience.signs;
        let started = Instant::now();
        let refused = uploads.refused.values().sum();
        let progress = Progress::steps(signs, "Aggregate", uploads.judged - refused);
        let settled = release::settled(self.leader()?, made.task_id, refused, &progress).await;
        progress.done();
        let tallies = settled?;
        self.audience.say(&programme::aggregation(&tallies, started.elapsed(), signs))?;
        self.check_the_way(uploads, &tallies)?;
        if tallies.aggregated() != clients {
            return Err(Failure::unexpected(format!(
                "{clients} clients sent a good report, and {} were accepted",
                tallies.aggregated()
            )));
        }
        Ok(tallies)
    }

    /// Every report came through the relay and the gateway: their counters account for all that the leader judged.
    fn check_the_way(&self, uploads: &Uploads, tallies: &Tallies) -> Result<(), Failure> {
        let (relayed, opened) = self.counts();
        // What was written down, and what was refused before that.
        let arrived = tallies.uploaded() + uploads.refused.values().sum::<u64>();
        if relayed != uploads.envelopes || opened != relayed || arrived != uploads.judged {
            return Err(Failure::unexpected(format!(
                "{arrived} reports reached the leader; clients sent {} envelopes, the relay passed on {relayed}, the \
                 gateway {opened}: a report came on another way, or was lost",
                uploads.envelopes
            )));
        }
        Ok(())
    }

    /// What the relay and the gateway passed on.
    fn counts(&self) -> (u64, u64) {
        let relay = self.running.relay.as_ref().map_or(0, |it| it.count(mica_relay::Outcome::Forwarded));
        let gateway =
            self.running.gateway.as_ref().map_or(0, |it| it.count(mica_gateway::Outcome::Forwarded));
        (relay, gateway)
    }

    fn rows(&self, outcome: &Outcome) -> Vec<Row> {
        let half_width = Estimate::of(Some(self.plan.mechanism()), CONFIDENCE).half_width;
        let values = outcome.values.iter().zip(&self.truth).zip(&self.scene.rows);
        values
            .map(|((value, truth), label)| Row {
                label: (*label).to_owned(),
                value: *value,
                half_width,
                truth: Some(*truth),
            })
            .collect()
    }

    fn reveal(&self, outcome: &Outcome, rows: &[Row]) -> Result<(), Failure> {
        let signs = self.audience.signs;
        let least = self.plan.terms().min_batch_size;
        self.audience.say(&programme::collected(outcome.report_count, least, &self.batch_name(), signs))?;
        self.audience.say("")?;
        self.audience.say(&chart(&format!("{}, last full hour", self.scene.label), rows, signs))?;
        self.audience.say(&programme::legend(rows, self.plan, signs))?;
        self.audience.say("")?;
        self.audience.say(&programme::guarantee(self.plan, signs))?;
        self.audience.say("")
    }

    /// In the same words, then in others. The ledgers must not move. Returns the reason and the screen's words for it.
    async fn ask_again(
        &self,
        collector: &Collector,
        outcome: &Outcome,
    ) -> Result<((String, String), Vec<Line>), Failure> {
        let before = (release::accounts(self.leader()?).await?, release::accounts(self.helper()?).await?);
        if release::collect(collector, self.batch).await? != *outcome {
            return Err(Failure::unexpected("the same request was answered with another result"));
        }
        let reason = release::second(collector, self.batch).await?;
        let after = (release::accounts(self.leader()?).await?, release::accounts(self.helper()?).await?);
        if before != after {
            return Err(Failure::unexpected("asking again moved a budget"));
        }
        let ((leader, budgets), (helper, _)) = after;
        let words = programme::second(&reason, &self.batch_name(), &budgets, self.audience.signs);
        let lines = leader.iter().map(|entry| Line::new("leader", entry));
        let lines = lines.chain(helper.iter().map(|entry| Line::new("helper", entry)));
        Ok(((reason, words), lines.collect()))
    }

    async fn evidence(&self, task: TaskId, uploads: &Uploads) -> Result<Evidence, Failure> {
        let ports = self.running.addresses.ports;
        let servers = [ports.relay, ports.gateway, ports.leader, ports.helper];
        let search = Search::new(&uploads.traces, &task, servers);
        let (relayed, opened) = self.counts();
        let counts = Counts { relayed, opened, looked_for: uploads.traces.sizes() };
        Evidence::gather(&self.stage.folder, &self.stage.databases, &search, counts).await
    }

    fn batch_name(&self) -> String {
        let precision = TimePrecision::new(HOUR).expect("an hour is not zero");
        programme::batch(&self.batch, precision)
    }

    fn leader(&self) -> Result<&Store, Failure> {
        self.running.leader.as_ref().ok_or_else(|| Failure::unexpected("the leader does not run here"))
    }

    fn helper(&self) -> Result<&Store, Failure> {
        self.running.helper.as_ref().ok_or_else(|| Failure::unexpected("the helper does not run here"))
    }
}

/// What the policy decides about the task.
fn plan(policy: &Policy, scene: &Scene, min_batch_size: u64) -> Result<ReleasePlan, Failure> {
    let facts = TaskFacts::new(scene.label, &scene.vdaf, min_batch_size);
    match policy.release_for(&facts).map_err(Failure::invalid)? {
        Decision::Release(plan) => Ok(*plan),
        Decision::WithoutDp(_) => Err(Failure::unexpected("the policy of the demo releases without noise")),
    }
}

/// The hour before this one: it is over, so nobody's clock is ahead of it.
fn last_hour() -> Result<Interval, Failure> {
    let hour = Clock::system().now() / HOUR;
    Interval::unit(Time(hour.saturating_sub(1))).map_err(Failure::unexpected)
}

const HOUR: u64 = 3_600;
const CONFIDENCE: f64 = 0.95;
