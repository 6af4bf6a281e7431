use proptest::prelude::*;

use super::*;
use crate::report_error::ReportError;

/// Whether the failure is one of verification, which is answered with `vdaf_verify_error`.
fn unverified<T>(result: &Result<T, VdafError>) -> bool {
    matches!(result, Err(VdafError::Verification(_)))
}

#[test]
fn two_verification_keys_do_not_agree() {
    for config in every_kind() {
        let mut report = Report::new(&config, 1);
        let begun = report.leader().ok().unwrap();
        report.verify_key = VerifyKey::new([6; 32]);
        assert!(unverified(&report.helper(&begun.message)), "{}", config.name());
    }
}

#[test]
fn a_report_does_not_verify_under_another_nonce_or_context() {
    for config in every_kind() {
        let mut report = Report::new(&config, 1);
        let begun = report.leader().ok().unwrap();
        let (key, share) = (&report.verify_key, report.share(1));
        assert!(unverified(&report.vdaf.helper_init(key, b"another", &[], &share, &begun.message)));
        report.nonce = ReportId::new([0; 16]);
        assert!(unverified(&report.helper(&begun.message)), "{}", config.name());
    }
}

#[test]
fn swapped_shares_do_not_decode() {
    for config in every_kind() {
        let mut report = Report::new(&config, 1);
        let begun = report.leader().ok().unwrap();
        report.shards.input_shares.swap(0, 1);
        assert_eq!(report.leader().err(), Some(VdafError::InputShare));
        assert_eq!(report.helper(&begun.message).err(), Some(VdafError::InputShare));
    }
}

#[test]
fn an_input_share_of_another_length_does_not_decode() {
    for config in every_kind() {
        for aggregator in [0, 1] {
            let mut report = Report::new(&config, 1);
            let begun = report.leader().ok().unwrap();
            let whole = report.shards.input_shares[aggregator].clone();
            for changed in [Vec::new(), whole[1..].to_vec(), [&whole[..], &[0]].concat()] {
                report.shards.input_shares[aggregator] = changed;
                let failure =
                    if aggregator == 0 { report.leader().err() } else { report.helper(&begun.message).err() };
                assert_eq!(failure, Some(VdafError::InputShare));
            }
        }
    }
}

#[test]
fn the_peer_is_told_whether_a_share_or_its_proof_was_bad() {
    assert_eq!(VdafError::InputShare.report_error(), ReportError::InvalidMessage);
    for other in [VdafError::Verification("proof"), VdafError::AggregationParameter] {
        assert_eq!(other.report_error(), ReportError::VdafVerifyError);
    }
}

#[test]
fn a_changed_share_or_proof_is_found_out() {
    for config in every_kind() {
        for aggregator in [0, 1] {
            let length = Report::new(&config, 1).shards.input_shares[aggregator].len();
            for index in (0..length).step_by(5) {
                let mut report = Report::new(&config, 1);
                report.shards.input_shares[aggregator][index] ^= 1;
                assert!(report.verify().is_err(), "{} {aggregator} {index}", config.name());
            }
        }
    }
}

#[test]
fn a_changed_public_share_is_found_out() {
    for config in every_kind() {
        let length = Report::new(&config, 1).shards.public_share.len();
        for index in 0..length {
            let mut report = Report::new(&config, 1);
            report.shards.public_share[index] ^= 1;
            assert!(unverified(&report.verify()), "{} {index}", config.name());
        }
        let mut report = Report::new(&config, 1);
        report.shards.public_share.push(0);
        assert_eq!(report.leader().err(), Some(VdafError::Verification("public share")));
    }
}

#[test]
fn a_changed_message_is_found_out() {
    for config in every_kind() {
        let report = Report::new(&config, 1);
        let first = report.leader().ok().unwrap().message;
        for index in 0..first.len() {
            let mut changed = first.clone();
            changed[index] ^= 1;
            assert!(unverified(&report.helper(&changed)), "{} {index}", config.name());
            assert!(unverified(&report.helper(&first[..index])));
        }
        let (_, answer) = report.helper(&first).ok().unwrap();
        for index in 0..answer.len() {
            let mut changed = answer.clone();
            changed[index] ^= 1;
            assert!(unverified(&report.finish(report.leader().ok().unwrap().state, &changed)));
            assert!(unverified(&report.finish(report.leader().ok().unwrap().state, &answer[..index])));
        }
    }
}

#[test]
fn messages_of_the_wrong_kind_are_refused() {
    for config in every_kind() {
        let report = Report::new(&config, 1);
        let begun = report.leader().ok().unwrap();
        let (_, answer) = report.helper(&begun.message).ok().unwrap();
        assert!(unverified(&report.helper(&answer)));
        assert!(unverified(&report.finish(begun.state, &begun.message)));
        let going_on = [&[1][..], &answer[1..], &[0; 4]].concat();
        assert!(unverified(&report.finish(report.leader().ok().unwrap().state, &going_on)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_message_of_a_peer_verifies_by_chance_or_kills_us(
        kind in 0_usize..5,
        type_byte in 0_u8..4,
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let report = Report::new(&every_kind()[kind], 1);
        let framed = [&[type_byte][..], &u32::try_from(body.len()).unwrap().to_be_bytes(), &body].concat();
        let raw = [&[type_byte][..], &body].concat();
        for inbound in [framed, raw] {
            prop_assert!(unverified(&report.helper(&inbound)));
            // An empty answer is what Count expects, so it alone can be guessed.
            let state = report.leader().ok().unwrap().state;
            let guessed = kind < 2 && inbound == [2, 0, 0, 0, 0];
            prop_assert!(guessed || unverified(&report.finish(state, &inbound)));
        }
    }

    #[test]
    fn no_shares_of_a_client_kill_us(
        kind in 0_usize..5,
        public_share in proptest::collection::vec(any::<u8>(), 0..70),
        input_share in proptest::collection::vec(any::<u8>(), 9..300),
        keep_length in any::<bool>(),
    ) {
        let mut report = Report::new(&every_kind()[kind], 1);
        let begun = report.leader().ok().unwrap();
        for share in &mut report.shards.input_shares {
            if keep_length {
                share.iter_mut().zip(&input_share).for_each(|(byte, other)| *byte = *other);
            } else {
                share.clone_from(&input_share);
            }
        }
        if !keep_length {
            report.shards.public_share = public_share;
        }
        let _ = report.leader();
        prop_assert!(report.helper(&begun.message).is_err());
    }
}
