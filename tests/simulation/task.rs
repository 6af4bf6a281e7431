//! The task of a run: its secrets, what each party is told of it, and the policy by which its totals leave.

use std::path::PathBuf;
use std::sync::Arc;
use std::time;

use mica_aggregator::Role;
use mica_aggregator::auth::{Bearer, TokenHash};
use mica_aggregator::task_file::{TaskFile, Tokens};
use mica_aggregator::taskprov::{Taskprov, TaskprovConfig};
use mica_client::TaskBundle;
use mica_collector::CollectorTask;
use mica_dap::Draft;
use mica_dap::codec::Encode as _;
use mica_dap::hpke::HpkeKeypair;
use mica_dap::id::{TaskId, to_base64url};
use mica_dap::task::{BatchMode, TaskConfiguration, TaskParameters};
use mica_dap::time::{Duration, Interval, Time, TimePrecision};
use mica_dap::vdaf::{Vdaf, encode_prefixes};
use mica_dap::vdaf_config::VdafConfig;
use mica_dp::{Decision, Mechanism, Policy, TaskFacts};
use mica_envelope::{GatewayKey, GatewayKeys, Kem, KeyConfigList};
use mica_service::secret::Secret;
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::network::{HELPER, LEADER};
use crate::plan::{Comes, Counted, Noise, Setting};

/// The most reports of a run: as many as there are buckets.
pub(crate) const BUCKETS: usize = 1 << BITS;
/// As many as tell the buckets apart.
pub(crate) const BITS: u16 = 8;
/// The first unit of time that a run collects.
pub(crate) const FIRST: u64 = 1_000_000;
/// The length of one.
pub(crate) const PRECISION: u64 = 100;
/// The task began so many units before the first.
pub(crate) const EARLIER: u64 = 10;

/// A task with all its secrets.
pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) draft: Draft,
    pub(crate) configuration: TaskConfiguration,
    pub(crate) collector: HpkeKeypair,
    pub(crate) vdaf: Arc<dyn Vdaf>,
    /// Under which all reports are aggregated; empty where the VDAF takes none.
    pub(crate) parameter: Vec<u8>,
    /// The noise of each aggregator, if there is any.
    pub(crate) mechanism: Option<Mechanism>,
    verify_key: [u8; 32],
    target_size: Option<u64>,
    policy: String,
    /// Of a task that comes with requests: the files that the aggregators agree by.
    agreed: Option<TempDir>,
}

impl Task {
    pub(crate) fn new(setting: &Setting) -> Self {
        let mut rng = rand::rng();
        let vdaf = vdaf(setting.counted);
        let policy = policy(setting, &vdaf);
        let parsed = Policy::parse("policy.toml", &policy).expect("a valid policy");
        let facts = TaskFacts::new(LABEL, &vdaf, setting.min_batch_size);
        let (task_info, mechanism) = match parsed.release_for(&facts).expect("the policy covers the task") {
            Decision::Release(plan) => {
                (plan.statement().task_info(LABEL).expect("a short label"), Some(plan.mechanism().clone()))
            }
            Decision::WithoutDp(_) => (LABEL.as_bytes().to_vec(), None),
        };
        let parameters = TaskParameters {
            task_info,
            leader_url: LEADER.to_owned(),
            helper_url: HELPER.to_owned(),
            time_precision: TimePrecision::new(PRECISION).expect("not zero"),
            min_batch_size: setting.min_batch_size,
            batch_mode: setting.batch_mode,
            vdaf,
            task_interval: Some(
                Interval::new(Time(FIRST - EARLIER), Duration(1_000_000)).expect("an interval"),
            ),
        };
        let configuration = parameters.build(setting.draft).expect("a task configuration");
        let agreed = (setting.comes == Comes::WithRequests).then(agreed_files);
        Self {
            id: match agreed {
                Some(_) => configuration.derived_task_id(),
                None => TaskId::random(&mut rng),
            },
            draft: setting.draft,
            vdaf: configuration.vdaf().instantiate().expect("a VDAF that is run here"),
            parameter: parameter(setting.counted),
            configuration,
            mechanism,
            collector: HpkeKeypair::generate(7, &mut rng),
            verify_key: rand::random(),
            target_size: (setting.batch_mode == BatchMode::LeaderSelected).then_some(setting.target_size),
            policy,
            agreed,
        }
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy::parse("policy.toml", &self.policy).expect("a valid policy")
    }

    /// What an aggregator is told before it starts: nothing of a task that comes with requests.
    pub(crate) fn files(&self, role: Role) -> Vec<TaskFile> {
        if self.agreed.is_some() { Vec::new() } else { vec![self.file(role)] }
    }

    fn file(&self, role: Role) -> TaskFile {
        let tokens = match role {
            Role::Leader => Tokens::Leader {
                to_helper: Some(Bearer::new(LEADER_TOKEN).expect("plain letters")),
                of_collector: TokenHash::of(COLLECTOR_TOKEN).into(),
            },
            Role::Helper => Tokens::Helper { of_leader: TokenHash::of(LEADER_TOKEN).into() },
        };
        TaskFile {
            role,
            task_id: self.id,
            draft: self.draft,
            configuration: self.configuration.clone(),
            verify_key: Zeroizing::new(self.verify_key),
            verification_key_id: 0,
            batch_target_size: self.target_size.filter(|_| role == Role::Leader),
            aggregation_parameter: match role {
                Role::Leader => self.parameter.clone(),
                Role::Helper => Vec::new(),
            },
            collector: self.collector.config.clone(),
            tokens,
        }
    }

    /// Under which terms an aggregator takes part in tasks that come with requests.
    pub(crate) fn terms(&self, role: Role) -> Option<Taskprov> {
        let file = |name: &str| -> Option<PathBuf> { Some(self.agreed.as_ref()?.path().join(name)) };
        let (own, other) = match role {
            Role::Leader => (LEADER, HELPER),
            Role::Helper => (HELPER, LEADER),
        };
        let config = TaskprovConfig {
            endpoint: own.to_owned(),
            peers: vec![other.to_owned()],
            verify_key_init_file: file(SECRET)?,
            peer_token_file: file(TOKEN),
            peer_token_sha256: Some(TokenHash::of(LEADER_TOKEN).to_hex()),
            collector_token_sha256: Some(TokenHash::of(COLLECTOR_TOKEN).to_hex()),
            collector_hpke_config: to_base64url(&self.collector.config.encoded()),
            draft: self.draft.to_string(),
            vdafs: Vec::new(),
            min_batch_size_floor: 2,
            max_lifetime: time::Duration::from_secs(2_000_000 * PRECISION),
            without_noise: true,
            max_tasks_per_minute: 60,
            max_tasks: 100,
            max_upload_tasks_per_minute: None,
            max_upload_tasks: None,
        };
        Some(config.load(role).expect("terms that both can keep"))
    }

    /// What the collector is told.
    pub(crate) fn of_collector(&self) -> CollectorTask {
        CollectorTask {
            task_id: self.id,
            draft: self.draft,
            configuration: self.configuration.clone(),
            token: Secret::new(COLLECTOR_TOKEN.to_owned()),
            keypair: self.collector.clone(),
            mechanism: self.mechanism.clone(),
            guarantee: None,
            aggregation_parameter: self.parameter.clone(),
        }
    }

    /// What clients are told. They upload past relay and gateway here.
    pub(crate) fn bundle(&self) -> TaskBundle {
        let key = GatewayKey::generate(1, Kem::X25519HkdfSha256).expect("a key");
        let keys = GatewayKeys::new(vec![key]).expect("one key");
        TaskBundle {
            task_id: self.id,
            draft: self.draft,
            configuration: self.configuration.clone(),
            relay: "http://relay.test/".to_owned(),
            ohttp_keys: KeyConfigList::parse(keys.config_list().to_vec()).expect("its own list"),
            history_key: None,
        }
    }
}

fn vdaf(counted: Counted) -> VdafConfig {
    let length = u32::try_from(BUCKETS).expect("a small number");
    match counted {
        Counted::Buckets => VdafConfig::histogram(length),
        Counted::Vectors => VdafConfig::sum_vec(length, 1),
        Counted::Strings => VdafConfig::Poplar1 { bits: BITS },
    }
}

/// Every string there is: the results are in the order of the buckets.
fn parameter(counted: Counted) -> Vec<u8> {
    if counted != Counted::Strings {
        return Vec::new();
    }
    let strings: Vec<String> =
        (0..BUCKETS).map(|bucket| format!("{bucket:0width$b}", width = BITS.into())).collect();
    encode_prefixes(BITS, &strings).expect("as many prefixes as are taken")
}

fn policy(setting: &Setting, vdaf: &VdafConfig) -> String {
    match setting.noise {
        Noise::None => Policy::for_release_without_dp("the simulation compares exact totals", "2199-01-01"),
        // The demonstration's budget lasts for ten releases, and a run may have more.
        Noise::Drawn => Policy::for_demo(LABEL, vdaf, setting.min_batch_size, "1").replacen(
            "epsilon = \"10\"",
            "epsilon = \"100000\"",
            1,
        ),
    }
}

/// What the aggregators agree on beforehand about tasks that come with requests.
fn agreed_files() -> TempDir {
    let folder = tempfile::tempdir().expect("a place for temporary files");
    let write = |name: &str, content: &[u8]| {
        std::fs::write(folder.path().join(name), content).expect("a file of our own");
    };
    write(SECRET, &rand::random::<[u8; 32]>());
    write(TOKEN, LEADER_TOKEN.as_bytes());
    folder
}

const LABEL: &str = "simulation";
const LEADER_TOKEN: &str = "leader-token";
const COLLECTOR_TOKEN: &str = "collector-token";
const SECRET: &str = "secret";
const TOKEN: &str = "token";
