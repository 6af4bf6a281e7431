//! The VDAF of two rounds, whose parameter decides how long shares are.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const BITS: u16 = 4;

/// Two levels of the tree above the leaves, then the leaves themselves.
const PREFIXES: [&[&str]; 3] = [&["0", "1"], &["000", "011", "110"], &["0000", "0111", "1011", "1101"]];

fn parameter(prefixes: &[&str]) -> Vec<u8> {
    encode_prefixes(BITS, prefixes).unwrap()
}

/// A report, and the parameter under which it is verified.
struct Case {
    report: Report,
    parameter: Vec<u8>,
}

/// What each side has after the first round: the leader its message and state, the helper its answer and state.
struct Round {
    leader: LeaderInit,
    state: VerifyState,
    answer: Vec<u8>,
}

impl Case {
    fn new(prefixes: &[&str], seed: u32) -> Self {
        Self {
            report: Report::new(&VdafConfig::Poplar1 { bits: BITS }, seed),
            parameter: parameter(prefixes),
        }
    }

    fn vdaf(&self) -> &dyn Vdaf {
        &*self.report.vdaf
    }

    fn leader(&self) -> Result<LeaderInit, VdafError> {
        let (key, share) = (&self.report.verify_key, self.report.share(0));
        self.vdaf().leader_init(key, CONTEXT, &self.parameter, &share)
    }

    fn helper(&self, message: &[u8]) -> Result<(VerifyState, Vec<u8>), VdafError> {
        let (key, share) = (&self.report.verify_key, self.report.share(1));
        match self.vdaf().helper_init(key, CONTEXT, &self.parameter, &share, message)? {
            HelperStep::Continued { state, message } => Ok((state, message)),
            HelperStep::Finished { .. } => panic!("two rounds"),
        }
    }

    fn first_round(&self) -> Result<Round, VdafError> {
        let leader = self.leader()?;
        let (state, answer) = self.helper(&leader.message)?;
        Ok(Round { leader, state, answer })
    }

    fn leader_step(&self, state: VerifyState, message: &[u8]) -> Result<(OutputShare, Vec<u8>), VdafError> {
        match self.vdaf().leader_continued(CONTEXT, &self.parameter, state, message)? {
            Step::FinishedWithOutbound { output, message } => Ok((output, message)),
            _ => panic!("the leader ends with a message"),
        }
    }

    fn helper_step(&self, state: VerifyState, message: &[u8]) -> Result<OutputShare, VdafError> {
        match self.vdaf().helper_continued(CONTEXT, &self.parameter, state, message)? {
            Step::Finished(output) => Ok(output),
            _ => panic!("the helper ends without a message"),
        }
    }

    /// The whole exchange, with both states written and read back in between.
    fn verify(&self) -> Result<[OutputShare; 2], VdafError> {
        let round = self.first_round()?;
        let kept = self.vdaf().encode_state(&round.leader.state)?;
        let (leader, last) =
            self.leader_step(self.vdaf().decode_leader_state(kept.as_bytes())?, &round.answer)?;
        let kept = self.vdaf().encode_state(&round.state)?;
        let helper = self.helper_step(self.vdaf().decode_helper_state(kept.as_bytes())?, &last)?;
        Ok([leader, helper])
    }
}

/// How many of the strings with these seeds begin with each prefix.
fn counted(prefixes: &[&str], seeds: std::ops::Range<u32>) -> Vec<i128> {
    let config = VdafConfig::Poplar1 { bits: BITS };
    let strings: Vec<String> = seeds
        .map(|seed| {
            let bits = plain(&config, &measurement(&config, seed));
            bits.iter().map(ToString::to_string).collect()
        })
        .collect();
    let count = |prefix: &&str| strings.iter().filter(|string| string.starts_with(*prefix)).count();
    prefixes.iter().map(|prefix| i128::try_from(count(prefix)).unwrap()).collect()
}

/// S79.
#[test]
fn two_rounds_count_prefixes_at_every_level() {
    for prefixes in PREFIXES {
        let cases: Vec<Case> = (0..11).map(|seed| Case::new(prefixes, seed)).collect();
        let verified: Vec<_> = cases.iter().map(|case| case.verify().ok().unwrap()).collect();
        let (vdaf, parameter) = (cases[0].vdaf(), &cases[0].parameter);
        let [leader, helper] = [0, 1].map(|aggregator: usize| {
            let shares: Vec<&OutputShare> = verified.iter().map(|pair| &pair[aggregator]).collect();
            let (first, rest) = shares.split_at(4);
            let first = vdaf.aggregate(parameter, None, first).unwrap();
            let (second, rest) = rest.split_at(3);
            let second = vdaf.aggregate(parameter, None, second).unwrap();
            let merged = vdaf.merge(parameter, &first, &second).unwrap();
            vdaf.aggregate(parameter, Some(&merged), rest).unwrap()
        });
        let result = vdaf.unshard_signed(parameter, &leader, &helper, 11).unwrap();
        assert_eq!(result, counted(prefixes, 0..11), "{prefixes:?}");
        assert_eq!(vdaf.result_length(parameter), Ok(prefixes.len()));
        let element = if prefixes[0].len() == usize::from(BITS) { 32 } else { 8 };
        assert_eq!(leader.len(), element * prefixes.len());
    }
}

#[test]
fn a_tree_of_one_level_has_leaves_only() {
    let config = VdafConfig::Poplar1 { bits: 1 };
    let case = Case { report: Report::new(&config, 1), parameter: encode_prefixes(1, &["1", "0"]).unwrap() };
    let [leader, helper] = case
        .verify()
        .ok()
        .unwrap()
        .map(|share| case.vdaf().aggregate(&case.parameter, None, &[&share]).unwrap());
    assert_eq!(case.vdaf().unshard_signed(&case.parameter, &leader, &helper, 1).unwrap(), [0, 1]);
}

#[test]
fn a_retried_step_of_either_round_yields_the_same_bytes() {
    for prefixes in PREFIXES {
        let case = Case::new(prefixes, 5);
        let (one, two) = (case.first_round().ok().unwrap(), case.first_round().ok().unwrap());
        assert_eq!(one.leader.message, two.leader.message);
        assert_eq!(one.answer, two.answer);
        let bytes = |state| case.vdaf().encode_state(state).unwrap().as_bytes().to_vec();
        assert_eq!(bytes(&one.state), bytes(&two.state));
        let (_, last) = case.leader_step(one.leader.state, &one.answer).ok().unwrap();
        let (_, again) = case.leader_step(two.leader.state, &two.answer).ok().unwrap();
        assert_eq!(last, again);
        assert!(case.helper_step(two.state, &last).is_ok());
    }
}

#[test]
fn prefixes_are_counted_in_lexicographic_order_whatever_the_order_asked() {
    let made = encode_prefixes(9, &["110000000", "000000001", "011111111"]).unwrap();
    assert_eq!(made, encode_prefixes(9, &["011111111", "110000000", "000000001"]).unwrap());
    assert_eq!(decode_prefixes(9, &made).unwrap(), ["000000001", "011111111", "110000000"]);
}

#[test]
fn prefixes_that_cannot_be_counted_are_refused_with_the_reason() {
    let refused = |bits: u16, prefixes: &[&str], because: &str| match encode_prefixes(bits, prefixes) {
        Err(VdafError::Prefixes(why)) => assert!(why.contains(because), "{why}"),
        other => panic!("{other:?}"),
    };
    refused(4, &[], "at least one prefix");
    refused(4, &["01", "2"], "zeros and ones");
    refused(4, &["01", "1"], "same length");
    refused(4, &["01", "01"], "nonrepeating");
    refused(4, &[""], "from 1 to 4 bits");
    refused(4, &["01010"], "from 1 to 4 bits");
    let limit = max_prefixes(11);
    let many: Vec<String> = (0..=limit).map(|number| format!("{number:011b}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    refused(16, &many, "at most 873 of 11 bits");
    let parameter = encode_prefixes(16, &many[..limit]).unwrap();
    assert_eq!(decode_prefixes(16, &parameter).unwrap(), many[..limit]);
}

#[test]
fn a_task_counts_prefixes_exactly_when_it_is_one_of_strings() {
    let strings = VdafConfig::Poplar1 { bits: 4 };
    let made = parameter_of(&strings, &["11", "00"]).unwrap();
    assert_eq!(made, parameter(&["00", "11"]));
    assert_eq!(prefixes_of(&strings, &made), ["00", "11"]);
    assert!(matches!(parameter_of::<&str>(&strings, &[]), Err(VdafError::Prefixes(_))));
    assert!(prefixes_of(&strings, &[]).is_empty(), "of a parameter that is none");
    assert_eq!(parameter_of::<&str>(&VdafConfig::Count, &[]), Ok(Vec::new()));
    assert!(matches!(parameter_of(&VdafConfig::Count, &["0"]), Err(VdafError::Prefixes(_))));
    assert!(prefixes_of(&VdafConfig::Count, &made).is_empty());
}

#[test]
fn parameters_that_kill_the_library_never_reach_it() {
    let vdaf = vdaf(&VdafConfig::Poplar1 { bits: MAX_POPLAR1_BITS });
    let one_too_many = max_prefixes(16) + 1;
    let count = u32::try_from(one_too_many).unwrap().to_be_bytes();
    let numbers = (0..one_too_many).flat_map(|number| u16::try_from(number).unwrap().to_be_bytes());
    let too_many: Vec<u8> = [0, 15].into_iter().chain(count).chain(numbers).collect();
    for hostile in [
        "ffff00000001",
        "ffffffffffff",
        "ffff00000000",
        "0000ffffffff",
        "000000000000",
        "0400000000010000",
        "00000000000100ff",
        "000000000001",
        "0000000000",
        "",
        "000000000001c0",
        "0000000000020080ff",
        "0000000000028000",
        "0000000000020000",
    ]
    .map(|text| hex::decode(text).unwrap())
    .iter()
    .chain([&too_many])
    {
        let refused = Some(VdafError::AggregationParameter);
        assert_eq!(vdaf.check_aggregation_parameter(hostile).err(), refused, "{}", hex::encode(hostile));
        assert_eq!(vdaf.aggregate(hostile, None, &[]).err(), refused);
        assert_eq!(vdaf.merge(hostile, &[], &[]).err(), refused);
        assert_eq!(vdaf.unshard_signed(hostile, &[], &[], 0).err(), refused);
        assert_eq!(vdaf.result_length(hostile).err(), refused);
        assert_eq!(decode_prefixes(MAX_POPLAR1_BITS, hostile).err(), refused);
        assert_eq!(decode_prefixes(u16::MAX, hostile).err(), refused);
    }
}

#[test]
fn a_level_below_the_leaves_is_refused() {
    let vdaf = vdaf(&VdafConfig::Poplar1 { bits: BITS });
    let deeper = encode_prefixes(BITS + 1, &["01010"]).unwrap();
    assert_eq!(vdaf.check_aggregation_parameter(&deeper), Err(VdafError::AggregationParameter));
    assert_eq!(vdaf.check_aggregation_parameter(&parameter(&["0101"])), Ok(()));
}

#[test]
fn strings_of_no_bits_and_of_too_many_are_refused() {
    for bits in [0, MAX_POPLAR1_BITS + 1, u16::MAX] {
        let refused = VdafConfig::Poplar1 { bits }.instantiate().err();
        assert!(matches!(refused, Some(VdafError::Configuration(_))), "{bits}");
    }
    let lengths = vdaf(&VdafConfig::Poplar1 { bits: 4 }).share_lengths().unwrap();
    assert_eq!((lengths.public_share, lengths.input_shares), (177, [160, 160]));
    assert!(vdaf(&VdafConfig::Poplar1 { bits: MAX_POPLAR1_BITS }).share_lengths().is_ok());
}

#[test]
fn a_string_of_another_length_is_no_measurement() {
    let config = VdafConfig::Poplar1 { bits: 4 };
    assert_eq!(
        Measurement::parse(&config, " 0110\n").unwrap(),
        Measurement::Bits(vec![false, true, true, false])
    );
    for text in ["011", "01100", "", "01a0", "0,1,1,0"] {
        assert!(matches!(Measurement::parse(&config, text), Err(VdafError::Measurement(_))), "{text}");
    }
    let nonce = ReportId::new([1; 16]);
    for other in every_kind() {
        assert!(vdaf(&config).shard(CONTEXT, &measurement(&other, 1), &nonce).is_err());
        assert!(vdaf(&other).shard(CONTEXT, &measurement(&config, 1), &nonce).is_err());
    }
}

#[test]
fn no_noise_can_be_added() {
    let vdaf = vdaf(&VdafConfig::Poplar1 { bits: BITS });
    let share = vdaf.aggregate(&parameter(&["0", "1"]), None, &[]).unwrap();
    for noise in [vec![], vec![BigInt::from(0); 2]] {
        assert_eq!(vdaf.add_noise(&share, &noise), Err(VdafError::NoNoise));
    }
}

#[test]
fn shares_of_another_level_or_another_list_do_not_add_up() {
    let [inner, _, leaf] = PREFIXES;
    let (inner, leaf) = (Case::new(inner, 1), Case::new(leaf, 1));
    let outputs = [&inner, &leaf].map(|case| case.verify().ok().unwrap());
    let foreign = Some(VdafError::Foreign("output share"));
    let vdaf = inner.vdaf();
    assert_eq!(vdaf.aggregate(&inner.parameter, None, &[&outputs[1][0]]).err(), foreign);
    assert_eq!(vdaf.aggregate(&leaf.parameter, None, &[&outputs[0][0]]).err(), foreign);
    let share = vdaf.aggregate(&inner.parameter, None, &[&outputs[0][0]]).unwrap();
    let longer = parameter(&["00", "01", "10"]);
    assert_eq!(vdaf.aggregate(&longer, None, &[&outputs[0][0]]).err(), foreign);
    for other in [&leaf.parameter, &longer] {
        assert_eq!(vdaf.merge(other, &share, &share).err(), Some(VdafError::AggregateShare));
        assert_eq!(vdaf.unshard_signed(other, &share, &share, 1).err(), Some(VdafError::AggregateShare));
    }
}

#[test]
fn a_changed_byte_anywhere_is_found_out() {
    for prefixes in PREFIXES {
        let whole = Case::new(prefixes, 13).report.shards;
        let places = |length: usize| (0..length).step_by(7);
        for aggregator in [0, 1] {
            for index in places(whole.input_shares[aggregator].len()) {
                let mut case = Case::new(prefixes, 13);
                case.report.shards.input_shares[aggregator][index] ^= 1;
                // What belongs to another level is not looked at.
                let Ok(shares) = case.verify() else { continue };
                assert_eq!(
                    total(&case, &shares),
                    counted(prefixes, 13..14),
                    "{prefixes:?} {aggregator} {index}"
                );
            }
        }
        for index in places(whole.public_share.len()) {
            let mut case = Case::new(prefixes, 13);
            case.report.shards.public_share[index] ^= 1;
            let Ok(shares) = case.verify() else { continue };
            assert_eq!(total(&case, &shares), counted(prefixes, 13..14), "{prefixes:?} {index}");
        }
    }
}

fn total(case: &Case, shares: &[OutputShare; 2]) -> Vec<i128> {
    let [leader, helper] =
        [0, 1].map(|at: usize| case.vdaf().aggregate(&case.parameter, None, &[&shares[at]]).unwrap());
    case.vdaf().unshard_signed(&case.parameter, &leader, &helper, 1).unwrap()
}

#[test]
fn a_changed_message_of_either_round_is_found_out() {
    for prefixes in PREFIXES {
        let case = Case::new(prefixes, 6);
        let round = case.first_round().ok().unwrap();
        let leader = || case.leader().ok().unwrap().state;
        let helper = || case.helper(&round.leader.message).ok().unwrap().0;
        let (_, last) = case.leader_step(leader(), &round.answer).ok().unwrap();
        for index in 0..round.answer.len() {
            let changed = flipped(&round.answer, index);
            // The leader's share of the check takes the first of three numbers only, and what it adds up is its own.
            if let Ok((output, message)) = case.leader_step(leader(), &changed) {
                assert_eq!(message, last);
                let own = case.leader_step(leader(), &round.answer).ok().unwrap().0;
                let sums = [output, own]
                    .map(|share| case.vdaf().aggregate(&case.parameter, None, &[&share]).unwrap());
                assert_eq!(sums[0], sums[1], "{index}");
            }
            assert!(case.leader_step(leader(), &round.answer[..index]).is_err());
        }
        for index in 0..last.len() {
            assert!(case.helper_step(helper(), &flipped(&last, index)).is_err(), "{index}");
            assert!(case.helper_step(helper(), &last[..index]).is_err());
        }
        for index in 0..round.leader.message.len() {
            let changed = flipped(&round.leader.message, index);
            // Whether the sketch is that of an honest client shows in the second round.
            let Ok((_, answer)) = case.helper(&changed) else { continue };
            assert!(case.leader_step(leader(), &answer).is_err(), "{index}");
        }
        // A message of the wrong round, and a helper that claims to be the leader.
        assert!(case.helper_step(helper(), &round.leader.message).is_err());
        assert!(case.vdaf().leader_continued(CONTEXT, &case.parameter, leader(), &last).is_err());
        assert!(case.vdaf().helper_continued(CONTEXT, &case.parameter, helper(), &round.answer).is_err());
    }
}

fn flipped(bytes: &[u8], index: usize) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[index] ^= 1;
    changed
}

#[test]
fn a_stored_state_decodes_whole_or_not_at_all() {
    for prefixes in PREFIXES {
        let case = Case::new(prefixes, 6);
        let round = case.first_round().ok().unwrap();
        let helper = case.vdaf().encode_state(&round.state).unwrap().as_bytes().to_vec();
        for cut in 0..helper.len() {
            assert_eq!(case.vdaf().decode_helper_state(&helper[..cut]).err(), Some(VdafError::State));
        }
        let longer = [&helper[..], &[0]].concat();
        assert_eq!(case.vdaf().decode_helper_state(&longer).err(), Some(VdafError::State));
        assert_eq!(case.vdaf().decode_leader_state(&[7; 9]).err(), Some(VdafError::State));
        let foreign = vdaf(&VdafConfig::Count).encode_state(&round.state).err();
        assert_eq!(foreign, Some(VdafError::Foreign("verification state")));
    }
}

#[test]
fn states_of_one_round_can_be_kept_too() {
    for config in every_kind() {
        let report = Report::new(&config, 2);
        let begun = report.leader().ok().unwrap();
        let (_, answer) = report.helper(&begun.message).ok().unwrap();
        let kept = report.vdaf.encode_state(&begun.state).unwrap();
        let state = report.vdaf.decode_leader_state(kept.as_bytes()).ok().unwrap();
        assert!(report.finish(state, &answer).is_ok(), "{}", config.name());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_parameter_message_or_state_of_a_peer_kills_us(
        parameter in proptest::collection::vec(any::<u8>(), 0..40),
        level in 0_u16..6,
        count in 0_u32..6,
        body in proptest::collection::vec(any::<u8>(), 0..120),
        kind in 0_u8..4,
    ) {
        let mut case = Case::new(PREFIXES[1], 1);
        let first = case.first_round().ok().unwrap();
        let framed = [&[kind][..], &u32::try_from(body.len()).unwrap().to_be_bytes(), &body].concat();
        for inbound in [&framed, &body] {
            let _ = case.helper(inbound);
            prop_assert!(case.helper_step(case.helper(&first.leader.message).ok().unwrap().0, inbound).is_err()
                || inbound[..] == [2, 0, 0, 0, 0]);
            prop_assert!(case.leader_step(case.leader().ok().unwrap().state, inbound).is_err());
        }
        let _ = case.vdaf().decode_helper_state(&body);
        let shaped = [&level.to_be_bytes()[..], &count.to_be_bytes(), &parameter].concat();
        for hostile in [parameter, shaped] {
            let accepted = case.vdaf().check_aggregation_parameter(&hostile).is_ok();
            case.parameter = hostile;
            prop_assert_eq!(case.leader().is_ok(), accepted);
        }
    }
}

const GOOD: [&str; 6] = [
    include_str!("../../../vectors/vdaf/ok_poplar1_0.json"),
    include_str!("../../../vectors/vdaf/ok_poplar1_1.json"),
    include_str!("../../../vectors/vdaf/ok_poplar1_2.json"),
    include_str!("../../../vectors/vdaf/ok_poplar1_3.json"),
    include_str!("../../../vectors/vdaf/ok_poplar1_4.json"),
    include_str!("../../../vectors/vdaf/ok_poplar1_5.json"),
];
const BAD: &str = include_str!("../../../vectors/vdaf/bad_poplar1_corr_inner.json");

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
