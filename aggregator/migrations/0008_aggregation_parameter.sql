-- What a leader counts, where the VDAF of the task takes an aggregation parameter.

-- Leader: the aggregation parameter of all batches of the task, encoded; NULL: the empty one.
ALTER TABLE tasks ADD COLUMN aggregation_parameter BYTEA;
