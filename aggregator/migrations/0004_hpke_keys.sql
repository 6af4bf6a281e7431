-- The life of an HPKE key, which its row decides for every replica.
CREATE TABLE hpke_keys_with_life (
    -- The identifier in the configuration, 0 to 255.
    config_id BIGINT PRIMARY KEY CHECK (config_id BETWEEN 0 AND 255),
    -- The public configuration, encoded.
    config BYTEA NOT NULL,
    -- The private key; NULL once it is destroyed.
    private_key BYTEA,
    -- pending: may open, not yet advertised; active: advertised; expired: may open until leaves_at, no longer advertised;
    -- destroyed: opens nothing, and its identifier is not given to another key before leaves_at.
    state TEXT NOT NULL CHECK (state IN ('pending', 'active', 'expired', 'destroyed')),
    -- When the key was made.
    created_at BIGINT NOT NULL,
    -- When it came into its state.
    entered_at BIGINT NOT NULL,
    -- When it is to leave its state; NULL while it is advertised: the schedule decides.
    leaves_at BIGINT,
    -- The longest time in seconds for which clients were told to keep its configuration.
    cached_for BIGINT NOT NULL,
    CHECK ((private_key IS NULL) = (state = 'destroyed'))
);
-- Before there was a schedule, clients were told to keep a configuration for a day.
INSERT INTO hpke_keys_with_life
    (config_id, config, private_key, state, created_at, entered_at, leaves_at, cached_for)
    SELECT config_id, config, private_key, state, created_at, created_at,
        CASE WHEN state = 'active' THEN NULL ELSE created_at END, 86400
    FROM hpke_keys;
DROP TABLE hpke_keys;
ALTER TABLE hpke_keys_with_life RENAME TO hpke_keys;
