//! Which release of a new version a task gets that had one of the old: what a task is promised depends on that, and not
//! on what releases are called.

use mica_dap::id::TaskId;

use crate::policy::Policy;
use crate::policy::release::Release;
use crate::policy::selector::Selector;

/// Tasks that are of `old` in the one version and of `new` in the other.
pub(in crate::policy) struct Move<'a> {
    pub(in crate::policy) old: &'a Release,
    /// Nothing when no release is for them any more.
    pub(in crate::policy) new: Option<&'a Release>,
    /// Which tasks, for people.
    pub(in crate::policy) tasks: String,
}

/// A task that stands for all tasks which no `match` of either version tells apart.
enum Place<'a> {
    Named(TaskId),
    Labelled { label: String, selector: &'a Selector },
}

/// Follows every kind of task from its release in `old` to its release in `new`; each pair of releases is there once.
pub(in crate::policy) fn moves<'a>(old: &'a Policy, new: &'a Policy) -> Vec<Move<'a>> {
    let mut found: Vec<Move<'a>> = Vec::new();
    for place in places(old, new) {
        for before in place.releases(old) {
            let vdaf = before.terms.shape.name();
            let after: Vec<&Release> =
                place.releases(new).into_iter().filter(|now| now.terms.shape.name() == vdaf).collect();
            let after = if after.is_empty() { vec![None] } else { after.into_iter().map(Some).collect() };
            for now in after {
                // Tasks that neither version names are followed by their labels.
                if place.is_named() && !place.names(before) && now.is_none_or(|now| !place.names(now)) {
                    continue;
                }
                let is_known =
                    |it: &Move<'_>| it.old.id == before.id && it.new.map(|it| &it.id) == now.map(|it| &it.id);
                if !found.iter().any(is_known) {
                    found.push(Move { old: before, new: now, tasks: place.describe() });
                }
            }
        }
    }
    found
}

fn places<'a>(old: &'a Policy, new: &'a Policy) -> Vec<Place<'a>> {
    let mut places = Vec::new();
    for release in old.releases.iter().chain(&new.releases) {
        match &release.selector {
            Selector::Tasks(ids) => places.extend(ids.iter().copied().map(Place::Named)),
            selector @ Selector::Label { text, is_prefix, .. } => {
                // No label of a file has this character: it stands for whatever may follow.
                let label = if *is_prefix { format!("{text}\u{10ffff}") } else { text.clone() };
                places.push(Place::Labelled { label, selector });
            }
        }
    }
    places
}

impl Place<'_> {
    fn is_named(&self) -> bool {
        matches!(self, Self::Named(_))
    }

    fn names(&self, release: &Release) -> bool {
        matches!(self, Self::Named(id) if release.selector.names(Some(*id)))
    }

    /// The releases that `policy` may have for such tasks, one per VDAF; for a task by its name that the policy does not
    /// name, any, for its label may be any.
    fn releases<'p>(&self, policy: &'p Policy) -> Vec<&'p Release> {
        match self {
            Self::Named(_) => {
                let named: Vec<_> = policy.releases.iter().filter(|release| self.names(release)).collect();
                let labelled = |release: &&Release| matches!(release.selector, Selector::Label { .. });
                if named.is_empty() { policy.releases.iter().filter(labelled).collect() } else { named }
            }
            Self::Labelled { label, .. } => policy
                .releases
                .iter()
                .filter(|release| release.selector.covers(label, release.terms.shape.name()))
                .collect(),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Named(id) => format!("task {id}"),
            Self::Labelled { selector, .. } => selector.describe(),
        }
    }
}
