//! Derives every charge of a ledger again from the text of the policy that it names.

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
    let mut verifier = ChargeVerifier::new(policies);
    for entry in entries {
        verifier.push(entry)?;
    }
    verifier.finish()
}

/// The same entry by entry, for a ledger that is too long to be held: it holds the entries of one step.
pub struct ChargeVerifier<'p> {
    known: Vec<(&'p Policy, Vec<ReleasePlan>)>,
    step: Vec<LedgerEntry>,
}

impl<'p> ChargeVerifier<'p> {
    /// `policies` are the texts that were ever in force.
    pub fn new(policies: &'p [Policy]) -> Self {
        let known = policies.iter().map(|policy| (policy, policy.plans().collect())).collect();
        Self { known, step: Vec::new() }
    }

    /// The next entry. After an error there is nothing more to find out.
    pub fn push(&mut self, entry: &LedgerEntry) -> Result<(), NotDerived> {
        if self.step.is_empty() && entry.kind == EntryKind::AcceptedRestore {
            return Ok(());
        }
        self.step.push(entry.clone());
        self.judge(false)
    }

    /// Whether the last step is whole.
    pub fn finish(mut self) -> Result<(), NotDerived> {
        self.judge(true)
    }

    /// Judges the step once all its entries are there, or no more of them come.
    fn judge(&mut self, at_the_end: bool) -> Result<(), NotDerived> {
        let Some(first) = self.step.first() else { return Ok(()) };
        let plan = self.plan_of(first).map_err(|what| NotDerived { sequence: first.sequence, what })?;
        if self.step.len() < plan.charges().len() && !at_the_end {
            return Ok(());
        }
        for entry in self.step.iter().filter(|entry| entry.kind == EntryKind::Charge) {
            follows(entry, plan).map_err(|what| NotDerived { sequence: entry.sequence, what })?;
        }
        whole(&self.step, plan).map_err(|what| NotDerived { sequence: first.sequence, what })?;
        self.step.clear();
        Ok(())
    }

    fn plan_of<'a>(&'a self, entry: &LedgerEntry) -> Result<&'a ReleasePlan, String> {
        let PolicyRef { id, version, sha256 } = &entry.policy;
        let named = |(policy, _): &&(&Policy, _)| (policy.id(), policy.version()) == (id.as_str(), *version);
        let Some((policy, plans)) = self.known.iter().find(named) else {
            return Err(format!("the text of policy {id} v{version} is not kept"));
        };
        if policy.sha256() != *sha256 {
            return Err(format!("policy {id} v{version} is kept with another text than it names"));
        }
        let plan = plans.iter().find(|plan| plan.release_id() == entry.release_id);
        plan.ok_or_else(|| format!("policy {id} v{version} has no release \"{}\"", entry.release_id))
    }
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
