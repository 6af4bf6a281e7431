//! A tighter ε for a plan that is fixed in advance: the distribution of the privacy loss, composed by convolution.
//!
//! Only for planning: the theorem is about parameters that do not depend on answers, so nothing is enforced or reported
//! from it. Losses are rounded up to a grid, tails and rounding errors are counted as total loss, so the result is a
//! valid bound and a little too large.

use super::transform::convolve;
use crate::mechanism::Mechanism;
use crate::sensitivity::NeighboringRelation;
use crate::shape::Shape;
use crate::statement::Terms;

/// The distribution of the loss on a grid.
#[derive(Clone)]
struct Losses {
    step: f64,
    /// The first cell is the loss `first * step`.
    first: i64,
    mass: Vec<f64>,
    /// Of whatever is not in `mass`.
    total_loss: f64,
}

/// More cells than this are not computed.
const MOST_CELLS: usize = 1 << 17;
/// Draws on either side of zero that are looked at; a larger parameter has no answer.
const MOST_DRAWS: f64 = 1e6;
/// Cells in the range that matters of the sum.
const RESOLUTION: f64 = 65_536.0;

/// The worst pair of neighbours as shifts of single coordinates, where one pair is the worst for every ε: a larger shift
/// of log-concave noise dominates a smaller one.
pub(super) fn shifts(terms: &Terms) -> Option<Vec<u64>> {
    let reports = u64::from(terms.contribution.max_reports_per_batch.get());
    match (terms.shape, terms.relation) {
        (Shape::Sum { max_measurement }, _) => Some(vec![max_measurement.checked_mul(reports)?]),
        (Shape::Count, _) => Some(vec![reports]),
        // Several reports can be spread over buckets in ways of which none is the worst for every ε.
        (Shape::Histogram { .. }, _) if reports > 1 => None,
        (Shape::Histogram { .. }, NeighboringRelation::ReplaceOne) => Some(vec![1, 1]),
        (Shape::Histogram { .. }, NeighboringRelation::ReplaceSpecial) => Some(vec![1]),
        (Shape::SumVec { .. } | Shape::Multihot { .. }, _) => None,
    }
}

/// An ε such that `times` releases with these shifts are (ε, `delta`)-DP together.
pub(super) fn epsilon(mechanism: &Mechanism, shifts: &[u64], times: u64, delta: f64) -> Option<f64> {
    let (first, others) = shifts.split_first()?;
    // The shifts of one release are equal wherever there are several.
    if others.iter().any(|shift| shift != first) || times == 0 {
        return None;
    }
    let count = times.checked_mul(u64::try_from(shifts.len()).ok()?)?;
    let atoms = atoms(mechanism, whole(*first))?;
    let mean: f64 = atoms.iter().map(|(loss, mass)| loss * mass).sum();
    let variance: f64 = atoms.iter().map(|(loss, mass)| (loss - mean).powi(2) * mass).sum();
    let step = 24.0 * (variance * whole(count)).sqrt() / RESOLUTION;
    let one = Losses::from_atoms(&atoms, step)?;
    power(&one, count)?.epsilon(delta)
}

/// Every loss and its probability, without the far tails.
fn atoms(mechanism: &Mechanism, shift: f64) -> Option<Vec<(f64, f64)>> {
    let parameter = mechanism.parameter().1.approximate();
    let reach = match mechanism {
        Mechanism::DiscreteLaplace { .. } => 50.0,
        Mechanism::DiscreteGaussian { .. } => 12.0,
    } * parameter.max(1.0)
        + shift;
    if reach.is_nan() || reach > MOST_DRAWS {
        return None;
    }
    let nats = |x: f64| match mechanism {
        Mechanism::DiscreteLaplace { .. } => x.abs() / parameter,
        Mechanism::DiscreteGaussian { .. } => (x / parameter).powi(2) / 2.0,
    };
    let mut atoms = Vec::new();
    let mut x = -reach.ceil();
    while x <= reach {
        atoms.push((nats(x - shift) - nats(x), (-nats(x)).exp()));
        x += 1.0;
    }
    let total: f64 = atoms.iter().map(|(_, mass)| mass).sum();
    for (_, mass) in &mut atoms {
        *mass /= total;
    }
    Some(atoms)
}

impl Losses {
    fn from_atoms(atoms: &[(f64, f64)], step: f64) -> Option<Self> {
        if step.is_nan() || step <= 0.0 {
            return None;
        }
        let cell = |loss: f64| (loss / step + 1e-6).ceil();
        let first = atoms.iter().map(|(loss, _)| cell(*loss)).fold(f64::INFINITY, f64::min);
        let last = atoms.iter().map(|(loss, _)| cell(*loss)).fold(f64::NEG_INFINITY, f64::max);
        let mut mass = vec![0.0; index(last - first)?.checked_add(1)?];
        for (loss, probability) in atoms {
            *mass.get_mut(index(cell(*loss) - first)?)? += probability;
        }
        // Tails that were left out, and the roundings of what was not.
        Some(Self { step, first: signed(first)?, mass, total_loss: 1e-13 }.trimmed())
    }

    fn with(&self, other: &Self) -> Option<Self> {
        let (mass, error) = convolve(&self.mass, &other.mass);
        let first = self.first.checked_add(other.first)?;
        let total_loss = self.total_loss + other.total_loss + error;
        let sum = Self { step: self.step, first, mass, total_loss }.trimmed();
        (sum.mass.len() <= MOST_CELLS).then_some(sum)
    }

    /// Without the ends that matter to no δ: a high loss becomes a total one, a low loss a higher one.
    fn trimmed(mut self) -> Self {
        let mut high = 0.0;
        while let Some(last) = self.mass.last().copied().filter(|last| high + last < 1e-14) {
            high += last;
            self.mass.pop();
        }
        self.total_loss += high;
        let mut low = 0.0;
        let mut dropped = 0;
        for mass in &self.mass {
            if low + mass >= 1e-12 {
                break;
            }
            low += mass;
            dropped += 1;
        }
        self.mass.drain(..dropped);
        self.first += i64::try_from(dropped).unwrap_or(i64::MAX);
        if let Some(lowest) = self.mass.first_mut() {
            *lowest += low;
        }
        self
    }

    /// The δ at `epsilon`.
    fn delta(&self, epsilon: f64) -> f64 {
        let mut loss = self.step * float(self.first);
        let mut delta = self.total_loss;
        for mass in &self.mass {
            if loss > epsilon {
                delta -= mass * (epsilon - loss).exp_m1();
            }
            loss += self.step;
        }
        delta
    }

    fn epsilon(&self, delta: f64) -> Option<f64> {
        let cells = f64::from(u32::try_from(self.mass.len()).ok()?);
        let (mut low, mut high) = (0.0, (self.step * (float(self.first) + cells)).max(0.0));
        if self.delta(high) > delta {
            return None;
        }
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if self.delta(middle) <= delta { high = middle } else { low = middle }
        }
        Some(high * (1.0 + 1e-9))
    }
}

/// `one`, `count` times.
fn power(one: &Losses, count: u64) -> Option<Losses> {
    let mut square = one.clone();
    let mut sum: Option<Losses> = None;
    let mut rest = count;
    loop {
        if rest & 1 == 1 {
            sum = Some(match sum {
                Some(sum) => sum.with(&square)?,
                None => square.clone(),
            });
        }
        rest >>= 1;
        if rest == 0 {
            return sum;
        }
        square = square.with(&square)?;
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "shifts and counts are far below 2^52 where there is an answer"
)]
fn whole(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_precision_loss, reason = "cells are counted to a few millions")]
fn float(number: i64) -> f64 {
    number as f64
}

#[expect(clippy::cast_possible_truncation, reason = "checked to be a small whole number")]
fn signed(number: f64) -> Option<i64> {
    (number.abs() < 1e15).then_some(number as i64)
}

fn index(number: f64) -> Option<usize> {
    usize::try_from(signed(number)?).ok().filter(|index| *index < MOST_CELLS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mechanism(name: &str, parameter: &str) -> Mechanism {
        let key = if name == "laplace" { "scale" } else { "sigma" };
        format!("discrete_{name}({key}={parameter})").parse().unwrap()
    }

    #[test]
    fn planned_epsilon_is_a_little_above_the_exact_one() {
        // The exact values lie above the optimistic ends that two-sided accounting gives.
        for (name, parameter, shifts, times, delta, exact) in [
            ("gaussian", "10", vec![1], 1, 1e-6, 0.396_785),
            ("gaussian", "5", vec![1], 1, 1e-6, 0.834_968),
            ("gaussian", "20", vec![1, 1], 1, 1e-6, 0.274_017),
            ("gaussian", "20", vec![1, 1], 30, 1e-6, 1.704_397),
            ("gaussian", "1", vec![1], 1, 1e-5, 4.430_228),
            ("laplace", "4", vec![1, 1], 10, 1e-6, 4.893_786),
        ] {
            let ours = epsilon(&mechanism(name, parameter), &shifts, times, delta).unwrap();
            assert!(ours >= exact, "{name} {parameter} {times}: {ours} is below {exact}");
            assert!(ours <= exact * 1.005, "{name} {parameter} {times}: {ours} is far above {exact}");
        }
    }

    #[test]
    fn what_cannot_be_computed_has_no_answer() {
        assert_eq!(epsilon(&mechanism("gaussian", "1e12"), &[1], 1, 1e-6), None);
        assert_eq!(epsilon(&mechanism("gaussian", "5"), &[1], 0, 1e-6), None);
        assert_eq!(epsilon(&mechanism("gaussian", "5"), &[], 1, 1e-6), None);
        assert_eq!(epsilon(&mechanism("gaussian", "5"), &[1], 1, 1e-30), None);
    }
}
