-- What the contract test of the store works on.
CREATE TABLE grants (
    id BIGSERIAL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,  -- who may spend
    available BIGINT NOT NULL CHECK (available >= 0),
    token BYTEA,
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed'))
);
-- postgres: ALTER TABLE grants ALTER COLUMN token SET STORAGE EXTERNAL;
