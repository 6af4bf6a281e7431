//! Reports built by hand, with one flaw where a test wants one.

use hpke::aead::AesGcm128;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Serializable as _};
use mica_dap::Draft;
use mica_dap::aggregation::{ReportShare, VerifyContinue, VerifyInit};
use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::extension::Extension;
use mica_dap::hpke::{InputShareAad, Role, seal_input_share};
use mica_dap::hpke_config::{HpkeCiphertext, HpkeConfig, HpkeConfigList};
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
    /// A public extension of the reserved type.
    ReservedExtension,
    /// A private extension that nobody knows.
    UnknownPrivateExtension,
    /// Public extensions out of order.
    UnorderedPublicExtensions,
    /// One public extension twice.
    TwicePublicExtension,
    /// One extension in public and in private.
    TwiceExtension,
    /// One byte of the ciphertext was changed.
    BadCiphertext,
    /// Sealed under the label of the other aggregator.
    OtherRole,
    /// Sealed under the label of another draft.
    OtherDraft,
    /// Sealed under the label of a draft that is none of ours.
    OldDraft,
    /// The plaintext goes on after its end.
    TrailingPlaintext,
    /// The plaintext holds a share of no bytes.
    EmptyShare,
    /// The leader's message is none.
    BadMessage,
    /// The public share is none.
    BadPublicShare,
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
        Self::under(task, hpke_configs, measurement, (time, flaw), &[])
    }

    /// A report that is looked at under this aggregation parameter.
    pub(crate) fn under(
        task: &TestTask,
        hpke_configs: &[u8],
        measurement: &Measurement,
        what: (Time, Flaw),
        parameter: &[u8],
    ) -> Self {
        let id = ReportId::random(&mut rand::rng());
        Self::of_id(task, hpke_configs, measurement, what, (id, parameter))
    }

    /// A report of this identifier.
    pub(crate) fn of_id(
        task: &TestTask,
        hpke_configs: &[u8],
        measurement: &Measurement,
        (time, flaw): (Time, Flaw),
        (id, parameter): (ReportId, &[u8]),
    ) -> Self {
        let vdaf = task.configuration.vdaf().instantiate().expect("the VDAF of a test");
        let context = vdaf_context(task.draft, &task.id);
        let mut shares = vdaf.shard(&context, measurement, &id).expect("it can be shared");
        let leader = InputShareRef {
            nonce: &id,
            public_share: &shares.public_share,
            input_share: &shares.input_shares[0],
        };
        let key = VerifyKey::new(task.verify_key);
        let mut first =
            vdaf.leader_init(&key, &context, parameter, &leader).expect("the leader's share is good");
        match flaw {
            Flaw::BadProof => {
                let other = vdaf.shard(&context, measurement, &id).expect("it can be shared");
                shares.input_shares = other.input_shares;
            }
            Flaw::BadMessage => first.message = vec![9],
            Flaw::BadPublicShare => shares.public_share = vec![7],
            _ => {}
        }
        let (public_extensions, private_extensions) = extensions(flaw);
        let metadata = ReportMetadata { report_id: id, time, public_extensions };
        let payload = match flaw {
            Flaw::NoShare => vec![1],
            Flaw::EmptyShare => Vec::new(),
            _ => shares.input_shares[1].clone(),
        };
        let mut plaintext = PlaintextInputShare { private_extensions, payload }.encoded();
        if flaw == Flaw::TrailingPlaintext {
            plaintext.push(0);
        }
        let sealed = seal_share(task, hpke_configs, &metadata, &shares.public_share, &plaintext, flaw);
        let report_share =
            ReportShare { metadata, public_share: shares.public_share, encrypted_input_share: sealed };
        Self { id, init: VerifyInit { report_share, payload: first.message }, state: first.state }
    }

    /// The leader's next message under a parameter, and its share, on the helper's first message.
    pub(crate) fn proceed(
        self,
        task: &TestTask,
        parameter: &[u8],
        message: &[u8],
    ) -> (VerifyContinue, OutputShare) {
        let vdaf = task.configuration.vdaf().instantiate().expect("the VDAF of a test");
        let context = vdaf_context(task.draft, &task.id);
        match vdaf.leader_continued(&context, parameter, self.state, message) {
            Ok(Step::FinishedWithOutbound { output, message }) => {
                (VerifyContinue { report_id: self.id, payload: message }, output)
            }
            _ => panic!("two rounds are what it takes"),
        }
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

/// The public and the private extensions.
fn extensions(flaw: Flaw) -> (Vec<Extension>, Vec<Extension>) {
    let of = |codes: &[u16]| -> Vec<Extension> {
        codes.iter().map(|code| Extension { extension_type: *code, data: Vec::new() }).collect()
    };
    let (public, private): (&[u16], &[u16]) = match flaw {
        Flaw::UnknownExtension => (&[9], &[]),
        Flaw::ReservedExtension => (&[0], &[]),
        Flaw::UnknownPrivateExtension => (&[], &[9]),
        Flaw::UnorderedExtensions => (&[], &[9, 3]),
        Flaw::UnorderedPublicExtensions => (&[5, 3], &[]),
        Flaw::TwicePublicExtension => (&[3, 3], &[]),
        Flaw::TwiceExtension => (&[3], &[3]),
        _ => (&[], &[]),
    };
    (of(public), of(private))
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
    let role = if flaw == Flaw::OtherRole { Role::Leader } else { Role::Helper };
    let draft = match (task.draft, flaw) {
        (Draft::V18, Flaw::OtherDraft) => Draft::V19,
        (Draft::V19, Flaw::OtherDraft) => Draft::V18,
        (draft, _) => draft,
    };
    let aad = aad.encoded();
    let mut sealed = if flaw == Flaw::OldDraft {
        seal_under(config, b"dap-17 input share\x01\x03", &aad, plaintext)
    } else {
        seal_input_share(config, role, draft, &aad, plaintext).expect("it can be sealed")
    };
    match flaw {
        Flaw::UnknownKey => sealed.config_id = sealed.config_id.wrapping_add(1),
        Flaw::BadCiphertext => *sealed.payload.last_mut().expect("it has bytes") ^= 1,
        _ => {}
    }
    sealed
}

/// Seals under a label that no draft of ours has.
fn seal_under(config: &HpkeConfig, info: &[u8], aad: &[u8], plaintext: &[u8]) -> HpkeCiphertext {
    let key =
        <X25519HkdfSha256 as hpke::Kem>::PublicKey::from_bytes(&config.public_key).expect("a public key");
    let (enc, payload) = hpke::single_shot_seal_with_rng::<AesGcm128, HkdfSha256, X25519HkdfSha256>(
        &hpke::OpModeS::Base,
        &key,
        info,
        plaintext,
        aad,
        &mut rand::rng(),
    )
    .expect("it can be sealed");
    HpkeCiphertext { config_id: config.id, enc: enc.to_bytes().to_vec(), payload }
}
