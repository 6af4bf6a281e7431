//! All that the parties outside of the servers know of one task.

use mica_aggregator::Role;
use mica_aggregator::auth::{Bearer, TokenHash};
use mica_aggregator::task_file::{TaskFile, Tokens};
use mica_client::{ReportBuilder, TaskBundle};
use mica_collector::{Collector, CollectorTask};
use mica_dap::codec::Decode;
use mica_dap::hpke::{HpkeKeypair, HpkePrivateKey};
use mica_dap::hpke_config::{HpkeConfig, HpkeConfigList};
use mica_dap::id::TaskId;
use mica_dap::report::Report;
use mica_dap::resource::Resource;
use mica_dap::task::{BatchMode, TaskConfiguration, TaskParameters};
use mica_dap::time::{Interval, Time, TimePrecision};
use mica_dap::vdaf_config::VdafConfig;
use mica_dap::{Draft, draft};
use mica_dp::{Decision, Mechanism, Policy, TaskFacts, parse_task_info};
use mica_envelope::{GatewayKey, GatewayKeys, Kem, KeyConfigList};
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::secret::Secret;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::{Plan, Sample, Wire, now};

/// A task with all its secrets.
#[derive(Clone)]
pub struct Task {
    /// Its name.
    pub id: TaskId,
    /// The draft it speaks.
    pub draft: Draft,
    /// What all parties agreed, byte for byte.
    pub configuration: TaskConfiguration,
    /// The key of the verification.
    pub verify_key: [u8; 32],
    /// The token that the leader shows to the helper.
    pub leader_to_helper: String,
    /// The token that the collector shows to the leader.
    pub collector_to_leader: String,
    /// The collector's keys.
    pub collector: HpkeKeypair,
    /// The noise that each aggregator adds, if any.
    pub mechanism: Option<Mechanism>,
}

impl Task {
    /// The task that `mica dev --json` told of.
    #[must_use]
    pub fn of_dev(told: &Value) -> Self {
        let task = &told["task"];
        let draft = task["draft"].as_str().map_or_else(|| task["draft"].to_string(), ToOwned::to_owned);
        let draft: Draft = draft.parse().unwrap_or_else(|_: draft::UnknownDraft| panic!("a draft: {told}"));
        let config =
            HpkeConfig::decoded(&hex(&told["collector"]["hpke_config"])).expect("an HPKE configuration");
        let private_key =
            HpkePrivateKey::from_bytes(&hex(&told["collector"]["private_key"])).expect("32 bytes");
        let configuration =
            TaskConfiguration::parse(&hex(&task["config"]), draft).expect("a task configuration");
        let policy = told["policy"]["path"].as_str();
        let policy = policy.map(|path| std::fs::read_to_string(path).expect("the policy file is there"));
        Self {
            id: text(&task["id"]).parse().expect("a task identifier"),
            draft,
            verify_key: hex(&task["verify_key"]).try_into().expect("32 bytes"),
            leader_to_helper: text(&told["auth"]["leader_to_helper"]),
            collector_to_leader: text(&told["auth"]["collector_to_leader"]),
            collector: HpkeKeypair::from_parts(config, private_key).expect("a pair"),
            mechanism: policy.and_then(|policy| mechanism(&policy, &configuration)),
            configuration,
        }
    }

    /// A fresh task, and the files that its leader and its helper are told of it with.
    #[must_use]
    pub fn make(plan: &Plan, leader_url: &str, helper_url: &str) -> (Self, TaskFile, TaskFile) {
        let mut rng = rand::rng();
        let configuration = TaskParameters {
            task_info: task_info(plan),
            leader_url: leader_url.to_owned(),
            helper_url: helper_url.to_owned(),
            time_precision: TimePrecision::new(plan.time_precision).expect("above zero"),
            min_batch_size: plan.min_batch_size,
            batch_mode: BatchMode::TimeInterval,
            vdaf: plan.vdaf.clone(),
            task_interval: None,
        };
        let configuration = configuration.build(plan.draft).expect("a task configuration");
        let task = Self {
            id: TaskId::random(&mut rng),
            draft: plan.draft,
            verify_key: rand::random(),
            leader_to_helper: format!("leader-to-helper-{}", hex::encode(rand::random::<[u8; 16]>())),
            collector_to_leader: format!("collector-to-leader-{}", hex::encode(rand::random::<[u8; 16]>())),
            collector: HpkeKeypair::generate(7, &mut rng),
            mechanism: mechanism(&plan.policy, &configuration),
            configuration,
        };
        let (leader, helper) = (task.file(Role::Leader), task.file(Role::Helper));
        (task, leader, helper)
    }

    /// What an app would be told.
    #[must_use]
    pub fn bundle(&self, relay: &str, ohttp_keys: KeyConfigList) -> TaskBundle {
        TaskBundle {
            task_id: self.id,
            draft: self.draft,
            configuration: self.configuration.clone(),
            relay: relay.to_owned(),
            ohttp_keys,
            history_key: None,
        }
    }

    /// The task's collector.
    #[must_use]
    pub fn collector(&self) -> Collector {
        let task = CollectorTask {
            task_id: self.id,
            draft: self.draft,
            configuration: self.configuration.clone(),
            token: Secret::new(self.collector_to_leader.clone()),
            keypair: self.collector.clone(),
            mechanism: self.mechanism.clone(),
            guarantee: None,
            aggregation_parameter: Vec::new(),
        };
        Collector::new(task, HttpClient::new(HttpOptions::default())).hurried()
    }

    /// Makes reports under the keys that the aggregators publish, asked for without a relay.
    pub async fn builder(&self) -> ReportBuilder {
        let leader = hpke_config(self.configuration.leader_url()).await;
        let helper = hpke_config(self.configuration.helper_url()).await;
        // Nothing is sent through the gateway of this bundle: there is none.
        let gateway =
            GatewayKey::generate(1, Kem::X25519HkdfSha256).and_then(|key| GatewayKeys::new(vec![key]));
        let keys = gateway.expect("a fresh key").config_list().to_vec();
        let bundle = self.bundle("", KeyConfigList::parse(keys).expect("our own list"));
        ReportBuilder::new(&bundle, leader, helper).expect("a task that clients can serve")
    }

    /// Where reports are uploaded to.
    #[must_use]
    pub fn reports_url(&self) -> String {
        Resource::Reports(self.id).url(self.configuration.leader_url())
    }

    /// Where collections are asked for.
    #[must_use]
    pub fn collections_url(&self) -> String {
        Resource::CollectionJobs(self.id).url(self.configuration.leader_url())
    }

    /// The VDAF.
    #[must_use]
    pub fn vdaf(&self) -> &VdafConfig {
        self.configuration.vdaf()
    }

    /// A sample of the task's VDAF.
    #[must_use]
    pub fn sample(&self, count: u64) -> Sample {
        Sample::of(self.vdaf(), count)
    }

    /// The unit of time of this moment.
    #[must_use]
    pub fn current_time(&self) -> Time {
        self.configuration.time_precision().time_of(now())
    }

    /// The file that this side is told of the task with.
    #[must_use]
    pub fn file(&self, role: Role) -> TaskFile {
        let tokens = match role {
            Role::Leader => Tokens::Leader {
                to_helper: Some(Bearer::new(&self.leader_to_helper).expect("plain letters")),
                of_collector: TokenHash::of(&self.collector_to_leader).into(),
            },
            Role::Helper => Tokens::Helper { of_leader: TokenHash::of(&self.leader_to_helper).into() },
        };
        TaskFile {
            role,
            task_id: self.id,
            draft: self.draft,
            configuration: self.configuration.clone(),
            verify_key: Zeroizing::new(self.verify_key),
            verification_key_id: 0,
            collector: self.collector.config.clone(),
            tokens,
            batch_target_size: None,
            aggregation_parameter: Vec::new(),
        }
    }
}

/// The smallest interval around the times of all reports.
#[must_use]
pub fn interval_of<'r>(reports: impl IntoIterator<Item = &'r Report>) -> Interval {
    let times: Vec<Time> = reports.into_iter().map(|report| report.metadata.time).collect();
    let (first, last) = times.iter().min().zip(times.iter().max()).expect("at least one report");
    Interval::between(*first, Time(last.0 + 1)).expect("times of now")
}

pub(crate) async fn hpke_config(endpoint: &str) -> HpkeConfig {
    let reply = Wire::default().get(&Resource::HpkeConfig.url(endpoint)).await;
    let list = HpkeConfigList::decoded(&reply.body).expect("a list of keys");
    list.preferred().expect("a key of the mandatory suite").clone()
}

fn task_info(plan: &Plan) -> Vec<u8> {
    let policy = Policy::parse("policy.toml", &plan.policy).expect("a policy");
    let facts = TaskFacts::new(LABEL, &plan.vdaf, plan.min_batch_size);
    match policy.release_for(&facts).expect("the policy covers the task") {
        Decision::Release(plan) => plan.statement().task_info(LABEL).expect("a short label"),
        Decision::WithoutDp(_) => LABEL.as_bytes().to_vec(),
    }
}

fn mechanism(policy: &str, configuration: &TaskConfiguration) -> Option<Mechanism> {
    let (label, _) = parse_task_info(configuration.task_info())?;
    let policy = Policy::parse("policy.toml", policy).expect("a policy");
    let facts = TaskFacts::new(label, configuration.vdaf(), configuration.min_batch_size());
    match policy.release_for(&facts).expect("the policy covers the task") {
        Decision::Release(plan) => Some(plan.mechanism().clone()),
        Decision::WithoutDp(_) => None,
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}")).to_owned()
}

fn hex(value: &Value) -> Vec<u8> {
    hex::decode(text(value)).unwrap_or_else(|_| panic!("hexadecimal digits, not {value}"))
}

/// What the tasks of these tests are called.
pub(crate) const LABEL: &str = "test";
