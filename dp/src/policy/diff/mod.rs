//! What a new version of a policy changes, and which guarantees it weakens.
//!
//! Two texts are compared by what they promise to a privacy unit. Where it cannot be shown that a promise is at least
//! as good as before, it counts as weaker: a false alarm is read by a person, a missed one by nobody.

mod budgets;
pub(super) mod places;
mod releases;
mod windows;

use super::Policy;
use super::unmatched::Unmatched;

/// One difference between two versions of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    weakens: bool,
    subject: String,
    what: String,
}

impl Change {
    /// Whether some privacy unit is promised less than before.
    pub fn weakens(&self) -> bool {
        self.weakens
    }

    /// What changed: `policy`, `budget "a"`, `release "x"` or `unmatched`.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// How, in plain English.
    pub fn what(&self) -> &str {
        &self.what
    }
}

/// The changes of one subject while they are found.
struct Changes {
    subject: String,
    found: Vec<Change>,
}

impl Changes {
    fn of(subject: impl Into<String>) -> Self {
        Self { subject: subject.into(), found: Vec::new() }
    }

    fn note(&mut self, weakens: bool, what: impl Into<String>) {
        self.found.push(Change { weakens, subject: self.subject.clone(), what: what.into() });
    }

    fn weaker(&mut self, what: impl Into<String>) {
        self.note(true, what);
    }

    fn other(&mut self, what: impl Into<String>) {
        self.note(false, what);
    }
}

impl Policy {
    /// What this version changes against `old`: what weakens a guarantee first, the rest after it.
    pub fn changes_since(&self, old: &Self) -> Vec<Change> {
        let mut found = header(old, self);
        found.extend(budgets::changes(old, self));
        found.extend(releases::changes(old, self));
        found.extend(unmatched(old, self));
        found.sort_by_key(|change| !change.weakens);
        found
    }
}

fn header(old: &Policy, new: &Policy) -> Vec<Change> {
    let mut changes = Changes::of("policy");
    if old.id() != new.id() {
        changes.other(format!("is called \"{}\" and was called \"{}\"", new.id(), old.id()));
    } else if new.version() <= old.version() && new.sha256() != old.sha256() {
        let (new, old) = (new.version(), old.version());
        changes
            .other(format!("has version {new}, which does not follow {old}: aggregators refuse it (E050)"));
    }
    match (old.epsilon_ceiling(), new.epsilon_ceiling()) {
        (Some(old), None) => changes.weaker(format!("epsilon_ceiling {} is removed", old.decimal())),
        (Some(old), Some(new)) if new != old => {
            let what = format!("epsilon_ceiling goes from {} to {}", old.decimal(), new.decimal());
            changes.note(new > old, what);
        }
        (None, Some(new)) => changes.other(format!("epsilon_ceiling {} is added", new.decimal())),
        _ => {}
    }
    changes.found
}

fn unmatched(old: &Policy, new: &Policy) -> Vec<Change> {
    let mut changes = Changes::of("unmatched");
    match (&old.unmatched, &new.unmatched) {
        (Unmatched::Refuse, Unmatched::ReleaseWithoutDp { .. }) => {
            changes.weaker("tasks that no release matches leave without noise; they were refused");
        }
        (Unmatched::ReleaseWithoutDp { .. }, Unmatched::Refuse) => {
            changes.other("tasks that no release matches are refused; they left without noise");
        }
        (
            Unmatched::ReleaseWithoutDp { expires: old, .. },
            Unmatched::ReleaseWithoutDp { expires: new, .. },
        ) if old != new => {
            let days = old.abs_diff(*new) / 86_400;
            let what = if new > old { "longer" } else { "less long" };
            changes.note(
                new > old,
                format!("tasks that no release matches leave without noise {days} days {what}"),
            );
        }
        _ => {}
    }
    changes.found
}
