//! The VDAF of two rounds, whose parameter decides how long shares are.

mod parameters;
mod specification;
mod tampering;

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
