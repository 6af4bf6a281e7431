//! The five demonstrations: what is measured, and clients that are invented from a seed.
//!
//! Only the measurements come from the seed. Keys, identifiers, shares and noise come from the operating system as always:
//! a demonstration whose noise could be foretold would not be one.

use clap::ValueEnum;
use mica_dap::vdaf::Measurement;
use mica_dap::vdaf_config::VdafConfig;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// How many clients said yes
    Count,
    /// One number per client, added up
    Sum,
    /// Several numbers per client, added up
    Sumvec,
    /// One bucket per client
    Histogram,
    /// A few choices per client
    Multihot,
}

/// One demonstration.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    /// The task's label.
    pub(crate) label: &'static str,
    /// The VDAF in words.
    pub(crate) shape: String,
    /// The VDAF.
    pub(crate) vdaf: VdafConfig,
    /// What each coordinate of a result stands for.
    pub(crate) rows: Vec<&'static str>,
}

impl Scene {
    /// The demonstration of this kind.
    pub(crate) fn of(kind: Kind) -> Self {
        let (label, shape, vdaf, rows) = match kind {
            Kind::Count => ("dark-mode", "Prio3Count".to_owned(), VdafConfig::Count, vec!["yes"]),
            Kind::Sum => {
                let vdaf = VdafConfig::Sum { max_measurement: MINUTES };
                ("minutes-played", format!("Prio3Sum, at most {MINUTES} each"), vdaf, vec!["minutes"])
            }
            Kind::Sumvec => {
                let parts = PARTS.map(|(name, _)| name).to_vec();
                let shape = format!("Prio3SumVec, {} numbers of at most {PERCENT}", parts.len());
                ("battery-use", shape, VdafConfig::sum_vec(length(&parts), PERCENT), parts)
            }
            Kind::Histogram => {
                let buckets = LOAD_TIMES.map(|(name, _)| name).to_vec();
                let shape = format!("Prio3Histogram, {} buckets", buckets.len());
                ("page-load-ms", shape, VdafConfig::histogram(length(&buckets)), buckets)
            }
            Kind::Multihot => {
                let features = FEATURES.map(|(name, _)| name).to_vec();
                let shape = format!("Prio3MultihotCountVec, {} features, at most {CHOICES}", features.len());
                ("features-used", shape, VdafConfig::multihot(length(&features), CHOICES), features)
            }
        };
        Self { label, shape, vdaf, rows }
    }

    /// What so many invented clients measured.
    pub(crate) fn measurements(&self, clients: u32, seed: u64) -> Vec<Measurement> {
        let mut rng = StdRng::seed_from_u64(seed);
        (0..clients).map(|_| self.measurement(&mut rng)).collect()
    }

    /// The sum that no server ever knows.
    pub(crate) fn truth(&self, measurements: &[Measurement]) -> Vec<i128> {
        let mut totals = vec![0; self.rows.len()];
        for measurement in measurements {
            for (total, value) in totals.iter_mut().zip(self.coordinates(measurement)) {
                *total += i128::from(value);
            }
        }
        totals
    }

    fn measurement(&self, rng: &mut StdRng) -> Measurement {
        match &self.vdaf {
            VdafConfig::Count => Measurement::Bool(rng.random_bool(0.31)),
            // The smaller of two: most play a little, few play long.
            VdafConfig::Sum { max_measurement } => {
                let [a, b] = [(); 2].map(|()| rng.random_range(0..=*max_measurement));
                Measurement::Integer(a.min(b))
            }
            VdafConfig::SumVec { .. } => {
                Measurement::Vector(PARTS.iter().map(|(_, most)| rng.random_range(0..=*most)).collect())
            }
            VdafConfig::Histogram { .. } => Measurement::Bucket(pick(rng)),
            VdafConfig::MultihotCountVec { .. } => Measurement::Set(choices(rng)),
            VdafConfig::Poplar1 { bits } => {
                Measurement::Bits((0..*bits).map(|_| rng.random_bool(0.5)).collect())
            }
        }
    }

    fn coordinates(&self, measurement: &Measurement) -> Vec<u64> {
        match measurement {
            Measurement::Bool(yes) => vec![u64::from(*yes)],
            Measurement::Integer(value) => vec![*value],
            Measurement::Vector(values) => values.clone(),
            Measurement::Bucket(bucket) => {
                (0..length(&self.rows)).map(|index| u64::from(index == *bucket)).collect()
            }
            Measurement::Set(chosen) | Measurement::Bits(chosen) => {
                chosen.iter().map(|chosen| u64::from(*chosen)).collect()
            }
        }
    }
}

fn length(rows: &[&str]) -> u32 {
    u32::try_from(rows.len()).expect("a handful of rows")
}

fn pick(rng: &mut StdRng) -> u32 {
    let mut rest = rng.random_range(0..LOAD_TIMES.iter().map(|(_, weight)| weight).sum::<u32>());
    let chosen = LOAD_TIMES.iter().position(|(_, weight)| {
        let here = rest < *weight;
        rest = rest.saturating_sub(*weight);
        here
    });
    u32::try_from(chosen.unwrap_or(0)).expect("a handful of buckets")
}

fn choices(rng: &mut StdRng) -> Vec<bool> {
    let mut left = CHOICES;
    let choose = |(_, percent): &(&str, u32)| {
        let chosen = left > 0 && rng.random_ratio(*percent, 100);
        left -= u64::from(chosen);
        chosen
    };
    FEATURES.iter().map(choose).collect()
}

const LOAD_TIMES: [(&str, u32); 8] = [
    ("0-50", 762),
    ("50-100", 1_720),
    ("100-250", 3_215),
    ("250-500", 2_109),
    ("500-1000", 1_236),
    ("1000-2500", 560),
    ("2500-5000", 288),
    (">5000", 110),
];
const FEATURES: [(&str, u32); 6] =
    [("search", 62), ("share", 35), ("export", 12), ("offline", 28), ("voice", 9), ("print", 6)];
/// The most choices of one client.
const CHOICES: u64 = 3;
const PARTS: [(&str, u64); 4] = [("screen", 15), ("radio", 12), ("camera", 5), ("other", 8)];
/// The largest number in each coordinate.
const PERCENT: u64 = 15;
const MINUTES: u64 = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_invented_measurement_is_one_of_its_task_and_the_seed_decides_it() {
        for kind in Kind::value_variants() {
            let scene = Scene::of(*kind);
            assert_eq!(scene.rows.len(), scene.vdaf.length(), "{kind:?}");
            let measurements = scene.measurements(500, 7);
            for measurement in &measurements {
                measurement.check(&scene.vdaf).unwrap();
            }
            assert!(measurements == scene.measurements(500, 7), "{kind:?}");
            assert!(measurements != scene.measurements(500, 8), "{kind:?}");
            let truth = scene.truth(&measurements);
            assert!(truth.iter().all(|total| *total > 0), "{kind:?} {truth:?}");
        }
    }

    #[test]
    fn every_client_of_a_histogram_is_in_one_bucket() {
        let scene = Scene::of(Kind::Histogram);
        assert_eq!(scene.truth(&scene.measurements(1_000, 1)).iter().sum::<i128>(), 1_000);
    }
}
