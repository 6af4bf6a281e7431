//! What the leader makes of the helper's answers, step by step, until every report of a job has met its end
//! (DAP 4.5.3.1, 4.5.4.1).
//!
//! Pure: the same reports and the same answers give the same messages and the same sums, so that a job that is taken up
//! again goes the same way. It holds one share of each report, and must never log or print one.

use std::collections::BTreeMap;

use mica_dap::aggregation::{
    AggregationJobContinueReq, AggregationJobResp, VerifyContinue, VerifyResp, VerifyResult,
};
use mica_dap::id::BatchId;
use mica_dap::report::Report;
use mica_dap::report_error::ReportError;
use mica_dap::vdaf::{LeaderStep, OutputShare, VerifyState};

use super::finish::{self, Settlement, Verified};
use crate::jobs::JobError;
use crate::task::Task;

/// A job between two answers.
pub(super) struct Rounds {
    /// The step that the helper is asked to take.
    step: u16,
    /// The reports that it is asked about, in the order of the request.
    waiting: Vec<Waiting>,
    verified: Vec<Verified>,
    tallies: BTreeMap<&'static str, u64>,
    later: Vec<Report>,
}

/// A report that the helper is asked about.
struct Waiting {
    report: Report,
    awaits: Awaits,
    /// What the helper is sent of it, after the first step.
    message: Vec<u8>,
}

/// What may come next for a report.
enum Awaits {
    /// The helper's message.
    Message(VerifyState),
    /// The word that the helper has finished, too.
    Finish(OutputShare),
    /// A refusal: nobody can open it.
    Refusal,
}

impl Rounds {
    /// The reports of a job's first request, each with the state that it waits in; and a blank, if it has one.
    pub(super) fn begin(sent: Vec<(Report, VerifyState)>, blank: Option<Report>) -> Self {
        let wait = |(report, state)| Waiting { report, awaits: Awaits::Message(state), message: Vec::new() };
        let blank = blank.map(|report| Waiting { report, awaits: Awaits::Refusal, message: Vec::new() });
        let waiting = sent.into_iter().map(wait).chain(blank).collect();
        Self { step: 0, waiting, verified: Vec::new(), tallies: BTreeMap::new(), later: Vec::new() }
    }

    /// The step that the helper is asked to take.
    pub(super) fn step(&self) -> u16 {
        self.step
    }

    /// How many reports the helper is asked about.
    pub(super) fn reports(&self) -> usize {
        self.waiting.len()
    }

    /// The request for every step after the first.
    pub(super) fn request(&self) -> AggregationJobContinueReq {
        let message = |waiting: &Waiting| VerifyContinue {
            report_id: waiting.report.metadata.report_id,
            payload: waiting.message.clone(),
        };
        AggregationJobContinueReq {
            step: self.step,
            verify_continues: self.waiting.iter().map(message).collect(),
        }
    }

    /// Takes the step that an answer allows.
    ///
    /// # Errors
    /// When the answer is about other reports, or says of one what it cannot be: then nothing of it counts.
    pub(super) fn take(mut self, task: &Task, response: AggregationJobResp) -> Result<Self, JobError> {
        let asked = self.waiting.iter().map(|waiting| waiting.report.metadata.report_id);
        if !response.answers(asked) {
            return Err(JobError::retry("the helper answered about other reports, or in another order"));
        }
        let waiting = std::mem::take(&mut self.waiting);
        for (waiting, resp) in waiting.into_iter().zip(response.verify_resps) {
            self.take_one(task, waiting, resp)?;
        }
        self.step += 1;
        Ok(self)
    }

    fn take_one(&mut self, task: &Task, waiting: Waiting, resp: VerifyResp) -> Result<(), JobError> {
        let Waiting { report, awaits, .. } = waiting;
        match (resp.result, awaits) {
            (VerifyResult::Continue(message), Awaits::Message(state)) => {
                self.advance(task, report, state, &message);
            }
            (VerifyResult::Finish, Awaits::Finish(output)) => self.finish(&report, output),
            (VerifyResult::Reject(_), Awaits::Refusal) => {}
            (VerifyResult::Reject(code), _) => match ReportError::from_code(code, task.draft) {
                ReportError::ReportTooEarly => self.later.push(report),
                error => self.count(error.label()),
            },
            (VerifyResult::Finish, Awaits::Message(_)) => {
                return Err(JobError::retry("the helper finished a report that was not at its end"));
            }
            (_, Awaits::Refusal) => {
                return Err(JobError::retry("the helper took a report that nobody can open"));
            }
            (VerifyResult::Continue(_), Awaits::Finish(_)) => {
                return Err(JobError::retry("the helper continued a report that was at its end"));
            }
        }
        Ok(())
    }

    /// One bad message costs its own report and no other.
    fn advance(&mut self, task: &Task, report: Report, state: VerifyState, message: &[u8]) {
        let parameter = &task.aggregation_parameter;
        let (awaits, message) = match task.vdaf.leader_continued(&task.context, parameter, state, message) {
            Ok(LeaderStep::Finished(output)) => return self.finish(&report, output),
            Ok(LeaderStep::Continued { state, message }) => (Awaits::Message(state), message),
            Ok(LeaderStep::FinishedWithOutbound { output, message }) => (Awaits::Finish(output), message),
            Err(_) => return self.count(ReportError::VdafVerifyError.label()),
        };
        self.waiting.push(Waiting { report, awaits, message });
    }

    fn finish(&mut self, report: &Report, output: OutputShare) {
        self.verified.push(Verified { id: report.metadata.report_id, time: report.metadata.time, output });
        self.count(finish::AGGREGATED);
    }

    fn count(&mut self, outcome: &'static str) {
        *self.tallies.entry(outcome).or_default() += 1;
    }

    /// The sums of a job in which no report waits any more.
    ///
    /// # Errors
    /// When the shares cannot be added up.
    pub(super) fn settle(self, task: &Task, batch: Option<BatchId>) -> Result<Settlement, JobError> {
        let deltas =
            finish::sum(task, batch, &self.verified).map_err(|fault| JobError::retry(fault.to_string()))?;
        Ok(Settlement { deltas, tallies: self.tallies, later: self.later, left_at: None })
    }
}

#[cfg(test)]
mod tests {
    use mica_dap::codec::Encode as _;
    use mica_dap::hpke_config::HpkeCiphertext;
    use mica_dap::id::ReportId;
    use mica_dap::report::ReportMetadata;
    use mica_dap::time::Time;
    use mica_dap::vdaf::{HelperStep, InputShareRef, Measurement, Step, encode_prefixes};
    use mica_dap::vdaf_config::VdafConfig;

    use super::*;
    use crate::release::tests::string_task;

    /// The leader's and the helper's first step over a string of four bits.
    fn first_steps(task: &Task, number: u8, string: &str) -> ((Report, VerifyState), VerifyState, Vec<u8>) {
        let id = ReportId::new([number; 16]);
        let measurement = Measurement::parse(&VdafConfig::Poplar1 { bits: 4 }, string).expect("four bits");
        let shares = task.vdaf.shard(&task.context, &measurement, &id).expect("it can be shared");
        let input = |aggregator: usize| InputShareRef {
            nonce: &id,
            public_share: &shares.public_share,
            input_share: &shares.input_shares[aggregator],
        };
        let (key, context, parameter) = (&task.verify_key, &task.context, &task.aggregation_parameter);
        let leader = task.vdaf.leader_init(key, context, parameter, &input(0)).expect("a good share");
        let helper = task.vdaf.helper_init(key, context, parameter, &input(1), &leader.message);
        let Ok(HelperStep::Continued { state, message }) = helper else { panic!("two rounds") };
        let sealed = HpkeCiphertext { config_id: 1, enc: vec![1], payload: vec![1] };
        let metadata = ReportMetadata { report_id: id, time: Time(9), public_extensions: Vec::new() };
        let report = Report {
            metadata,
            public_share: shares.public_share.clone(),
            leader_encrypted_input_share: sealed.clone(),
            helper_encrypted_input_share: sealed,
        };
        ((report, leader.state), state, message)
    }

    fn resps(results: Vec<(u8, VerifyResult)>) -> AggregationJobResp {
        let resp = |(number, result)| VerifyResp { report_id: ReportId::new([number; 16]), result };
        AggregationJobResp { verify_resps: results.into_iter().map(resp).collect() }
    }

    fn task() -> Task {
        let parameter = encode_prefixes(4, &["00", "01"]).expect("two prefixes");
        string_task(4, parameter)
    }

    /// S79.
    #[test]
    fn a_report_of_two_rounds_counts_when_the_helper_has_finished() {
        let task = task();
        let (one, helper_one, message_one) = first_steps(&task, 1, "0110");
        let (two, _, _) = first_steps(&task, 2, "0010");
        let (three, helper_three, message_three) = first_steps(&task, 3, "0001");
        let rounds = Rounds::begin(vec![one, two, three], None);
        let answer = resps(vec![
            (1, VerifyResult::Continue(message_one)),
            (2, VerifyResult::Reject(6)),
            (3, VerifyResult::Continue(message_three)),
        ]);
        let rounds = rounds.take(&task, answer).expect("as it should be");
        assert_eq!((rounds.step(), rounds.reports()), (1, 2), "who was refused is left out");
        let request = rounds.request();
        assert_eq!(request.encoded(), rounds.request().encoded());
        let mut results = Vec::new();
        for (state, next) in [helper_one, helper_three].into_iter().zip(&request.verify_continues) {
            let (context, parameter) = (&task.context, &task.aggregation_parameter);
            let step = task.vdaf.helper_continued(context, parameter, state, &next.payload);
            assert!(matches!(step, Ok(Step::Finished(_))), "the helper is at its end");
            results.push((next.report_id.as_bytes()[0], VerifyResult::Finish));
        }
        let rounds = rounds.take(&task, resps(results)).expect("as it should be");
        assert_eq!(rounds.reports(), 0);
        let settled = rounds.settle(&task, None).expect("they add up");
        assert_eq!((settled.deltas.len(), settled.deltas[0].report_count), (1, 2));
        let expected = BTreeMap::from([(finish::AGGREGATED, 2), (ReportError::VdafVerifyError.label(), 1)]);
        assert_eq!(settled.tallies, expected);
    }

    #[test]
    fn an_answer_of_the_second_round_is_about_the_same_reports_in_the_same_order() {
        let task = task();
        let finished = |numbers: &[u8]| {
            let [one, two] = [(1, "0110"), (2, "0010")].map(|(at, string)| first_steps(&task, at, string));
            let went_on = vec![(1, VerifyResult::Continue(one.2)), (2, VerifyResult::Continue(two.2))];
            let rounds = Rounds::begin(vec![one.0, two.0], None).take(&task, resps(went_on));
            let finish = numbers.iter().map(|number| (*number, VerifyResult::Finish)).collect();
            rounds.expect("as it should be").take(&task, resps(finish)).is_ok()
        };
        assert!(finished(&[1, 2]));
        for wrong in [&[2, 1][..], &[1], &[1, 2, 2], &[1, 3], &[1, 2, 3]] {
            assert!(!finished(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn an_answer_that_cannot_be_at_this_step_counts_nothing() {
        let task = task();
        for first in [true, false] {
            let (one, _, message) = first_steps(&task, 1, "0110");
            let rounds = Rounds::begin(vec![one], None);
            if first {
                assert!(rounds.take(&task, resps(vec![(1, VerifyResult::Finish)])).is_err());
                continue;
            }
            let rounds = rounds.take(&task, resps(vec![(1, VerifyResult::Continue(message.clone()))]));
            let rounds = rounds.expect("as it should be");
            assert!(rounds.take(&task, resps(vec![(1, VerifyResult::Continue(message))])).is_err());
        }
    }
}
