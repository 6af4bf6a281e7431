//! How far one privacy unit can move a total.
//!
//! Derived from the shape of the measurement, never typed by a person: a sensitivity that is too small is the one
//! mistake that noise cannot show. The table is checked against every pair of neighbouring batches of tiny domains.

use std::fmt;

use num_bigint::BigUint;

use crate::shape::Shape;

/// Which two batches the guarantee compares.
///
/// The names are those of dp-accounting's enumeration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighboringRelation {
    /// One unit's measurements are replaced by any others; the number of reports stays.
    ReplaceOne,
    /// One unit's measurements are replaced by zeros; the number of reports stays.
    ReplaceSpecial,
}

impl NeighboringRelation {
    /// The name policy files and statements use.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReplaceOne => "replace_one",
            Self::ReplaceSpecial => "replace_special",
        }
    }
}

impl fmt::Display for NeighboringRelation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The largest distance between the totals of two neighbouring batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sensitivity {
    /// Sum of the coordinates' distances.
    pub l1: BigUint,
    /// Square of the Euclidean distance: a whole number for every shape.
    pub l2_squared: BigUint,
    /// The largest distance of one coordinate.
    pub linf: BigUint,
}

impl Sensitivity {
    /// The sensitivity of a total of `shape`, when one unit has up to `reports_per_batch` reports in the batch.
    ///
    /// # Privacy
    /// Holds for an honest unit whatever all other clients and the other aggregator do: its own measurements are
    /// valid by construction and everything else is a shift that both batches share.
    ///
    /// # Reference
    /// A replaced coordinate of `SumVec` moves within `[-max, max]`, so replacement does not double; a replaced
    /// bucket moves two coordinates; two multihot measurements differ in at most `min(2w, length)` coordinates.
    pub fn derive(shape: &Shape, relation: NeighboringRelation, reports_per_batch: u32) -> Self {
        let replaced = relation == NeighboringRelation::ReplaceOne;
        let (moved, by) = match *shape {
            Shape::Count => (1, 1),
            Shape::Sum { max_measurement } => (1, max_measurement),
            Shape::SumVec { length, max_measurement } => (u64::from(length), max_measurement),
            Shape::Histogram { length } => (u64::from(length.min(if replaced { 2 } else { 1 })), 1),
            Shape::Multihot { length, max_weight } => {
                let weight = if replaced { max_weight.saturating_mul(2) } else { max_weight };
                (weight.min(u64::from(length)), 1)
            }
        };
        let linf = BigUint::from(by) * reports_per_batch;
        let l1 = &linf * moved;
        let l2_squared = &linf * &linf * moved;
        Self { l1, l2_squared, linf }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every measurement of a tiny shape, as the vector it adds.
    fn measurements(shape: &Shape) -> Vec<Vec<i64>> {
        let small = |number: u64| i64::try_from(number).unwrap();
        let vectors = |length: usize, largest: i64| {
            (0..length).fold(vec![vec![]], |vectors: Vec<Vec<i64>>, _| {
                vectors
                    .iter()
                    .flat_map(|vector| (0..=largest).map(move |value| [vector.as_slice(), &[value]].concat()))
                    .collect()
            })
        };
        match *shape {
            Shape::Count => vectors(1, 1),
            Shape::Sum { max_measurement } => vectors(1, small(max_measurement)),
            Shape::SumVec { max_measurement, .. } => vectors(shape.length(), small(max_measurement)),
            Shape::Histogram { .. } => {
                vectors(shape.length(), 1).into_iter().filter(|one| one.iter().sum::<i64>() == 1).collect()
            }
            Shape::Multihot { max_weight, .. } => vectors(shape.length(), 1)
                .into_iter()
                .filter(|one| one.iter().sum::<i64>() <= small(max_weight))
                .collect(),
        }
    }

    /// Every total that `reports` measurements can have.
    fn totals(shape: &Shape, reports: u32) -> Vec<Vec<i64>> {
        let all = measurements(shape);
        let mut totals = vec![vec![0; shape.length()]];
        for _ in 0..reports {
            totals = totals
                .iter()
                .flat_map(|total| {
                    all.iter().map(move |one| total.iter().zip(one).map(|(a, b)| a + b).collect::<Vec<_>>())
                })
                .collect();
            totals.sort();
            totals.dedup();
        }
        totals
    }

    fn by_brute_force(shape: &Shape, relation: NeighboringRelation, reports: u32) -> (i64, i64, i64) {
        let mine = totals(shape, reports);
        let others = match relation {
            NeighboringRelation::ReplaceOne => mine.clone(),
            NeighboringRelation::ReplaceSpecial => vec![vec![0; shape.length()]],
        };
        let mut largest = (0, 0, 0);
        for (a, b) in mine.iter().flat_map(|a| others.iter().map(move |b| (a, b))) {
            let distances: Vec<i64> = a.iter().zip(b).map(|(a, b)| (a - b).abs()).collect();
            largest.0 = largest.0.max(distances.iter().sum());
            largest.1 = largest.1.max(distances.iter().map(|d| d * d).sum());
            largest.2 = largest.2.max(distances.into_iter().max().unwrap_or(0));
        }
        largest
    }

    fn tiny_shape() -> impl Strategy<Value = Shape> {
        prop_oneof![
            Just(Shape::Count),
            (1u64..6).prop_map(|max_measurement| Shape::Sum { max_measurement }),
            (1u32..4, 1u64..4)
                .prop_map(|(length, max_measurement)| Shape::SumVec { length, max_measurement }),
            (1u32..6).prop_map(|length| Shape::Histogram { length }),
            (1u32..6, 1u64..6).prop_map(|(length, weight)| Shape::Multihot {
                length,
                max_weight: weight.min(u64::from(length))
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn derived_sensitivity_is_exactly_the_largest_distance(
            shape in tiny_shape(),
            replace_one in any::<bool>(),
            reports in 1u32..4,
        ) {
            let relation =
                if replace_one { NeighboringRelation::ReplaceOne } else { NeighboringRelation::ReplaceSpecial };
            let derived = Sensitivity::derive(&shape, relation, reports);
            let (l1, l2_squared, linf) = by_brute_force(&shape, relation, reports);
            // A histogram of one bucket is constant: replacing its only measurement moves nothing.
            let constant = replace_one && matches!(shape, Shape::Histogram { length: 1 });
            if constant {
                prop_assert_eq!((l1, l2_squared, linf), (0, 0, 0));
            } else {
                prop_assert_eq!(derived.l1, BigUint::try_from(l1).unwrap());
                prop_assert_eq!(derived.l2_squared, BigUint::try_from(l2_squared).unwrap());
                prop_assert_eq!(derived.linf, BigUint::try_from(linf).unwrap());
            }
        }
    }

    #[test]
    fn the_published_table_is_met() {
        use NeighboringRelation::{ReplaceOne, ReplaceSpecial};
        let derive = |shape, relation| {
            let it = Sensitivity::derive(&shape, relation, 1);
            (it.l1.to_string(), it.l2_squared.to_string(), it.linf.to_string())
        };
        let row = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(derive(Shape::Count, ReplaceOne), row("1", "1", "1"));
        assert_eq!(derive(Shape::Sum { max_measurement: 7 }, ReplaceOne), row("7", "49", "7"));
        let vector = Shape::SumVec { length: 3, max_measurement: 4 };
        assert_eq!(derive(vector, ReplaceOne), row("12", "48", "4"));
        assert_eq!(derive(vector, ReplaceSpecial), row("12", "48", "4"));
        assert_eq!(derive(Shape::Histogram { length: 9 }, ReplaceOne), row("2", "2", "1"));
        assert_eq!(derive(Shape::Histogram { length: 9 }, ReplaceSpecial), row("1", "1", "1"));
        assert_eq!(derive(Shape::Multihot { length: 9, max_weight: 3 }, ReplaceOne), row("6", "6", "1"));
        assert_eq!(derive(Shape::Multihot { length: 5, max_weight: 3 }, ReplaceOne), row("5", "5", "1"));
        assert_eq!(derive(Shape::Multihot { length: 9, max_weight: 3 }, ReplaceSpecial), row("3", "3", "1"));
    }
}
