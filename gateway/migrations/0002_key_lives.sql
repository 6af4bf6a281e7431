-- The life of a key, which its row decides for every replica. No row is written anew: that could leave a copy of a secret in
-- the file. From here on, `ikm` is empty once a key is destroyed.

-- pending: may open, not yet advertised; advertised; accepted: may open until leaves_at, no longer advertised; destroyed: opens
-- nothing, and its identifier is not given to another key before leaves_at.
ALTER TABLE gateway_keys ADD COLUMN state TEXT NOT NULL DEFAULT 'advertised'
    CHECK (state IN ('pending', 'advertised', 'accepted', 'destroyed') AND (length(ikm) = 0) = (state = 'destroyed'));

-- When the key came into its state, in seconds since 1970; 0 for a key that was made before there were states: when it was made.
ALTER TABLE gateway_keys ADD COLUMN entered_at BIGINT NOT NULL DEFAULT 0;

-- When it is to leave its state; NULL while it is advertised: the schedule decides.
ALTER TABLE gateway_keys ADD COLUMN leaves_at BIGINT;

-- The longest time in seconds for which clients were told to keep its configuration; a day was usual before there was a schedule.
ALTER TABLE gateway_keys ADD COLUMN cached_for BIGINT NOT NULL DEFAULT 86400;

-- Of each KEM one key at most in each state that opens, whatever any replica does.
CREATE UNIQUE INDEX gateway_keys_open ON gateway_keys (kem, state) WHERE state <> 'destroyed';

-- What the history of the published lists is signed with. One row.
CREATE TABLE gateway_history_key (
    id         BIGINT NOT NULL PRIMARY KEY CHECK (id = 1), -- always 1
    seed       BYTEA  NOT NULL,                            -- seed of an Ed25519 key pair, 32 bytes: the secret
    updated_by TEXT   NOT NULL                             -- name of the transaction that last updated the row
);

-- Every list that was ever published. One row per list; never changed, never removed.
CREATE TABLE gateway_key_history (
    number     BIGINT NOT NULL PRIMARY KEY, -- 1, 2, 3, ...
    since      BIGINT NOT NULL,             -- from when on the list is published, in seconds since 1970
    list       BYTEA  NOT NULL,             -- the list, as it is served (application/ohttp-keys)
    previous   BYTEA  NOT NULL,             -- hash of the entry before, 32 bytes; zeros in the first
    hash       BYTEA  NOT NULL,             -- SHA-256 of what the entry says, 32 bytes
    signature  BYTEA  NOT NULL,             -- Ed25519 signature of the hash, 64 bytes
    updated_by TEXT   NOT NULL              -- name of the transaction that wrote the row
);
