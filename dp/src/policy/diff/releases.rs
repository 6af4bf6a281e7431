//! Releases: what leaves, how noisily, who pays, and who keeps clients within their caps.

use super::places::{Move, moves};
use super::windows::implies;
use super::{Change, Changes};
use crate::accountant::{CalendarUnit, Window};
use crate::conversion::rho_of_pure;
use crate::mechanism::NoiseOf;
use crate::policy::release::Release;
use crate::policy::unmatched::Unmatched;
use crate::policy::{Policy, PrivacyUnit, Variant};
use crate::sensitivity::NeighboringRelation;
use crate::statement::{Contribution, Enforcer, Loss};

pub(super) fn changes(old: &Policy, new: &Policy) -> Vec<Change> {
    let mut found = Vec::new();
    let open = matches!(new.unmatched, Unmatched::ReleaseWithoutDp { .. });
    let moves = moves(old, new);
    for Move { old: before, new: now, tasks } in &moves {
        let Some(now) = now else {
            found.extend(left_alone(before, new, tasks, open));
            continue;
        };
        if before.id == now.id {
            let mut changes = Changes::of(format!("release \"{}\"", now.id));
            if before.selector != now.selector {
                changes.other(format!(
                    "is for {} and was for {}",
                    now.selector.describe(),
                    before.selector.describe()
                ));
            }
            compare(&mut changes, before, now);
            found.extend(changes.found);
        } else {
            let mut changes = Changes::of(format!("release \"{}\", for {tasks},", now.id));
            changes.other(format!("takes the place of release \"{}\"", before.id));
            compare(&mut changes, before, now);
            found.extend(changes.found);
        }
    }
    let is_new = |now: &&Release| moves.iter().all(|it| it.new.is_none_or(|it| it.id != now.id));
    for now in new.releases.iter().filter(is_new) {
        let mut changes = Changes::of(format!("release \"{}\"", now.id));
        let selector = now.selector.describe();
        // What an old budget pays for is within a promise that was made before.
        if now.charges.iter().any(|charge| old.budget(&charge.budget_id).is_some()) {
            changes.other(format!("is new, for {selector}"));
        } else {
            changes.weaker(format!("is new, for {selector}, and is paid for by new budgets only"));
        }
        found.extend(changes.found);
    }
    found
}

/// Tasks of `before` that no release of `new` is for.
fn left_alone(before: &Release, new: &Policy, tasks: &str, open: bool) -> Vec<Change> {
    let mut changes = Changes::of(format!("release \"{}\"", before.id));
    let removed = new.releases.iter().all(|now| now.id != before.id);
    let what = if removed { "is removed" } else { "is for them no more" };
    let fate = if open { "totals can leave without noise" } else { "they are refused" };
    changes.note(open, format!("{what}, nor is another one for {tasks}: {fate}"));
    changes.found
}

fn compare(changes: &mut Changes, old: &Release, new: &Release) {
    let (before, now) = (&old.terms, &new.terms);
    if before.shape != now.shape {
        changes.other(format!("is for {} and was for {}: tasks must be made anew", now.shape, before.shape));
    }
    if before.unit != now.unit {
        let what = format!("protects a {} and protected a {}", now.unit.name(), before.unit.name());
        changes.note(now.unit == PrivacyUnit::Report, what);
    }
    if before.relation != now.relation {
        let what = format!("hides {} and hid {}", now.relation, before.relation);
        changes.note(now.relation == NeighboringRelation::ReplaceSpecial, what);
    }
    if before.min_batch_size != now.min_batch_size {
        let (old, new) = (before.min_batch_size, now.min_batch_size);
        changes.note(new < old, format!("min_batch_size goes from {old} to {new}"));
    }
    contributions(changes, &before.contribution, &now.contribution);
    if !losses(changes, &before.loss, &now.loss) && before.shape == now.shape {
        noise(changes, old, new);
    }
    payers(changes, old, new);
}

fn contributions(changes: &mut Changes, old: &Contribution, new: &Contribution) {
    let more = ": a client that sends so many is in more batches, and may lose more in a window";
    for (name, old, new, more_is_weaker, why) in [
        ("max_reports_per_batch", old.max_reports_per_batch, new.max_reports_per_batch, false, ""),
        ("max_reports_per_window", old.max_reports_per_window, new.max_reports_per_window, true, more),
    ] {
        if new < old {
            changes
                .weaker(format!("{name} goes from {old} to {new}: who sends more is not covered any more"));
        } else if new > old {
            changes.note(more_is_weaker, format!("{name} goes from {old} to {new}{why}"));
        }
    }
    batch_windows(changes, old, new);
    if old.window != new.window {
        // A cap over a longer time is a cap that fewer clients keep.
        let (mut now, mut before) = (new.window.to_string(), old.window.to_string());
        if now == before {
            // Of one length: what differs is where they begin.
            (now, before) = (new.window.on_grid().to_string(), old.window.on_grid().to_string());
        }
        let what = format!("counts a client's reports in {now} and counted them in {before}");
        changes.note(!implies(old.window, new.window), what);
    }
    if old.enforced_by != new.enforced_by {
        let what =
            format!("caps are enforced by {} and were by {}", new.enforced_by.name(), old.enforced_by.name());
        changes.note(strength(new.enforced_by) < strength(old.enforced_by), what);
    }
}

/// A client that kept to the old pieces keeps to new ones that each lie in an old one; of others there may be clients
/// that are not covered any more.
fn batch_windows(changes: &mut Changes, old: &Contribution, new: &Contribution) {
    let (what, weaker) = match (old.batch_window, new.batch_window) {
        (Some(old), Some(new)) if old != new => (
            format!("caps reports per batch in {new} and capped them in {old}"),
            old.length() % new.length() != 0,
        ),
        (None, Some(cells)) => {
            // What is capped in a window is capped in every piece that lies in one.
            let in_one = match old.window {
                Window::Lifetime => true,
                Window::Rolling(rolling) => cells.length() <= rolling.length(),
                Window::Calendar(_) => CalendarUnit::Day.longest() % cells.length() == 0,
            };
            (format!("caps reports per batch in {cells} and capped them in {}", old.window), !in_one)
        }
        // Now a client may send as many per batch as in the window, which is compared by itself.
        (Some(cells), None) => {
            (format!("caps reports per batch in {} and capped them in {cells}", new.window), false)
        }
        _ => return,
    };
    let what =
        if weaker { format!("{what}: who sends more in that time is not covered any more") } else { what };
    changes.note(weaker, what);
}

/// Tokens that nothing here checks are worth no more than a client's word.
fn strength(enforcer: Enforcer) -> u8 {
    match enforcer {
        Enforcer::None => 0,
        Enforcer::Client | Enforcer::PrivacyPass => 1,
    }
}

/// Notes a change of the loss of a release; whether it grew.
fn losses(changes: &mut Changes, old: &Loss, new: &Loss) -> bool {
    if old == new {
        return false;
    }
    let word = |loss: &Loss| format!("{} {}", loss.variant.amount(), loss.amount.decimal());
    let what = format!("a release costs {} and cost {}", word(new), word(old));
    let grew = match (old.variant, new.variant) {
        (Variant::Pure, Variant::Zcdp) => {
            changes.weaker(format!("{what}: it is not pure differential privacy any more"));
            return true;
        }
        (Variant::Zcdp, Variant::Pure) => rho_of_pure(&new.amount) > old.amount,
        _ => new.amount > old.amount,
    };
    changes.note(grew, what);
    grew
}

fn noise(changes: &mut Changes, old: &Release, new: &Release) {
    let deviation = |release: &Release| release.terms.mechanism.variance(NoiseOf::OneAggregator).sqrt();
    let (before, now) = (deviation(old), deviation(new));
    if old.terms.mechanism != new.terms.mechanism {
        let what = format!("noise of each aggregator has standard deviation {now:.2} and had {before:.2}");
        changes.note(now < before, what);
    }
}

fn payers(changes: &mut Changes, old: &Release, new: &Release) {
    let pays = |release: &Release, id: &str| release.charges.iter().any(|it| it.budget_id == id);
    for charge in old.charges.iter().filter(|it| !pays(new, &it.budget_id)) {
        changes.weaker(format!("does not charge budget \"{}\" any more", charge.budget_id));
    }
    for charge in new.charges.iter().filter(|it| !pays(old, &it.budget_id)) {
        changes.other(format!("also charges budget \"{}\"", charge.budget_id));
    }
}
