//! The budgets that pay for a release, and what each of them pays.

use super::budget::{Budget, PrivacyUnit, Variant};
use super::loss::WrittenLoss;
use super::reader::{Section, brief, did_you_mean};
use crate::conversion::rho_of_pure;
use crate::plan::Charge;
use crate::rational::Rational;
use crate::sensitivity::NeighboringRelation;
use crate::units::{charge_units, format_units};

/// The budgets that pay; nothing when any of them is unknown or could not be read. `known` are the ids of all budgets,
/// also of those that could not be read.
pub(super) fn read<'b>(
    section: &Section<'_>,
    budgets: &'b [Budget],
    known: &[String],
) -> Option<Vec<&'b Budget>> {
    let name = &section.name;
    if !section.has("charge") {
        let what = format!("{name} charges no budget");
        section.reader.report(section.at, "E011", what, "add charge = [\"budget-id\"]");
    }
    let ids = section.texts("charge")?;
    if ids.value.is_empty() {
        let what = format!("{name} charges no budget");
        section.reader.report(ids.at, "E011", what, "name one: charge = [\"budget-id\"]");
        return None;
    }
    let names: Vec<&str> = known.iter().map(String::as_str).collect();
    let mut seen: Vec<&str> = Vec::new();
    for id in &ids.value {
        if !known.contains(&id.value) {
            let what = format!("{name} charges budget \"{}\", which does not exist", brief(&id.value));
            let fix =
                did_you_mean(&id.value, &names).unwrap_or_else(|| "add a [[budget]] with this id".to_owned());
            section.reader.report(id.at, "E011", what, fix);
        } else if seen.contains(&id.value.as_str()) {
            let what = format!("{name} charges budget \"{}\" twice", brief(&id.value));
            section.reader.report(id.at, "E010", what, "name each budget once");
        }
        seen.push(&id.value);
    }
    seen.sort_unstable();
    seen.dedup();
    seen.into_iter().map(|id| budgets.iter().find(|budget| budget.id == id)).collect()
}

/// The unit and the relation that all paying budgets share.
pub(super) fn common_unit(
    section: &Section<'_>,
    payers: &[&Budget],
) -> Option<(PrivacyUnit, NeighboringRelation)> {
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
        let at = section.key_place("charge");
        section.reader.report(at, "E034", what, "charge budgets that count the same thing");
        return None;
    }
    Some((first.unit, first.relation))
}

/// What a loss costs a budget of a variant; nothing when the loss gives no guarantee of that kind.
pub(super) fn cost(loss: Variant, amount: &Rational, budget: Variant) -> Option<Rational> {
    match (loss, budget) {
        (Variant::Pure, Variant::Pure) | (Variant::Zcdp, Variant::Zcdp) => Some(amount.clone()),
        (Variant::Pure, Variant::Zcdp) => Some(rho_of_pure(amount)),
        (Variant::Zcdp, Variant::Pure) => None,
    }
}

/// What every paying budget is charged for one release.
pub(super) fn price(section: &Section<'_>, loss: &WrittenLoss, payers: &[&Budget]) -> Option<Vec<Charge>> {
    let mut charges = Vec::new();
    for budget in payers {
        let Some(cost) = cost(loss.variant, &loss.amount, budget.variant()) else {
            let what =
                format!("discrete_gaussian gives no pure-DP guarantee, but budget \"{}\" is pure", budget.id);
            let fix = "use discrete_laplace, or charge a zcdp or approx budget";
            section.reader.report(section.key_place("mechanism"), "E021", what, fix);
            continue;
        };
        let Some(units) = charge_units(&cost) else {
            let what = format!("{} costs more than the ledger can hold", section.name);
            section.reader.report(loss.at, "E003", what, "spend less per release");
            continue;
        };
        if units > budget.limit_units {
            let what = format!(
                "{} costs {} per collection and budget \"{}\" is {}: it could never run",
                section.name,
                format_units(units),
                budget.id,
                format_units(budget.limit_units),
            );
            section.reader.report(loss.at, "E060", what, "spend less per release, or raise the budget");
            continue;
        }
        charges.push(Charge { budget_id: budget.id.clone(), units, limit: budget.limit_units });
    }
    (charges.len() == payers.len()).then_some(charges)
}
