-- Leader: what the helper said when it refused a release for good. Asked for again, the batch is answered from here for a
-- while: every request that went to the helper would be charged and given back, and leave entries in the ledger.
CREATE TABLE refused_releases (
    -- The task.
    task BIGINT NOT NULL,
    -- The batch: the encoded interval of the query, or the batch identifier.
    batch_key BYTEA NOT NULL,
    -- The helper's problem document, as JSON.
    problem TEXT NOT NULL,
    -- How often in a row it was refused.
    refusals BIGINT NOT NULL,
    -- How many reports the batch had.
    report_count BIGINT NOT NULL,
    -- SHA-256 of the text of the leader's policy then: under another one the helper is asked at once.
    policy_sha256 BYTEA NOT NULL,
    -- The helper is not asked before.
    ask_again_at BIGINT NOT NULL,
    PRIMARY KEY (task, batch_key)
);
