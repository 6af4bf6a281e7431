//! One line of the ledger and what it says.

use std::fmt;

use super::ChargeRequest;
use super::counted::Counted;
use crate::canonical::{Canonical, sha256};
use crate::plan::{Charge, PolicyRef, ReleasePlan};

/// What is released: one batch of one task under one aggregation parameter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseKey {
    task_id: [u8; 32],
    batch: Vec<u8>,
    aggregation_parameter: [u8; 32],
}

impl ReleaseKey {
    /// `batch` is any encoding that two batches never share; the aggregation parameter is hashed.
    pub fn new(task_id: [u8; 32], batch: &[u8], aggregation_parameter: &[u8]) -> Self {
        Self { task_id, batch: batch.to_vec(), aggregation_parameter: sha256(aggregation_parameter) }
    }

    /// Puts a stored key together again.
    pub fn from_parts(task_id: [u8; 32], batch: Vec<u8>, aggregation_parameter_sha256: [u8; 32]) -> Self {
        Self { task_id, batch, aggregation_parameter: aggregation_parameter_sha256 }
    }

    /// The task.
    pub fn task_id(&self) -> &[u8; 32] {
        &self.task_id
    }

    /// The batch, as it was given.
    pub fn batch(&self) -> &[u8] {
        &self.batch
    }

    /// SHA-256 of the aggregation parameter.
    pub fn aggregation_parameter_sha256(&self) -> &[u8; 32] {
        &self.aggregation_parameter
    }
}

/// What an entry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Takes from a budget.
    Charge,
    /// Makes a charge final; moves nothing.
    Commit,
    /// Gives a charge back.
    Refund,
}

impl EntryKind {
    /// The name that is stored and hashed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::Commit => "commit",
            Self::Refund => "refund",
        }
    }

    /// The kind with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Charge, Self::Commit, Self::Refund].into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a chain ends: its length and the hash of its last entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// Entries so far.
    pub sequence: u64,
    /// The hash of the last of them; zeros before the first.
    pub hash: [u8; 32],
}

impl ChainHead {
    /// The head of an empty ledger.
    pub const EMPTY: Self = Self { sequence: 0, hash: [0; 32] };
}

/// One line of the ledger. Every field is part of the hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Position in the chain, from 1.
    pub sequence: u64,
    /// What it does.
    pub kind: EntryKind,
    /// The budget.
    pub budget_id: String,
    /// Units taken; negative for a refund, zero for a commit.
    pub units: i64,
    /// The policy's limit at that time, in units.
    pub limit: i64,
    /// What was released.
    pub key: ReleaseKey,
    /// The `[[release]]` of the policy.
    pub release_id: String,
    /// The noise, as [`crate::Mechanism`] prints it.
    pub mechanism: String,
    /// How it counts against the budget; nothing in entries of the first schema, which count in full for all time.
    pub counted: Option<Counted>,
    /// The policy that decided.
    pub policy: PolicyRef,
    /// Seconds since 1970.
    pub created_at: u64,
    /// The hash of the entry before.
    pub prev_hash: [u8; 32],
    /// The hash of this entry.
    pub entry_hash: [u8; 32],
}

impl LedgerEntry {
    pub(super) fn charge(
        plan: &ReleasePlan,
        charge: &Charge,
        request: &ChargeRequest,
        head: ChainHead,
    ) -> Self {
        Self {
            sequence: 0,
            kind: EntryKind::Charge,
            budget_id: charge.budget_id.clone(),
            units: charge.units,
            limit: charge.limit,
            key: request.key.clone(),
            release_id: plan.release_id().to_owned(),
            mechanism: plan.mechanism().to_string(),
            counted: Some(plan.counted(charge, request.data)),
            policy: plan.policy().clone(),
            created_at: request.now,
            prev_hash: [0; 32],
            entry_hash: [0; 32],
        }
        .chained(head)
    }

    /// The entry that commits or refunds this charge.
    pub(super) fn settled(&self, kind: EntryKind, now: u64, head: ChainHead) -> Self {
        let units = if kind == EntryKind::Refund { self.units.saturating_neg() } else { 0 };
        Self { kind, units, created_at: now, ..self.clone() }.chained(head)
    }

    /// The head of a chain that ends with this entry.
    pub fn head(&self) -> ChainHead {
        ChainHead { sequence: self.sequence, hash: self.entry_hash }
    }

    fn chained(mut self, head: ChainHead) -> Self {
        self.sequence = head.sequence.saturating_add(1);
        self.prev_hash = head.hash;
        self.entry_hash = self.hash();
        self
    }

    /// SHA-256 of the entry as canonical JSON, without its own hash and with that of the entry before.
    pub(super) fn hash(&self) -> [u8; 32] {
        let schema = if self.counted.is_some() { "dp-ledger/2" } else { "dp-ledger/1" };
        let mut fields = vec![
            ("schema", Canonical::text(schema)),
            ("sequence", Canonical::text(&self.sequence)),
            ("kind", Canonical::text(&self.kind)),
            ("budget", Canonical::text(&self.budget_id)),
            ("units", Canonical::text(&self.units)),
            ("limit", Canonical::text(&self.limit)),
            ("task_id", Canonical::text(&hex::encode(self.key.task_id))),
            ("batch", Canonical::text(&hex::encode(&self.key.batch))),
            ("aggregation_parameter", Canonical::text(&hex::encode(self.key.aggregation_parameter))),
            ("release", Canonical::text(&self.release_id)),
            ("mechanism", Canonical::text(&self.mechanism)),
            ("policy_id", Canonical::text(&self.policy.id)),
            ("policy_version", Canonical::text(&self.policy.version)),
            ("policy_sha256", Canonical::text(&hex::encode(self.policy.sha256))),
            ("created_at", Canonical::text(&self.created_at)),
            ("prev_hash", Canonical::text(&hex::encode(self.prev_hash))),
        ];
        fields.extend(self.counted.iter().flat_map(Counted::canonical));
        sha256(Canonical::Object(fields).to_json().as_bytes())
    }
}
