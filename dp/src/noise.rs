//! One draw of noise, between the moment it is drawn and the one release it is for.
//!
//! Drawing takes longer for larger numbers, so whoever times an answer that waits for its draw learns of the noise. A draw
//! is therefore a thing of its own: made ahead of time, and moved into the release that uses it up. It is neither copied
//! nor printed nor written down anywhere: an aggregator that remembers its noise has none.

use num_bigint::BigInt;
use rand::CryptoRng;

use crate::mechanism::Mechanism;

/// Noise for one release: one draw for each coordinate. Neither `Clone` nor `Debug`.
pub struct Noise {
    pub(crate) mechanism: Mechanism,
    pub(crate) values: Vec<BigInt>,
}

impl Noise {
    /// Draws independently for each of `length` coordinates.
    ///
    /// # Privacy
    /// Worth what `rng` is worth: servers take one that the operating system has seeded. How long it takes depends on
    /// what is drawn, so nobody outside may see when it is done.
    pub fn draw<R: CryptoRng + ?Sized>(mechanism: &Mechanism, length: usize, rng: &mut R) -> Self {
        Self { mechanism: mechanism.clone(), values: mechanism.sample(length, rng) }
    }

    /// Whether it was drawn so.
    pub fn is(&self, mechanism: &Mechanism, length: usize) -> bool {
        self.mechanism == *mechanism && self.values.len() == length
    }

    pub(crate) fn values(&self) -> &[BigInt] {
        &self.values
    }
}
