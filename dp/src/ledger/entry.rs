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
    /// An operator took a ledger for the truth that had come farther, or that nobody could vouch for; moves nothing.
    AcceptedRestore,
}

impl EntryKind {
    /// The name that is stored and hashed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::Commit => "commit",
            Self::Refund => "refund",
            Self::AcceptedRestore => "accepted_restore",
        }
    }

    /// The kind with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        let kinds = [Self::Charge, Self::Commit, Self::Refund, Self::AcceptedRestore];
        kinds.into_iter().find(|kind| kind.name() == name)
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
    /// Who accepted a restored ledger, why, and what was missing; nothing in entries of other kinds.
    pub note: Option<String>,
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
            note: None,
            created_at: request.now,
            prev_hash: [0; 32],
            entry_hash: [0; 32],
        }
        .chained(head)
    }

    /// The entry by which an operator takes on a ledger that ends at `head`, and answers for what is missing. It is of no
    /// release and of no budget, and is there to be seen.
    pub fn accepted_restore(note: String, now: u64, head: ChainHead) -> Self {
        Self {
            sequence: 0,
            kind: EntryKind::AcceptedRestore,
            budget_id: String::new(),
            units: 0,
            limit: 0,
            key: ReleaseKey::from_parts([0; 32], Vec::new(), [0; 32]),
            release_id: String::new(),
            mechanism: String::new(),
            counted: None,
            policy: PolicyRef { id: String::new(), version: 0, sha256: [0; 32] },
            note: Some(note),
            created_at: now,
            prev_hash: [0; 32],
            entry_hash: [0; 32],
        }
        .chained(head)
    }

    /// Whether the entry moves nothing, of no release, and says by its note what it is for.
    pub(super) fn is_bare_note(&self) -> bool {
        let Some(note) = self.note.clone() else { return false };
        let head = ChainHead { sequence: self.sequence.saturating_sub(1), hash: self.prev_hash };
        !note.is_empty() && *self == Self::accepted_restore(note, self.created_at, head)
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
        let schema = match (&self.note, &self.counted) {
            (Some(_), _) => "dp-ledger/3",
            (None, Some(_)) => "dp-ledger/2",
            (None, None) => "dp-ledger/1",
        };
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
        fields.extend(self.note.iter().map(|note| ("note", Canonical::text(note))));
        sha256(Canonical::Object(fields).to_json().as_bytes())
    }
}
