-- One row, locked by whoever looks for a key or makes one: replicas that start together make one key, not two.
CREATE TABLE gateway_keyring (
    id         BIGINT NOT NULL PRIMARY KEY, -- always 1
    updated_by TEXT   NOT NULL              -- name of the transaction that last updated the row
);

INSERT INTO gateway_keyring (id, updated_by) VALUES (1, 'migration');

-- Keys to which clients seal their requests. One row per key pair.
CREATE TABLE gateway_keys (
    key_id     BIGINT NOT NULL PRIMARY KEY, -- the identifier clients name the key by, 0 to 255
    kem        BIGINT NOT NULL,             -- registered identifier of the key encapsulation mechanism
    ikm        BYTEA  NOT NULL,             -- input keying material, 32 bytes: the secret
    created_at BIGINT NOT NULL,             -- seconds since 1970
    updated_by TEXT   NOT NULL              -- name of the transaction that last updated the row
);
