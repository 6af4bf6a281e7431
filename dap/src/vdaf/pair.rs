//! One implementation of [`Vdaf`] for every VDAF of the library, in the two-party ping-pong topology.
//!
//! It decodes what arrives and sorts failures: this aggregator's own input share by itself, everything
//! else that a client or peer sent as a failed verification.

use num_bigint::{BigInt, BigUint};
use prio::codec::{Decode as _, Encode as _, ParameterizedDecode as _};
use prio::topology::ping_pong::{Continued, PingPongMessage, PingPongState, PingPongTopology as _};
use prio::vdaf::{Aggregatable as _, Client};

use super::scheme::Scheme;
use super::sealed::Sealed;
use super::state::{
    EncodedState, HelperStep, InputShareRef, LeaderInit, LeaderStep, OutputShare, Sharded, ShareLengths,
    Step, VerifyKey, VerifyState,
};
use super::{Measurement, Vdaf, VdafError};
use crate::id::ReportId;
use crate::vdaf_config::VdafConfig;

/// A VDAF of the library with the parameters it was made from.
pub(super) struct Pair<S> {
    config: VdafConfig,
    scheme: S,
}

const LEADER: usize = 0;
const HELPER: usize = 1;

impl<S: Scheme> Pair<S> {
    pub(super) fn new(config: &VdafConfig, scheme: S) -> Self {
        Self { config: config.clone(), scheme }
    }

    fn report(
        &self,
        aggregator: usize,
        share: &InputShareRef<'_>,
    ) -> Result<(S::PublicShare, S::InputShare), VdafError> {
        let input = S::InputShare::get_decoded_with_param(&(&self.scheme, aggregator), share.input_share)
            .map_err(|_| VdafError::InputShare)?;
        let public = S::PublicShare::get_decoded_with_param(&self.scheme, share.public_share)
            .map_err(|_| VdafError::Verification("public share"))?;
        Ok((public, input))
    }

    fn parameter(&self, bytes: &[u8]) -> Result<S::AggregationParam, VdafError> {
        let parameter = S::parameter(&self.config, bytes)?;
        if S::is_agg_param_valid(&parameter, &[]) {
            Ok(parameter)
        } else {
            Err(VdafError::AggregationParameter)
        }
    }

    fn aggregate_share(
        &self,
        parameter: &S::AggregationParam,
        bytes: &[u8],
    ) -> Result<S::AggregateShare, VdafError> {
        S::AggregateShare::get_decoded_with_param(&(&self.scheme, parameter), bytes)
            .map_err(|_| VdafError::AggregateShare)
    }

    fn state(&self, aggregator: usize, bytes: &[u8]) -> Result<VerifyState, VdafError> {
        S::VerifyState::get_decoded_with_param(&(&self.scheme, aggregator), bytes)
            .map(VerifyState::new)
            .map_err(|_| VdafError::State)
    }

    /// One end of a step after the first.
    fn step(state: PingPongState<S::VerifyState, S::OutputShare>) -> Result<Step, VdafError> {
        Ok(match state {
            PingPongState::Continued(Continued { message, verifier_state }) => {
                Step::Continued { state: VerifyState::new(verifier_state), message: encoded(&message)? }
            }
            PingPongState::FinishedWithOutbound { output_share, message } => Step::FinishedWithOutbound {
                output: OutputShare::new(output_share),
                message: encoded(&message)?,
            },
            PingPongState::Finished { output_share } => Step::Finished(OutputShare::new(output_share)),
        })
    }
}

impl<S: Scheme> Sealed for Pair<S> {}

impl<S: Scheme> Vdaf for Pair<S> {
    fn shard(
        &self,
        context: &[u8],
        measurement: &Measurement,
        nonce: &ReportId,
    ) -> Result<Sharded, VdafError> {
        measurement.check(&self.config)?;
        let wrong = || VdafError::Measurement(format!("not a measurement of {}", self.config.name()));
        let measurement = S::measurement(measurement).ok_or_else(wrong)?;
        let (public_share, input_shares) =
            Client::shard(&self.scheme, context, &measurement, nonce.as_bytes())
                .map_err(|why| VdafError::Measurement(why.to_string()))?;
        let [leader, helper] = input_shares.as_slice() else {
            return Err(VdafError::Foreign("number of shares"));
        };
        let failed = |_| VdafError::Measurement("its shares do not encode".to_owned());
        Ok(Sharded {
            public_share: public_share.get_encoded().map_err(failed)?,
            input_shares: [leader.get_encoded().map_err(failed)?, helper.get_encoded().map_err(failed)?],
        })
    }

    fn share_lengths(&self) -> Result<ShareLengths, VdafError> {
        let sample = self.shard(&[], &Measurement::nothing(&self.config), &ReportId::new([0; 16]))?;
        let input_shares = sample.input_shares.each_ref().map(Vec::len);
        Ok(ShareLengths { public_share: sample.public_share.len(), input_shares })
    }

    fn check_aggregation_parameter(&self, parameter: &[u8]) -> Result<(), VdafError> {
        self.parameter(parameter).map(drop)
    }

    fn leader_init(
        &self,
        verify_key: &VerifyKey,
        context: &[u8],
        parameter: &[u8],
        share: &InputShareRef<'_>,
    ) -> Result<LeaderInit, VdafError> {
        let parameter = self.parameter(parameter)?;
        let (public, input) = self.report(LEADER, share)?;
        let nonce = share.nonce.as_bytes();
        let begun = self
            .scheme
            .leader_initialized(verify_key.as_bytes(), context, &parameter, nonce, &public, &input)
            .map_err(|_| VdafError::Verification("leader's share"))?;
        Ok(LeaderInit { state: VerifyState::new(begun.verifier_state), message: encoded(&begun.message)? })
    }

    fn helper_init(
        &self,
        verify_key: &VerifyKey,
        context: &[u8],
        parameter: &[u8],
        share: &InputShareRef<'_>,
        inbound: &[u8],
    ) -> Result<HelperStep, VdafError> {
        let parameter = self.parameter(parameter)?;
        let (public, input) = self.report(HELPER, share)?;
        let inbound = decoded(inbound)?;
        let nonce = share.nonce.as_bytes();
        let evaluated = self
            .scheme
            .helper_initialized(verify_key.as_bytes(), context, &parameter, nonce, &public, &input, &inbound)
            .and_then(|continuation| continuation.evaluate(context, &self.scheme))
            .map_err(|_| VdafError::Verification("proof"))?;
        match Self::step(evaluated)? {
            Step::Continued { state, message } => Ok(HelperStep::Continued { state, message }),
            Step::FinishedWithOutbound { output, message } => Ok(HelperStep::Finished { output, message }),
            Step::Finished(_) => Err(VdafError::Verification("round")),
        }
    }

    fn leader_continued(
        &self,
        context: &[u8],
        parameter: &[u8],
        state: VerifyState,
        inbound: &[u8],
    ) -> Result<LeaderStep, VdafError> {
        let parameter = self.parameter(parameter)?;
        let state = state.into_inner().ok_or(VdafError::Foreign("verification state"))?;
        self.scheme
            .leader_continued(context, &parameter, state, &decoded(inbound)?)
            .and_then(|continuation| continuation.evaluate(context, &self.scheme))
            .map_err(|_| VdafError::Verification("helper's message"))
            .and_then(Self::step)
    }

    fn helper_continued(
        &self,
        context: &[u8],
        parameter: &[u8],
        state: VerifyState,
        inbound: &[u8],
    ) -> Result<Step, VdafError> {
        let parameter = self.parameter(parameter)?;
        let state = state.into_inner().ok_or(VdafError::Foreign("verification state"))?;
        self.scheme
            .helper_continued(context, &parameter, state, &decoded(inbound)?)
            .and_then(|continuation| continuation.evaluate(context, &self.scheme))
            .map_err(|_| VdafError::Verification("leader's message"))
            .and_then(Self::step)
    }

    fn encode_state(&self, state: &VerifyState) -> Result<EncodedState, VdafError> {
        let state: &S::VerifyState = state.inner().ok_or(VdafError::Foreign("verification state"))?;
        state.get_encoded().map(EncodedState::new).map_err(|_| VdafError::State)
    }

    fn decode_leader_state(&self, bytes: &[u8]) -> Result<VerifyState, VdafError> {
        self.state(LEADER, bytes)
    }

    fn decode_helper_state(&self, bytes: &[u8]) -> Result<VerifyState, VdafError> {
        self.state(HELPER, bytes)
    }

    fn aggregate(
        &self,
        parameter: &[u8],
        total: Option<&[u8]>,
        shares: &[&OutputShare],
    ) -> Result<Vec<u8>, VdafError> {
        let parameter = self.parameter(parameter)?;
        let mut sum = match total {
            Some(bytes) => self.aggregate_share(&parameter, bytes)?,
            None => self.scheme.aggregate_init(&parameter),
        };
        for share in shares {
            let share: &S::OutputShare = share.inner().ok_or(VdafError::Foreign("output share"))?;
            sum.accumulate(share).map_err(|_| VdafError::Foreign("output share"))?;
        }
        sum.get_encoded().map_err(|_| VdafError::AggregateShare)
    }

    fn merge(&self, parameter: &[u8], left: &[u8], right: &[u8]) -> Result<Vec<u8>, VdafError> {
        let parameter = self.parameter(parameter)?;
        let mut sum = self.aggregate_share(&parameter, left)?;
        sum.merge(&self.aggregate_share(&parameter, right)?).map_err(|_| VdafError::AggregateShare)?;
        sum.get_encoded().map_err(|_| VdafError::AggregateShare)
    }

    fn add_noise(&self, share: &[u8], noise: &[BigInt]) -> Result<Vec<u8>, VdafError> {
        // Where noise is defined, the parameter is the empty one.
        let parameter = self.parameter(&[]).map_err(|_| VdafError::NoNoise)?;
        let mut share = self.aggregate_share(&parameter, share)?;
        let expected = S::result_length(&self.config, &parameter);
        if noise.len() != expected {
            return Err(VdafError::NoiseLength { expected, given: noise.len() });
        }
        share.merge(&S::noise(noise)?).map_err(|_| VdafError::AggregateShare)?;
        share.get_encoded().map_err(|_| VdafError::AggregateShare)
    }

    fn unshard_signed(
        &self,
        parameter: &[u8],
        leader: &[u8],
        helper: &[u8],
        count: u64,
    ) -> Result<Vec<i128>, VdafError> {
        let parameter = self.parameter(parameter)?;
        let mut sum = self.aggregate_share(&parameter, leader)?;
        sum.merge(&self.aggregate_share(&parameter, helper)?).map_err(|_| VdafError::AggregateShare)?;
        S::signed(&sum, u128::from(count).saturating_mul(u128::from(self.max_coordinate())))
    }

    fn field_modulus(&self) -> BigUint {
        S::field_modulus()
    }

    fn result_length(&self, parameter: &[u8]) -> Result<usize, VdafError> {
        Ok(S::result_length(&self.config, &self.parameter(parameter)?))
    }

    fn max_coordinate(&self) -> u64 {
        match self.config {
            VdafConfig::Sum { max_measurement } | VdafConfig::SumVec { max_measurement, .. } => {
                max_measurement
            }
            VdafConfig::Count
            | VdafConfig::Histogram { .. }
            | VdafConfig::MultihotCountVec { .. }
            | VdafConfig::Poplar1 { .. } => 1,
        }
    }
}

fn encoded(message: &PingPongMessage) -> Result<Vec<u8>, VdafError> {
    message.get_encoded().map_err(|_| VdafError::Verification("encoding of a message"))
}

fn decoded(message: &[u8]) -> Result<PingPongMessage, VdafError> {
    PingPongMessage::get_decoded(message).map_err(|_| VdafError::Verification("decoding of a message"))
}
