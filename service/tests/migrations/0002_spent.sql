CREATE TABLE spent (
    grant_id BIGINT NOT NULL REFERENCES grants (id),
    task BIGINT NOT NULL,
    PRIMARY KEY (grant_id, task)
);
