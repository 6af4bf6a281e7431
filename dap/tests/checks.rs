//! Messages that can be read but must not be taken, each with the error that the specification names.

use mica_dap::aggregation::{
    AggregationJobContinueReq, AggregationJobInitReq, AggregationJobResp, ReportShare, VerifyContinue,
    VerifyInit, VerifyResp, VerifyResult,
};
use mica_dap::batch::Checksum;
use mica_dap::codec::Malformed;
use mica_dap::collection::{AggregateShareReq, BatchSelector, CollectionJobReq, QueriedBatch, Query};
use mica_dap::extension::Extension;
use mica_dap::hpke_config::HpkeCiphertext;
use mica_dap::id::{BatchId, ReportId};
use mica_dap::problem::Problem;
use mica_dap::report::{Report, ReportMetadata, UploadRequest, check_extensions};
use mica_dap::report_error::ReportError;
use mica_dap::task::BatchMode;
use mica_dap::time::{Duration, Interval, Time};
use mica_dap::{Decode, Draft, Encode};

fn extension(extension_type: u16) -> Extension {
    Extension { extension_type, data: vec![7] }
}

fn metadata(id: u8) -> ReportMetadata {
    ReportMetadata { report_id: ReportId::new([id; 16]), time: Time(1), public_extensions: Vec::new() }
}

fn ciphertext() -> HpkeCiphertext {
    HpkeCiphertext { config_id: 1, enc: vec![1], payload: vec![1] }
}

fn report(id: u8) -> Report {
    Report {
        metadata: metadata(id),
        public_share: Vec::new(),
        leader_encrypted_input_share: ciphertext(),
        helper_encrypted_input_share: ciphertext(),
    }
}

fn job(ids: &[u8], extensions: Vec<Extension>) -> AggregationJobInitReq {
    let init = |id: &u8| VerifyInit {
        report_share: ReportShare {
            metadata: metadata(*id),
            public_share: Vec::new(),
            encrypted_input_share: ciphertext(),
        },
        payload: vec![1],
    };
    AggregationJobInitReq {
        verification_key_id: 0,
        agg_param: Vec::new(),
        extensions,
        verify_inits: ids.iter().map(init).collect(),
    }
}

fn interval(start: u64, duration: u64) -> Interval {
    Interval::new(Time(start), Duration(duration)).expect("a valid interval")
}

#[test]
fn an_upload_has_at_least_one_report_and_no_more_than_allowed() {
    let three = UploadRequest { reports: vec![report(1), report(2), report(3)] }.encoded();
    assert_eq!(UploadRequest::decode_reports(&three, 3).map(|reports| reports.len()), Ok(3));
    assert!(UploadRequest::decode_reports(&three, 2).is_err());
    assert!(UploadRequest::decode_reports(&[], 3).is_err());
}

#[test]
fn report_extensions_are_in_order_distinct_and_none_is_known() {
    let one = [extension(1)];
    let out_of_order = [extension(2), extension(1)];
    let repeated = [extension(1), extension(1)];
    for draft in Draft::ALL {
        assert_eq!(check_extensions(&[], &[], draft), Ok(()));
        for (public, private) in
            [(&out_of_order[..], &[][..]), (&[], &out_of_order), (&repeated, &[]), (&one, &one)]
        {
            assert_eq!(check_extensions(public, private, draft), Err(ReportError::InvalidMessage));
        }
    }
    let (odd, even) = ([1, 3, 5].map(extension), [2, 4, 6].map(extension));
    assert_eq!(check_extensions(&odd, &even, Draft::V19), Err(ReportError::UnsupportedExtension));
    for common in [[1, 2, 4], [2, 3, 4], [2, 4, 5]].map(|types| types.map(extension)) {
        assert_eq!(check_extensions(&odd, &common, Draft::V19), Err(ReportError::InvalidMessage));
        assert_eq!(check_extensions(&common, &odd, Draft::V19), Err(ReportError::InvalidMessage));
    }
    assert_eq!(check_extensions(&one, &[], Draft::V18), Err(ReportError::InvalidMessage));
    assert_eq!(check_extensions(&[], &one, Draft::V19), Err(ReportError::UnsupportedExtension));
}

#[test]
fn a_job_has_at_least_one_report_no_more_than_allowed_and_none_twice() {
    let two = job(&[1, 2], Vec::new());
    assert!(!two.repeats_a_report());
    assert!(job(&[1, 2, 1], Vec::new()).repeats_a_report());
    assert!(AggregationJobInitReq::decode_limited(&two.encoded(), 2).is_ok());
    let too_many = AggregationJobInitReq::decode_limited(&two.encoded(), 1);
    assert_eq!(too_many.err(), Some(Malformed::TOO_MANY), "which is not the same as wrong");
    let cut = &two.encoded()[..two.encoded().len() - 1];
    assert_ne!(AggregationJobInitReq::decode_limited(cut, 2).err(), Some(Malformed::TOO_MANY));
    assert!(AggregationJobInitReq::decode_limited(&job(&[], Vec::new()).encoded(), 1).is_err());
}

#[test]
fn a_job_names_its_batch_exactly_when_the_leader_selects_it() {
    use BatchMode::{LeaderSelected, TimeInterval};
    let batch = BatchId::new([5; 32]);
    let named = AggregationJobInitReq::extensions_for(Some(batch));
    let invalid = Err(Problem::InvalidMessage);
    assert_eq!(job(&[1], Vec::new()).batch_id(TimeInterval), Ok(None));
    assert_eq!(job(&[1], Vec::new()).batch_id(LeaderSelected), invalid);
    assert_eq!(job(&[1], named.clone()).batch_id(LeaderSelected), Ok(Some(batch)));
    assert_eq!(job(&[1], named.clone()).batch_id(TimeInterval), invalid);
    assert_eq!(job(&[1], vec![extension(1)]).batch_id(LeaderSelected), invalid);
    assert_eq!(job(&[1], [named.clone(), named.clone()].concat()).batch_id(LeaderSelected), invalid);
    assert_eq!(job(&[1], vec![extension(3), extension(2)]).batch_id(TimeInterval), invalid);
    for unknown in [0, 2] {
        assert_eq!(
            job(&[1], vec![extension(unknown)]).batch_id(TimeInterval),
            Err(Problem::UnsupportedExtension)
        );
    }
}

#[test]
fn an_answer_must_name_the_same_reports_in_the_same_order() {
    let ids = [1, 2].map(|id| ReportId::new([id; 16]));
    let verify_resps = ids.map(|report_id| VerifyResp { report_id, result: VerifyResult::Finish }).to_vec();
    let answer = AggregationJobResp { verify_resps };
    assert!(answer.answers(ids));
    assert!(!answer.answers([ids[1], ids[0]]));
    assert!(!answer.answers([ids[0]]));
    assert!(!answer.answers([ids[0], ids[1], ids[1]]));
    assert!(AggregationJobResp::decode_limited(&[], 2).is_err());
    assert!(AggregationJobResp::decode_limited(&answer.encoded(), 1).is_err());
}

#[test]
fn a_continuation_begins_at_step_one_and_names_no_report_twice() {
    let next = VerifyContinue { report_id: ReportId::new([1; 16]), payload: vec![1] };
    let request = |step, verify_continues| AggregationJobContinueReq { step, verify_continues };
    let good = request(1, vec![next.clone()]);
    assert!(AggregationJobContinueReq::decode_limited(&good.encoded(), 1).is_ok());
    assert!(!good.repeats_a_report());
    assert!(request(1, vec![next.clone(), next.clone()]).repeats_a_report());
    for bad in [request(0, vec![next.clone()]), request(1, Vec::new()), request(1, vec![next.clone(), next])]
    {
        assert!(AggregationJobContinueReq::decode_limited(&bad.encoded(), 1).is_err());
    }
}

#[test]
fn an_answer_of_an_unknown_kind_is_malformed() {
    let mut bytes = VerifyResp { report_id: ReportId::new([1; 16]), result: VerifyResult::Finish }.encoded();
    bytes[16] = 3;
    assert!(VerifyResp::decoded(&bytes).is_err());
}

#[test]
fn a_query_must_have_the_mode_of_the_task_and_name_a_valid_interval() {
    use BatchMode::{LeaderSelected, TimeInterval};
    let by_time = |config: Vec<u8>| Query { batch_mode: TimeInterval, config };
    let raw = |start: u64, duration: u64| [start.to_be_bytes(), duration.to_be_bytes()].concat();
    let good = Query::time_interval(interval(5, 2));
    assert_eq!(good.queried(TimeInterval), Ok(QueriedBatch::TimeInterval(interval(5, 2))));
    assert_eq!(good.queried(LeaderSelected), Err(Problem::InvalidMessage));
    assert_eq!(by_time(raw(5, 0)).queried(TimeInterval), Err(Problem::BatchInvalid));
    assert_eq!(by_time(raw(u64::MAX, 1)).queried(TimeInterval), Err(Problem::BatchInvalid));
    assert_eq!(by_time(vec![0; 15]).queried(TimeInterval), Err(Problem::InvalidMessage));
    assert_eq!(by_time(vec![0; 17]).queried(TimeInterval), Err(Problem::InvalidMessage));
    let full = Query { batch_mode: LeaderSelected, config: vec![0] };
    assert_eq!(full.queried(LeaderSelected), Err(Problem::InvalidMessage));
    assert!(Query::decoded(&[3, 0, 0]).is_err());
}

#[test]
fn a_selected_batch_lies_within_the_queried() {
    use BatchMode::{LeaderSelected, TimeInterval};
    let request = |query, batch_selector| AggregateShareReq {
        collection_job_req: CollectionJobReq::new(query, Vec::new()),
        batch_selector,
        report_count: 1,
        checksum: Checksum::default(),
    };
    let query = || Query::time_interval(interval(10, 10));
    assert!(request(query(), BatchSelector::time_interval(interval(12, 3))).batch(TimeInterval).is_ok());
    for outside in [interval(9, 2), interval(19, 2), interval(30, 1)] {
        let problem = request(query(), BatchSelector::time_interval(outside)).batch(TimeInterval);
        assert_eq!(problem, Err(Problem::BatchInvalid));
    }
    let batch = BatchId::new([1; 32]);
    let mixed = request(query(), BatchSelector::leader_selected(batch));
    assert_eq!(mixed.batch(TimeInterval), Err(Problem::InvalidMessage));
    assert_eq!(mixed.batch(LeaderSelected), Err(Problem::InvalidMessage));
    let short = BatchSelector { batch_mode: LeaderSelected, config: vec![0; 31] };
    assert_eq!(request(Query::leader_selected(), short).batch(LeaderSelected), Err(Problem::InvalidMessage));
}

#[test]
fn collection_extensions_are_in_order_and_none_is_known() {
    let request = |extensions: &[Extension]| {
        let list: Vec<u8> = extensions.iter().flat_map(Encode::encoded).collect();
        let length = u16::try_from(list.len()).expect("a short list").to_be_bytes();
        let bytes = [&[2, 0, 0, 0, 0, 0, 0][..], &length, &list].concat();
        let request = CollectionJobReq::decoded(&bytes).expect("it can be read");
        assert_eq!(request.bytes(), bytes);
        request.check_extensions()
    };
    assert_eq!(request(&[]), Ok(()));
    assert_eq!(request(&[extension(0)]), Err(Problem::UnsupportedExtension));
    assert_eq!(request(&[extension(2), extension(1)]), Err(Problem::InvalidExtension));
}
