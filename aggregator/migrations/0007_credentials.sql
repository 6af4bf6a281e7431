-- Peers may be known by certificate, besides or instead of a token.

-- Helper: the client certificates that the leader may show, as words sha256:HEX or name:NAME; NULL: the token is enough.
ALTER TABLE tasks ADD COLUMN peer_certificates TEXT;
-- Leader: the client certificates that the collector may show, written the same way.
ALTER TABLE tasks ADD COLUMN collector_certificates TEXT;
