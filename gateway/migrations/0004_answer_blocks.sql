-- Answers that one process alone remembers, on SQLite: whatever is written together is one row, put behind the others, so that
-- a durable write touches the end of a table and not a page for each request. Two generations take turns in two tables, as
-- before. On PostgreSQL, where several processes ask each other for single requests, these tables stay empty.
CREATE TABLE gateway_blocks_even (
    answers BYTEA NOT NULL -- of each request: its digest (16 bytes), the length of its locked answer (4 bytes), the locked answer
);

-- The same of the generations with an odd number.
CREATE TABLE gateway_blocks_odd (
    answers BYTEA NOT NULL -- of each request: its digest (16 bytes), the length of its locked answer (4 bytes), the locked answer
);

-- On PostgreSQL each row is written twice, claimed and then answered: the second time finds room on the page of the first and
-- leaves the index alone. Nothing is ever deleted but all at once, so there is nothing to be vacuumed.
-- postgres: ALTER TABLE gateway_answers_even SET (fillfactor = 35, autovacuum_enabled = off);
-- postgres: ALTER TABLE gateway_answers_odd SET (fillfactor = 35, autovacuum_enabled = off);
