//! Every known answer is read field by field, written again, and refused when it is damaged.

use mica_dap::aggregation::{
    AggregationJobContinueReq, AggregationJobInitReq, AggregationJobResp, ReportShare, VerifyContinue,
    VerifyInit, VerifyResp, VerifyResult,
};
use mica_dap::batch::Checksum;
use mica_dap::codec::Reader;
use mica_dap::collection::{
    AggregateShareReq, BatchSelector, CollectionJobReq, CollectionJobResp, QueriedBatch, Query, SelectedBatch,
};
use mica_dap::hpke::{AggregateShareAad, InputShareAad};
use mica_dap::hpke_config::{HpkeCiphertext, HpkeConfig, HpkeConfigList};
use mica_dap::id::{BatchId, ReportId, TaskId};
use mica_dap::report::{Report, ReportMetadata, ReportUploadStatus, UploadErrors, UploadRequest};
use mica_dap::report_error::ReportError;
use mica_dap::task::{BatchMode, TaskConfiguration, TaskConfigurationError, TaskParameters};
use mica_dap::time::{Duration, Interval, Time, TimePrecision};
use mica_dap::vdaf_config::VdafConfig;
use mica_dap::{Decode, Draft, Encode};
use sha2::{Digest, Sha256};

const FILE: &str = include_str!("vectors/dap-18-kat.tsv");

/// The name and the bytes of a line, counted from 1.
fn line(number: usize) -> (&'static str, Vec<u8>) {
    let text = FILE.lines().nth(number - 1).expect("the file has that many lines");
    let (name, digits) = text.split_once('\t').expect("a line is a name and hex");
    (name, hex::decode(digits).expect("a line is a name and hex"))
}

fn bytes(number: usize) -> Vec<u8> {
    line(number).1
}

fn report_id() -> ReportId {
    ReportId::new(std::array::from_fn(|at| u8::try_from(at).expect("at most 15")))
}

fn counting() -> [u8; 32] {
    std::array::from_fn(|at| u8::try_from(at).expect("at most 31"))
}

fn metadata() -> ReportMetadata {
    ReportMetadata { report_id: report_id(), time: Time(1_729_629), public_extensions: Vec::new() }
}

fn interval(start: u64, duration: u64) -> Interval {
    Interval::new(Time(start), Duration(duration)).expect("a valid interval")
}

fn ciphertext_ab(config_id: u8) -> HpkeCiphertext {
    HpkeCiphertext { config_id, enc: vec![0xaa; 4], payload: vec![0xbb; 5] }
}

fn ciphertext_cd(config_id: u8) -> HpkeCiphertext {
    HpkeCiphertext { config_id, enc: vec![0xcc; 4], payload: vec![0xdd; 5] }
}

fn verify_init() -> VerifyInit {
    let report_share = ReportShare {
        metadata: metadata(),
        public_share: Vec::new(),
        encrypted_input_share: ciphertext_cd(2),
    };
    VerifyInit { report_share, payload: vec![0, 0, 0, 0, 3, 0xee, 0xee, 0xee] }
}

fn first_task() -> TaskConfiguration {
    TaskConfiguration::parse(&bytes(1), Draft::V18).expect("a valid configuration")
}

fn small_task(vdaf: VdafConfig) -> TaskParameters {
    TaskParameters {
        task_info: b"x".to_vec(),
        leader_url: "https://l/".to_owned(),
        helper_url: "https://h/".to_owned(),
        time_precision: TimePrecision::new(60).expect("not zero"),
        min_batch_size: 10,
        batch_mode: BatchMode::TimeInterval,
        vdaf,
        task_interval: None,
    }
}

/// Reads the bytes as what the line is, and writes them again.
fn read_and_write(number: usize, bytes: &[u8]) -> Option<Vec<u8>> {
    fn through<T: Decode + Encode>(bytes: &[u8]) -> Option<Vec<u8>> {
        T::decoded(bytes).ok().map(|value| value.encoded())
    }
    match line(number).0 {
        "TaskConfiguration" => TaskConfiguration::parse(bytes, Draft::V19)
            .ok()
            // Written from the fields, not from the bytes it keeps.
            .map(|task| task.parameters().encoded()),
        "InputShareAad" => through_input_share_aad(bytes),
        "AggregateShareAad" => through_aggregate_share_aad(bytes),
        "CollectionJobReq/ti" | "CollectionJobReq/ls" => through::<CollectionJobReq>(bytes),
        "CollectionJobResp" => through::<CollectionJobResp>(bytes),
        "AggregateShareReq/ti" | "AggregateShareReq/ls" => through::<AggregateShareReq>(bytes),
        "HpkeConfigList" => through::<HpkeConfigList>(bytes),
        "Report" => through::<Report>(bytes),
        "VerifyInit" => through::<VerifyInit>(bytes),
        "VerifyResp" => through::<VerifyResp>(bytes),
        "UploadErrors" => through::<UploadErrors>(bytes),
        "AggregationJobInitReq/ti" => {
            AggregationJobInitReq::decode_limited(bytes, 9).ok().map(|message| message.encoded())
        }
        "AggregationJobContinueReq" => {
            AggregationJobContinueReq::decode_limited(bytes, 9).ok().map(|message| message.encoded())
        }
        other => panic!("no reader for {other}"),
    }
}

fn through_input_share_aad(bytes: &[u8]) -> Option<Vec<u8>> {
    let task = first_task();
    let mut reader = Reader::new(bytes);
    let task_id = TaskId::decode(&mut reader).ok()?;
    let task_configuration = reader.take(task.bytes().len()).ok()?;
    let metadata = ReportMetadata::decode(&mut reader).ok()?.encoded();
    let public_share = reader.opaque32(0).ok()?;
    reader.finish().ok()?;
    let aad = InputShareAad { task_id: &task_id, task_configuration, metadata: &metadata, public_share };
    Some(aad.encoded())
}

fn through_aggregate_share_aad(bytes: &[u8]) -> Option<Vec<u8>> {
    let task = first_task();
    let mut reader = Reader::new(bytes);
    let task_id = TaskId::decode(&mut reader).ok()?;
    let task_configuration = reader.take(task.bytes().len()).ok()?;
    let request = CollectionJobReq::decoded(reader.take_rest()).ok()?;
    let aad =
        AggregateShareAad { task_id: &task_id, task_configuration, collection_job_req: request.bytes() };
    Some(aad.encoded())
}

#[test]
fn every_line_reads_and_writes_to_the_same_bytes() {
    assert_eq!(FILE.lines().count(), 22);
    for number in 1..=22 {
        let (name, bytes) = line(number);
        assert_eq!(read_and_write(number, &bytes), Some(bytes), "line {number}, {name}");
    }
}

#[test]
fn every_truncation_of_every_line_is_refused() {
    for number in 1..=22 {
        let (name, bytes) = line(number);
        for cut in 0..bytes.len() {
            // No upload error at all is a message: it says that every report was taken.
            let complete = name == "UploadErrors" && cut == 0;
            assert_eq!(read_and_write(number, &bytes[..cut]).is_some(), complete, "line {number} at {cut}");
        }
    }
}

#[test]
fn one_byte_after_the_end_of_every_line_is_refused() {
    for number in 1..=22 {
        for extra in [0, 1, 0xff] {
            let mut longer = bytes(number);
            longer.push(extra);
            assert_eq!(read_and_write(number, &longer), None, "line {number}");
        }
    }
}

#[test]
fn any_changed_byte_is_refused_or_read_as_it_is_and_never_panics() {
    for number in 1..=22 {
        let good = bytes(number);
        for position in 0..good.len() {
            for flip in 1..=u8::MAX {
                let mut changed = good.clone();
                changed[position] ^= flip;
                if let Some(written) = read_and_write(number, &changed) {
                    assert_eq!(written, changed, "line {number}, byte {position}, flip {flip}");
                }
            }
        }
    }
}

#[test]
fn task_configurations_hold_what_they_should() {
    let first = first_task();
    let expected = TaskParameters {
        task_info: b"test".to_vec(),
        leader_url: "https://leader.example.com/".to_owned(),
        helper_url: "https://helper.example.com/".to_owned(),
        task_interval: Some(interval(60, 100)),
        ..small_task(VdafConfig::Count)
    };
    assert_eq!(first.parameters(), &expected);
    assert_eq!(first.bytes(), bytes(1));
    assert_eq!(expected.build(Draft::V18), Ok(first));

    let second = TaskConfiguration::parse(&bytes(2), Draft::V19).expect("legal in this draft");
    let expected = TaskParameters {
        task_info: Vec::new(),
        leader_url: "https://l.example/dap/".to_owned(),
        helper_url: "https://h.example/dap/".to_owned(),
        time_precision: TimePrecision::new(3600).expect("not zero"),
        min_batch_size: 100,
        batch_mode: BatchMode::LeaderSelected,
        ..small_task(VdafConfig::Histogram { length: 10, chunk_length: 3 })
    };
    assert_eq!(second.parameters(), &expected);
    assert!(matches!(
        TaskConfiguration::parse(&bytes(2), Draft::V18),
        Err(TaskConfigurationError::Malformed(_))
    ));

    let vdafs = [
        VdafConfig::Sum { max_measurement: 1337 },
        VdafConfig::SumVec { length: 10, max_measurement: 255, chunk_length: 9 },
        VdafConfig::Histogram { length: 10, chunk_length: 3 },
        VdafConfig::MultihotCountVec { length: 10, chunk_length: 3, max_weight: 4 },
    ];
    for (number, vdaf) in (19..).zip(vdafs) {
        let task = small_task(vdaf).build(Draft::V18).expect("a valid configuration");
        assert_eq!(task.bytes(), bytes(number));
    }
}

#[test]
fn additional_data_is_built_from_its_parts() {
    let task = first_task();
    let task_id = task.derived_task_id();
    assert_eq!(
        hex::encode(task_id.as_bytes()),
        "35848a898adb146b559385247c7e49db1cbd28af52e3c11cfb01d4fc4b490479"
    );
    let task_configuration = task.bytes();
    let input = InputShareAad {
        task_id: &task_id,
        task_configuration,
        metadata: &metadata().encoded(),
        public_share: &[],
    }
    .encoded();
    assert_eq!(input, bytes(3));
    assert_eq!(
        hex::encode(Sha256::digest(&input)),
        "11621e000d32b77fad291b3daf326e54f053061e04c7d6791bd4f36857408576"
    );
    let request = CollectionJobReq::decoded(&bytes(5)).expect("a valid request");
    let aggregate =
        AggregateShareAad { task_id: &task_id, task_configuration, collection_job_req: request.bytes() }
            .encoded();
    assert_eq!(aggregate, bytes(4));
    assert_eq!(
        hex::encode(Sha256::digest(&aggregate)),
        "5f1c70096b404c983f792497f36b1cd59e88bef6a862ea6258f5bad0ddb513b4"
    );
}

#[test]
fn collection_messages_hold_what_they_should() {
    let unit = interval(1_729_629, 1);
    let by_time = CollectionJobReq::new(Query::time_interval(unit), Vec::new());
    let by_leader = CollectionJobReq::new(Query::leader_selected(), Vec::new());
    assert_eq!(by_time, CollectionJobReq::decoded(&bytes(5)).expect("valid"));
    assert_eq!(by_leader, CollectionJobReq::decoded(&bytes(6)).expect("valid"));

    let answer = CollectionJobResp::decoded(&bytes(7)).expect("valid");
    let expected = CollectionJobResp {
        report_count: 10,
        interval: unit,
        leader_encrypted_agg_share: ciphertext_ab(7),
        helper_encrypted_agg_share: ciphertext_cd(7),
    };
    assert_eq!(answer, expected);

    let share = AggregateShareReq {
        collection_job_req: by_time,
        batch_selector: BatchSelector::time_interval(unit),
        report_count: 10,
        checksum: Checksum::of(&report_id()),
    };
    assert_eq!(share.encoded(), bytes(8));
    assert_eq!(
        share.batch(BatchMode::TimeInterval),
        Ok((QueriedBatch::TimeInterval(unit), SelectedBatch::TimeInterval(unit)))
    );
    let batch = BatchId::new(counting());
    let share = AggregateShareReq {
        collection_job_req: by_leader,
        batch_selector: BatchSelector::leader_selected(batch),
        ..share
    };
    assert_eq!(share.encoded(), bytes(9));
    assert_eq!(
        share.batch(BatchMode::LeaderSelected),
        Ok((QueriedBatch::LeaderSelected, SelectedBatch::LeaderSelected(batch)))
    );
}

#[test]
fn keys_and_reports_hold_what_they_should() {
    let list = HpkeConfigList::decoded(&bytes(10)).expect("valid");
    assert_eq!(list.configs(), [HpkeConfig::x25519(194, counting())]);

    let report = Report {
        metadata: metadata(),
        public_share: Vec::new(),
        leader_encrypted_input_share: ciphertext_ab(1),
        helper_encrypted_input_share: ciphertext_cd(2),
    };
    assert_eq!(report.encoded(), bytes(11));
    let twice = bytes(11).repeat(2);
    let reports = UploadRequest::decode_reports(&twice, 2).expect("valid");
    assert!(reports.iter().all(|received| received.report == report && received.bytes == bytes(11)));
    assert_eq!(reports.len(), 2);
    assert_eq!(UploadRequest { reports: vec![report.clone(), report] }.encoded(), twice);

    let refused = ReportUploadStatus::new(report_id(), ReportError::ReportReplayed, Draft::V18);
    assert_eq!(UploadErrors { statuses: vec![refused] }.encoded(), bytes(16));
}

#[test]
fn aggregation_messages_hold_what_they_should() {
    assert_eq!(verify_init().encoded(), bytes(12));
    let results = [
        VerifyResult::Continue(vec![2, 0, 0, 0, 0]),
        VerifyResult::Finish,
        VerifyResult::Reject(ReportError::VdafVerifyError.code(Draft::V18)),
    ];
    for (number, result) in (13..).zip(results) {
        let answer = VerifyResp { report_id: report_id(), result };
        assert_eq!(answer.encoded(), bytes(number));
        assert_eq!(AggregationJobResp { verify_resps: vec![answer] }.encoded(), bytes(number));
    }
    let mut job = AggregationJobInitReq {
        verification_key_id: 0,
        agg_param: Vec::new(),
        extensions: Vec::new(),
        verify_inits: vec![verify_init()],
    };
    assert_eq!(job.encoded(), bytes(17));
    let batch = BatchId::new(counting());
    job.extensions = AggregationJobInitReq::extensions_for(Some(batch));
    let head = [hex::decode("0000000000002400010020").expect("hex"), counting().to_vec()].concat();
    assert_eq!(job.encoded(), [head, bytes(12)].concat());
    assert_eq!(job.batch_id(BatchMode::LeaderSelected), Ok(Some(batch)));

    let next = VerifyContinue { report_id: report_id(), payload: vec![2, 0, 0, 0, 0] };
    assert_eq!(AggregationJobContinueReq { step: 1, verify_continues: vec![next] }.encoded(), bytes(18));
}
