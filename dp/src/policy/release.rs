//! A release: which tasks, what noise, which budgets pay.

use num_bigint::BigUint;

use super::budget::{Budget, PrivacyUnit, Variant, resolve};
use super::reader::{At, Section};
use super::{contribution, vdaf};
use crate::conversion::rho_of_pure;
use crate::mechanism::{CalibrationError, Mechanism};
use crate::plan::Charge;
use crate::rational::Rational;
use crate::sensitivity::{NeighboringRelation, Sensitivity};
use crate::shape::Shape;
use crate::statement::{Loss, Terms};
use crate::units::charge_units;

/// One `[[release]]` of a policy, resolved.
#[derive(Clone, Debug)]
pub(crate) struct Release {
    pub(crate) id: String,
    pub(crate) selector: Selector,
    pub(crate) terms: Terms,
    pub(crate) sensitivity: Sensitivity,
    pub(crate) charges: Vec<Charge>,
    pub(crate) report_delta: Option<Rational>,
}

/// Which tasks a release is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selector {
    Label(String),
    LabelPrefix(String),
}

impl Selector {
    pub(crate) fn matches(&self, label: &str) -> bool {
        match self {
            Self::Label(exact) => exact == label,
            Self::LabelPrefix(prefix) => label.starts_with(prefix.as_str()),
        }
    }
}

const KEYS: [&str; 11] = [
    "id",
    "match",
    "vdaf",
    "min_batch_size",
    "charge",
    "contribution",
    "mechanism",
    "epsilon_per_release",
    "rho_per_release",
    "noise_by",
    "report_count",
];
/// Known keys of the schema that this version refuses, and those with an error of their own.
const LATER: [&str; 2] = ["noise_scale", "accuracy"];

/// Reads one release. `known` are the ids of all budgets, also of those that could not be read.
pub(super) fn read(section: &Section<'_>, budgets: &[Budget], known: &[String]) -> Option<Release> {
    refuse_typed_sensitivity(section);
    section.refuse_other_keys(&[KEYS.as_slice(), &["sensitivity"]].concat(), &LATER);
    let id = section.required_text("id", "\"a-name\"");
    let shape = vdaf::read(section);
    let selector = read_selector(section, shape);
    let min_batch_size = read_min_batch_size(section);
    read_fixed_words(section);
    let payers = read_charge(section, budgets, known);
    let unit = payers.as_ref().and_then(|payers| common_unit(section, payers));
    let contribution = unit.and_then(|(unit, _)| contribution::read(section, unit));
    let loss = read_loss(section);
    let charges = match (&loss, &payers) {
        (Some(loss), Some(payers)) => price(section, loss, payers),
        _ => None,
    };
    let (shape, (unit, relation), contribution, loss) = (shape?, unit?, contribution?, loss?);
    let reports = contribution.max_reports_per_batch.get();
    let sensitivity = Sensitivity::derive(&shape, relation, reports);
    let mechanism = calibrate(section, &loss, &sensitivity, shape)?;
    let loss = Loss { variant: loss.variant, amount: loss.amount.value };
    let min_batch_size = min_batch_size?;
    let terms = Terms { shape, relation, unit, contribution, loss, mechanism, min_batch_size };
    // Several budgets may report at several deltas: the smallest gives the largest epsilon.
    let report_delta = payers?.iter().filter_map(|budget| budget.report_delta.clone()).min();
    Some(Release { id: id?.value, selector: selector?, terms, sensitivity, charges: charges?, report_delta })
}

fn refuse_typed_sensitivity(section: &Section<'_>) {
    if section.has("sensitivity") {
        let at = section.key_place("sensitivity");
        section.reader.report(at, "E022", "sensitivity is derived from vdaf", "remove this field");
    }
}

fn read_selector(section: &Section<'_>, shape: Option<Shape>) -> Option<Selector> {
    if !section.has("match") {
        section.missing("match", "{ label = \"task-label\" }");
    }
    let selector = section.section("match")?;
    selector.refuse_other_keys(&["label", "vdaf_type"], &["task_ids"]);
    if let (Some(named), Some(shape)) = (selector.text("vdaf_type"), shape)
        && named.value != shape.name()
    {
        let what = format!("match.vdaf_type is {}, vdaf.type is {}", named.value, shape.name());
        section.reader.report(named.at, "E023", what, "make them equal, or remove vdaf_type");
    }
    let label = selector.required_text("label", "\"task-label\"")?;
    match label.value.strip_suffix('*') {
        Some(prefix) if !prefix.contains('*') => Some(Selector::LabelPrefix(prefix.to_owned())),
        None if !label.value.contains('*') => Some(Selector::Label(label.value)),
        _ => {
            let what = format!("label \"{}\" has a * before its end", label.value);
            section.reader.report(label.at, "E001", what, "a * is allowed as the last character only");
            None
        }
    }
}

fn read_min_batch_size(section: &Section<'_>) -> Option<u64> {
    if !section.has("min_batch_size") {
        section.missing("min_batch_size", "100");
    }
    let size = section.whole("min_batch_size")?;
    if size.value == 0 {
        section.reader.report(
            size.at,
            "E044",
            "min_batch_size must be 1 or more",
            "write the task's min_batch_size",
        );
        return None;
    }
    Some(size.value)
}

/// Keys that have one permitted value, written out so that it is reviewed.
fn read_fixed_words(section: &Section<'_>) {
    section.required_text("noise_by", "\"each_aggregator\"");
    if let Some(At { value: word, at }) = section.text("noise_by")
        && word != "each_aggregator"
    {
        let what = "half noise leaves twice the loss if one aggregator is dishonest; not supported";
        section.reader.report(at, "E043", what, "write noise_by = \"each_aggregator\"");
    }
    section.required_text("report_count", "\"public\"");
    section.choice("report_count", &[("public", ())]);
}

/// The budgets that pay; nothing when any of them is unknown or could not be read.
fn read_charge<'b>(
    section: &Section<'_>,
    budgets: &'b [Budget],
    known: &[String],
) -> Option<Vec<&'b Budget>> {
    let name = &section.name;
    if !section.has("charge") {
        section.reader.report(
            section.at,
            "E011",
            format!("{name} charges no budget"),
            "add charge = [\"budget-id\"]",
        );
    }
    let ids = section.texts("charge")?;
    if ids.value.is_empty() {
        section.reader.report(
            ids.at,
            "E011",
            format!("{name} charges no budget"),
            "name one: charge = [\"budget-id\"]",
        );
        return None;
    }
    let mut seen: Vec<&str> = Vec::new();
    for id in &ids.value {
        if !known.contains(&id.value) {
            let what = format!("{name} charges budget \"{}\", which does not exist", id.value);
            let fix = match mica_diagnostic::suggest(&id.value, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "add a [[budget]] with this id".to_owned(),
            };
            section.reader.report(id.at, "E011", what, fix);
        } else if seen.contains(&id.value.as_str()) {
            let what = format!("{name} charges budget \"{}\" twice", id.value);
            section.reader.report(id.at, "E010", what, "name each budget once");
        }
        seen.push(&id.value);
    }
    seen.sort_unstable();
    seen.dedup();
    seen.into_iter().map(|id| budgets.iter().find(|budget| budget.id == id)).collect()
}

/// The unit and the relation that all paying budgets share.
fn common_unit(section: &Section<'_>, payers: &[&Budget]) -> Option<(PrivacyUnit, NeighboringRelation)> {
    let first = payers.first()?;
    for other in payers {
        let (a, b, what) = if other.unit != first.unit {
            (first.unit.name(), other.unit.name(), "privacy unit")
        } else if other.relation != first.relation {
            (first.relation.name(), other.relation.name(), "neighboring relation")
        } else {
            continue;
        };
        let what = format!(
            "budgets \"{}\" ({a}) and \"{}\" ({b}) differ in {what} and cannot share a release",
            first.id, other.id
        );
        section.reader.report(
            section.key_place("charge"),
            "E034",
            what,
            "charge budgets that count the same thing",
        );
        return None;
    }
    Some((first.unit, first.relation))
}

/// A loss and the key it stands under.
struct WrittenLoss {
    variant: Variant,
    key: &'static str,
    amount: At<Rational>,
}

/// The mechanism's word and the one amount that goes with it.
fn read_loss(section: &Section<'_>) -> Option<WrittenLoss> {
    section.required_text("mechanism", "\"discrete_laplace\" or \"discrete_gaussian\"");
    let words = [("discrete_laplace", Variant::Pure), ("discrete_gaussian", Variant::Zcdp)];
    let mechanism = section.choice("mechanism", &words);
    let keys = ["epsilon_per_release", "rho_per_release"];
    let given: Vec<&str> = keys.into_iter().chain(["noise_scale"]).filter(|key| section.has(key)).collect();
    if given.len() != 1 {
        let found = if given.is_empty() { "none".to_owned() } else { given.join(" and ") };
        let at = given.last().map_or(section.at, |key| section.key_place(key));
        let what = format!("found {found} in {}", section.name);
        section.reader.report(
            at,
            "E020",
            what,
            "give exactly one of epsilon_per_release and rho_per_release",
        );
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
    Some(WrittenLoss { variant, key, amount: section.positive(key)? })
}

/// What every paying budget is charged for one release.
fn price(section: &Section<'_>, loss: &WrittenLoss, payers: &[&Budget]) -> Option<Vec<Charge>> {
    resolve(section, loss.key, &loss.amount, charge_units)?;
    let mut charges = Vec::new();
    for budget in payers {
        let cost = match (loss.variant, budget.variant) {
            (Variant::Pure, Variant::Pure) | (Variant::Zcdp, Variant::Zcdp) => loss.amount.value.clone(),
            (Variant::Pure, Variant::Zcdp) => rho_of_pure(&loss.amount.value),
            (Variant::Zcdp, Variant::Pure) => {
                let what = format!(
                    "discrete_gaussian gives no pure-DP guarantee, but budget \"{}\" is pure",
                    budget.id
                );
                let fix = "use discrete_laplace, or charge a zcdp budget";
                section.reader.report(section.key_place("mechanism"), "E021", what, fix);
                continue;
            }
        };
        let Some(units) = charge_units(&cost) else {
            let what = format!("{} costs more than the ledger can hold", section.name);
            section.reader.report(loss.amount.at, "E003", what, "spend less per release");
            continue;
        };
        if units > budget.limit_units {
            let what = format!(
                "{} costs {} per collection and budget \"{}\" is {}: it could never run",
                section.name,
                crate::units::format_units(units),
                budget.id,
                crate::units::format_units(budget.limit_units),
            );
            section.reader.report(
                loss.amount.at,
                "E060",
                what,
                "spend less per release, or raise the budget",
            );
            continue;
        }
        charges.push(Charge { budget_id: budget.id.clone(), units, limit: budget.limit_units });
    }
    (charges.len() == payers.len()).then_some(charges)
}

fn calibrate(
    section: &Section<'_>,
    loss: &WrittenLoss,
    sensitivity: &Sensitivity,
    shape: Shape,
) -> Option<Mechanism> {
    let amount = &loss.amount.value;
    let calibrated = match loss.variant {
        Variant::Pure => Mechanism::discrete_laplace(sensitivity, amount),
        Variant::Zcdp => Mechanism::discrete_gaussian(sensitivity, amount),
    };
    match calibrated {
        Ok(mechanism) => {
            let bound = mechanism.noise_bound(shape.length());
            if &bound * 8u8 < shape.modulus() {
                return Some(mechanism);
            }
            too_noisy(section, loss.amount.at, &bound, &shape.modulus());
        }
        Err(error @ CalibrationError::BelowFloor { .. }) => {
            let fix = format!("lower {}: this little noise hides next to nothing", loss.key);
            section.reader.report(loss.amount.at, "E026", error.to_string(), fix);
        }
        Err(error) => {
            let fix = format!("raise {}, or write it with fewer digits", loss.key);
            section.reader.report(loss.amount.at, "E025", error.to_string(), fix);
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
