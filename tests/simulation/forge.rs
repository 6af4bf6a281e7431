//! The task of a run, and the reports of its clients: each with a bucket of its own, so that one which is lost or counted
//! twice is seen by itself.

use std::sync::Arc;

use mica_aggregator::Role;
use mica_aggregator::auth::{Bearer, TokenHash};
use mica_aggregator::task_file::{TaskFile, Tokens};
use mica_client::{ReportBuilder, TaskBundle};
use mica_collector::CollectorTask;
use mica_dap::Draft;
use mica_dap::hpke::HpkeKeypair;
use mica_dap::hpke_config::HpkeConfig;
use mica_dap::id::{ReportId, TaskId};
use mica_dap::report::Report;
use mica_dap::task::{BatchMode, TaskConfiguration, TaskParameters};
use mica_dap::time::{Duration, Interval, Time, TimePrecision};
use mica_dap::vdaf::{Measurement, Vdaf, vdaf_context};
use mica_dap::vdaf_config::VdafConfig;
use mica_dp::Policy;
use mica_envelope::{GatewayKey, GatewayKeys, Kem, KeyConfigList};
use mica_service::secret::Secret;
use zeroize::Zeroizing;

use crate::network::{HELPER, LEADER};
use crate::plan::{Flaw, Setting};

/// The most reports of a run: as many as there are buckets.
pub(crate) const BUCKETS: usize = 256;
/// The first unit of time that a run collects.
pub(crate) const FIRST: u64 = 1_000_000;
/// The length of one.
pub(crate) const PRECISION: u64 = 100;
/// The task began so many units before the first.
const EARLIER: u64 = 10;

/// A task with all its secrets.
pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) draft: Draft,
    pub(crate) configuration: TaskConfiguration,
    pub(crate) collector: HpkeKeypair,
    pub(crate) vdaf: Arc<dyn Vdaf>,
    verify_key: [u8; 32],
    target_size: Option<u64>,
}

impl Task {
    pub(crate) fn new(setting: &Setting) -> Self {
        let mut rng = rand::rng();
        let length = u32::try_from(BUCKETS).expect("a small number");
        let parameters = TaskParameters {
            task_info: b"simulation".to_vec(),
            leader_url: LEADER.to_owned(),
            helper_url: HELPER.to_owned(),
            time_precision: TimePrecision::new(PRECISION).expect("not zero"),
            min_batch_size: setting.min_batch_size,
            batch_mode: setting.batch_mode,
            vdaf: if setting.vectors {
                VdafConfig::sum_vec(length, 1)
            } else {
                VdafConfig::histogram(length)
            },
            task_interval: Some(
                Interval::new(Time(FIRST - EARLIER), Duration(1_000_000)).expect("an interval"),
            ),
        };
        let configuration = parameters.build(setting.draft).expect("a task configuration");
        Self {
            id: TaskId::random(&mut rng),
            draft: setting.draft,
            vdaf: configuration.vdaf().instantiate().expect("a VDAF that is run here"),
            configuration,
            collector: HpkeKeypair::generate(7, &mut rng),
            verify_key: rand::random(),
            target_size: (setting.batch_mode == BatchMode::LeaderSelected).then_some(setting.target_size),
        }
    }

    pub(crate) fn policy() -> Policy {
        let text = Policy::for_release_without_dp("the simulation compares exact totals", "2199-01-01");
        Policy::parse("policy.toml", &text).expect("a valid policy")
    }

    /// What an aggregator is told.
    pub(crate) fn file(&self, role: Role) -> TaskFile {
        let tokens = match role {
            Role::Leader => Tokens::Leader {
                to_helper: Bearer::new("leader-token").expect("plain letters"),
                of_collector: TokenHash::of("collector-token").into(),
            },
            Role::Helper => Tokens::Helper { of_leader: TokenHash::of("leader-token").into() },
        };
        TaskFile {
            role,
            task_id: self.id,
            draft: self.draft,
            configuration: self.configuration.clone(),
            verify_key: Zeroizing::new(self.verify_key),
            verification_key_id: 0,
            batch_target_size: self.target_size.filter(|_| role == Role::Leader),
            aggregation_parameter: Vec::new(),
            collector: self.collector.config.clone(),
            tokens,
        }
    }

    /// What the collector is told.
    pub(crate) fn of_collector(&self) -> CollectorTask {
        CollectorTask {
            task_id: self.id,
            draft: self.draft,
            configuration: self.configuration.clone(),
            token: Secret::new("collector-token".to_owned()),
            keypair: self.collector.clone(),
            mechanism: None,
            aggregation_parameter: Vec::new(),
        }
    }

    /// What clients are told. They upload past relay and gateway here.
    fn bundle(&self) -> TaskBundle {
        let key = GatewayKey::generate(1, Kem::X25519HkdfSha256).expect("a key");
        let keys = GatewayKeys::new(vec![key]).expect("one key");
        TaskBundle {
            task_id: self.id,
            draft: self.draft,
            configuration: self.configuration.clone(),
            relay: "http://relay.test/".to_owned(),
            ohttp_keys: KeyConfigList::parse(keys.config_list().to_vec()).expect("its own list"),
        }
    }
}

/// Makes reports, good and flawed.
pub(crate) struct Forge {
    builder: ReportBuilder,
    vdaf: Arc<dyn Vdaf>,
    context: Vec<u8>,
    vectors: bool,
}

impl Forge {
    /// For clients that seal to these keys.
    pub(crate) fn new(task: &Task, vectors: bool, leader: HpkeConfig, helper: HpkeConfig) -> Self {
        Self {
            builder: ReportBuilder::new(&task.bundle(), leader, helper).expect("a VDAF that is run here"),
            vdaf: Arc::clone(&task.vdaf),
            context: vdaf_context(task.draft, &task.id),
            vectors,
        }
    }

    /// A report that adds one to `bucket` and nothing elsewhere.
    pub(crate) fn report(&self, name: ReportId, bucket: usize, time: Time, flaw: Option<Flaw>) -> Report {
        let measurement = if self.vectors {
            Measurement::Vector((0..BUCKETS).map(|at| u64::from(at == bucket)).collect())
        } else {
            Measurement::Bucket(u32::try_from(bucket).expect("one of the buckets"))
        };
        let shard = || self.vdaf.shard(&self.context, &measurement, &name).expect("it can be shared");
        let mut sharded = shard();
        if flaw == Some(Flaw::BadProof) {
            let [_, other] = shard().input_shares;
            sharded.input_shares[1] = other;
        }
        let time = match flaw {
            Some(Flaw::Future) => Time(time.0 + 86_400 / PRECISION),
            Some(Flaw::BeforeTheTask) => Time(FIRST - EARLIER - 1),
            _ => time,
        };
        let mut report = self.builder.seal(name, time, &sharded).expect("it can be sealed");
        let Report { leader_encrypted_input_share: leader, helper_encrypted_input_share: helper, .. } =
            &mut report;
        match flaw {
            Some(Flaw::DamagedLeaderShare) => damage(&mut leader.payload),
            Some(Flaw::DamagedHelperShare) => damage(&mut helper.payload),
            Some(Flaw::UnknownKey) => leader.config_id = leader.config_id.wrapping_add(1),
            _ => {}
        }
        report
    }
}

fn damage(ciphertext: &mut [u8]) {
    *ciphertext.first_mut().expect("a ciphertext is not empty") ^= 1;
}
