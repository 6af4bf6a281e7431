-- Who takes on a restored ledger leaves an entry in it. A list of kinds cannot be made longer in place on every database,
-- so the ledger moves, entry by entry and unchanged, into a table that knows one kind more.
CREATE TABLE ledger_moved (
    -- The order of the chain, from 1, without gaps.
    seq BIGINT PRIMARY KEY,
    -- The budget; empty, like all that tells of a release, in an accepted restore.
    budget_id TEXT NOT NULL,
    -- The identifier of the task, 32 bytes.
    task BYTEA NOT NULL,
    -- The batch that was released.
    batch_key BYTEA NOT NULL,
    -- SHA-256 of the aggregation parameter it was released under.
    parameter_sha256 BYTEA NOT NULL,
    -- What happened.
    kind TEXT NOT NULL CHECK (kind IN ('charge', 'commit', 'refund', 'accepted_restore')),
    -- How much, in units of 1e-12.
    units BIGINT NOT NULL,
    -- The policy's limit at that time, in the same units.
    limit_units BIGINT NOT NULL,
    -- The policy that allowed it.
    policy_id TEXT NOT NULL,
    -- Its version.
    policy_version BIGINT NOT NULL,
    -- SHA-256 of its text.
    policy_sha256 BYTEA NOT NULL,
    -- The part of the policy that the task matched.
    policy_release TEXT NOT NULL,
    -- The mechanism that drew the noise.
    mechanism TEXT NOT NULL,
    -- The entry_hash of the entry before. Unique: the chain cannot fork.
    prev_hash BYTEA NOT NULL UNIQUE,
    -- SHA-256 over this entry and prev_hash.
    entry_hash BYTEA NOT NULL UNIQUE,
    -- When it happened.
    created_at BIGINT NOT NULL,
    -- When the reports of the batch were made. NULL, like the seven columns below, in entries from before there were windows.
    data_from BIGINT,
    data_to BIGINT,
    -- The window of the budget: lifetime, calendar:UNIT, or rolling:LENGTH:EPOCH in seconds.
    budget_window TEXT,
    -- What the units count: epsilon or rho.
    measure TEXT,
    -- The most reports of a privacy unit in one batch, and in one contribution_window, which is written like budget_window.
    per_batch BIGINT,
    per_window BIGINT,
    contribution_window TEXT,
    -- The cost as pure epsilon, in units of 1e-12; NULL also where the noise was not Laplace.
    epsilon_units BIGINT,
    -- Who accepted a restore, why, and what was missing; NULL in entries of other kinds.
    note TEXT
);
INSERT INTO ledger_moved (seq, budget_id, task, batch_key, parameter_sha256, kind, units, limit_units, policy_id,
    policy_version, policy_sha256, policy_release, mechanism, prev_hash, entry_hash, created_at, data_from, data_to,
    budget_window, measure, per_batch, per_window, contribution_window, epsilon_units)
SELECT seq, budget_id, task, batch_key, parameter_sha256, kind, units, limit_units, policy_id,
    policy_version, policy_sha256, policy_release, mechanism, prev_hash, entry_hash, created_at, data_from, data_to,
    budget_window, measure, per_batch, per_window, contribution_window, epsilon_units
FROM ledger;
DROP TABLE ledger;
ALTER TABLE ledger_moved RENAME TO ledger;
CREATE INDEX ledger_task_batch ON ledger (task, batch_key);
