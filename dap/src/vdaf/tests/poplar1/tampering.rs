//! What was changed on the way, or comes from a peer that means harm.

use proptest::prelude::*;

use super::*;

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
