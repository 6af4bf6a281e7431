-- Budgets with windows on data time: what counts in which window follows from these columns.

-- When the reports of the batch were made: the first second, and the first after the last. NULL, like all columns below,
-- in entries that were written before budgets had windows; those count in full, for all time.
ALTER TABLE ledger ADD COLUMN data_from BIGINT;
ALTER TABLE ledger ADD COLUMN data_to BIGINT;
-- The window of the budget: lifetime, calendar:UNIT, or rolling:LENGTH:EPOCH in seconds.
ALTER TABLE ledger ADD COLUMN budget_window TEXT;
-- What the units count: epsilon or rho.
ALTER TABLE ledger ADD COLUMN measure TEXT;
-- The most reports of a privacy unit in one batch, and in one contribution_window, which is written like budget_window.
ALTER TABLE ledger ADD COLUMN per_batch BIGINT;
ALTER TABLE ledger ADD COLUMN per_window BIGINT;
ALTER TABLE ledger ADD COLUMN contribution_window TEXT;
-- The cost as pure epsilon, in units of 1e-12; NULL also where the noise was not Laplace.
ALTER TABLE ledger ADD COLUMN epsilon_units BIGINT;

-- What each budget has paid for and was not given back: the ledger, folded, so that a release can be judged without
-- reading all of it. Releases that count alike are one row.
CREATE TABLE budget_uses (
    -- The budget.
    budget_id TEXT NOT NULL,
    -- The identifier of the task, 32 bytes.
    task BYTEA NOT NULL,
    -- When the reports were made, on the grid of the budget: the first second, and the first after the last.
    span_from BIGINT NOT NULL,
    span_to BIGINT NOT NULL,
    -- What one release costs, in units of 1e-12.
    units BIGINT NOT NULL,
    -- The same as pure epsilon; -1 where the noise was not Laplace.
    epsilon_units BIGINT NOT NULL,
    -- The most reports of a privacy unit in one batch, and in one contribution_window.
    per_batch BIGINT NOT NULL,
    per_window BIGINT NOT NULL,
    contribution_window TEXT NOT NULL,
    -- How many releases.
    releases BIGINT NOT NULL CHECK (releases >= 0),
    PRIMARY KEY (budget_id, task, span_from, span_to, units, epsilon_units, per_batch, per_window, contribution_window)
);
INSERT INTO budget_uses (budget_id, task, span_from, span_to, units, epsilon_units, per_batch, per_window,
    contribution_window, releases)
SELECT budget_id, task, -253370764800, 253370764800, units, -1, 1, 4294967295, 'lifetime', CAST(SUM(n) AS BIGINT)
FROM (
    SELECT budget_id, task, units, 1 AS n FROM ledger WHERE kind = 'charge'
    UNION ALL
    SELECT budget_id, task, -units AS units, -1 AS n FROM ledger WHERE kind = 'refund'
) AS moves
GROUP BY budget_id, task, units
HAVING SUM(n) > 0;

-- What it said follows from budget_uses.
DROP TABLE budgets;
