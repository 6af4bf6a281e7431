-- What the leader remembers of jobs that do not go as they should, and of VDAFs that take several rounds.

-- One word for why the last attempt did not settle the job, so that such jobs can be counted; NULL before the first.
ALTER TABLE aggregation_jobs ADD COLUMN reason TEXT;
-- When the first attempt ended that did not settle the job; NULL before.
ALTER TABLE aggregation_jobs ADD COLUMN waits_since BIGINT;
-- 1 once the helper may have counted reports of the job: from then on it is repeated as it is, and never cut in two.
ALTER TABLE aggregation_jobs ADD COLUMN in_doubt BIGINT NOT NULL DEFAULT 0;
-- The answers of the helper to the steps so far, each with its length before it, for VDAFs of several rounds; NULL for
-- those of one.
ALTER TABLE aggregation_jobs ADD COLUMN answers BYTEA;

-- The reports inside are not sent before: the helper found them to be too early.
ALTER TABLE segments ADD COLUMN not_before BIGINT NOT NULL DEFAULT 0;

-- The same words about a collection that could not be settled; NULL while nothing went wrong.
ALTER TABLE collection_jobs ADD COLUMN reason TEXT;
-- Why its last attempt failed, for the operator.
ALTER TABLE collection_jobs ADD COLUMN last_error TEXT;
-- When the first attempt failed; NULL before.
ALTER TABLE collection_jobs ADD COLUMN waits_since BIGINT;

-- Leader: how large the jobs of a task may be, where the helper has refused larger ones.
CREATE TABLE job_limits (
    -- The task.
    task BIGINT PRIMARY KEY,
    -- The most bytes of one request.
    bytes BIGINT NOT NULL,
    -- When the helper last refused a larger one: after a day, larger ones are tried again.
    learnt_at BIGINT NOT NULL
);
