//! Measurements whose total is known.

use mica_dap::vdaf::Measurement;
use mica_dap::vdaf_config::VdafConfig;

/// Measurements, and what they add up to.
pub struct Sample {
    /// One per report.
    pub measurements: Vec<Measurement>,
    /// Their plain sum, one per coordinate.
    pub totals: Vec<i128>,
}

impl Sample {
    /// `count` measurements of all kinds that the VDAF knows.
    #[must_use]
    pub fn of(vdaf: &VdafConfig, count: u64) -> Self {
        let measurements: Vec<Measurement> = (0..count).map(|at| measurement(vdaf, at)).collect();
        Self { totals: plain_sum(vdaf, &measurements), measurements }
    }

    /// What part of the sample adds up to.
    #[must_use]
    pub fn total_of(&self, vdaf: &VdafConfig, range: std::ops::Range<usize>) -> Vec<i128> {
        plain_sum(vdaf, self.measurements.get(range).expect("a part of the sample"))
    }
}

/// One VDAF of each type, and the flags that make `mica dev` use it.
#[must_use]
pub fn small_vdafs() -> Vec<(VdafConfig, Vec<&'static str>)> {
    vec![
        (VdafConfig::Count, vec!["--vdaf", "count"]),
        (VdafConfig::Sum { max_measurement: 1000 }, vec!["--vdaf", "sum", "--max", "1000"]),
        (VdafConfig::sum_vec(6, 255), vec!["--vdaf", "sumvec", "--length", "6", "--max", "255"]),
        (VdafConfig::histogram(10), vec!["--vdaf", "histogram", "--length", "10"]),
        (VdafConfig::multihot(8, 3), vec!["--vdaf", "multihot", "--length", "8", "--max", "3"]),
    ]
}

fn measurement(vdaf: &VdafConfig, at: u64) -> Measurement {
    match vdaf {
        VdafConfig::Count => Measurement::Bool(!at.is_multiple_of(3)),
        // The first is the largest there is, the second the smallest.
        VdafConfig::Sum { max_measurement } => Measurement::Integer(pick(at, *max_measurement)),
        VdafConfig::SumVec { length, max_measurement, .. } => {
            let element = |place: u32| pick(at + u64::from(place), *max_measurement);
            Measurement::Vector((0..*length).map(element).collect())
        }
        VdafConfig::Histogram { length, .. } => {
            let bucket = (at * at + at / 3) % u64::from(*length);
            Measurement::Bucket(u32::try_from(bucket).expect("it is below the length"))
        }
        VdafConfig::MultihotCountVec { length, max_weight, .. } => {
            let weight = at % (max_weight + 1);
            let is_set = |place: u64| (place + at) % u64::from(*length) < weight;
            Measurement::Set((0..u64::from(*length)).map(is_set).collect())
        }
        VdafConfig::Poplar1 { bits } => {
            Measurement::Bits((0..*bits).map(|place| at >> (place % 64) & 1 == 1).collect())
        }
    }
}

/// Any number up to `max`, with both ends among the first.
fn pick(at: u64, max: u64) -> u64 {
    match at {
        0 => max,
        1 => 0,
        _ => at.wrapping_mul(0x9E37_79B9_7F4A_7C15) % (max + 1),
    }
}

fn plain_sum(vdaf: &VdafConfig, measurements: &[Measurement]) -> Vec<i128> {
    let mut totals = vec![0_i128; vdaf.length()];
    for measurement in measurements {
        for (total, value) in totals.iter_mut().zip(coordinates(vdaf, measurement)) {
            *total += value;
        }
    }
    totals
}

fn coordinates(vdaf: &VdafConfig, measurement: &Measurement) -> Vec<i128> {
    match measurement {
        Measurement::Bool(value) => vec![i128::from(*value)],
        Measurement::Integer(value) => vec![i128::from(*value)],
        Measurement::Vector(values) => values.iter().copied().map(i128::from).collect(),
        Measurement::Bucket(bucket) => (0..vdaf.length())
            .map(|place| i128::from(u32::try_from(place).is_ok_and(|p| p == *bucket)))
            .collect(),
        Measurement::Set(values) | Measurement::Bits(values) => {
            values.iter().copied().map(i128::from).collect()
        }
    }
}
