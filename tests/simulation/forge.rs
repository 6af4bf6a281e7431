//! The reports of a run's clients: each with a bucket of its own, so that one which is lost or counted twice is seen by
//! itself.

use std::sync::Arc;

use mica_client::{ReportBuilder, TaskBundle};
use mica_dap::hpke_config::HpkeConfig;
use mica_dap::id::ReportId;
use mica_dap::report::Report;
use mica_dap::time::Time;
use mica_dap::vdaf::{Measurement, Vdaf, vdaf_context};

use crate::plan::{Counted, Flaw};
use crate::task::{BITS, BUCKETS, EARLIER, FIRST, PRECISION, Task};

/// Makes reports, good and flawed.
pub(crate) struct Forge {
    bundle: TaskBundle,
    builder: ReportBuilder,
    /// When the clients got the lists that they seal by.
    pub(crate) listed_at: u64,
    vdaf: Arc<dyn Vdaf>,
    context: Vec<u8>,
    counted: Counted,
}

impl Forge {
    /// For clients that were told these keys at that time.
    pub(crate) fn new(task: &Task, counted: Counted, keys: [HpkeConfig; 2], now: u64) -> Self {
        let bundle = task.bundle();
        Self {
            builder: builder(&bundle, keys),
            bundle,
            listed_at: now,
            vdaf: Arc::clone(&task.vdaf),
            context: vdaf_context(task.draft, &task.id),
            counted,
        }
    }

    /// From now on the clients seal to these.
    pub(crate) fn list(&mut self, keys: [HpkeConfig; 2], now: u64) {
        self.builder = builder(&self.bundle, keys);
        self.listed_at = now;
    }

    /// A report that adds one to `bucket` and nothing elsewhere.
    pub(crate) fn report(&self, name: ReportId, bucket: usize, time: Time, flaw: Option<Flaw>) -> Report {
        let measurement = self.measurement(bucket);
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
            // Keys are numbered from the first on, and few of them are made in a run.
            Some(Flaw::UnknownKey) => leader.config_id = leader.config_id.wrapping_add(128),
            _ => {}
        }
        report
    }

    fn measurement(&self, bucket: usize) -> Measurement {
        match self.counted {
            Counted::Buckets => Measurement::Bucket(u32::try_from(bucket).expect("one of the buckets")),
            Counted::Vectors => Measurement::Vector((0..BUCKETS).map(|at| u64::from(at == bucket)).collect()),
            Counted::Strings => {
                Measurement::Bits((0..BITS).rev().map(|bit| bucket >> bit & 1 == 1).collect())
            }
        }
    }
}

fn builder(bundle: &TaskBundle, [leader, helper]: [HpkeConfig; 2]) -> ReportBuilder {
    ReportBuilder::new(bundle, leader, helper).expect("a VDAF that is run here")
}

fn damage(ciphertext: &mut [u8]) {
    *ciphertext.first_mut().expect("a ciphertext is not empty") ^= 1;
}
