//! How an aggregator groups and fingerprints the reports it has committed (DAP 4.5.4.3).
//!
//! A bucket is the smallest set of reports that is ever released together or not at all. Its checksum lets
//! the two aggregators compare what they hold without telling each other the report identifiers.

use sha2::{Digest, Sha256};

use crate::codec::{Decode, Encode, Malformed, Reader};
use crate::id::{BatchId, ReportId};
use crate::time::Time;

/// The XOR of the hashes of the report identifiers in a bucket or a batch; all zero for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum([u8; Self::LENGTH]);

impl Checksum {
    /// The length in bytes.
    pub const LENGTH: usize = 32;

    /// The checksum of these bytes.
    pub const fn new(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// The checksum that `bytes` spell, if there are exactly as many as it takes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The checksum of one report.
    pub fn of(report: &ReportId) -> Self {
        Self(Sha256::digest(report.as_bytes()).into())
    }

    /// The checksum of both sets of reports together; a set combined with itself vanishes.
    #[must_use]
    pub fn combine(mut self, other: Self) -> Self {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine ^= theirs;
        }
        self
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }
}

impl FromIterator<Self> for Checksum {
    fn from_iter<I: IntoIterator<Item = Self>>(checksums: I) -> Self {
        checksums.into_iter().fold(Self::default(), Self::combine)
    }
}

impl Encode for Checksum {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

impl Decode for Checksum {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.array().map(Self)
    }
}

/// The bucket that a report falls in: one unit of time, or one batch that the leader chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BucketId {
    /// The unit of time precision that begins then.
    TimeInterval(Time),
    /// The batch of that name.
    LeaderSelected(BatchId),
}

impl BucketId {
    /// A key for storage: 8 bytes of time, which sort as time does, or 32 bytes of name.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::TimeInterval(start) => start.encoded(),
            Self::LeaderSelected(batch) => batch.encoded(),
        }
    }

    /// The bucket whose key was stored; the length tells the kinds apart.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.len() {
            8 => Time::decoded(bytes).ok().map(Self::TimeInterval),
            BatchId::LENGTH => BatchId::from_slice(bytes).map(Self::LeaderSelected),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &str = "be45cb2605bf36bebde684841a28f0fd43c69850a3dce5fedba69928ee3a8991";

    fn report(last: u8) -> ReportId {
        ReportId::new([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, last])
    }

    #[test]
    fn the_checksum_of_one_report_is_its_hash() {
        let checksum = Checksum::of(&report(15));
        assert_eq!(hex::encode(checksum.as_bytes()), KNOWN);
        assert_eq!(Checksum::decoded(&checksum.encoded()), Ok(checksum));
        assert_eq!(Checksum::from_slice(checksum.as_bytes()), Some(checksum));
        assert_eq!(Checksum::from_slice(&[0; 31]), None);
    }

    #[test]
    fn the_order_of_reports_does_not_matter_and_a_pair_cancels() {
        let [one, two] = [1, 2].map(|last| Checksum::of(&report(last)));
        assert_eq!(one.combine(two), two.combine(one));
        assert_eq!(one.combine(two).combine(one), two);
        assert_eq!(one.combine(Checksum::default()), one);
        assert_eq!([one, two, one].into_iter().collect::<Checksum>(), two);
    }

    #[test]
    fn a_bucket_survives_storage_and_sorts_by_time() {
        let buckets = [
            BucketId::TimeInterval(Time(255)),
            BucketId::TimeInterval(Time(256)),
            BucketId::LeaderSelected(BatchId::new([9; 32])),
        ];
        for bucket in buckets {
            assert_eq!(BucketId::from_bytes(&bucket.to_bytes()), Some(bucket));
        }
        assert!(buckets[0].to_bytes() < buckets[1].to_bytes());
        assert_eq!(BucketId::from_bytes(&[0; 16]), None);
    }
}
