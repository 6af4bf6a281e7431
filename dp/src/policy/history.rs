//! A policy and what went before it: versions that were loaded, and budgets that were charged.

use std::sync::Arc;

use mica_diagnostic::{Diagnostic, Severity};

use super::budget::{Budget, PrivacyUnit};
use super::diff::places::moves;
use super::release::Release;
use super::unmatched::Unmatched;
use super::{Place, Policy};
use crate::accountant::{Span, Window, format_second};
use crate::plan::PolicyRef;
use crate::sensitivity::NeighboringRelation;
use crate::units::format_units;

/// A budget that has charges, as the policy defined it under which they were made.
#[derive(Clone, Debug)]
pub struct ChargedBudget {
    id: String,
    unit: PrivacyUnit,
    relation: NeighboringRelation,
    dp_variant: &'static str,
    window: Window,
    spent: i64,
    until: Option<i64>,
    policy: Option<Arc<Policy>>,
}

impl ChargedBudget {
    /// `budget` of the policy that the charges name; `spent` units in its fullest window that still counts.
    pub fn new(budget: &Budget, spent: i64) -> Self {
        Self {
            id: budget.id.clone(),
            unit: budget.unit,
            relation: budget.relation,
            dp_variant: budget.limit.dp_variant(),
            window: budget.window,
            spent,
            until: None,
            policy: None,
        }
    }

    /// The same budget, whose charges count beside data from before this second; the end of [`Span::ALL`] when for all time.
    #[must_use]
    pub fn counting_until(self, second: Option<i64>) -> Self {
        Self { until: second, ..self }
    }

    /// The same budget, charged by the releases of this policy.
    #[must_use]
    pub fn charged_by(self, policy: Arc<Policy>) -> Self {
        Self { policy: Some(policy), ..self }
    }
}

impl Policy {
    /// E050: whether this policy may follow the newest version of the same policy that was ever loaded. Versions only
    /// grow, and a version has one text: otherwise one charge could be read as two promises.
    pub fn check_version(&self, newest: &PolicyRef) -> Option<Diagnostic> {
        if self.origin.id != newest.id || self.origin == *newest || self.origin.version > newest.version {
            return None;
        }
        let (id, loaded) = (&self.origin.id, newest.version);
        let (what, fix) = if self.origin.version == loaded {
            (
                format!("policy {id} v{loaded} is already loaded with another sha256"),
                format!("write version = {}: each version has one text", loaded.saturating_add(1)),
            )
        } else {
            (
                format!("policy {id} v{loaded} is loaded already, and versions only grow"),
                format!("write version = {} to go back to these rules", loaded.saturating_add(1)),
            )
        };
        Some(self.finding(&["policy", "version"], "E050", what, fix))
    }

    /// What is wrong between this policy and budgets that have charges: E052 where a charge would be read as another
    /// promise than it was made under, W051 where more is spent than the new limit allows, W053 where what was spent
    /// would be forgotten: the budget is not charged any more, or not for some tasks, and another in its place would begin
    /// at nothing.
    pub fn check_history(&self, charged: &[ChargedBudget]) -> Vec<Diagnostic> {
        let mut findings = Vec::new();
        for before in charged {
            findings.extend(self.check_left(before));
            let Some(now) = self.budget(&before.id) else { continue };
            let differences = changed(before, now);
            if !differences.is_empty() {
                let what = format!(
                    "budget \"{}\" has charges and changes its {}",
                    now.id,
                    differences.join(" and ")
                );
                let fix = "create a new budget id; history cannot be re-interpreted";
                findings.push(self.at(now.place, "E052", Severity::Error, what, fix));
            } else if before.spent > now.limit_units {
                let what = format!(
                    "budget \"{}\": {} is already spent of the new limit {}",
                    now.id,
                    format_units(before.spent),
                    format_units(now.limit_units)
                );
                let fix = "releases stop until the window moves; allow W051 if that is meant";
                findings.push(self.at(now.place, "W051", Severity::Warning, what, fix));
            }
        }
        findings
    }

    /// W053, for one budget.
    fn check_left(&self, before: &ChargedBudget) -> Option<Diagnostic> {
        let until = before.until?;
        let whose = self.left_by(before)?;
        let id = &before.id;
        let until = if until < Span::ALL.to() {
            format!("until {}", format_second(until))
        } else {
            "for all time".to_owned()
        };
        let what = format!(
            "budget \"{id}\" has charges that count {until}, and this policy does not charge it{whose} any more: releases of \
             the same data would begin at nothing"
        );
        let fix = format!("let its releases charge \"{id}\" too, or allow W053 if that is meant");
        let place = self.budget(id).map(|budget| budget.place);
        Some(match place {
            Some(place) => self.at(place, "W053", Severity::Warning, what, fix),
            None => self.warning(&["policy", "id"], "W053", what, fix),
        })
    }

    /// Whose releases charge the budget no more: empty for all, and nothing where none has left it. A task is followed to
    /// the release that it gets now; one that gets none is not released under noise.
    fn left_by(&self, before: &ChargedBudget) -> Option<String> {
        let pays = |release: &Release| release.charges.iter().any(|charge| charge.budget_id == before.id);
        if !self.releases.iter().any(pays) {
            return Some(String::new());
        }
        let old = before.policy.as_deref().filter(|old| old.sha256() != self.sha256())?;
        let left = moves(old, self).into_iter();
        let left = left.filter(|it| pays(it.old) && it.new.is_some_and(|now| !pays(now)));
        let mut tasks: Vec<String> = left.map(|it| it.tasks).collect();
        tasks.dedup();
        (!tasks.is_empty()).then(|| format!(" for {}", tasks.join(" and ")))
    }

    /// W054: `before`, the policy that was in force here last, has another name, and there are tasks that it served.
    /// Versions are counted by the name, so nothing else compares the two.
    pub fn check_name(&self, before: &PolicyRef) -> Option<Diagnostic> {
        if before.id == self.origin.id {
            return None;
        }
        let PolicyRef { id, version, .. } = before;
        let what = format!(
            "policy {id} v{version} was in force for the tasks here, and this one has another id: its version is held \
             against none of {id}"
        );
        let next = version.saturating_add(1);
        let fix =
            format!("write id = \"{id}\" and version = {next}, or allow W054 if another policy is meant");
        Some(self.warning(&["policy", "id"], "W054", what, fix))
    }

    fn warning(&self, path: &[&str], code: &str, what: String, fix: String) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..self.finding(path, code, what, fix) }
    }

    /// E042: what the policy allowed until a day that is over. `now` is in seconds since 1970.
    pub fn check_time(&self, now: u64) -> Vec<Diagnostic> {
        match &self.unmatched {
            Unmatched::ReleaseWithoutDp { last_day, expires, .. } if now >= *expires => {
                let what = format!("unmatched.action = \"release_without_dp\" expired on {last_day}");
                let fix =
                    "review the decision: give it a new day in a new version, or write action = \"refuse\"";
                vec![self.finding(&["unmatched", "expires"], "E042", what, fix)]
            }
            _ => Vec::new(),
        }
    }

    /// A finding at a place of this file.
    pub(super) fn at(
        &self,
        place: Place,
        code: &str,
        severity: Severity,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> Diagnostic {
        let (file, code) = (self.file.clone(), code.to_owned());
        Diagnostic {
            file,
            line: place.line,
            col: place.col,
            code,
            severity,
            what: what.into(),
            fix: fix.into(),
        }
    }
}

/// What a charge means and the new budget reads otherwise.
fn changed(before: &ChargedBudget, now: &Budget) -> Vec<&'static str> {
    [
        (before.unit != now.unit, "privacy_unit"),
        (before.relation != now.relation, "neighboring_relation"),
        (before.dp_variant != now.limit.dp_variant(), "dp_variant"),
        (before.window != now.window, "window"),
    ]
    .into_iter()
    .filter_map(|(is_changed, what)| is_changed.then_some(what))
    .collect()
}
