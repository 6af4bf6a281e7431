//! All parties of one run, and how a step is taken, held up, and cut short by a death.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use mica_aggregator::store::tasks;
use mica_collector::Collector;
use mica_dap::codec::Decode as _;
use mica_dap::hpke_config::HpkeConfigList;
use mica_dap::task::BatchMode;
use mica_service::clock::Clock;
use mica_service::http::HttpClient;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::actions::{self, Done};
use crate::databases::Databases;
use crate::forge::Forge;
use crate::gate::{Gate, Word};
use crate::model::{Model, Violation};
use crate::network::{HELPER, LEADER, Wires};
use crate::plan::{Action, KeyLives, Party, Setting, Step};
use crate::process::{CACHE_SECONDS, Process, Surroundings, open};
use crate::records::Records;
use crate::sabotage;
use crate::task::{FIRST, PRECISION, Task};

/// Something under way.
pub(crate) type Doing = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What was held up, and the word that lets it go on.
struct Held {
    doing: Doing,
    word: Word,
}

/// One run.
pub(crate) struct World {
    pub(crate) around: Surroundings,
    databases: Databases,
    pub(crate) records: Records,
    pub(crate) leaders: Vec<Process>,
    pub(crate) helper: Process,
    pub(crate) forge: Forge,
    /// Of clients, which do not die.
    pub(crate) http: HttpClient,
    pub(crate) collector: Arc<Collector>,
    pub(crate) model: Model,
    holding: UnboundedReceiver<Word>,
    held: Vec<Held>,
}

impl World {
    /// Everybody is started, and nothing has happened.
    pub(crate) async fn new(setting: Setting, databases: Databases) -> Self {
        let (gate, holding) = Gate::new();
        let wires = Arc::new(Wires::default());
        let now = (FIRST + 5) * PRECISION;
        let (clock, helper_clock) = (Clock::manual(now), Clock::manual(now - setting.helper_behind));
        let around = Surroundings { setting, clock, helper_clock, gate, wires, task: Task::new(&setting) };
        let mut leaders = Vec::new();
        for number in 0..setting.leaders {
            leaders.push(Process::start(&around, Party::Leader(number), databases.leader()).await);
        }
        let helper = Process::start(&around, Party::Helper, databases.helper()).await;
        let keys = [leaders[0].config.clone(), helper.config.clone()];
        let forge = Forge::new(&around.task, setting.counted, keys, now);
        let http = around.wires.client(&Arc::new(AtomicBool::new(true)));
        let collector = Arc::new(Collector::new(around.task.of_collector(), http.clone()));
        let records =
            Records { leader: open(databases.leader()).await, helper: open(databases.helper()).await };
        let model = Model::default();
        Self {
            around,
            databases,
            records,
            leaders,
            helper,
            forge,
            http,
            collector,
            model,
            holding,
            held: Vec::new(),
        }
    }

    /// Whether the leader puts reports into batches of its choice.
    pub(crate) fn is_leader_selected(&self) -> bool {
        self.around.setting.batch_mode == BatchMode::LeaderSelected
    }

    /// Takes one step, with all that goes wrong in it.
    pub(crate) async fn take(&mut self, step: &Step) {
        let front = match step.action {
            Action::Upload { leader, .. }
            | Action::Aggregate { leader }
            | Action::Collect { leader }
            | Action::Ask { leader, .. }
            | Action::Poll { leader, .. }
            | Action::Delete { leader, .. } => leader,
            _ => 0,
        };
        self.around.wires.prepare(front, &step.faults);
        self.around.gate.arm(step.stop);
        match &step.action {
            Action::Wait { seconds } => self.wait(*seconds).await,
            Action::Die { party: Party::Helper } => self.helper.kill(),
            Action::Die { party: Party::Leader(leader) } => self.leaders[*leader].kill(),
            Action::GoOn { which } => self.go_on(*which).await,
            Action::Retire => self.retire().await,
            Action::Sabotage(sabotage) => sabotage::commit(self, *sabotage).await,
            action => {
                self.list_keys_again().await;
                if let Some(doing) = actions::begin(self, action) {
                    self.drive(doing).await;
                }
            }
        }
        self.around.gate.arm(None);
        self.around.wires.prepare(front, &[]);
        self.revive().await;
    }

    /// Time passes, and everybody looks for what has changed meanwhile.
    pub(crate) async fn wait(&mut self, seconds: u64) {
        self.around.advance(seconds);
        let leaders = (0..self.leaders.len()).map(Party::Leader);
        for party in leaders.chain([Party::Helper]) {
            let doing = actions::renew(self, party);
            self.drive(doing).await;
        }
    }

    /// The operator ends the task in the leader's database, and every leader hears of it.
    async fn retire(&mut self) {
        self.model.retired = true;
        let now = self.around.clock.now();
        let retired = self.records.leader.tx("retire_task", move |mut tx| async move {
            for task in tasks::all_tasks(&mut tx).await? {
                tasks::retire(&mut tx, task.key, now).await?;
            }
            Ok((tx, ()))
        });
        retired.await.expect("the database of the run");
        self.wait(0).await;
    }

    /// Clients that have kept the lists of keys for as long as they may ask for them again.
    pub(crate) async fn list_keys_again(&mut self) {
        let now = self.around.clock.now();
        if self.around.setting.keys == KeyLives::Long || now < self.forge.listed_at + CACHE_SECONDS {
            return;
        }
        let lists = [(Party::Leader(0), LEADER), (Party::Helper, HELPER)];
        let mut keys = Vec::new();
        for (party, endpoint) in lists {
            let request =
                Request::get(format!("{endpoint}hpke_config")).body(Bytes::new()).expect("a request");
            // Whoever is being held up, or dies over it, is asked again with the next step.
            let Ok(answer) = self.around.wires.deliver(party, request).await else { return };
            let Ok(list) = HpkeConfigList::decoded(answer.body()) else { return };
            keys.extend(list.preferred().cloned());
        }
        if let Ok(keys) = keys.try_into() {
            self.forge.list(keys, now);
        }
    }

    /// Goes on with something until it is done, or held up.
    pub(crate) async fn drive(&mut self, mut doing: Doing) {
        let outcome = tokio::time::timeout(PATIENCE, async {
            tokio::select! {
                biased;
                done = &mut doing => Ok(done),
                word = self.holding.recv() => Err(word.expect("the gate lives as long as the world")),
            }
        });
        match outcome.await {
            Ok(Ok(done)) => actions::conclude(self, done),
            Ok(Err(word)) => self.held.push(Held { doing, word }),
            Err(_) => {
                let detail = format!("a step took longer than {} s of real time", PATIENCE.as_secs());
                self.model.violations.push(Violation::Stuck(detail));
            }
        }
    }

    /// Gives the word to something that was held up.
    async fn go_on(&mut self, which: usize) {
        if self.held.is_empty() {
            return;
        }
        let Held { doing, word } = self.held.remove(which % self.held.len());
        let _ = word.send(());
        self.drive(doing).await;
    }

    /// Lets everything go on that was held up, and everything arrive that was on its way.
    pub(crate) async fn heal(&mut self) {
        self.around.gate.arm(None);
        self.around.wires.prepare(0, &[]);
        while !self.held.is_empty() {
            self.go_on(0).await;
        }
        while let Some(doing) = actions::begin(self, &Action::Arrive { which: 0 }) {
            self.drive(doing).await;
        }
        self.revive().await;
    }

    /// Everybody is gone, and what they kept.
    pub(crate) async fn end(self) {
        self.around.wires.disconnect_all();
        let Self { databases, leaders, helper, records, held, .. } = self;
        drop((leaders, helper, held));
        records.leader.close().await;
        records.helper.close().await;
        databases.remove().await;
    }

    /// Starts again who has died.
    async fn revive(&mut self) {
        for leader in &mut self.leaders {
            if !leader.is_alive() {
                *leader = leader.restarted(&self.around).await;
            }
        }
        if !self.helper.is_alive() {
            self.helper = self.helper.restarted(&self.around).await;
        }
    }
}

/// In real time. Steps take milliseconds.
const PATIENCE: Duration = Duration::from_mins(1);
