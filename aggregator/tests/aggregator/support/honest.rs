//! What a helper computes when it follows the protocol, kept in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use mica_dap::aggregation::{
    AggregationJobContinueReq, AggregationJobInitReq, AggregationJobResp, VerifyContinue, VerifyInit,
    VerifyResp, VerifyResult,
};
use mica_dap::batch::Checksum;
use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::collection::{AggregateShare, AggregateShareReq, SelectedBatch};
use mica_dap::hpke::{
    AggregateShareAad, HpkeKeypair, InputShareAad, Label, NoisedShare, Role, open, seal_aggregate_share,
};
use mica_dap::id::{BatchId, ReportId};
use mica_dap::problem::Problem;
use mica_dap::report::PlaintextInputShare;
use mica_dap::report_error::ReportError;
use mica_dap::time::Time;
use mica_dap::vdaf::{
    HelperStep, InputShareRef, OutputShare, Step, Vdaf, VerifyKey, VerifyState, vdaf_context,
};

use super::TestTask;

/// A total as it is: this peer adds no noise, so that tests see what the other one adds.
struct Exact(Vec<u8>);

impl NoisedShare for Exact {
    fn for_sealing(&self) -> &[u8] {
        &self.0
    }
}

pub(crate) struct Honest {
    task: TestTask,
    vdaf: Arc<dyn Vdaf>,
    pub(crate) keypair: HpkeKeypair,
    /// Every job that was committed, and its answer.
    jobs: Vec<Exchange>,
    /// Every aggregate share that was given, and for what.
    shares: Vec<Exchange>,
    /// Every second step, and its answer.
    steps: Vec<Exchange>,
    counted: Vec<Counted>,
    /// What waits for the second step.
    waiting: Vec<Waiting>,
    /// The places of reports that it finds too early, for each of the next jobs.
    early: VecDeque<Vec<usize>>,
}

struct Exchange {
    request: Vec<u8>,
    response: Vec<u8>,
}

struct Counted {
    id: ReportId,
    time: Time,
    batch: Option<BatchId>,
    output: OutputShare,
}

struct Waiting {
    id: ReportId,
    time: Time,
    batch: Option<BatchId>,
    state: VerifyState,
}

impl Honest {
    pub(crate) fn new(task: &TestTask, keypair: HpkeKeypair) -> Self {
        Self {
            task: task.clone(),
            vdaf: task.configuration.vdaf().instantiate().expect("the VDAF of a test"),
            keypair,
            jobs: Vec::new(),
            shares: Vec::new(),
            steps: Vec::new(),
            counted: Vec::new(),
            waiting: Vec::new(),
            early: VecDeque::new(),
        }
    }

    /// In the next job that it sees first, the reports at these places are too early.
    pub(crate) fn finds_early(&mut self, places: &[usize]) {
        self.early.push_back(places.to_vec());
    }

    /// How many reports it counts.
    pub(crate) fn counted(&self) -> u64 {
        self.counted.len() as u64
    }

    /// How many reports it counts in each batch, in the order in which the first of each came.
    pub(crate) fn batches(&self) -> Vec<(BatchId, u64)> {
        let mut batches: Vec<(BatchId, u64)> = Vec::new();
        for batch in self.counted.iter().filter_map(|report| report.batch) {
            match batches.iter_mut().find(|(known, _)| *known == batch) {
                Some((_, reports)) => *reports += 1,
                None => batches.push((batch, 1)),
            }
        }
        batches
    }

    /// The aggregate share that it gave.
    pub(crate) fn given_share(&self, at: usize) -> Option<Vec<u8>> {
        self.shares.get(at).map(|share| share.response.clone())
    }

    /// How many different jobs it has seen.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// The number of the job, and its answer: the same to the same bytes.
    pub(crate) fn aggregate(&mut self, request: &[u8]) -> (usize, Vec<u8>) {
        if let Some(at) = self.jobs.iter().position(|job| job.request == request) {
            return (at, self.jobs[at].response.clone());
        }
        let job = AggregationJobInitReq::decode_limited(request, 10_000).expect("a job that can be read");
        assert_eq!((job.verification_key_id, &job.agg_param), (0, &self.task.aggregation_parameter));
        let batch =
            job.batch_id(self.task.configuration.batch_mode()).expect("the extensions of its batch mode");
        assert!(!job.repeats_a_report());
        let early = self.early.pop_front().unwrap_or_default();
        let inits = job.verify_inits.iter().enumerate();
        let verify_resps = inits.map(|(at, init)| self.verify(init, batch, early.contains(&at))).collect();
        let response = AggregationJobResp { verify_resps }.encoded();
        self.jobs.push(Exchange { request: request.to_vec(), response: response.clone() });
        (self.jobs.len() - 1, response)
    }

    /// The answer to the second step of a job: the same to the same bytes.
    pub(crate) fn proceed(&mut self, request: &[u8]) -> Vec<u8> {
        if let Some(step) = self.steps.iter().find(|step| step.request == request) {
            return step.response.clone();
        }
        let asked =
            AggregationJobContinueReq::decode_limited(request, 10_000).expect("a step that can be read");
        assert_eq!((asked.step, asked.repeats_a_report()), (1, false));
        let mut verify_resps = Vec::new();
        let mut place = 0;
        for next in &asked.verify_continues {
            // In the order of the first step: whoever is passed over was refused, or waits for another job.
            let at = self.waiting.iter().rposition(|waiting| waiting.id == next.report_id);
            let at = at
                .filter(|at| *at >= place)
                .expect("it waits for this report, in the order of the first step");
            let waiting = self.waiting.remove(at);
            place = at;
            verify_resps.push(self.finish(waiting, next));
        }
        let response = AggregationJobResp { verify_resps }.encoded();
        self.steps.push(Exchange { request: request.to_vec(), response: response.clone() });
        response
    }

    fn finish(&mut self, waiting: Waiting, next: &VerifyContinue) -> VerifyResp {
        let Waiting { id, time, batch, state } = waiting;
        let (context, parameter) =
            (vdaf_context(self.task.draft, &self.task.id), &self.task.aggregation_parameter);
        let result = match self.vdaf.helper_continued(&context, parameter, state, &next.payload) {
            Ok(Step::Finished(output)) => {
                self.counted.push(Counted { id, time, batch, output });
                VerifyResult::Finish
            }
            _ => VerifyResult::Reject(ReportError::VdafVerifyError.code(self.task.draft)),
        };
        VerifyResp { report_id: id, result }
    }

    /// The answer to that job.
    pub(crate) fn job(&self, at: usize) -> Option<Vec<u8>> {
        self.jobs.get(at).map(|job| job.response.clone())
    }

    /// The share of what was counted, provided that the leader counts the same.
    pub(crate) fn share(&mut self, request: &[u8]) -> Result<(usize, Vec<u8>), Problem> {
        if let Some(at) = self.shares.iter().position(|share| share.request == request) {
            return Ok((at, self.shares[at].response.clone()));
        }
        let asked = AggregateShareReq::decoded(request).expect("a request that can be read");
        let (_, batch) = asked.batch(self.task.configuration.batch_mode())?;
        let selected = |report: &&Counted| match batch {
            SelectedBatch::TimeInterval(interval) => interval.contains(report.time),
            SelectedBatch::LeaderSelected(batch) => report.batch == Some(batch),
        };
        let batch: Vec<&Counted> = self.counted.iter().filter(selected).collect();
        let checksum: Checksum = batch.iter().map(|report| Checksum::of(&report.id)).collect();
        if (asked.report_count, asked.checksum) != (batch.len() as u64, checksum) {
            return Err(Problem::BatchMismatch);
        }
        let outputs: Vec<&OutputShare> = batch.iter().map(|report| &report.output).collect();
        let total = self
            .vdaf
            .aggregate(&self.task.aggregation_parameter, None, &outputs)
            .expect("shares of one task");
        let aad = AggregateShareAad {
            task_id: &self.task.id,
            task_configuration: self.task.configuration.bytes(),
            collection_job_req: asked.collection_job_req.bytes(),
        };
        let config = &self.task.collector.config;
        let sealed =
            seal_aggregate_share(config, Role::Helper, self.task.draft, &aad.encoded(), &Exact(total))
                .expect("it seals");
        let response = AggregateShare { encrypted_aggregate_share: sealed }.encoded();
        self.shares.push(Exchange { request: request.to_vec(), response: response.clone() });
        Ok((self.shares.len() - 1, response))
    }

    fn verify(&mut self, init: &VerifyInit, batch: Option<BatchId>, early: bool) -> VerifyResp {
        let report_id = init.report_share.metadata.report_id;
        let counted = if early { Err(ReportError::ReportTooEarly) } else { self.count(init, batch) };
        let result = match counted {
            Ok(message) => VerifyResult::Continue(message),
            Err(error) => VerifyResult::Reject(error.code(self.task.draft)),
        };
        VerifyResp { report_id, result }
    }

    fn count(&mut self, init: &VerifyInit, batch: Option<BatchId>) -> Result<Vec<u8>, ReportError> {
        let share = &init.report_share;
        let id = share.metadata.report_id;
        let aad = InputShareAad {
            task_id: &self.task.id,
            task_configuration: self.task.configuration.bytes(),
            metadata: &share.metadata.encoded(),
            public_share: &share.public_share,
        };
        let info = Label::InputShare(Role::Helper).info(self.task.draft);
        let plaintext = open(&self.keypair, &info, &aad.encoded(), &share.encrypted_input_share)
            .map_err(|_| ReportError::HpkeDecryptError)?;
        let plaintext = PlaintextInputShare::decoded(&plaintext).map_err(|_| ReportError::InvalidMessage)?;
        if self.counted.iter().any(|report| report.id == id) {
            return Err(ReportError::ReportReplayed);
        }
        let input =
            InputShareRef { nonce: &id, public_share: &share.public_share, input_share: &plaintext.payload };
        let key = VerifyKey::new(self.task.verify_key);
        let context = vdaf_context(self.task.draft, &self.task.id);
        let (parameter, time) = (&self.task.aggregation_parameter, share.metadata.time);
        match self.vdaf.helper_init(&key, &context, parameter, &input, &init.payload) {
            Ok(HelperStep::Continued { state, message }) => {
                self.waiting.push(Waiting { id, time, batch, state });
                Ok(message)
            }
            Ok(HelperStep::Finished { output, message }) => {
                self.counted.push(Counted { id, time, batch, output });
                Ok(message)
            }
            _ => Err(ReportError::VdafVerifyError),
        }
    }
}
