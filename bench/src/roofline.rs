//! The roofline: what one report costs if nothing is done but the cryptography that it cannot do without.
//!
//! The same code that the roles call, on reports of the same task, one after the other on this thread. Time is the CPU
//! time of the thread, so that others on the machine do not count, and of many samples the smallest is taken.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use mica_client::ReportBuilder;
use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::hpke::{self, HpkeKeypair, InputShareAad, Label};
use mica_dap::hpke_config::HpkeCiphertext;
use mica_dap::report::{PlaintextInputShare, Report};
use mica_dap::vdaf::{
    HelperStep, InputShareRef, LeaderInit, OutputShare, Step, Vdaf, VerifyKey, vdaf_context,
};
use mica_envelope::{
    ClientEnvelope, GatewayKey, GatewayKeys, InnerResponse, Kem, KeyConfigList, Opened, Unwrap as _,
    encode_response_padded,
};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::parties::Task;
use crate::workload;

/// CPU time of each primitive, in microseconds per report.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Primitives {
    pub(crate) leader_hpke_open: f64,
    pub(crate) leader_init: f64,
    pub(crate) helper_hpke_open: f64,
    pub(crate) helper_init: f64,
    pub(crate) leader_continued: f64,
    /// Both aggregators.
    pub(crate) aggregate: f64,
    /// The gateway: opening one envelope and sealing its answer.
    pub(crate) envelope: f64,
}

impl Primitives {
    /// What leader and helper cannot do without.
    pub(crate) fn dap(&self) -> f64 {
        self.leader_hpke_open
            + self.leader_init
            + self.helper_hpke_open
            + self.helper_init
            + self.leader_continued
            + self.aggregate
    }

    /// The smaller of each.
    pub(crate) fn min(self, other: Self) -> Self {
        Self {
            leader_hpke_open: self.leader_hpke_open.min(other.leader_hpke_open),
            leader_init: self.leader_init.min(other.leader_init),
            helper_hpke_open: self.helper_hpke_open.min(other.helper_hpke_open),
            helper_init: self.helper_init.min(other.helper_init),
            leader_continued: self.leader_continued.min(other.leader_continued),
            aggregate: self.aggregate.min(other.aggregate),
            envelope: self.envelope.min(other.envelope),
        }
    }
}

/// Keys of our own for every party, so that every step can be taken here.
pub(crate) struct Bench<'t> {
    task: &'t Task,
    vdaf: std::sync::Arc<dyn Vdaf>,
    verify_key: VerifyKey,
    context: Vec<u8>,
    leader: HpkeKeypair,
    helper: HpkeKeypair,
    gateway: GatewayKeys,
    keys: KeyConfigList,
}

impl<'t> Bench<'t> {
    pub(crate) fn new(task: &'t Task) -> Result<Self> {
        let mut rng = rand::rng();
        let gateway = GatewayKeys::new(vec![GatewayKey::generate(1, Kem::X25519HkdfSha256)?])?;
        let keys = KeyConfigList::parse(gateway.config_list().to_vec())?;
        Ok(Self {
            task,
            vdaf: task.configuration.vdaf().instantiate()?,
            verify_key: VerifyKey::random(&mut rng),
            context: vdaf_context(task.draft, &task.id),
            leader: HpkeKeypair::generate(1, &mut rng),
            helper: HpkeKeypair::generate(2, &mut rng),
            gateway,
            keys,
        })
    }

    /// A gateway key that nobody serves: for bundles of clients that send straight to the leader.
    pub(crate) fn gateway_keys(&self) -> KeyConfigList {
        self.keys.clone()
    }

    /// The smallest of several samples of every primitive.
    pub(crate) fn measure(
        &self,
        builder: impl Fn(&HpkeKeypair, &HpkeKeypair) -> Result<ReportBuilder>,
    ) -> Result<Primitives> {
        let builder = builder(&self.leader, &self.helper)?;
        let config = self.task.configuration.vdaf();
        let report = |number| Ok(builder.report(&workload::measurement(config, number), self.task.time)?);
        let reports: Vec<Report> = (0..SAMPLE).map(report).collect::<Result<_>>()?;
        let mut best: Option<Primitives> = None;
        for _ in 0..SAMPLES {
            let sample = self.sample(&reports)?;
            best = Some(best.map_or(sample, |best| best.min(sample)));
        }
        best.context("no sample was taken")
    }

    fn sample(&self, reports: &[Report]) -> Result<Primitives> {
        let (leader_hpke_open, leader_shares) = self.open(reports, hpke::Role::Leader, &self.leader)?;
        let (helper_hpke_open, helper_shares) = self.open(reports, hpke::Role::Helper, &self.helper)?;
        let (leader_init, inits) = timed(reports.iter().zip(&leader_shares), |(report, share)| {
            Ok(self.vdaf.leader_init(&self.verify_key, &self.context, &[], &input(report, share))?)
        })?;
        let (states, messages): (Vec<_>, Vec<_>) =
            inits.into_iter().map(|LeaderInit { state, message }| (state, message)).unzip();
        let (helper_init, steps) =
            timed(reports.iter().zip(&helper_shares).zip(&messages), |((report, share), inbound)| {
                let input = input(report, share);
                match self.vdaf.helper_init(&self.verify_key, &self.context, &[], &input, inbound)? {
                    HelperStep::Finished { output, message } => Ok((output, message)),
                    HelperStep::Continued { .. } => bail!("a VDAF of one round takes another"),
                }
            })?;
        let (helper_outputs, messages): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
        let (leader_continued, leader_outputs) =
            timed(states.into_iter().zip(&messages), |(state, inbound)| {
                match self.vdaf.leader_continued(&self.context, &[], state, inbound)? {
                    Step::Finished(output) => Ok(output),
                    _ => bail!("a VDAF of one round takes another"),
                }
            })?;
        let aggregate = self.aggregate(&leader_outputs)? + self.aggregate(&helper_outputs)?;
        let envelope = self.envelope(reports)?;
        Ok(Primitives {
            leader_hpke_open,
            leader_init,
            helper_hpke_open,
            helper_init,
            leader_continued,
            aggregate,
            envelope,
        })
    }

    fn open(
        &self,
        reports: &[Report],
        role: hpke::Role,
        keypair: &HpkeKeypair,
    ) -> Result<(f64, Vec<Vec<u8>>)> {
        let info = Label::InputShare(role).info(self.task.draft);
        let sealed: Vec<(Vec<u8>, &HpkeCiphertext)> = reports
            .iter()
            .map(|report| {
                let aad = InputShareAad {
                    task_id: &self.task.id,
                    task_configuration: self.task.configuration.bytes(),
                    metadata: &report.metadata.encoded(),
                    public_share: &report.public_share,
                };
                let ciphertext = match role {
                    hpke::Role::Leader => &report.leader_encrypted_input_share,
                    _ => &report.helper_encrypted_input_share,
                };
                (aad.encoded(), ciphertext)
            })
            .collect();
        let (took, plaintexts) =
            timed(sealed.iter(), |(aad, ciphertext)| Ok(hpke::open(keypair, &info, aad, ciphertext)?))?;
        let share = |plaintext: &Vec<u8>| Ok(PlaintextInputShare::decoded(plaintext)?.payload.clone());
        Ok((took, plaintexts.iter().map(share).collect::<Result<_>>()?))
    }

    fn aggregate(&self, outputs: &[OutputShare]) -> Result<f64> {
        let outputs: Vec<&OutputShare> = outputs.iter().collect();
        let started = thread_cpu_time();
        self.vdaf.aggregate(&[], None, &outputs)?;
        Ok(micros(thread_cpu_time().saturating_sub(started)))
    }

    fn envelope(&self, reports: &[Report]) -> Result<f64> {
        let sealed = reports.iter().map(|report| {
            let request = workload::inner_request(self.task, Bytes::from(report.encoded()))?;
            Ok(ClientEnvelope::seal(&self.keys, &request)?.0)
        });
        let sealed: Vec<Vec<u8>> = sealed.collect::<Result<_>>()?;
        let answer = InnerResponse { status: 200, headers: Vec::new(), body: Bytes::new() };
        let (took, _) = timed(sealed.iter(), |sealed| {
            let Opened { request, sealer, .. } = self.gateway.open(sealed)?;
            request.map_err(|error| anyhow::anyhow!("an envelope holds something else: {error}"))?;
            let encoded = encode_response_padded(&answer, sealer.overhead(), SMALLEST_ANSWER)?;
            Ok(sealer.seal_encoded(&encoded)?)
        })?;
        Ok(took)
    }
}

fn input<'r>(report: &'r Report, input_share: &'r [u8]) -> InputShareRef<'r> {
    InputShareRef { nonce: &report.metadata.report_id, public_share: &report.public_share, input_share }
}

/// The time that `step` takes over one sample, per report, and what it gave.
fn timed<I, T>(
    items: impl Iterator<Item = I>,
    mut step: impl FnMut(I) -> Result<T>,
) -> Result<(f64, Vec<T>)> {
    let mut made = Vec::with_capacity(usize::try_from(SAMPLE).unwrap_or_default());
    let started = thread_cpu_time();
    for item in items {
        made.push(step(item)?);
    }
    Ok((micros(thread_cpu_time().saturating_sub(started)), made))
}

fn micros(of_a_sample: Duration) -> f64 {
    of_a_sample.as_secs_f64() * 1e6 / f64::from(SAMPLE)
}

fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Reports in one sample: a few milliseconds of each primitive.
const SAMPLE: u32 = 64;
const SAMPLES: u32 = 20;

/// What a gateway pads short answers to.
const SMALLEST_ANSWER: usize = 1_024;
