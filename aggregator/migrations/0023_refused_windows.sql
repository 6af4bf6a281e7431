-- Leader: the windows of budgets for which the helper refused a release, and not only that of one batch: until it is asked
-- again, every batch of the task whose data meet such a window is answered from here. Otherwise each of the many intervals
-- in a window would be worth a charge that is given back, and the ledger would grow with every one of them.
CREATE TABLE refused_windows (
    -- The task.
    task BIGINT NOT NULL,
    -- The helper's budget; empty where the refusals of too many batches are remembered as one.
    budget TEXT NOT NULL,
    -- The first second of its window.
    window_from BIGINT NOT NULL,
    -- The first second after it.
    window_to BIGINT NOT NULL,
    -- The helper's problem document, as JSON.
    problem TEXT NOT NULL,
    -- How often in a row it refused batches there.
    refusals BIGINT NOT NULL,
    -- SHA-256 of the text of the leader's policy then: under another one the helper is asked at once.
    policy_sha256 BYTEA NOT NULL,
    -- The helper is not asked before.
    ask_again_at BIGINT NOT NULL,
    PRIMARY KEY (task, budget, window_from, window_to)
);
