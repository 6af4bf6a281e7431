-- Answers that are remembered for requests that are sent again. Two generations take turns in two tables, and the older
-- one is emptied whole: nothing is ever searched for what is old enough to go.
CREATE TABLE gateway_memory (
    id            BIGINT NOT NULL PRIMARY KEY, -- always 1; there from the first start on
    generation    BIGINT NOT NULL,             -- grows by one at each turn; even and odd ones have a table each
    since         BIGINT NOT NULL,             -- when this generation began, in seconds since 1970
    promised_from BIGINT NOT NULL,             -- since when answers are remembered at all, in seconds since 1970
    updated_by    TEXT   NOT NULL              -- name of the transaction that last updated the row
);

-- Answers of the generations with an even number. Rows say nothing of the request but the digest of its public head,
-- and nothing of when it came.
CREATE TABLE gateway_answers_even (
    enc           BYTEA  NOT NULL PRIMARY KEY, -- first 16 bytes of the SHA-256 of the encapsulated key: names one ciphertext
    answer        BYTEA,                       -- what the target answered, as binary HTTP; NULL while nobody knows
    claimed_until BIGINT NOT NULL              -- until when the replica that asks the target may take, in seconds since 1970
);

-- The same of the generations with an odd number.
CREATE TABLE gateway_answers_odd (
    enc           BYTEA  NOT NULL PRIMARY KEY, -- first 16 bytes of the SHA-256 of the encapsulated key: names one ciphertext
    answer        BYTEA,                       -- what the target answered, as binary HTTP; NULL while nobody knows
    claimed_until BIGINT NOT NULL              -- until when the replica that asks the target may take, in seconds since 1970
);
