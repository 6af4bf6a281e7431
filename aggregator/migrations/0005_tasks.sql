-- Tasks are kept here and nowhere else: how each came, how long it is known, and when it was retired.

-- operator: from a task file, a command or the admin API; taskprov: from a request that advertised it.
ALTER TABLE tasks ADD COLUMN origin TEXT NOT NULL DEFAULT 'operator' CHECK (origin IN ('operator', 'taskprov'));
-- When the task is forgotten, some time after its end; NULL: never.
ALTER TABLE tasks ADD COLUMN expires_at BIGINT;
-- When the operator ended the task: no report is taken since. NULL: it is active.
ALTER TABLE tasks ADD COLUMN retired_at BIGINT;
