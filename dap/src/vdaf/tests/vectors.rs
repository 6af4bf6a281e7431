use serde_json::Value;

use super::*;

const GOOD: [&str; 5] = [
    include_str!("../../../vectors/vdaf/ok_prio3_count.json"),
    include_str!("../../../vectors/vdaf/ok_prio3_sum.json"),
    include_str!("../../../vectors/vdaf/ok_prio3_sum_vec.json"),
    include_str!("../../../vectors/vdaf/ok_prio3_histogram.json"),
    include_str!("../../../vectors/vdaf/ok_prio3_multihot_count_vec.json"),
];

const BAD_COUNT: [&str; 4] = [
    include_str!("../../../vectors/vdaf/bad_prio3_count_gadget_poly.json"),
    include_str!("../../../vectors/vdaf/bad_prio3_count_helper_seed.json"),
    include_str!("../../../vectors/vdaf/bad_prio3_count_meas_share.json"),
    include_str!("../../../vectors/vdaf/bad_prio3_count_wire_seed.json"),
];

const BAD_HISTOGRAM: [&str; 3] = [
    include_str!("../../../vectors/vdaf/bad_prio3_histogram_helper_jr_blind.json"),
    include_str!("../../../vectors/vdaf/bad_prio3_histogram_leader_jr_blind.json"),
    include_str!("../../../vectors/vdaf/bad_prio3_histogram_public_share.json"),
];

const BAD_MESSAGE: &str = include_str!("../../../vectors/vdaf/bad_prio3_histogram_verifier_message.json");

/// A file of the specification, with the VDAF it is for.
struct Vector {
    file: Value,
    context: Vec<u8>,
    verify_key: VerifyKey,
    vdaf: Arc<dyn Vdaf>,
}

impl Vector {
    fn read(text: &str, config: &VdafConfig) -> Self {
        let file: Value = serde_json::from_str(text).unwrap();
        Self {
            context: bytes(&file["ctx"]),
            verify_key: VerifyKey::from_slice(&bytes(&file["verify_key"])).unwrap(),
            vdaf: vdaf(config),
            file,
        }
    }

    /// Both sides of one report, checked against the messages in the file.
    fn verify(&self, report: &Value) -> Result<[OutputShare; 2], VdafError> {
        let nonce = ReportId::from_slice(&bytes(&report["nonce"])).unwrap();
        let public_share = bytes(&report["public_share"]);
        let inputs = [0, 1].map(|aggregator: usize| bytes(&report["input_shares"][aggregator]));
        let [leader, helper] = inputs.each_ref().map(|input_share| InputShareRef {
            nonce: &nonce,
            public_share: &public_share,
            input_share,
        });
        let begun = self.vdaf.leader_init(&self.verify_key, &self.context, &[], &leader)?;
        assert_eq!(begun.message, framed(0, &bytes(&report["verifier_shares"][0][0])));
        let step = self.vdaf.helper_init(&self.verify_key, &self.context, &[], &helper, &begun.message)?;
        let HelperStep::Finished { output, message } = step else { panic!("one round") };
        assert_eq!(message, framed(2, &bytes(&report["verifier_messages"][0])));
        match self.vdaf.leader_continued(&self.context, &[], begun.state, &message)? {
            LeaderStep::Finished(leader) => Ok([leader, output]),
            _ => panic!("one round"),
        }
    }

    fn reports(&self) -> &Vec<Value> {
        self.file["reports"].as_array().unwrap()
    }
}

fn configs() -> [VdafConfig; 5] {
    [
        VdafConfig::Count,
        VdafConfig::Sum { max_measurement: 255 },
        VdafConfig::SumVec { length: 10, max_measurement: 255, chunk_length: 9 },
        VdafConfig::Histogram { length: 4, chunk_length: 2 },
        VdafConfig::MultihotCountVec { length: 4, chunk_length: 2, max_weight: 2 },
    ]
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

fn integers(value: &Value) -> Vec<i128> {
    let integer = |value: &Value| i128::from(value.as_i64().unwrap());
    value.as_array().map_or_else(|| vec![integer(value)], |values| values.iter().map(integer).collect())
}

#[test]
fn every_byte_is_that_of_the_specification() {
    for (text, config) in GOOD.iter().zip(configs()) {
        let vector = Vector::read(text, &config);
        let verified: Vec<_> =
            vector.reports().iter().map(|report| vector.verify(report).ok().unwrap()).collect();
        let totals = [0, 1].map(|aggregator: usize| {
            let shares: Vec<&OutputShare> = verified.iter().map(|pair| &pair[aggregator]).collect();
            let total = vector.vdaf.aggregate(&[], None, &shares).unwrap();
            assert_eq!(total, bytes(&vector.file["agg_shares"][aggregator]), "{}", config.name());
            total
        });
        let [leader, helper] = &totals;
        let result = vector.vdaf.unshard_signed(&[], leader, helper, 1).unwrap();
        assert_eq!(result, integers(&vector.file["agg_result"]), "{}", config.name());
    }
}

#[test]
fn the_bad_reports_of_the_specification_are_refused() {
    let histogram = VdafConfig::Histogram { length: 5, chunk_length: 2 };
    let counts = BAD_COUNT.iter().map(|text| Vector::read(text, &VdafConfig::Count));
    let histograms = BAD_HISTOGRAM.iter().map(|text| Vector::read(text, &histogram));
    for vector in counts.chain(histograms) {
        let refused = vector.verify(&vector.reports()[0]).err();
        assert_eq!(refused, Some(VdafError::Verification("proof")));
    }
}

#[test]
fn the_bad_message_of_the_specification_is_refused() {
    let vector = Vector::read(BAD_MESSAGE, &VdafConfig::Histogram { length: 5, chunk_length: 2 });
    let report = &vector.reports()[0];
    let nonce = ReportId::from_slice(&bytes(&report["nonce"])).unwrap();
    let (public_share, input_share) = (bytes(&report["public_share"]), bytes(&report["input_shares"][0]));
    let share = InputShareRef { nonce: &nonce, public_share: &public_share, input_share: &input_share };
    let begun = vector.vdaf.leader_init(&vector.verify_key, &vector.context, &[], &share).ok().unwrap();
    let message = framed(2, &bytes(&report["verifier_messages"][0]));
    let refused = vector.vdaf.leader_continued(&vector.context, &[], begun.state, &message).err();
    assert_eq!(refused, Some(VdafError::Verification("helper's message")));
}
