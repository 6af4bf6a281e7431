//! Whether the noise serves its purpose: wanted accuracy, the better mechanism, a delta that fits the batches.
//!
//! Nothing here changes what is promised or charged, so floating point is fine.

use super::budget::{Budget, PrivacyUnit, Variant};
use super::catalogue;
use super::loss::{WrittenLoss, mechanism_for};
use super::payers::cost;
use super::reader::Section;
use crate::conversion::epsilon_of_zcdp;
use crate::mechanism::{Mechanism, NoiseOf};
use crate::rational::Rational;
use crate::sensitivity::Sensitivity;
use crate::statement::Contribution;
use crate::units::charge_units;

/// What is known of a release when its noise is.
pub(super) struct Resolved<'a> {
    pub(super) loss: &'a WrittenLoss,
    pub(super) sensitivity: &'a Sensitivity,
    pub(super) mechanism: &'a Mechanism,
    pub(super) unit: PrivacyUnit,
    pub(super) contribution: &'a Contribution,
    pub(super) payers: &'a [&'a Budget],
    pub(super) min_batch_size: u64,
}

/// `accuracy = { max_half_width = 60, confidence = 0.95 }`: a finding when the noise of both aggregators is wider.
pub(super) fn read_accuracy(section: &Section<'_>, resolved: Option<&Resolved<'_>>) {
    let Some(accuracy) = section.section("accuracy") else { return };
    accuracy.refuse_other_keys(&catalogue::ACCURACY, &[]);
    for (key, example) in [("max_half_width", "60"), ("confidence", "0.95")] {
        if !accuracy.has(key) {
            accuracy.missing(key, example);
        }
    }
    let (width, confidence) = (accuracy.positive("max_half_width"), accuracy.positive("confidence"));
    if let Some(confidence) = &confidence
        && confidence.value >= Rational::whole(1u8)
    {
        let what = format!("confidence must be between 0 and 1, got {}", confidence.value.decimal());
        accuracy.reader.report(confidence.at, "E002", what, "write a number such as 0.95");
        return;
    }
    let (Some(width), Some(confidence), Some(resolved)) = (width, confidence, resolved) else { return };
    let confidence = confidence.value.approximate();
    let reached = resolved.mechanism.half_width(confidence, NoiseOf::BothAggregators);
    if Rational::whole(reached) <= width.value {
        return;
    }
    let (what, fix) = (
        format!("the {}% half-width is {reached}, target {}", confidence * 100.0, width.value.decimal()),
        remedy(resolved, &width.value, confidence),
    );
    accuracy.reader.report(width.at, "E061", what, fix);
}

/// What it would take to reach the target, and what that leaves of the budgets.
fn remedy(resolved: &Resolved<'_>, width: &Rational, confidence: f64) -> String {
    let Some((amount, mechanism)) = loss_for(resolved, width, confidence) else {
        return "no noise that hides anything is that narrow: widen the target".to_owned();
    };
    let key = match (resolved.loss.key, resolved.loss.variant) {
        ("noise_scale", _) => format!("noise_scale {}", mechanism.parameter().1.decimal()),
        (key, _) => format!("{key} {}", amount.decimal()),
    };
    let fits = resolved.payers.iter().filter_map(|budget| {
        let units = charge_units(&cost(resolved.loss.variant, &amount, budget.variant())?)?;
        Some((budget.limit_units / units.max(1), &budget.id))
    });
    match fits.min() {
        Some((0, budget)) => format!("needs {key}, more than budget \"{budget}\" has"),
        Some((releases, budget)) => {
            format!("needs {key} ({releases} releases, each in full, from budget \"{budget}\")")
        }
        None => format!("needs {key}"),
    }
}

/// The smallest loss of three digits whose noise is narrow enough.
fn loss_for(resolved: &Resolved<'_>, width: &Rational, confidence: f64) -> Option<(Rational, Mechanism)> {
    let narrow = |amount: &Rational| {
        let mechanism = mechanism_for(resolved.loss.variant, amount, resolved.sensitivity).ok()?;
        let reached = mechanism.half_width(confidence, NoiseOf::BothAggregators);
        Some((Rational::whole(reached) <= *width, mechanism))
    };
    let mut beyond = resolved.loss.amount.times(&Rational::whole(2u8));
    while !narrow(&beyond)?.0 {
        beyond = beyond.times(&Rational::whole(2u8));
    }
    // The answer is between half of it and all of it: in 1024 steps, rounded up to three digits.
    let step = beyond.times(&Rational::over::<2048>(1u8));
    let (mut low, mut high) = (1024u32, 2048u32);
    while high - low > 1 {
        let middle = low.midpoint(high);
        if narrow(&step.times(&Rational::whole(middle)))?.0 {
            high = middle;
        } else {
            low = middle;
        }
    }
    let amount = three_digits_up(&step.times(&Rational::whole(high)));
    let mechanism = narrow(&amount)?.1;
    Some((amount, mechanism))
}

fn three_digits_up(amount: &Rational) -> Rational {
    let ten = Rational::whole(10u8);
    let hundred = Rational::whole(100u8);
    let mut unit = Rational::whole(1u8);
    while amount.times(&unit) < hundred {
        unit = unit.times(&ten);
    }
    let whole = Rational::whole(amount.times(&unit).ceiling());
    whole.divided_by(&unit).unwrap_or(whole)
}

/// A δ that is too large for batches of that size may be the probability of publishing somebody whole.
pub(super) fn check_delta(section: &Section<'_>, payers: &[&Budget], min_batch_size: u64) {
    for budget in payers {
        let Some(delta) = budget.report_delta() else { continue };
        let most = Rational::whole(10u8).times(&Rational::whole(min_batch_size));
        let Some(most) = Rational::whole(1u8).divided_by(&most) else { continue };
        if *delta <= most {
            continue;
        }
        let what = format!(
            "delta {} of budget \"{}\" is large for batches of {min_batch_size}",
            delta.decimal(),
            budget.id
        );
        let fix = format!("use at most {}, customarily below 1/n^1.1", most.decimal());
        section.reader.warn(section.key_place("min_batch_size"), "W013", what, fix);
    }
}

/// Whether the other mechanism would give the same guarantee over a window with less noise.
///
/// Both are held to the ε that the releases which one unit can be in add up to: n·ε for Laplace noise, or the
/// conversion of n·ρ.
pub(super) fn compare_mechanisms(section: &Section<'_>, resolved: &Resolved<'_>) {
    let delta = resolved.payers.iter().filter_map(|budget| budget.report_delta()).min();
    let all_concentrated = resolved.payers.iter().all(|budget| budget.variant() == Variant::Zcdp);
    let Some(delta) = delta.filter(|_| all_concentrated) else { return };
    let releases = releases_of_a_unit(resolved);
    let loss = resolved.loss.amount.approximate();
    let rho = match resolved.loss.variant {
        Variant::Pure => loss * loss / 2.0,
        Variant::Zcdp => loss,
    } * releases;
    let Some(converted) = implied(rho, delta) else { return };
    let sd = resolved.mechanism.variance(NoiseOf::OneAggregator).sqrt();
    let l1 = Rational::whole(resolved.sensitivity.l1.clone()).approximate();
    let l2 = Rational::whole(resolved.sensitivity.l2_squared.clone()).approximate().sqrt();
    let (epsilon, other_sd, better) = match resolved.loss.variant {
        Variant::Zcdp => {
            let per_release = (converted / releases).max((2.0 * loss).sqrt());
            (converted, laplace_sd(l1 / per_release), "discrete_laplace")
        }
        Variant::Pure => {
            let epsilon = converted.min(loss * releases);
            let rho = if converted <= epsilon { rho } else { rho_for(epsilon, delta, rho) };
            (epsilon, l2 / (2.0 * rho / releases).sqrt(), "discrete_gaussian")
        }
    };
    if other_sd >= sd * 0.999 {
        return;
    }
    let count = releases.floor().max(1.0);
    let what = format!(
        "{better} needs less noise for the same guarantee ({count} release{} per window at epsilon {epsilon:.2}: sd \
         {other_sd:.1} instead of {sd:.1})",
        if count > 1.0 { "s" } else { "" },
    );
    let fix = match resolved.loss.variant {
        Variant::Zcdp => {
            format!("use discrete_laplace and a pure budget of epsilon {epsilon:.2}, or allow W062")
        }
        Variant::Pure => "use discrete_gaussian, or allow W062".to_owned(),
    };
    section.reader.warn(section.key_place("mechanism"), "W062", what, fix);
}

/// In how many releases of a window one unit can be, as far as its caps and the budgets go.
#[expect(clippy::cast_precision_loss, reason = "a number of releases is read to a few digits")]
fn releases_of_a_unit(resolved: &Resolved<'_>) -> f64 {
    let caps = resolved.contribution;
    let capped = match resolved.unit {
        PrivacyUnit::Report => 1.0,
        PrivacyUnit::Client => {
            f64::from(caps.max_reports_per_window.get()) / f64::from(caps.max_reports_per_batch.get())
        }
    };
    let amount = &resolved.loss.amount;
    let paid = resolved.payers.iter().filter_map(|budget| {
        let units = charge_units(&cost(resolved.loss.variant, amount, budget.variant())?)?;
        Some(budget.limit_units / units.max(1))
    });
    paid.min().map_or(capped, |paid| capped.min(paid as f64)).max(1.0)
}

fn laplace_sd(scale: f64) -> f64 {
    let decay = (-1.0 / scale).exp();
    (2.0 * decay).sqrt() / -(-1.0 / scale).exp_m1()
}

fn implied(rho: f64, delta: &Rational) -> Option<f64> {
    let rho = format!("{rho:.12}").parse::<Rational>().ok().filter(|rho| !rho.is_zero())?;
    epsilon_of_zcdp(&rho, delta).ok()
}

/// The ρ below `beyond` that implies `epsilon`, to a thousandth.
fn rho_for(epsilon: f64, delta: &Rational, beyond: f64) -> f64 {
    let (mut low, mut high) = (0.0, beyond);
    while high - low > 1e-3 * high && high > 1e-12 {
        let middle = f64::midpoint(low, high);
        match implied(middle, delta) {
            Some(implied) if implied > epsilon => high = middle,
            _ => low = middle,
        }
    }
    high
}
