//! Whatever is written is read back the same, and no bytes make a decoder panic.

use mica_dap::aggregation::{
    AggregationJobContinueReq, AggregationJobInitReq, AggregationJobResp, ReportShare, VerifyContinue,
    VerifyInit, VerifyResp, VerifyResult,
};
use mica_dap::batch::Checksum;
use mica_dap::collection::{
    AggregateShare, AggregateShareReq, BatchSelector, CollectionJobReq, CollectionJobResp, Query,
};
use mica_dap::extension::Extension;
use mica_dap::hpke_config::{HpkeCiphertext, HpkeConfig, HpkeConfigList};
use mica_dap::id::{BatchId, ReportId};
use mica_dap::media::Media;
use mica_dap::problem::ProblemDocument;
use mica_dap::report::{
    PlaintextInputShare, Report, ReportMetadata, ReportUploadStatus, UploadErrors, UploadRequest,
};
use mica_dap::resource::follow;
use mica_dap::task::{BatchMode, TaskConfiguration, TaskParameters};
use mica_dap::time::{Duration, Interval, Time, TimePrecision};
use mica_dap::vdaf_config::VdafConfig;
use mica_dap::{Decode, Draft, Encode};
use proptest::collection::vec;
use proptest::prelude::*;

fn opaque(min: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), min..40)
}

fn extensions() -> impl Strategy<Value = Vec<Extension>> {
    vec((any::<u16>(), opaque(0)).prop_map(|(extension_type, data)| Extension { extension_type, data }), 0..4)
}

fn report_id() -> impl Strategy<Value = ReportId> {
    any::<[u8; 16]>().prop_map(ReportId::new)
}

fn interval() -> impl Strategy<Value = Interval> {
    (0..u64::MAX / 2, 1..u64::MAX / 2)
        .prop_map(|(start, duration)| Interval::new(Time(start), Duration(duration)).expect("no overflow"))
}

fn ciphertext() -> impl Strategy<Value = HpkeCiphertext> {
    (any::<u8>(), opaque(1), opaque(1)).prop_map(|(config_id, enc, payload)| HpkeCiphertext {
        config_id,
        enc,
        payload,
    })
}

fn metadata() -> impl Strategy<Value = ReportMetadata> {
    (report_id(), any::<u64>(), extensions()).prop_map(|(report_id, time, public_extensions)| {
        ReportMetadata { report_id, time: Time(time), public_extensions }
    })
}

fn report() -> impl Strategy<Value = Report> {
    (metadata(), opaque(0), ciphertext(), ciphertext()).prop_map(
        |(metadata, public_share, leader, helper)| Report {
            metadata,
            public_share,
            leader_encrypted_input_share: leader,
            helper_encrypted_input_share: helper,
        },
    )
}

fn verify_init() -> impl Strategy<Value = VerifyInit> {
    (metadata(), opaque(0), ciphertext(), opaque(1)).prop_map(
        |(metadata, public_share, encrypted_input_share, payload)| VerifyInit {
            report_share: ReportShare { metadata, public_share, encrypted_input_share },
            payload,
        },
    )
}

fn verify_resp() -> impl Strategy<Value = VerifyResp> {
    let result = prop_oneof![
        opaque(1).prop_map(VerifyResult::Continue),
        Just(VerifyResult::Finish),
        any::<u8>().prop_map(VerifyResult::Reject),
    ];
    (report_id(), result).prop_map(|(report_id, result)| VerifyResp { report_id, result })
}

fn query() -> impl Strategy<Value = Query> {
    prop_oneof![interval().prop_map(Query::time_interval), Just(Query::leader_selected())]
}

fn selector() -> impl Strategy<Value = BatchSelector> {
    prop_oneof![
        interval().prop_map(BatchSelector::time_interval),
        any::<[u8; 32]>().prop_map(|id| BatchSelector::leader_selected(BatchId::new(id))),
    ]
}

fn vdaf() -> impl Strategy<Value = VdafConfig> {
    prop_oneof![
        Just(VdafConfig::Count),
        any::<u64>().prop_map(|max_measurement| VdafConfig::Sum { max_measurement }),
        (any::<u32>(), any::<u64>()).prop_map(|(length, max)| VdafConfig::sum_vec(length, max)),
        any::<u32>().prop_map(VdafConfig::histogram),
        (any::<u32>(), any::<u64>()).prop_map(|(length, weight)| VdafConfig::multihot(length, weight)),
    ]
}

fn task() -> impl Strategy<Value = TaskParameters> {
    let mode = prop_oneof![Just(BatchMode::TimeInterval), Just(BatchMode::LeaderSelected)];
    let names = (opaque(1), "https://[a-z]{1,9}/[a-z/]{0,9}", "https://[a-z]{1,9}/[a-z/]{0,9}");
    (names, 1_u64.., 1_u64.., mode, vdaf(), proptest::option::of(interval())).prop_map(
        |((task_info, leader_url, helper_url), seconds, min_batch_size, batch_mode, vdaf, task_interval)| {
            TaskParameters {
                task_info,
                leader_url,
                helper_url,
                time_precision: TimePrecision::new(seconds).expect("not zero"),
                min_batch_size,
                batch_mode,
                vdaf,
                task_interval,
            }
        },
    )
}

fn assert_survives<T: Encode + Decode + PartialEq>(value: &T) {
    assert!(T::decoded(&value.encoded()).as_ref() == Ok(value), "it is not read as it was written");
}

/// Whether the bytes can be read but are written otherwise: each message has one encoding only.
fn has_two_encodings<T: Encode + Decode>(bytes: &[u8]) -> bool {
    T::decoded(bytes).is_ok_and(|value| value.encoded() != bytes)
}

proptest! {
    #[test]
    fn tasks_survive(parameters in task()) {
        for draft in Draft::ALL {
            let task = parameters.build(draft).expect("valid parameters");
            prop_assert_eq!(task.parameters(), &parameters);
            prop_assert_eq!(TaskConfiguration::parse(task.bytes(), draft), Ok(task));
        }
    }

    #[test]
    fn reports_survive(
        report in report(), next in report(), private_extensions in extensions(), payload in opaque(1),
        refused in vec((report_id(), any::<u8>()), 0..4),
    ) {
        assert_survives(&report);
        let body = UploadRequest { reports: vec![report.clone(), next.clone()] }.encoded();
        let read = UploadRequest::decode_reports(&body, 2).expect("valid reports");
        prop_assert!(read.iter().map(|received| &received.report).eq([&report, &next]));
        prop_assert!(read.iter().flat_map(|received| received.bytes).eq(&body));
        assert_survives(&PlaintextInputShare { private_extensions, payload });
        let statuses = refused.into_iter().map(|(report_id, error)| ReportUploadStatus { report_id, error });
        assert_survives(&UploadErrors { statuses: statuses.collect() });
    }

    #[test]
    fn aggregation_jobs_survive(
        verification_key_id in any::<u8>(), agg_param in opaque(0), extensions in extensions(),
        verify_inits in vec(verify_init(), 1..4), verify_resps in vec(verify_resp(), 1..4),
        step in 1_u16.., payloads in vec((report_id(), opaque(1)), 1..4),
    ) {
        let init = AggregationJobInitReq { verification_key_id, agg_param, extensions, verify_inits };
        prop_assert!(AggregationJobInitReq::decode_limited(&init.encoded(), 3).as_ref() == Ok(&init));
        let answer = AggregationJobResp { verify_resps };
        prop_assert!(AggregationJobResp::decode_limited(&answer.encoded(), 3).as_ref() == Ok(&answer));
        let verify_continues = payloads.into_iter().map(|(report_id, payload)| VerifyContinue { report_id, payload });
        let next = AggregationJobContinueReq { step, verify_continues: verify_continues.collect() };
        prop_assert!(AggregationJobContinueReq::decode_limited(&next.encoded(), 3).as_ref() == Ok(&next));
    }

    #[test]
    fn collections_survive(
        query in query(), agg_param in opaque(0), batch_selector in selector(), report_count in any::<u64>(),
        checksum in any::<[u8; 32]>(), interval in interval(), leader in ciphertext(), helper in ciphertext(),
    ) {
        let collection_job_req = CollectionJobReq::new(query, agg_param);
        assert_survives(&collection_job_req);
        let checksum = Checksum::new(checksum);
        assert_survives(&AggregateShareReq { collection_job_req, batch_selector, report_count, checksum });
        assert_survives(&AggregateShare { encrypted_aggregate_share: leader.clone() });
        assert_survives(&CollectionJobResp {
            report_count,
            interval,
            leader_encrypted_agg_share: leader,
            helper_encrypted_agg_share: helper,
        });
    }

    #[test]
    fn key_lists_survive(keys in proptest::collection::btree_map(any::<u8>(), opaque(1), 1..5)) {
        let configs = keys.into_iter().map(|(id, public_key)| HpkeConfig {
            public_key,
            ..HpkeConfig::x25519(id, [0; 32])
        });
        assert_survives(&HpkeConfigList::new(configs.collect()).expect("distinct identifiers"));
    }

    #[test]
    fn no_bytes_make_a_decoder_panic_or_have_two_meanings(bytes in vec(prop_oneof![0_u8..4, any::<u8>()], 0..200)) {
        prop_assert!(!has_two_encodings::<Report>(&bytes));
        prop_assert!(!has_two_encodings::<PlaintextInputShare>(&bytes));
        prop_assert!(!has_two_encodings::<UploadErrors>(&bytes));
        prop_assert!(!has_two_encodings::<VerifyInit>(&bytes));
        prop_assert!(!has_two_encodings::<VerifyResp>(&bytes));
        prop_assert!(!has_two_encodings::<CollectionJobReq>(&bytes));
        prop_assert!(!has_two_encodings::<CollectionJobResp>(&bytes));
        prop_assert!(!has_two_encodings::<AggregateShareReq>(&bytes));
        prop_assert!(!has_two_encodings::<AggregateShare>(&bytes));
        prop_assert!(!has_two_encodings::<HpkeConfigList>(&bytes));
        let _ = UploadRequest::decode_reports(&bytes, 5);
        let _ = AggregationJobInitReq::decode_limited(&bytes, 5);
        let _ = AggregationJobContinueReq::decode_limited(&bytes, 5);
        let _ = AggregationJobResp::decode_limited(&bytes, 5);
        for draft in Draft::ALL {
            if let Ok(task) = TaskConfiguration::parse(&bytes, draft) {
                prop_assert_eq!(task.parameters().encoded(), bytes.clone());
            }
        }
        let _ = ProblemDocument::from_json(&bytes);
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in "\\PC{0,40}", header in "application/ppm-dap[ ;=\"\\\\a-z]{0,30}") {
        let _ = (Media::parse(&text), Media::parse(&header));
        let task = mica_dap::id::TaskId::new([0; 32]);
        let _ = follow(&text, &task, (&text, &header));
        let _ = follow("https://h", &task, (&header, &format!("{header}tasks/{task}/{text}")));
        let _ = text.parse::<mica_dap::id::TaskId>();
    }
}
