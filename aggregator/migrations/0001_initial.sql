-- Everything an aggregator remembers, leader and helper alike, in the order a report travels.
--
-- Column types are BIGINT, TEXT and BYTEA only. Times of reports count units of the task's time precision;
-- columns that end in _at or _until are seconds since the Unix epoch. `task` is tasks.id; hot tables carry no foreign
-- key to it, because on PostgreSQL each insert would then lock the one row of the task.

-- What this aggregator was told about each task.
CREATE TABLE tasks (
    -- The key that other tables use.
    id BIGSERIAL PRIMARY KEY,
    -- The identifier that peers use, 32 bytes.
    task_id BYTEA NOT NULL UNIQUE,
    -- Which of the two aggregators this is for the task.
    role TEXT NOT NULL CHECK (role IN ('leader', 'helper')),
    -- The draft of the protocol the task speaks.
    draft TEXT NOT NULL,
    -- The task configuration, byte for byte as agreed: it is authenticated by every encryption.
    configuration BYTEA NOT NULL,
    -- The key both aggregators verify reports with; secret from clients and collector.
    verify_key BYTEA NOT NULL,
    -- The number peers name that key by.
    verification_key_id BIGINT NOT NULL,
    -- The collector's HPKE configuration, encoded.
    collector_hpke_config BYTEA NOT NULL,
    -- Leader: the bearer token it shows to the helper.
    peer_token TEXT,
    -- Helper: SHA-256 of the bearer token it expects from the leader.
    peer_token_hash BYTEA,
    -- Leader: SHA-256 of the bearer token it expects from the collector.
    collector_token_hash BYTEA,
    -- When the task was first given to this aggregator.
    created_at BIGINT NOT NULL
);

-- The aggregator's own HPKE keys, which clients seal input shares to.
CREATE TABLE hpke_keys (
    -- The identifier in the configuration, 0 to 255.
    config_id BIGINT PRIMARY KEY CHECK (config_id BETWEEN 0 AND 255),
    -- The public configuration, encoded.
    config BYTEA NOT NULL,
    -- The private key.
    private_key BYTEA NOT NULL,
    -- pending: may open, not yet advertised; active: advertised; expired: may open, no longer advertised.
    state TEXT NOT NULL CHECK (state IN ('pending', 'active', 'expired')),
    -- When the key was made.
    created_at BIGINT NOT NULL
);

-- The identifier of every report ever taken for a task: a second report of the same identifier is a replay.
CREATE TABLE report_ids (
    -- The task.
    task BIGINT NOT NULL,
    -- The identifier, 16 bytes.
    report_id BYTEA NOT NULL,
    PRIMARY KEY (task, report_id)
);

-- Leader: reports as they were received, many to a row, until they are aggregated.
CREATE TABLE segments (
    -- The order of arrival.
    id BIGSERIAL PRIMARY KEY,
    -- The task.
    task BIGINT NOT NULL,
    -- The aggregation job the reports belong to; NULL until one is formed.
    job BIGINT,
    -- How many reports are inside.
    report_count BIGINT NOT NULL CHECK (report_count > 0),
    -- The time of the earliest report.
    min_time BIGINT NOT NULL,
    -- The time of the latest report.
    max_time BIGINT NOT NULL,
    -- The reports, encoded, one after the other.
    reports BYTEA NOT NULL,
    -- When the reports were taken.
    created_at BIGINT NOT NULL
);
CREATE INDEX segments_task_job ON segments (task, job);
CREATE INDEX segments_job ON segments (job);
-- Shares are random bytes: trying to compress them is lost work.
-- postgres: ALTER TABLE segments ALTER COLUMN reports SET STORAGE EXTERNAL;

-- Leader: sets of reports that are verified with the helper in one exchange.
CREATE TABLE aggregation_jobs (
    -- The job.
    id BIGSERIAL PRIMARY KEY,
    -- The task.
    task BIGINT NOT NULL,
    -- active until the output shares are in the buckets, then finished.
    state TEXT NOT NULL CHECK (state IN ('active', 'finished')),
    -- Bitmap over the reports of the job's segments: which were sent. Frozen before anything is sent.
    included BYTEA,
    -- How many reports the segments hold.
    report_count BIGINT NOT NULL,
    -- How often the job was taken up.
    attempts BIGINT NOT NULL,
    -- Nobody else takes the job up before.
    lease_until BIGINT NOT NULL,
    -- Who holds the job: only the bearer may change it. NULL when nobody does.
    lease_token BYTEA,
    -- The path at which the helper keeps the job, once it said so.
    helper_location TEXT,
    -- Why the last attempt failed, for the operator.
    last_error TEXT,
    -- When the job was formed.
    created_at BIGINT NOT NULL
);
CREATE INDEX aggregation_jobs_state_lease ON aggregation_jobs (state, lease_until);

-- Helper: answers to aggregation requests, so that the same bytes get the same answer.
CREATE TABLE helper_jobs (
    -- The identifier in the job's path, 16 bytes.
    id BYTEA PRIMARY KEY,
    -- The task.
    task BIGINT NOT NULL,
    -- SHA-256 of the request.
    request_digest BYTEA NOT NULL,
    -- The answer, encoded.
    response BYTEA NOT NULL,
    -- When the request was answered.
    created_at BIGINT NOT NULL,
    UNIQUE (task, request_digest)
);
-- postgres: ALTER TABLE helper_jobs ALTER COLUMN response SET STORAGE EXTERNAL;

-- Sums of verified reports, not yet noised: never to leave this table but through a release.
CREATE TABLE buckets (
    -- The task.
    task BIGINT NOT NULL,
    -- The batch of a leader-selected task; empty for time intervals.
    batch_id BYTEA NOT NULL,
    -- The unit of time; 0 for leader-selected batches.
    time BIGINT NOT NULL,
    -- One bucket may be spread over several rows, so that writers need not wait for each other.
    shard BIGINT NOT NULL,
    -- This aggregator's share of the sum, encoded; NULL once it is scrubbed.
    share BYTEA,
    -- How many reports are summed.
    report_count BIGINT NOT NULL,
    -- The checksum over their identifiers, 32 bytes.
    checksum BYTEA NOT NULL,
    -- The time of the earliest.
    min_time BIGINT NOT NULL,
    -- The time of the latest.
    max_time BIGINT NOT NULL,
    PRIMARY KEY (task, batch_id, time, shard)
);
-- postgres: ALTER TABLE buckets ALTER COLUMN share SET STORAGE EXTERNAL;

-- What has been collected: nothing may be added there any more.
CREATE TABLE closed_intervals (
    -- The task.
    task BIGINT NOT NULL,
    -- The batch of a leader-selected task; empty for time intervals.
    batch_id BYTEA NOT NULL,
    -- The first unit of time inside; 0 for leader-selected batches.
    start_time BIGINT NOT NULL,
    -- The first unit of time after; 0 for leader-selected batches.
    end_time BIGINT NOT NULL,
    -- The release that collected it; 0 while a collection waits for the last reports under way.
    release_id BIGINT NOT NULL,
    PRIMARY KEY (task, batch_id, start_time)
);
CREATE INDEX closed_intervals_release ON closed_intervals (release_id);

-- How many reports met which end.
CREATE TABLE tallies (
    -- The task.
    task BIGINT NOT NULL,
    -- "aggregated", or the label of a report error.
    outcome TEXT NOT NULL,
    -- How many reports.
    reports BIGINT NOT NULL,
    PRIMARY KEY (task, outcome)
);

-- Leader: what collectors asked for.
CREATE TABLE collection_jobs (
    -- The identifier in the job's path, 16 bytes.
    id BYTEA PRIMARY KEY,
    -- The task.
    task BIGINT NOT NULL,
    -- The request, encoded.
    request BYTEA NOT NULL,
    -- SHA-256 of the request.
    request_digest BYTEA NOT NULL,
    -- pending: waits for its batch; closing: takes no more reports, waits for those under way; reserved: charged, the
    -- helper is being asked; abandoned: reserved, and deleted by the collector since; then released, failed or deleted.
    state TEXT NOT NULL
        CHECK (state IN ('pending', 'closing', 'reserved', 'abandoned', 'released', 'failed', 'deleted')),
    -- The newest segment that the batch still waits for: later ones cannot keep it waiting.
    fence BIGINT NOT NULL,
    -- The release, once reserved.
    release_id BIGINT,
    -- The answer, encoded, once released.
    response BYTEA,
    -- The problem document, JSON, once failed.
    problem TEXT,
    -- How often the job was taken up.
    attempts BIGINT NOT NULL,
    -- Nobody else takes the job up before.
    lease_until BIGINT NOT NULL,
    -- Who holds the job; NULL when nobody does.
    lease_token BYTEA,
    -- The job is not worth looking at before.
    next_try_at BIGINT NOT NULL,
    -- When the collector asked.
    created_at BIGINT NOT NULL
);
CREATE INDEX collection_jobs_task_state ON collection_jobs (task, state);
CREATE INDEX collection_jobs_due ON collection_jobs (next_try_at)
    WHERE state IN ('pending', 'closing', 'reserved', 'abandoned');
-- The same request is the same job for as long as that job is alive.
CREATE UNIQUE INDEX collection_jobs_live_request ON collection_jobs (task, request_digest)
    WHERE state IN ('pending', 'closing', 'reserved', 'released');

-- Noised, sealed aggregate shares: one per batch, drawn once, sent unchanged ever after.
CREATE TABLE releases (
    -- The release.
    id BIGSERIAL PRIMARY KEY,
    -- The task.
    task BIGINT NOT NULL,
    -- The batch: the encoded interval of the query, or the batch identifier.
    batch_key BYTEA NOT NULL,
    -- The collector's request that the release answers, encoded; empty at the helper.
    request BYTEA NOT NULL,
    -- Helper: SHA-256 of the leader's request.
    request_digest BYTEA,
    -- Helper: the identifier in the share's path, 16 bytes.
    share_id BYTEA UNIQUE,
    -- reserved: charged, not yet sent; committed: charged for good; refunded: refused by the helper, not charged.
    state TEXT NOT NULL CHECK (state IN ('reserved', 'committed', 'refunded')),
    -- How many reports the share sums.
    report_count BIGINT NOT NULL,
    -- The checksum over their identifiers.
    checksum BYTEA NOT NULL,
    -- The first unit of time that holds one of them.
    interval_start BIGINT NOT NULL,
    -- How many units of time lie from there through the last.
    interval_duration BIGINT NOT NULL,
    -- The noised share, sealed to the collector, encoded.
    sealed_share BYTEA NOT NULL,
    -- The policy that allowed the release.
    policy_id TEXT NOT NULL,
    -- Its version.
    policy_version BIGINT NOT NULL,
    -- SHA-256 of its text.
    policy_sha256 BYTEA NOT NULL,
    -- The mechanism that drew the noise, or "none".
    mechanism TEXT NOT NULL,
    -- When the noise was drawn.
    created_at BIGINT NOT NULL,
    UNIQUE (task, batch_key)
);
CREATE INDEX releases_task_digest ON releases (task, request_digest);
-- postgres: ALTER TABLE releases ALTER COLUMN sealed_share SET STORAGE EXTERNAL;

-- What is spent of each privacy budget: the sum of the ledger, guarded.
CREATE TABLE budgets (
    -- The budget and its window.
    budget_id TEXT PRIMARY KEY,
    -- The limit that the last charge was held against, in units of 1e-12.
    limit_units BIGINT NOT NULL CHECK (limit_units >= 0),
    -- What is spent, in the same units.
    spent BIGINT NOT NULL CHECK (spent >= 0)
);

-- Every movement of a privacy budget, each bound to the one before; nothing is ever changed or removed.
CREATE TABLE ledger (
    -- The order of the chain, from 1, without gaps.
    seq BIGINT PRIMARY KEY,
    -- The budget.
    budget_id TEXT NOT NULL,
    -- The identifier of the task, 32 bytes.
    task BYTEA NOT NULL,
    -- The batch that was released.
    batch_key BYTEA NOT NULL,
    -- SHA-256 of the aggregation parameter it was released under.
    parameter_sha256 BYTEA NOT NULL,
    -- What happened.
    kind TEXT NOT NULL CHECK (kind IN ('charge', 'commit', 'refund')),
    -- How much, in units of 1e-12.
    units BIGINT NOT NULL,
    -- The policy's limit at that time, in the same units.
    limit_units BIGINT NOT NULL,
    -- The policy that allowed it.
    policy_id TEXT NOT NULL,
    -- Its version.
    policy_version BIGINT NOT NULL,
    -- SHA-256 of its text.
    policy_sha256 BYTEA NOT NULL,
    -- The part of the policy that the task matched.
    policy_release TEXT NOT NULL,
    -- The mechanism that drew the noise.
    mechanism TEXT NOT NULL,
    -- The entry_hash of the entry before. Unique: the chain cannot fork.
    prev_hash BYTEA NOT NULL UNIQUE,
    -- SHA-256 over this entry and prev_hash.
    entry_hash BYTEA NOT NULL UNIQUE,
    -- When it happened.
    created_at BIGINT NOT NULL
);
CREATE INDEX ledger_task_batch ON ledger (task, batch_key);
