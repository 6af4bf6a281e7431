//! The VDAFs through the trait only: what an aggregator, a client and a collector see.

mod hostile;
mod measurements;
mod noise;
mod parameters;
mod poplar1;
mod round_trip;
mod vectors;

use std::sync::Arc;

use super::*;
use crate::vdaf_config::VdafConfig;

const CONTEXT: &[u8] = b"context";

/// One of each kind of the Prio3 family, small.
fn every_kind() -> [VdafConfig; 5] {
    [
        VdafConfig::Count,
        VdafConfig::Sum { max_measurement: 100 },
        VdafConfig::sum_vec(3, 7),
        VdafConfig::Histogram { length: 4, chunk_length: 2 },
        VdafConfig::multihot(4, 2),
    ]
}

fn vdaf(config: &VdafConfig) -> Arc<dyn Vdaf> {
    config.instantiate().unwrap()
}

/// A measurement of each kind, told apart by `seed`.
fn measurement(config: &VdafConfig, seed: u32) -> Measurement {
    match config {
        VdafConfig::Count => Measurement::Bool(seed.is_multiple_of(3)),
        VdafConfig::Sum { max_measurement } => {
            Measurement::Integer(u64::from(seed) * 7 % (max_measurement + 1))
        }
        VdafConfig::SumVec { length, max_measurement, .. } => Measurement::Vector(
            (0..*length).map(|index| u64::from(index + seed) % (max_measurement + 1)).collect(),
        ),
        VdafConfig::Histogram { length, .. } => Measurement::Bucket(seed % length),
        VdafConfig::Poplar1 { bits } => {
            Measurement::Bits((0..*bits).map(|place| seed >> (place % 32) & 1 == 1).collect())
        }
        VdafConfig::MultihotCountVec { length, .. } => Measurement::Set(
            (0..*length).map(|index| index == seed % length || index == (seed / 2) % length).collect(),
        ),
    }
}

/// What a measurement adds to each coordinate of the result.
fn plain(config: &VdafConfig, measurement: &Measurement) -> Vec<i128> {
    match measurement {
        Measurement::Bool(value) => vec![i128::from(*value)],
        Measurement::Integer(value) => vec![i128::from(*value)],
        Measurement::Vector(values) => values.iter().map(|value| i128::from(*value)).collect(),
        Measurement::Bucket(bucket) => {
            let bucket = usize::try_from(*bucket).unwrap();
            (0..config.length()).map(|index| i128::from(index == bucket)).collect()
        }
        Measurement::Set(members) | Measurement::Bits(members) => {
            members.iter().map(|member| i128::from(*member)).collect()
        }
    }
}

/// A report and everything that verification of it needs.
struct Report {
    vdaf: Arc<dyn Vdaf>,
    verify_key: VerifyKey,
    nonce: ReportId,
    shards: Sharded,
}

impl Report {
    fn new(config: &VdafConfig, seed: u32) -> Self {
        let vdaf = vdaf(config);
        let nonce = ReportId::random(&mut rand::rng());
        let shards = vdaf.shard(CONTEXT, &measurement(config, seed), &nonce).unwrap();
        Self { vdaf, verify_key: VerifyKey::new([5; 32]), nonce, shards }
    }

    fn share(&self, aggregator: usize) -> InputShareRef<'_> {
        InputShareRef {
            nonce: &self.nonce,
            public_share: &self.shards.public_share,
            input_share: &self.shards.input_shares[aggregator],
        }
    }

    fn leader(&self) -> Result<LeaderInit, VdafError> {
        self.vdaf.leader_init(&self.verify_key, CONTEXT, &[], &self.share(0))
    }

    fn helper(&self, inbound: &[u8]) -> Result<(OutputShare, Vec<u8>), VdafError> {
        match self.vdaf.helper_init(&self.verify_key, CONTEXT, &[], &self.share(1), inbound)? {
            HelperStep::Finished { output, message } => Ok((output, message)),
            HelperStep::Continued { .. } => panic!("these VDAFs take one round"),
        }
    }

    fn finish(&self, state: VerifyState, inbound: &[u8]) -> Result<OutputShare, VdafError> {
        match self.vdaf.leader_continued(CONTEXT, &[], state, inbound)? {
            LeaderStep::Finished(output) => Ok(output),
            _ => panic!("these VDAFs take one round"),
        }
    }

    /// The whole exchange: the output shares of leader and helper.
    fn verify(&self) -> Result<[OutputShare; 2], VdafError> {
        let begun = self.leader()?;
        let (helper, answer) = self.helper(&begun.message)?;
        Ok([self.finish(begun.state, &answer)?, helper])
    }
}

/// The aggregate shares of the honest reports with these seeds.
fn aggregated(config: &VdafConfig, seeds: std::ops::Range<u32>) -> [Vec<u8>; 2] {
    let verified: Vec<_> = seeds.map(|seed| Report::new(config, seed).verify().ok().unwrap()).collect();
    [0, 1].map(|aggregator| {
        let shares: Vec<&OutputShare> = verified.iter().map(|pair| &pair[aggregator]).collect();
        vdaf(config).aggregate(&[], None, &shares).unwrap()
    })
}

/// What the reports with these seeds add up to, without any cryptography.
fn expected(config: &VdafConfig, seeds: std::ops::Range<u32>) -> Vec<i128> {
    let mut sum = vec![0; config.length()];
    for seed in seeds {
        for (total, value) in sum.iter_mut().zip(plain(config, &measurement(config, seed))) {
            *total += value;
        }
    }
    sum
}
