//! How much room answers have. What they look like on the wire is shown in `tests/gateway/looks.rs`.

use mica_dap::{
    codec::Encode as _,
    hpke_config::HpkeCiphertext,
    id::ReportId,
    report::{Report, ReportMetadata, ReportUploadStatus, UploadErrors},
    time::Time,
};

use super::*;

#[test]
fn the_room_of_an_answer_is_for_all_reports_that_the_request_may_hold() {
    let nothing = || HpkeCiphertext { config_id: 1, enc: vec![], payload: vec![] };
    let report_id = ReportId::new([1; 16]);
    let report = Report {
        metadata: ReportMetadata { report_id, time: Time(7), public_extensions: vec![] },
        public_share: vec![],
        leader_encrypted_input_share: nothing(),
        helper_encrypted_input_share: nothing(),
    };
    assert_eq!(report.encoded().len(), SMALLEST_REPORT);
    let one = UploadErrors { statuses: vec![ReportUploadStatus { report_id, error: 5 }] };
    assert_eq!(one.encoded().len(), STATUS);
}

#[test]
fn the_room_of_an_answer_is_smaller_than_the_request_or_a_kibibyte() {
    for sealed in mica_envelope::SIZE_BUCKETS {
        assert!(least_answer(sealed) <= sealed.max(1_024), "{sealed}");
    }
}
