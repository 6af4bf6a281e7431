//! The test vectors of the specification, byte for byte.

use serde_json::Value;

use super::*;

const GOOD: [&str; 6] = [
    include_str!("../../../../vectors/vdaf/ok_poplar1_0.json"),
    include_str!("../../../../vectors/vdaf/ok_poplar1_1.json"),
    include_str!("../../../../vectors/vdaf/ok_poplar1_2.json"),
    include_str!("../../../../vectors/vdaf/ok_poplar1_3.json"),
    include_str!("../../../../vectors/vdaf/ok_poplar1_4.json"),
    include_str!("../../../../vectors/vdaf/ok_poplar1_5.json"),
];
const BAD: &str = include_str!("../../../../vectors/vdaf/bad_poplar1_corr_inner.json");

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn framed(kind: u8, parts: &[&Value]) -> Vec<u8> {
    let part = |value: &&Value| {
        let body = bytes(value);
        [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
    };
    [vec![kind], parts.iter().flat_map(part).collect()].concat()
}

/// Both sides of the one report of a file of the specification, checked against the messages in it.
fn replay(file: &Value) -> Result<[Vec<u8>; 2], VdafError> {
    let bits = u16::try_from(file["bits"].as_u64().unwrap()).unwrap();
    let (vdaf, parameter) = (vdaf(&VdafConfig::Poplar1 { bits }), bytes(&file["agg_param"]));
    let key = VerifyKey::from_slice(&bytes(&file["verify_key"])).unwrap();
    let (context, report) = (bytes(&file["ctx"]), &file["reports"][0]);
    let nonce = ReportId::from_slice(&bytes(&report["nonce"])).unwrap();
    let public_share = bytes(&report["public_share"]);
    let inputs = [0, 1].map(|aggregator: usize| bytes(&report["input_shares"][aggregator]));
    let [first, second] = inputs.each_ref().map(|input_share| InputShareRef {
        nonce: &nonce,
        public_share: &public_share,
        input_share,
    });
    let (shares, messages) = (&report["verifier_shares"], &report["verifier_messages"]);
    let begun = vdaf.leader_init(&key, &context, &parameter, &first)?;
    assert_eq!(begun.message, framed(0, &[&shares[0][0]]));
    let step = vdaf.helper_init(&key, &context, &parameter, &second, &begun.message)?;
    let HelperStep::Continued { state, message } = step else { panic!("two rounds") };
    assert_eq!(message, framed(1, &[&messages[0], &shares[1][1]]));
    let step = vdaf.leader_continued(&context, &parameter, begun.state, &message)?;
    let Step::FinishedWithOutbound { output: leader, message } = step else { panic!("two rounds") };
    assert_eq!(message, framed(2, &[&messages[1]]));
    let Step::Finished(helper) = vdaf.helper_continued(&context, &parameter, state, &message)? else {
        panic!("two rounds")
    };
    Ok([leader, helper].map(|share| vdaf.aggregate(&parameter, None, &[&share]).unwrap()))
}

#[test]
fn every_byte_is_that_of_the_specification() {
    for text in GOOD {
        let file: Value = serde_json::from_str(text).unwrap();
        let totals = replay(&file).ok().unwrap();
        for (aggregator, total) in totals.iter().enumerate() {
            assert_eq!(*total, bytes(&file["agg_shares"][aggregator]));
        }
        let bits = u16::try_from(file["bits"].as_u64().unwrap()).unwrap();
        let result = vdaf(&VdafConfig::Poplar1 { bits })
            .unshard_signed(&bytes(&file["agg_param"]), &totals[0], &totals[1], 1)
            .unwrap();
        let expected: Vec<i128> =
            file["agg_result"].as_array().unwrap().iter().map(|it| it.as_i64().unwrap().into()).collect();
        assert_eq!(result, expected);
    }
}

#[test]
fn the_bad_report_of_the_specification_is_refused() {
    let refused = replay(&serde_json::from_str(BAD).unwrap()).err();
    assert_eq!(refused, Some(VdafError::Verification("helper's message")));
}
