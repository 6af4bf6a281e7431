//! Reports built by hand, with one flaw where a test wants one.

use mica_dap::aggregation::{ReportShare, VerifyInit};
use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::extension::Extension;
use mica_dap::hpke::{InputShareAad, Role, seal_input_share};
use mica_dap::hpke_config::{HpkeCiphertext, HpkeConfigList};
use mica_dap::id::ReportId;
use mica_dap::report::{PlaintextInputShare, ReportMetadata};
use mica_dap::time::Time;
use mica_dap::vdaf::{InputShareRef, Measurement, OutputShare, Step, VerifyKey, VerifyState, vdaf_context};

use super::{NOW, PRECISION, TestTask};

/// What is wrong with a report.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// The helper's share is of another measurement.
    BadProof,
    /// Sealed for other metadata.
    WrongAad,
    /// Sealed under a number that the helper has no key for.
    UnknownKey,
    /// The plaintext is no input share.
    NoShare,
    /// A public extension that nobody knows.
    UnknownExtension,
    /// Private extensions out of order.
    UnorderedExtensions,
}

/// A report as the leader holds it after its first step.
pub(crate) struct Crafted {
    pub(crate) id: ReportId,
    pub(crate) init: VerifyInit,
    state: VerifyState,
}

impl Crafted {
    /// A good report of the current unit of time.
    pub(crate) fn good(task: &TestTask, hpke_configs: &[u8], measurement: &Measurement) -> Self {
        Self::new(task, hpke_configs, measurement, Time(NOW / PRECISION), Flaw::None)
    }

    pub(crate) fn new(
        task: &TestTask,
        hpke_configs: &[u8],
        measurement: &Measurement,
        time: Time,
        flaw: Flaw,
    ) -> Self {
        let vdaf = task.configuration.vdaf().instantiate().expect("the VDAF of a test");
        let context = vdaf_context(task.draft, &task.id);
        let id = ReportId::random(&mut rand::rng());
        let mut shares = vdaf.shard(&context, measurement, &id).expect("it can be shared");
        let leader = InputShareRef {
            nonce: &id,
            public_share: &shares.public_share,
            input_share: &shares.input_shares[0],
        };
        let key = VerifyKey::new(task.verify_key);
        let first = vdaf.leader_init(&key, &context, &[], &leader).expect("the leader's share is good");
        if flaw == Flaw::BadProof {
            let other = vdaf.shard(&context, measurement, &id).expect("it can be shared");
            shares.input_shares = other.input_shares;
        }
        let unknown = |code| Extension { extension_type: code, data: Vec::new() };
        let public_extensions = if flaw == Flaw::UnknownExtension { vec![unknown(9)] } else { Vec::new() };
        let metadata = ReportMetadata { report_id: id, time, public_extensions };
        let private_extensions =
            if flaw == Flaw::UnorderedExtensions { vec![unknown(9), unknown(3)] } else { Vec::new() };
        let payload = if flaw == Flaw::NoShare { vec![1] } else { shares.input_shares[1].clone() };
        let plaintext = PlaintextInputShare { private_extensions, payload }.encoded();
        let sealed = seal_share(task, hpke_configs, &metadata, &shares.public_share, &plaintext, flaw);
        let report_share =
            ReportShare { metadata, public_share: shares.public_share, encrypted_input_share: sealed };
        Self { id, init: VerifyInit { report_share, payload: first.message }, state: first.state }
    }

    /// The leader's output share, once the helper has said that the report is good.
    pub(crate) fn finish(self, task: &TestTask, message: &[u8]) -> OutputShare {
        let vdaf = task.configuration.vdaf().instantiate().expect("the VDAF of a test");
        let context = vdaf_context(task.draft, &task.id);
        match vdaf.leader_continued(&context, &[], self.state, message) {
            Ok(Step::Finished(output)) => output,
            _ => panic!("one round is all it takes"),
        }
    }
}

fn seal_share(
    task: &TestTask,
    hpke_configs: &[u8],
    metadata: &ReportMetadata,
    public_share: &[u8],
    plaintext: &[u8],
    flaw: Flaw,
) -> HpkeCiphertext {
    let configs = HpkeConfigList::decoded(hpke_configs).expect("the server's configurations");
    let config = configs.preferred().expect("it has one of the mandatory suite");
    let mut bound = metadata.clone();
    if flaw == Flaw::WrongAad {
        bound.time = Time(bound.time.0 + 1);
    }
    let aad = InputShareAad {
        task_id: &task.id,
        task_configuration: task.configuration.bytes(),
        metadata: &bound.encoded(),
        public_share,
    };
    let mut sealed = seal_input_share(config, Role::Helper, task.draft, &aad.encoded(), plaintext)
        .expect("it can be sealed");
    if flaw == Flaw::UnknownKey {
        sealed.config_id = sealed.config_id.wrapping_add(1);
    }
    sealed
}
