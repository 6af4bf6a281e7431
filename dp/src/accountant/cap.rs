//! What one unit can lose by releases that share a cap.

use std::collections::BTreeMap;

use super::usage::Caps;

/// What a budget counts, and so how a part of a release's loss follows from a part of the reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Pure ε: a unit with `j` of `c` reports loses `j / c` of it.
    Epsilon,
    /// Zero-concentrated ρ: a unit with `j` of `c` reports loses `(j / c)²` of it.
    Rho,
}

/// Releases under one cap: how many there are of each cost.
#[derive(Clone, Debug, Default)]
pub(super) struct Costs(BTreeMap<i64, u64>);

impl Costs {
    pub(super) fn add(&mut self, units: i64, releases: u64) {
        if releases > 0 {
            let count = self.0.entry(units.max(0)).or_default();
            *count = count.saturating_add(releases);
        }
    }

    pub(super) fn remove(&mut self, units: i64, releases: u64) {
        let units = units.max(0);
        if let Some(count) = self.0.get_mut(&units) {
            *count = count.saturating_sub(releases);
            if *count == 0 {
                self.0.remove(&units);
            }
        }
    }

    /// The sum of all.
    pub(super) fn in_full(&self) -> i128 {
        self.0.iter().map(|(units, count)| total(*units, *count)).sum()
    }

    /// The most a unit within `caps` can lose: the `⌊k/c⌋` largest in full and a part of the next.
    ///
    /// # Privacy
    /// Bounds `Σ f(cᵢ/c) · costᵢ` over all `0 ≤ cᵢ ≤ c` with `Σ cᵢ ≤ k`, where `f` is the square (ρ) or the identity (ε).
    /// Exact but for rounding the last part up: a convex function on a polytope is largest at a corner, a corner
    /// has all but one `cᵢ` at 0 or `c`, and exchanging two shows that the largest costs come first.
    ///
    /// Takes time in proportion to the number of different costs.
    pub(super) fn capped(&self, caps: &Caps, measure: Measure) -> i128 {
        let (cap, batch) = (caps.per_window.get(), caps.per_batch.get());
        let mut whole = u64::from(cap / batch);
        let mut sum = 0;
        for (units, count) in self.0.iter().rev() {
            let taken = whole.min(*count);
            sum += total(*units, taken);
            whole -= taken;
            if taken < *count {
                return sum + part(*units, cap % batch, batch, measure);
            }
        }
        sum
    }
}

/// More than any limit by far, and little enough that a million of them can be added.
const BEYOND_ANY_LIMIT: i128 = 1 << 100;

fn total(units: i64, releases: u64) -> i128 {
    (i128::from(units) * i128::from(releases)).min(BEYOND_ANY_LIMIT)
}

/// What a unit with `reports` of `batch` reports loses, rounded up.
fn part(units: i64, reports: u32, batch: u32, measure: Measure) -> i128 {
    let power = |number: u32| match measure {
        Measure::Epsilon => u128::from(number),
        Measure::Rho => u128::from(number).pow(2),
    };
    // 63 bits and 64: the product fits.
    let product = u128::from(units.unsigned_abs()) * power(reports);
    i128::try_from(product.div_ceil(power(batch).max(1))).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::accountant::Window;
    use proptest::prelude::*;

    fn caps(per_batch: u32, per_window: u32) -> Caps {
        Caps {
            per_batch: NonZeroU32::new(per_batch).unwrap(),
            per_window: NonZeroU32::new(per_window).unwrap(),
            window: Window::Lifetime,
        }
    }

    /// The largest `Σ f(cᵢ) · costᵢ / f(c)` over whole `cᵢ ≤ c` that sum to `k` at most, as a numerator over `f(c)`.
    fn worst_case(costs: &[i64], c: u32, k: u32, measure: Measure) -> i128 {
        let Some((first, rest)) = costs.split_first() else { return 0 };
        (0..=c.min(k))
            .map(|reports| {
                let lost = match measure {
                    Measure::Epsilon => i128::from(reports),
                    Measure::Rho => i128::from(reports).pow(2),
                };
                lost * i128::from(*first) + worst_case(rest, c, k - reports, measure)
            })
            .max()
            .unwrap()
    }

    fn of(costs: &[i64]) -> Costs {
        let mut all = Costs::default();
        for units in costs {
            all.add(*units, 1);
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]
        #[test]
        fn the_capped_charge_is_exactly_the_worst_case_rounded_up(
            costs in proptest::collection::vec(0i64..1000, 0..6),
            c in 1u32..5,
            more in 0u32..9,
            rho in any::<bool>(),
        ) {
            let measure = if rho { Measure::Rho } else { Measure::Epsilon };
            let k = c + more;
            let worst = worst_case(&costs, c, k, measure);
            let whole = if rho { i128::from(c * c) } else { i128::from(c) };
            let charged = of(&costs).capped(&caps(c, k), measure);
            prop_assert!(charged * whole >= worst, "never below: {charged} {worst} / {whole}");
            prop_assert!((charged - 1) * whole < worst || charged == 0, "rounded up once: {charged} {worst} / {whole}");
            prop_assert!(charged <= of(&costs).in_full());
        }

        #[test]
        fn one_more_release_never_lowers_the_charge(
            costs in proptest::collection::vec(0i64..1000, 0..20),
            extra in 0i64..1000,
            c in 1u32..5,
            more in 0u32..40,
        ) {
            let caps = caps(c, c + more);
            for measure in [Measure::Epsilon, Measure::Rho] {
                let before = of(&costs).capped(&caps, measure);
                let mut after = of(&costs);
                after.add(extra, 1);
                prop_assert!(after.capped(&caps, measure) >= before);
                prop_assert!(after.capped(&caps, measure) <= before + i128::from(extra));
                after.remove(extra, 1);
                prop_assert_eq!(after.capped(&caps, measure), before);
            }
        }
    }

    #[test]
    fn the_published_table_of_capped_charges_is_met() {
        // Histogram, sigma 60: rho = 1/3600 for a unit with one report in the batch, and 4/3600 with two.
        let of = |units: i64, releases: u64, c, k| {
            let mut costs = Costs::default();
            costs.add(units, releases);
            costs.capped(&caps(c, k), Measure::Rho)
        };
        let one = 277_777_778;
        assert_eq!(of(one, 30, 1, 30), i128::from(one) * 30); // .00833
        assert_eq!(of(one, 720, 1, 30), i128::from(one) * 30);
        assert_eq!(of(one, 720, 1, 1), i128::from(one)); // .00028
        assert_eq!(of(1_111_111_112, 720, 2, 30), 1_111_111_112 * 15); // .0167
    }

    #[test]
    fn a_negative_cost_gives_nothing_back() {
        let mut costs = of(&[5]);
        costs.add(-1000, 1);
        assert_eq!(costs.capped(&caps(1, 9), Measure::Rho), 5);
        assert_eq!(costs.in_full(), 5);
    }

    #[test]
    fn the_largest_numbers_do_not_wrap() {
        let mut costs = Costs::default();
        costs.add(i64::MAX, u64::MAX);
        let odd = caps(u32::MAX - 1, u32::MAX);
        assert!(costs.capped(&odd, Measure::Rho) > i128::from(i64::MAX));
        assert!(costs.in_full() > 0);
    }
}
