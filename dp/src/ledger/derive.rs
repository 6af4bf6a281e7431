//! Derives every charge of a ledger again from the text of the policy that it names.

use std::collections::HashMap;

use super::{EntryKind, LedgerEntry};
use crate::accountant::Span;
use crate::plan::{PolicyRef, ReleasePlan};
use crate::policy::Policy;

/// An entry is not what the policy that it names would have had written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ledger entry {sequence}: {what}")]
pub struct NotDerived {
    /// The first such entry.
    pub sequence: u64,
    /// What is wrong with it.
    pub what: String,
}

/// Checks that every charge follows from its policy: that the policy's text is known by the hash that the entry names,
/// has such a release and such a budget, and that noise, cost, limit, window and caps are those that follow from it.
/// And that it is whole: every step of a release, a charge, a commit or a refund, is one entry for each budget that the
/// release charges, one after the other.
///
/// `policies` are the texts that were ever in force.
pub fn verify_charges(entries: &[LedgerEntry], policies: &[Policy]) -> Result<(), NotDerived> {
    let mut known: HashMap<(&str, u32), (&Policy, Vec<ReleasePlan>)> = HashMap::new();
    for policy in policies {
        known.insert((policy.id(), policy.version()), (policy, policy.plans().collect()));
    }
    let mut rest = entries;
    while let Some((first, after)) = rest.split_first() {
        if first.kind == EntryKind::AcceptedRestore {
            rest = after;
            continue;
        }
        let plan = plan_of(first, &known).map_err(|what| NotDerived { sequence: first.sequence, what })?;
        let (step, later) = rest.split_at(plan.charges().len().clamp(1, rest.len()));
        for entry in step.iter().filter(|entry| entry.kind == EntryKind::Charge) {
            follows(entry, plan).map_err(|what| NotDerived { sequence: entry.sequence, what })?;
        }
        whole(step, plan).map_err(|what| NotDerived { sequence: first.sequence, what })?;
        rest = later;
    }
    Ok(())
}

fn plan_of<'a, 'b>(
    entry: &'b LedgerEntry,
    known: &'a HashMap<(&'b str, u32), (&Policy, Vec<ReleasePlan>)>,
) -> Result<&'a ReleasePlan, String> {
    let PolicyRef { id, version, sha256 } = &entry.policy;
    let Some((policy, plans)) = known.get(&(id.as_str(), *version)) else {
        return Err(format!("the text of policy {id} v{version} is not kept"));
    };
    if policy.sha256() != *sha256 {
        return Err(format!("policy {id} v{version} is kept with another text than it names"));
    }
    let plan = plans.iter().find(|plan| plan.release_id() == entry.release_id);
    plan.ok_or_else(|| format!("policy {id} v{version} has no release \"{}\"", entry.release_id))
}

/// Whether the entries are one step of one release, with every budget of the plan.
fn whole(step: &[LedgerEntry], plan: &ReleasePlan) -> Result<(), String> {
    let Some(first) = step.first() else { return Ok(()) };
    for (at, charge) in plan.charges().iter().enumerate() {
        let there = step.get(at).is_some_and(|entry| {
            entry.budget_id == charge.budget_id
                && (entry.kind, &entry.key, &entry.policy) == (first.kind, &first.key, &first.policy)
                && (&entry.release_id, entry.created_at) == (&first.release_id, first.created_at)
                && data(entry) == data(first)
        });
        if !there {
            return Err(format!(
                "the {} of its release has no entry for budget \"{}\", which release \"{}\" charges",
                first.kind, charge.budget_id, first.release_id
            ));
        }
    }
    Ok(())
}

fn data(entry: &LedgerEntry) -> Option<Span> {
    entry.counted.as_ref().map(|counted| counted.data)
}

fn follows(entry: &LedgerEntry, plan: &ReleasePlan) -> Result<(), String> {
    let Some(charge) = plan.charges().iter().find(|charge| charge.budget_id == entry.budget_id) else {
        return Err(format!(
            "release \"{}\" does not charge budget \"{}\"",
            entry.release_id, entry.budget_id
        ));
    };
    let differs = |what: &str, entry: &dyn ToString, policy: &dyn ToString| {
        Err(format!("its {what} is {}, and the policy gives {}", entry.to_string(), policy.to_string()))
    };
    if entry.units != charge.units {
        return differs("cost", &entry.units, &charge.units);
    }
    if entry.limit != charge.limit {
        return differs("limit", &entry.limit, &charge.limit);
    }
    let mechanism = plan.mechanism().to_string();
    if entry.mechanism != mechanism {
        return differs("mechanism", &entry.mechanism, &mechanism);
    }
    let Some(counted) = &entry.counted else { return Ok(()) };
    plan.one_batch(counted.data).map_err(|too_wide| too_wide.to_string())?;
    let derived = plan.counted(charge, counted.data);
    if *counted == derived {
        return Ok(());
    }
    Err("its window, measure or caps are not those of the policy".to_owned())
}
