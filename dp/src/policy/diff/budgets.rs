//! Budgets: how much may be lost, over what, counted for whom.

use super::windows::implies;
use super::{Change, Changes};
use crate::policy::budget::Budget;
use crate::policy::{Limit, Policy, PrivacyUnit};
use crate::sensitivity::NeighboringRelation;

pub(super) fn changes(old: &Policy, new: &Policy) -> Vec<Change> {
    let mut found = Vec::new();
    for before in old.budgets() {
        let mut changes = Changes::of(format!("budget \"{}\"", before.id()));
        match new.budget(before.id()) {
            Some(now) => compare(&mut changes, before, now),
            None => changes.weaker("is removed: what it counted is not limited by it any more"),
        }
        found.extend(changes.found);
    }
    for now in new.budgets().iter().filter(|budget| old.budget(budget.id()).is_none()) {
        let mut changes = Changes::of(format!("budget \"{}\"", now.id()));
        changes.other("is new");
        found.extend(changes.found);
    }
    found
}

fn compare(changes: &mut Changes, old: &Budget, new: &Budget) {
    if old.unit() != new.unit() {
        let what = match new.unit() {
            PrivacyUnit::Report => "protects single reports and no more whole clients",
            PrivacyUnit::Client => "protects whole clients and not single reports only",
        };
        changes.note(new.unit() == PrivacyUnit::Report, what);
    }
    if old.relation() != new.relation() {
        // Replacing by anything includes replacing by zeros.
        let weaker = new.relation() == NeighboringRelation::ReplaceSpecial;
        changes.note(weaker, format!("is about {} and was about {}", new.relation(), old.relation()));
    }
    limits(changes, old.limit(), new.limit());
    let (before, now) = (old.window(), new.window());
    if before != now {
        let what = format!("holds for {} and held for {}", now.on_grid(), before.on_grid());
        if implies(now, before) {
            changes.other(what);
        } else {
            changes.weaker(format!("{what}: more can be lost over time"));
        }
    }
    match (old.ceiling_exception(), new.ceiling_exception()) {
        (None, Some(exception)) => {
            changes.weaker(format!("has an epsilon_ceiling_override of {}", exception.epsilon().decimal()));
        }
        (Some(_), None) => changes.other("has no epsilon_ceiling_override any more"),
        (Some(before), Some(now)) if before.epsilon() != now.epsilon() => {
            let what = format!(
                "epsilon_ceiling_override goes from {} to {}",
                before.epsilon().decimal(),
                now.epsilon().decimal()
            );
            changes.note(now.epsilon() > before.epsilon(), what);
        }
        _ => {}
    }
}

fn limits(changes: &mut Changes, old: &Limit, new: &Limit) {
    match (old, new) {
        (Limit::Pure { epsilon: old }, Limit::Pure { epsilon: new }) => amount(changes, "epsilon", old, new),
        (
            Limit::Zcdp { rho: old, report_delta: old_delta },
            Limit::Zcdp { rho: new, report_delta: new_delta },
        ) => {
            amount(changes, "rho", old, new);
            amount(changes, "report_delta", old_delta, new_delta);
        }
        (
            Limit::Approx { epsilon: old, delta: old_delta },
            Limit::Approx { epsilon: new, delta: new_delta },
        ) => {
            amount(changes, "epsilon", old, new);
            amount(changes, "delta", old_delta, new_delta);
        }
        _ => {
            let (old, new) = (old.dp_variant(), new.dp_variant());
            changes.weaker(format!("is counted as {new} and was counted as {old}: the two do not compare"));
        }
    }
}

fn amount(changes: &mut Changes, name: &str, old: &crate::Rational, new: &crate::Rational) {
    if old != new {
        changes.note(new > old, format!("{name} goes from {} to {}", old.decimal(), new.decimal()));
    }
}
