//! Derives every charge of a ledger again from the text of the policy that it names.

use std::collections::HashMap;

use super::{EntryKind, LedgerEntry};
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
///
/// `policies` are the texts that were ever in force.
pub fn verify_charges(entries: &[LedgerEntry], policies: &[Policy]) -> Result<(), NotDerived> {
    let mut known: HashMap<(&str, u32), (&Policy, Vec<ReleasePlan>)> = HashMap::new();
    for policy in policies {
        known.insert((policy.id(), policy.version()), (policy, policy.plans().collect()));
    }
    for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Charge) {
        let wrong = |what: String| NotDerived { sequence: entry.sequence, what };
        let PolicyRef { id, version, sha256 } = &entry.policy;
        let Some((policy, plans)) = known.get(&(id.as_str(), *version)) else {
            return Err(wrong(format!("the text of policy {id} v{version} is not kept")));
        };
        if policy.sha256() != *sha256 {
            return Err(wrong(format!("policy {id} v{version} is kept with another text than it names")));
        }
        let Some(plan) = plans.iter().find(|plan| plan.release_id() == entry.release_id) else {
            return Err(wrong(format!("policy {id} v{version} has no release \"{}\"", entry.release_id)));
        };
        follows(entry, plan).map_err(wrong)?;
    }
    Ok(())
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
    let derived = plan.counted(charge, counted.data);
    if *counted == derived {
        return Ok(());
    }
    Err("its window, measure or caps are not those of the policy".to_owned())
}
