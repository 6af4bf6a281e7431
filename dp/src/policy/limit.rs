//! How much a budget holds: pure, zero-concentrated, or approximate differential privacy.

use super::budget::{CeilingException, Variant};
use super::reader::{At, Section};
use crate::conversion::{epsilon_of_zcdp, rho_units_of_approx};
use crate::rational::Rational;
use crate::units::{limit_units, units_to_rational};

/// The limit of a budget, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    /// So much ε.
    Pure {
        /// The limit.
        epsilon: Rational,
    },
    /// So much ρ.
    Zcdp {
        /// The limit.
        rho: Rational,
        /// The δ at which it is reported as an ε.
        report_delta: Rational,
    },
    /// ε at δ, kept by counting ρ up to the largest that implies no more.
    Approx {
        /// The ε promised.
        epsilon: Rational,
        /// At this δ.
        delta: Rational,
    },
}

impl Limit {
    /// The word under `dp_variant`.
    pub fn dp_variant(&self) -> &'static str {
        match self {
            Self::Pure { .. } => "pure",
            Self::Zcdp { .. } => "zcdp",
            Self::Approx { .. } => "approx",
        }
    }

    /// What is counted.
    pub fn counted_in(&self) -> Variant {
        match self {
            Self::Pure { .. } => Variant::Pure,
            Self::Zcdp { .. } | Self::Approx { .. } => Variant::Zcdp,
        }
    }

    /// The delta at which an epsilon is reported.
    pub fn delta(&self) -> Option<&Rational> {
        match self {
            Self::Pure { .. } => None,
            Self::Zcdp { report_delta: delta, .. } | Self::Approx { delta, .. } => Some(delta),
        }
    }

    /// The ε that the whole limit implies at [`Self::delta`], rounded up.
    pub fn epsilon(&self) -> Option<f64> {
        match self {
            Self::Pure { epsilon } | Self::Approx { epsilon, .. } => Some(epsilon.approximate_up()),
            Self::Zcdp { rho, report_delta } => epsilon_of_zcdp(rho, report_delta).ok(),
        }
    }
}

/// A limit, where it stands, and what the ledger counts up to.
pub(super) struct Written {
    pub(super) limit: Limit,
    pub(super) units: i64,
    at: usize,
}

/// Reads the variant and what belongs to it.
pub(super) fn read(section: &Section<'_>) -> Option<Written> {
    section.required_text("dp_variant", "\"zcdp\", \"pure\" or \"approx\"")?;
    let words = ["zcdp", "pure", "approx"];
    match section.choice("dp_variant", &words.map(|word| (word, word)))?.value {
        "pure" => pure(section),
        "approx" => approx(section),
        _ => zcdp(section),
    }
}

fn pure(section: &Section<'_>) -> Option<Written> {
    for key in ["delta", "report_delta"] {
        refuse_delta(section, "pure", key, "remove it");
    }
    let amount = amount(section, "pure", "epsilon", "rho")?;
    let units = resolve(section, "epsilon", &amount, limit_units)?;
    Some(Written { limit: Limit::Pure { epsilon: amount.value }, units, at: amount.at })
}

fn zcdp(section: &Section<'_>) -> Option<Written> {
    refuse_delta(section, "zcdp", "delta", "write report_delta, which is the one it is reported at");
    let report_delta =
        delta(section, "report_delta", "is counted in rho, which implies an epsilon only at a delta");
    let amount = amount(section, "zcdp", "rho", "epsilon")?;
    let units = resolve(section, "rho", &amount, limit_units)?;
    let limit = Limit::Zcdp { rho: amount.value, report_delta: report_delta? };
    Some(Written { limit, units, at: amount.at })
}

fn approx(section: &Section<'_>) -> Option<Written> {
    refuse_delta(section, "approx", "report_delta", "remove it: delta is the one it is reported at");
    let delta = delta(section, "delta", "is approximate and has no delta");
    let amount = amount(section, "approx", "epsilon", "rho")?;
    let delta = delta?;
    resolve(section, "epsilon", &amount, limit_units)?;
    let Some(units) = rho_units_of_approx(&amount.value, &delta) else {
        let what = format!(
            "epsilon {} at this delta allows a rho that is below the ledger resolution",
            amount.value.decimal()
        );
        section.reader.report(amount.at, "E003", what, "write a larger epsilon");
        return None;
    };
    Some(Written { limit: Limit::Approx { epsilon: amount.value, delta }, units, at: amount.at })
}

/// The key that holds the limit, and a finding about the one that does not.
fn amount(section: &Section<'_>, word: &str, key: &str, other: &str) -> Option<At<Rational>> {
    if section.has(other) {
        let what = format!("a budget of dp_variant \"{word}\" is limited by {key}, not by {other}");
        section.reader.report(section.key_place(other), "E021", what, format!("write {key} = ... instead"));
    } else if !section.has(key) {
        section.missing(key, "1.0");
    }
    section.positive(key)
}

fn refuse_delta(section: &Section<'_>, word: &str, key: &str, fix: &str) {
    if section.has(key) {
        let what = format!("dp_variant \"{word}\" has no {key}");
        section.reader.report(section.key_place(key), "E012", what, fix);
    }
}

/// A number between zero and one; without it the section `is` something that makes no sense.
fn delta(section: &Section<'_>, key: &str, is: &str) -> Option<Rational> {
    if !section.has(key) {
        let what = format!("{} {is}", section.name);
        section.reader.report(section.at, "E012", what, format!("add {key} = 1e-8"));
    }
    let delta = section.number(key)?;
    if !delta.value.is_zero() && delta.value < Rational::whole(1u8) {
        if is_small_delta(&delta.value) {
            return Some(delta.value);
        }
        let what = format!(
            "{key} {} promises nothing to one case in {}",
            delta.value.decimal(),
            Rational::whole(1u8)
                .divided_by(&delta.value)
                .map_or_else(String::new, |cases| cases.ceiling().to_string())
        );
        section.reader.report(delta.at, "E012", what, "write a number far below 0.01, such as 1e-8");
        return None;
    }
    let what = format!("{key} must be between 0 and 1, got {}", delta.value.decimal());
    section.reader.report(delta.at, "E012", what, "write a small number such as 1e-8");
    None
}

/// Whether a delta is one that promises something to almost every case: more than 0, and less than 0.01.
pub(crate) fn is_small_delta(delta: &Rational) -> bool {
    !delta.is_zero() && delta.times(&Rational::whole(100u8)) < Rational::whole(1u8)
}

/// Whether the limit implies more than the policy's ceiling, or than the exception from it.
pub(super) fn check_ceiling(
    section: &Section<'_>,
    written: &Written,
    ceiling: &Rational,
    exception: Option<&CeilingException>,
) {
    let (allowed, name) = match exception {
        Some(exception) => (&exception.epsilon, "its override"),
        None => (ceiling, "epsilon_ceiling"),
    };
    let implied = match &written.limit {
        Limit::Pure { epsilon } | Limit::Approx { epsilon, .. } if epsilon <= allowed => return,
        Limit::Pure { epsilon } | Limit::Approx { epsilon, .. } => epsilon.decimal(),
        Limit::Zcdp { rho, report_delta } => match epsilon_of_zcdp(rho, report_delta) {
            Ok(epsilon) if epsilon <= allowed.approximate() => return,
            Ok(epsilon) => format!("{epsilon:.1} at delta {}", report_delta.decimal()),
            Err(_) => format!("no finite value at delta {}", report_delta.decimal()),
        },
    };
    let counted = match &written.limit {
        Limit::Zcdp { rho, .. } => format!("rho {} converts to epsilon {implied}", rho.decimal()),
        _ => format!("epsilon {implied}"),
    };
    let what = format!("{}: {counted}, above {name} {}", section.name, allowed.decimal());
    let fix = "lower the limit, or write epsilon_ceiling_override = { epsilon = ..., justification = ... }";
    section.reader.report(written.at, "E014", what, fix);
}

/// Whether a limit implies so much that somebody should have meant it, where the policy has no ceiling.
pub(super) fn check_without_ceiling(section: &Section<'_>, written: &Written) {
    let implied = match &written.limit {
        Limit::Pure { epsilon } | Limit::Approx { epsilon, .. } => {
            if *epsilon <= Rational::whole(LARGE_EPSILON) {
                return;
            }
            format!("epsilon {}", epsilon.decimal())
        }
        Limit::Zcdp { rho, report_delta } => match epsilon_of_zcdp(rho, report_delta) {
            Ok(epsilon) if epsilon <= f64::from(LARGE_EPSILON) => return,
            Ok(epsilon) => format!("epsilon {epsilon:.1} at delta {}", report_delta.decimal()),
            Err(_) => format!("no finite epsilon at delta {}", report_delta.decimal()),
        },
    };
    let what = format!("{} implies {implied}, which hides little or nothing", section.name);
    let fix = "lower it, or write policy.epsilon_ceiling and keep to it; or allow W015 if that is meant";
    section.reader.warn(written.at, "W015", what, fix);
}

/// From here on a person should say that it is meant: somebody's data may change the odds by e to this power.
const LARGE_EPSILON: u8 = 10;

/// An amount in ledger units, or a finding that it does not fit.
pub(super) fn resolve(
    section: &Section<'_>,
    key: &str,
    amount: &At<Rational>,
    round: fn(&Rational) -> Option<i64>,
) -> Option<i64> {
    let value = &amount.value;
    if *value < units_to_rational(1) {
        let what = format!("{key} {} is below the ledger resolution 1e-12", value.decimal());
        section.reader.report(amount.at, "E003", what, "write 1e-12 or more");
        return None;
    }
    let units = round(value);
    if units.is_none() {
        let what = format!("{key} {} is more than the ledger can hold", value.decimal());
        section.reader.report(amount.at, "E003", what, "write less than 9000000: more is no privacy at all");
    }
    units
}
