-- The policies that were ever in force here: what the ledger names can be read again.
CREATE TABLE policies (
    -- The policy's own name.
    policy_id TEXT NOT NULL,
    -- Its version, which only grows.
    version BIGINT NOT NULL,
    -- SHA-256 of its text.
    sha256 BYTEA NOT NULL,
    -- The file as it was read.
    text TEXT NOT NULL,
    -- When it was first in force here.
    loaded_at BIGINT NOT NULL,
    PRIMARY KEY (policy_id, version)
);
