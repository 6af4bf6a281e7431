-- Leader: what the helper still keeps and nobody here needs any more. The helper is asked to forget it, a few times.
CREATE TABLE leftovers (
    -- The piece.
    id BIGSERIAL PRIMARY KEY,
    -- The task.
    task BIGINT NOT NULL,
    -- Where the helper keeps it.
    url TEXT NOT NULL,
    -- How often the helper was asked and did not do it.
    attempts BIGINT NOT NULL,
    -- It is not asked before.
    next_try_at BIGINT NOT NULL
);
CREATE INDEX leftovers_due ON leftovers (next_try_at);
