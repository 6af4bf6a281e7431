//! Verifiable sharing of a measurement, its verification by two aggregators, and the sum.
//!
//! In the journey of a report: the client shards, leader and helper verify their shares together
//! (VDAF 5.7.1, the ping-pong topology that DAP 4.5 carries) and add them up, the collector adds the two
//! sums. One aggregator alone must never learn a measurement: it holds one share, and what its peer
//! sends tells nothing but whether the report is valid.
//!
//! [`Vdaf`] speaks bytes, so that nobody else carries the type parameters of the library below;
//! `scheme`, `pair` and `prefixes` are the only files that name them. The Prio3 family takes one round and
//! only the empty aggregation parameter; Poplar1 takes two rounds, and its parameter is the list of
//! prefixes that are counted, which also decides how long shares are and in which field.

mod error;
mod instantiate;
mod limits;
mod measurement;
mod pair;
mod prefixes;
mod residue;
mod scheme;
mod state;

#[cfg(test)]
mod tests;

use num_bigint::{BigInt, BigUint};

use crate::draft::Draft;
use crate::id::{ReportId, TaskId};

pub use error::VdafError;
pub use limits::{MAX_ENCODED_LENGTH, MAX_GADGET_CALLS, MAX_POPLAR1_BITS, max_prefixes};
pub use measurement::Measurement;
pub use prefixes::{decode_prefixes, encode_prefixes, parameter_of, prefixes_of};
pub use state::{
    EncodedState, HelperStep, InputShareRef, LeaderInit, LeaderStep, OutputShare, Sharded, ShareLengths,
    Step, VerifyKey, VerifyState,
};

/// One VDAF with its parameters, over the encodings that travel in DAP messages.
///
/// Every method is deterministic in its arguments except [`shard`](Self::shard). In particular a retried
/// [`leader_init`](Self::leader_init) yields the same bytes, which is why requests need not be stored.
///
/// Implemented here only, so that whoever has one knows that [`add_noise`](Self::add_noise) adds.
pub trait Vdaf: sealed::Sealed + Send + Sync {
    /// Splits a measurement into one share per aggregator (DAP 4.4.2.1), with fresh randomness.
    fn shard(
        &self,
        context: &[u8],
        measurement: &Measurement,
        nonce: &ReportId,
    ) -> Result<Sharded, VdafError>;

    /// How many bytes the shares of any measurement take. It costs as much as one [`shard`](Self::shard).
    fn share_lengths(&self) -> Result<ShareLengths, VdafError>;

    /// Whether a batch may be aggregated under this parameter; the Prio3 family takes only the empty one,
    /// Poplar1 those that [`encode_prefixes`] makes.
    fn check_aggregation_parameter(&self, parameter: &[u8]) -> Result<(), VdafError>;

    /// The leader's first step over one report (DAP 4.5.3.1).
    fn leader_init(
        &self,
        verify_key: &VerifyKey,
        context: &[u8],
        parameter: &[u8],
        share: &InputShareRef<'_>,
    ) -> Result<LeaderInit, VdafError>;

    /// The helper's first step over one report and the leader's message (DAP 4.5.3.3).
    fn helper_init(
        &self,
        verify_key: &VerifyKey,
        context: &[u8],
        parameter: &[u8],
        share: &InputShareRef<'_>,
        inbound: &[u8],
    ) -> Result<HelperStep, VdafError>;

    /// The leader's next step, on the helper's message.
    fn leader_continued(
        &self,
        context: &[u8],
        parameter: &[u8],
        state: VerifyState,
        inbound: &[u8],
    ) -> Result<LeaderStep, VdafError>;

    /// The helper's next step, on the leader's message; VDAFs of one round never get here.
    fn helper_continued(
        &self,
        context: &[u8],
        parameter: &[u8],
        state: VerifyState,
        inbound: &[u8],
    ) -> Result<Step, VdafError>;

    /// The bytes of a state, to be kept until the peer's next message.
    fn encode_state(&self, state: &VerifyState) -> Result<EncodedState, VdafError>;

    /// The leader's state that [`encode_state`](Self::encode_state) wrote.
    fn decode_leader_state(&self, bytes: &[u8]) -> Result<VerifyState, VdafError>;

    /// The helper's state that [`encode_state`](Self::encode_state) wrote.
    fn decode_helper_state(&self, bytes: &[u8]) -> Result<VerifyState, VdafError>;

    /// Adds output shares to an encoded aggregate share, or to an empty one. One decoding and one
    /// encoding for the whole slice, however long it is.
    fn aggregate(
        &self,
        parameter: &[u8],
        total: Option<&[u8]>,
        shares: &[&OutputShare],
    ) -> Result<Vec<u8>, VdafError>;

    /// Adds two encoded aggregate shares of one aggregator under one aggregation parameter.
    fn merge(&self, parameter: &[u8], left: &[u8], right: &[u8]) -> Result<Vec<u8>, VdafError>;

    /// Adds one integer to each coordinate of an encoded aggregate share, in the field. An error for Poplar1,
    /// for which no noise is defined.
    fn add_noise(&self, share: &[u8], noise: &[BigInt]) -> Result<Vec<u8>, VdafError>;

    /// Adds the two aggregators' shares and reads each coordinate as a signed integer.
    ///
    /// Noise can make a sum negative, and the field has no sign. A coordinate of `count` reports lies in
    /// `0..=count * max`, so the field is cut half-way around from the middle of that range: values past
    /// `(p - 1) / 2 + count * max / 2` are negative. For any sane task that is the centred decoding.
    fn unshard_signed(
        &self,
        parameter: &[u8],
        leader: &[u8],
        helper: &[u8],
        count: u64,
    ) -> Result<Vec<i128>, VdafError>;

    /// The size of the field that shares live in; of the smaller one for Poplar1, which has two.
    fn field_modulus(&self) -> BigUint;

    /// The number of coordinates of a result.
    fn result_length(&self, parameter: &[u8]) -> Result<usize, VdafError>;

    /// The largest value that one report can add to a coordinate.
    fn max_coordinate(&self) -> u64;
}

mod sealed {
    /// Keeps implementations in this module.
    pub trait Sealed {}
}

/// The VDAF application context of a task: version tag and task identifier (DAP 4.4.2.1).
pub fn vdaf_context(draft: Draft, task: &TaskId) -> Vec<u8> {
    [draft.tag().as_bytes(), task.as_bytes()].concat()
}
