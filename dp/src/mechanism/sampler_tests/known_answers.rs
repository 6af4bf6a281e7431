//! Draws of another implementation from known random numbers, repeated one by one.

use std::convert::Infallible;

use num_bigint::BigInt;
use prio::vdaf::xof::SeedStreamTurboShake128;
use rand::{SeedableRng, TryCryptoRng, TryRng};

use super::gaussian;

const VECTORS: &str = include_str!("../../../tests/vectors/discrete-gaussian.tsv");

/// The stream of the vectors; only a test may pass it for the operating system's.
struct Stream(SeedStreamTurboShake128);

impl TryRng for Stream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.0.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0.try_next_u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.try_fill_bytes(bytes)
    }
}

impl TryCryptoRng for Stream {}

#[test]
fn draws_are_those_of_the_reference_implementation() {
    let mut repeated = 0;
    for line in VECTORS.lines() {
        let [sigma, seed, samples] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let samples: Vec<BigInt> = samples.split(',').map(|it| it.parse().unwrap()).collect();
        let seed: [u8; 32] = hex::decode(seed).unwrap().try_into().unwrap();
        let mut stream = Stream(SeedStreamTurboShake128::from_seed(seed));
        assert_eq!(gaussian(sigma).sample(samples.len(), &mut stream), samples, "sigma {sigma}");
        repeated += samples.len();
    }
    assert_eq!((VECTORS.lines().count(), repeated), (6, 294));
}
