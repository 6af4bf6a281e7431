-- Anybody can upload, and so advertise tasks: those that came so are counted apart, and forgotten soon unless they are used.

-- 0: not with an upload, or whoever has the credential for the task has spoken of it since; 1: with an upload, and no
-- report was accepted yet; 2: with an upload, and a report was accepted.
ALTER TABLE tasks ADD COLUMN upload_trial BIGINT NOT NULL DEFAULT 0 CHECK (upload_trial BETWEEN 0 AND 2);
