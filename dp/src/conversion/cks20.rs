//! Canonne, Kamath, Steinke (2020), Corollary 13, evaluated here and rounded up.
//!
//! For every order α > 1, ρ-zCDP implies (ε, δ) with `ε = αρ + ln(1 − 1/α) + (ln(1/δ) − ln α) / (α − 1)`. Every α gives
//! a true statement, so the search may be as careless as it likes; only the last evaluation has to err upwards.

/// The smallest ε at `exp(-nats)` that the search finds, rounded up; never below zero. `rho` and `nats` are upper ends.
pub(super) fn epsilon(rho: f64, nats: f64) -> f64 {
    let at = |exponent: f64| value(exponent.exp(), rho, nats).0;
    let (mut low, mut high) = SEARCHED;
    // A golden section: the interval shrinks to 0.618 of itself each time, which reaches the resolution of a float.
    for _ in 0..100 {
        let step = (high - low) * GOLDEN;
        let (left, right) = (high - step, low + step);
        if at(left) <= at(right) {
            high = right;
        } else {
            low = left;
        }
    }
    let (value, magnitude) = value(f64::midpoint(low, high).exp(), rho, nats);
    (value + magnitude * SLACK).max(0.0)
}

/// Natural logarithms of α − 1: from all but pure δ to losses of a billionth of a unit.
const SEARCHED: (f64, f64) = (-40.0, 60.0);
const GOLDEN: f64 = 0.618_033_988_749_894_8;

/// More than the roundings of ten operations and four logarithms, as a part of the largest number among them.
const SLACK: f64 = 1e-14;

/// The bound at the order `1 + above`, and the sum of the magnitudes it is made of.
fn value(above: f64, rho: f64, nats: f64) -> (f64, f64) {
    let order_times_rho = (1.0 + above) * rho;
    let shrink = (1.0 / above).ln_1p();
    let order = above.ln_1p();
    let value = order_times_rho - shrink + (nats - order) / above;
    (value, order_times_rho + shrink + (nats + order) / above)
}
