//! The mechanism of a release and the one number it is calibrated by: what a release costs, or how much noise it has.

use num_bigint::BigUint;

use super::budget::Variant;
use super::reader::Section;
use crate::mechanism::{CalibrationError, Mechanism};
use crate::rational::Rational;
use crate::sensitivity::Sensitivity;
use crate::shape::Shape;
use crate::units::units_to_rational;

/// The one number, as it is written.
pub(super) struct Written {
    pub(super) variant: Variant,
    key: &'static str,
    number: Rational,
    at: usize,
}

/// The loss of a release, and where the number stands that it comes from.
pub(super) struct WrittenLoss {
    pub(super) variant: Variant,
    pub(super) key: &'static str,
    pub(super) amount: Rational,
    pub(super) at: usize,
}

const SCALE: &str = "noise_scale";

/// The mechanism's word and the one number that goes with it.
pub(super) fn read(section: &Section<'_>) -> Option<Written> {
    section.required_text("mechanism", "\"discrete_laplace\" or \"discrete_gaussian\"");
    let words = [("discrete_laplace", Variant::Pure), ("discrete_gaussian", Variant::Zcdp)];
    let mechanism = section.choice("mechanism", &words);
    let keys = ["epsilon_per_release", "rho_per_release", SCALE];
    let given: Vec<&str> = keys.into_iter().filter(|key| section.has(key)).collect();
    if given.len() != 1 {
        let found = if given.is_empty() { "none".to_owned() } else { given.join(" and ") };
        let at = given.last().map_or(section.at, |key| section.key_place(key));
        let what = format!("found {found} in {}", section.name);
        let fix = "give exactly one of epsilon_per_release, rho_per_release and noise_scale";
        section.reader.report(at, "E020", what, fix);
        return None;
    }
    let variant = mechanism?.value;
    let (key, word, other) = match variant {
        Variant::Pure => ("epsilon_per_release", "discrete_laplace", "rho_per_release"),
        Variant::Zcdp => ("rho_per_release", "discrete_gaussian", "epsilon_per_release"),
    };
    if section.has(other) {
        let what = format!("{word} is calibrated by {key}, not by {other}");
        section.reader.report(section.key_place(other), "E021", what, format!("write {key} = ... instead"));
        return None;
    }
    let key = if section.has(SCALE) { SCALE } else { key };
    let number = section.positive(key)?;
    Some(Written { variant, key, number: number.value, at: number.at })
}

impl Written {
    /// The loss that follows, for totals of this sensitivity.
    ///
    /// # Privacy
    /// A scale t of discrete Laplace noise is (Δ₁ / t)-DP; a σ of discrete Gaussian noise is (Δ₂² / 2σ²)-zCDP.
    pub(super) fn loss(self, section: &Section<'_>, sensitivity: &Sensitivity) -> Option<WrittenLoss> {
        let Self { variant, key, number, at } = self;
        let amount = match (key, variant) {
            (SCALE, Variant::Pure) => Rational::whole(sensitivity.l1.clone()).divided_by(&number),
            (SCALE, Variant::Zcdp) => {
                let twice = number.times(&number).times(&Rational::whole(2u8));
                Rational::whole(sensitivity.l2_squared.clone()).divided_by(&twice)
            }
            _ => Some(number),
        }?;
        if amount < units_to_rational(1) {
            let (what, fix) = if key == SCALE {
                (
                    "the cost of a release with noise_scale,",
                    "lower noise_scale, so that a release costs 1e-12 or more",
                )
            } else {
                (key, "write 1e-12 or more")
            };
            let what = format!("{what} {} is below the ledger resolution 1e-12", amount.decimal());
            section.reader.report(at, "E003", what, fix);
            return None;
        }
        Some(WrittenLoss { variant, key, amount, at })
    }
}

/// Noise for that loss, whatever can go wrong.
pub(super) fn mechanism_for(
    variant: Variant,
    amount: &Rational,
    sensitivity: &Sensitivity,
) -> Result<Mechanism, CalibrationError> {
    match variant {
        Variant::Pure => Mechanism::discrete_laplace(sensitivity, amount),
        Variant::Zcdp => Mechanism::discrete_gaussian(sensitivity, amount),
    }
}

/// The noise, held to the floor and to the field.
pub(super) fn calibrate(
    section: &Section<'_>,
    loss: &WrittenLoss,
    sensitivity: &Sensitivity,
    shape: Shape,
) -> Option<Mechanism> {
    let (towards_more_loss, towards_less) =
        if loss.key == SCALE { ("lower", "raise") } else { ("raise", "lower") };
    match mechanism_for(loss.variant, &loss.amount, sensitivity) {
        Ok(mechanism) => {
            let bound = mechanism.noise_bound(shape.length());
            if &bound * 8u8 < shape.modulus() {
                return Some(mechanism);
            }
            too_noisy(section, loss.at, &bound, &shape.modulus());
        }
        Err(error @ CalibrationError::BelowFloor { .. }) => {
            let fix = format!("{towards_less} {}: this little noise hides next to nothing", loss.key);
            section.reader.report(loss.at, "E026", error.to_string(), fix);
        }
        Err(error) => {
            let fix = format!("{towards_more_loss} {}, or write it with fewer digits", loss.key);
            section.reader.report(loss.at, "E025", error.to_string(), fix);
        }
    }
    None
}

fn too_noisy(section: &Section<'_>, at: usize, bound: &BigUint, modulus: &BigUint) {
    let what = format!(
        "noise can reach 2^{} (tail 2^-40), the field of this vdaf allows 2^{}",
        bound.bits(),
        (modulus / 8u8).bits() - 1
    );
    section.reader.report(at, "E025", what, "raise the loss per release, or shorten the vector or its range");
}
