-- Batches of the leader's choice (DAP 5.2): which batch a report is put in, and which collection gets which batch.

-- Leader: the batches of leader-selected tasks. How many reports one holds is counted in buckets and aggregation_jobs.
CREATE TABLE batches (
    -- The order in which they were begun: the oldest is filled and collected first.
    id BIGSERIAL PRIMARY KEY,
    -- The task.
    task BIGINT NOT NULL,
    -- The name that the helper is told, 32 random bytes.
    batch_id BYTEA NOT NULL,
    -- open: takes reports up to its target size; full: has them; collecting: belongs to a collection and takes no more;
    -- then collected, or failed: the helper can never release it.
    state TEXT NOT NULL CHECK (state IN ('open', 'full', 'collecting', 'collected', 'failed')),
    -- The collection it belongs to, 16 bytes; NULL while it belongs to none.
    collection BYTEA,
    -- The fewest reports to ask for it with: more than it had when it was refused as too small.
    needs BIGINT NOT NULL,
    -- How often a release of it was refused: those that were not go first.
    refusals BIGINT NOT NULL,
    -- The type of the problem it was last refused with, for the operator.
    last_problem TEXT,
    -- When it was begun.
    created_at BIGINT NOT NULL,
    UNIQUE (task, batch_id)
);
CREATE INDEX batches_task_state ON batches (task, state);

-- Leader, where it selects the batches: how many reports it puts in one; NULL: the minimum batch size.
ALTER TABLE tasks ADD COLUMN batch_target_size BIGINT;
-- The batch of all reports of the job; NULL for time intervals. Decided when the job is formed, sent with it, never changed.
ALTER TABLE aggregation_jobs ADD COLUMN batch_id BYTEA;
CREATE INDEX aggregation_jobs_batch ON aggregation_jobs (task, batch_id) WHERE batch_id IS NOT NULL AND state = 'active';

-- The batch that was picked for a query of a leader-selected task; NULL before that, and for time intervals.
ALTER TABLE collection_jobs ADD COLUMN batch_id BYTEA;
-- The path at which the helper keeps its share, once it said so.
ALTER TABLE collection_jobs ADD COLUMN helper_location TEXT;
