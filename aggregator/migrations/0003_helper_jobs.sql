-- The helper's jobs and shares as resources that may be worked on later, taken further step by step, and deleted.

-- waiting: to be worked on, see helper_work; ready: `response` is the answer to the latest step; failed: `problem` is;
-- deleted: nothing is left but the digest, so that the same request is not taken for a new one.
ALTER TABLE helper_jobs ADD COLUMN state TEXT NOT NULL DEFAULT 'ready'
    CHECK (state IN ('waiting', 'ready', 'failed', 'deleted'));
-- The latest step that was begun.
ALTER TABLE helper_jobs ADD COLUMN step BIGINT NOT NULL DEFAULT 0;
-- SHA-256 of the continuation that began it; NULL at step 0.
ALTER TABLE helper_jobs ADD COLUMN step_digest BYTEA;
-- The problem document, JSON, once failed.
ALTER TABLE helper_jobs ADD COLUMN problem TEXT;

-- Helper: requests that were taken in and are worked on later. A row is gone once the work is done.
CREATE TABLE helper_work (
    -- The job or the aggregate share, 16 bytes.
    id BYTEA PRIMARY KEY,
    -- The task.
    task BIGINT NOT NULL,
    -- What is to be done: begin a job, take it one step further, or release an aggregate share.
    kind TEXT NOT NULL CHECK (kind IN ('init', 'continue', 'share')),
    -- The request, as it was received.
    request BYTEA NOT NULL,
    -- How often the work was taken up.
    attempts BIGINT NOT NULL,
    -- Nobody else takes the work up before.
    lease_until BIGINT NOT NULL,
    -- Who holds it: only the bearer may settle it. NULL when nobody does.
    lease_token BYTEA,
    -- When the request was taken in.
    created_at BIGINT NOT NULL
);
CREATE INDEX helper_work_task_lease ON helper_work (task, lease_until);
-- postgres: ALTER TABLE helper_work ALTER COLUMN request SET STORAGE EXTERNAL;

-- Helper: aggregate shares that were asked for and are not released: those that are stand in releases.
CREATE TABLE helper_shares (
    -- The identifier in the share's path, 16 bytes.
    id BYTEA PRIMARY KEY,
    -- The task.
    task BIGINT NOT NULL,
    -- SHA-256 of the leader's request.
    request_digest BYTEA NOT NULL,
    -- waiting: to be worked on, see helper_work; failed: `problem` is the answer, and the same request is a new one.
    state TEXT NOT NULL CHECK (state IN ('waiting', 'failed')),
    -- The problem document, JSON, once failed.
    problem TEXT,
    -- When the leader asked.
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX helper_shares_waiting ON helper_shares (task, request_digest) WHERE state = 'waiting';

-- Helper: what is kept of the reports of a job between two steps, for VDAFs of more than one round.
CREATE TABLE helper_states (
    -- The job, 16 bytes.
    job BYTEA PRIMARY KEY,
    -- The aggregation parameter of the job.
    parameter BYTEA NOT NULL,
    -- The batch of a leader-selected task; empty for time intervals.
    batch_id BYTEA NOT NULL,
    -- Identifier, time and verification state of each report that goes on, in the order of the job. As secret as shares.
    states BYTEA NOT NULL
);
-- postgres: ALTER TABLE helper_states ALTER COLUMN states SET STORAGE EXTERNAL;

-- The aggregation parameter that the shares in a bucket were made under, for VDAFs that take one.
CREATE TABLE bucket_parameters (
    -- The task.
    task BIGINT NOT NULL,
    -- As in buckets.
    batch_id BYTEA NOT NULL,
    -- As in buckets.
    time BIGINT NOT NULL,
    -- The parameter.
    parameter BYTEA NOT NULL,
    PRIMARY KEY (task, batch_id, time)
);
