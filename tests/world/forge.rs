//! Reports with one flaw each, by somebody who knows the protocol well.

use std::sync::Arc;

use mica_dap::Draft;
use mica_dap::codec::Encode as _;
use mica_dap::hpke::{self, InputShareAad, Role};
use mica_dap::hpke_config::{HpkeCiphertext, HpkeConfig};
use mica_dap::id::ReportId;
use mica_dap::report::{PlaintextInputShare, Report, ReportMetadata};
use mica_dap::time::Time;
use mica_dap::vdaf::{Measurement, Vdaf, vdaf_context};

use crate::Task;
use crate::task::hpke_config;

/// What is wrong with a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The two shares are of two different sharings, so the proof cannot hold.
    BadProof,
    /// Sealed for another time than it says.
    WrongAad,
    /// Sealed under the label of another draft.
    OtherDraft,
    /// Each aggregator gets what was sealed for the other.
    SwappedShares,
    /// One bit of the helper's share was changed on the way.
    DamagedHelperShare,
    /// Made tomorrow.
    Future,
    /// Sealed to a key that the leader does not have.
    UnknownLeaderKey,
    /// Sealed to a key that the helper does not have.
    UnknownHelperKey,
    /// The plaintext goes on after its end.
    TrailingPlaintext,
}

/// Makes reports, good and flawed.
pub struct Forge {
    task: Task,
    vdaf: Arc<dyn Vdaf>,
    leader: HpkeConfig,
    helper: HpkeConfig,
}

impl Forge {
    /// For this task, with the keys that its aggregators publish.
    pub async fn of(task: &Task) -> Self {
        Self {
            vdaf: task.vdaf().instantiate().expect("the VDAF of a test"),
            leader: hpke_config(task.configuration.leader_url()).await,
            helper: hpke_config(task.configuration.helper_url()).await,
            task: task.clone(),
        }
    }

    /// A report without a flaw.
    #[must_use]
    pub fn good(&self, measurement: &Measurement) -> Report {
        self.make(measurement, None)
    }

    /// A report with this flaw.
    #[must_use]
    pub fn flawed(&self, measurement: &Measurement, flaw: Flaw) -> Report {
        let mut report = self.make(measurement, Some(flaw));
        let Report { leader_encrypted_input_share: leader, helper_encrypted_input_share: helper, .. } =
            &mut report;
        match flaw {
            Flaw::SwappedShares => {
                std::mem::swap(&mut leader.enc, &mut helper.enc);
                std::mem::swap(&mut leader.payload, &mut helper.payload);
            }
            Flaw::DamagedHelperShare => {
                *helper.payload.first_mut().expect("a share has bytes") ^= 1;
            }
            Flaw::UnknownLeaderKey => leader.config_id = leader.config_id.wrapping_add(1),
            Flaw::UnknownHelperKey => helper.config_id = helper.config_id.wrapping_add(1),
            _ => {}
        }
        report
    }

    fn make(&self, measurement: &Measurement, flaw: Option<Flaw>) -> Report {
        let task = &self.task;
        let report_id = ReportId::random(&mut rand::rng());
        let context = vdaf_context(task.draft, &task.id);
        let shard = || self.vdaf.shard(&context, measurement, &report_id).expect("a measurement of the task");
        let mut sharded = shard();
        if flaw == Some(Flaw::BadProof) {
            let [_, helper_share] = shard().input_shares;
            sharded.input_shares[1] = helper_share;
        }
        let now = task.current_time();
        let day = 86_400_u64.div_ceil(task.configuration.time_precision().seconds());
        let time = if flaw == Some(Flaw::Future) { Time(now.0 + day + 1) } else { now };
        let metadata = ReportMetadata { report_id, time, public_extensions: Vec::new() };
        let sealed_time = if flaw == Some(Flaw::WrongAad) { Time(time.0 - 1) } else { time };
        let sealed_metadata = ReportMetadata { time: sealed_time, ..metadata.clone() };
        let aad = InputShareAad {
            task_id: &task.id,
            task_configuration: task.configuration.bytes(),
            metadata: &sealed_metadata.encoded(),
            public_share: &sharded.public_share,
        }
        .encoded();
        let [leader_share, helper_share] = &sharded.input_shares;
        let seal = |config, role, share| self.seal(config, role, &aad, share, flaw);
        Report {
            leader_encrypted_input_share: seal(&self.leader, Role::Leader, leader_share),
            helper_encrypted_input_share: seal(&self.helper, Role::Helper, helper_share),
            metadata,
            public_share: sharded.public_share,
        }
    }

    fn seal(
        &self,
        config: &HpkeConfig,
        to: Role,
        aad: &[u8],
        share: &[u8],
        flaw: Option<Flaw>,
    ) -> HpkeCiphertext {
        let plaintext = PlaintextInputShare { private_extensions: Vec::new(), payload: share.to_vec() };
        let mut plaintext = plaintext.encoded();
        if flaw == Some(Flaw::TrailingPlaintext) {
            plaintext.push(0);
        }
        let draft = match (self.task.draft, flaw) {
            (Draft::V18, Some(Flaw::OtherDraft)) => Draft::V19,
            (Draft::V19, Some(Flaw::OtherDraft)) => Draft::V18,
            (draft, _) => draft,
        };
        hpke::seal_input_share(config, to, draft, aad, &plaintext).expect("a key that can be sealed to")
    }
}
