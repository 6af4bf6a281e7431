//! One implementation of [`Vdaf`] for every VDAF of the library, in the two-party ping-pong topology.
//!
//! It decodes what arrives and sorts failures: this aggregator's own input share by itself, everything
//! else that a client or peer sent as a failed verification.

use std::io::Cursor;

use num_bigint::{BigInt, BigUint};
use prio::codec::{Decode as _, Encode as _, ParameterizedDecode as _};
use prio::field::{FieldElement as _, FieldElementWithInteger};
use prio::topology::ping_pong::{Continued, PingPongMessage, PingPongState, PingPongTopology as _};
use prio::vdaf::{Aggregatable as _, AggregateShare, Client, OutputShare as PrioOutputShare};

use super::residue::{in_field, signed};
use super::scheme::Scheme;
use super::sealed::Sealed;
use super::state::{
    HelperStep, InputShareRef, LeaderInit, LeaderStep, OutputShare, Sharded, ShareLengths, Step, VerifyKey,
    VerifyState,
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

    fn aggregate_share(&self, bytes: &[u8]) -> Result<AggregateShare<S::Element>, VdafError> {
        let mut cursor = Cursor::new(bytes);
        let decode = |_| S::Element::decode(&mut cursor).map_err(|_| VdafError::AggregateShare);
        let elements: Vec<S::Element> = (0..self.result_length()).map(decode).collect::<Result<_, _>>()?;
        if elements.len().checked_mul(S::Element::ENCODED_SIZE) != Some(bytes.len()) {
            return Err(VdafError::AggregateShare);
        }
        Ok(AggregateShare::from(elements))
    }

    /// One end of a step after the first.
    fn step(state: PingPongState<S::VerifyState, PrioOutputShare<S::Element>>) -> Result<Step, VdafError> {
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
        <()>::get_decoded(parameter).map_err(|_| VdafError::AggregationParameter)?;
        if S::is_agg_param_valid(&(), &[]) { Ok(()) } else { Err(VdafError::AggregationParameter) }
    }

    fn leader_init(
        &self,
        verify_key: &VerifyKey,
        context: &[u8],
        parameter: &[u8],
        share: &InputShareRef<'_>,
    ) -> Result<LeaderInit, VdafError> {
        self.check_aggregation_parameter(parameter)?;
        let (public, input) = self.report(LEADER, share)?;
        let begun = self
            .scheme
            .leader_initialized(verify_key.as_bytes(), context, &(), share.nonce.as_bytes(), &public, &input)
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
        self.check_aggregation_parameter(parameter)?;
        let (public, input) = self.report(HELPER, share)?;
        let inbound = decoded(inbound)?;
        let nonce = share.nonce.as_bytes();
        let evaluated = self
            .scheme
            .helper_initialized(verify_key.as_bytes(), context, &(), nonce, &public, &input, &inbound)
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
        self.check_aggregation_parameter(parameter)?;
        let state = state.into_inner().ok_or(VdafError::Foreign("verification state"))?;
        self.scheme
            .leader_continued(context, &(), state, &decoded(inbound)?)
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
        self.check_aggregation_parameter(parameter)?;
        let state = state.into_inner().ok_or(VdafError::Foreign("verification state"))?;
        self.scheme
            .helper_continued(context, &(), state, &decoded(inbound)?)
            .and_then(|continuation| continuation.evaluate(context, &self.scheme))
            .map_err(|_| VdafError::Verification("leader's message"))
            .and_then(Self::step)
    }

    fn aggregate(&self, total: Option<&[u8]>, shares: &[&OutputShare]) -> Result<Vec<u8>, VdafError> {
        let mut sum = match total {
            Some(bytes) => self.aggregate_share(bytes)?,
            None => self.scheme.aggregate_init(&()),
        };
        for share in shares {
            let share: &PrioOutputShare<S::Element> =
                share.inner().ok_or(VdafError::Foreign("output share"))?;
            sum.accumulate(share).map_err(|_| VdafError::Foreign("output share"))?;
        }
        sum.get_encoded().map_err(|_| VdafError::AggregateShare)
    }

    fn merge(&self, left: &[u8], right: &[u8]) -> Result<Vec<u8>, VdafError> {
        let mut sum = self.aggregate_share(left)?;
        sum.merge(&self.aggregate_share(right)?).map_err(|_| VdafError::AggregateShare)?;
        sum.get_encoded().map_err(|_| VdafError::AggregateShare)
    }

    fn add_noise(&self, share: &[u8], noise: &[BigInt]) -> Result<Vec<u8>, VdafError> {
        let mut share = self.aggregate_share(share)?;
        if noise.len() != self.result_length() {
            return Err(VdafError::NoiseLength { expected: self.result_length(), given: noise.len() });
        }
        let modulus = BigInt::from(self.field_modulus());
        let noise: Vec<S::Element> = noise.iter().map(|value| in_field(value, &modulus)).collect();
        share.merge(&AggregateShare::from(noise)).map_err(|_| VdafError::AggregateShare)?;
        share.get_encoded().map_err(|_| VdafError::AggregateShare)
    }

    fn unshard_signed(&self, leader: &[u8], helper: &[u8], count: u64) -> Result<Vec<i128>, VdafError> {
        let mut sum = self.aggregate_share(leader)?;
        sum.merge(&self.aggregate_share(helper)?).map_err(|_| VdafError::AggregateShare)?;
        let largest_sum = u128::from(count).saturating_mul(u128::from(self.max_coordinate()));
        sum.as_ref().iter().map(|element| signed(*element, largest_sum)).collect()
    }

    fn field_modulus(&self) -> BigUint {
        let modulus: u128 = S::Element::modulus().into();
        BigUint::from(modulus)
    }

    fn result_length(&self) -> usize {
        self.config.length()
    }

    fn max_coordinate(&self) -> u64 {
        match self.config {
            VdafConfig::Sum { max_measurement } | VdafConfig::SumVec { max_measurement, .. } => {
                max_measurement
            }
            VdafConfig::Count | VdafConfig::Histogram { .. } | VdafConfig::MultihotCountVec { .. } => 1,
        }
    }
}

fn encoded(message: &PingPongMessage) -> Result<Vec<u8>, VdafError> {
    message.get_encoded().map_err(|_| VdafError::Verification("encoding of a message"))
}

fn decoded(message: &[u8]) -> Result<PingPongMessage, VdafError> {
    PingPongMessage::get_decoded(message).map_err(|_| VdafError::Verification("decoding of a message"))
}
