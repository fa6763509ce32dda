-- Version 2: client addresses in the audit trail, and the state of the store.

ALTER TABLE service_token_events ADD COLUMN client_address TEXT;

CREATE INDEX service_token_events_by_time ON service_token_events (at);

-- One row: the state of the store itself.
CREATE TABLE service_token_store (
    id             INTEGER PRIMARY KEY CHECK (id = 1),
    store_id       TEXT NOT NULL,
    initialized_at INTEGER, -- NULL until the store has had an administrator
    write_checks   INTEGER NOT NULL DEFAULT 0 -- counts the health checks that wrote
) STRICT;

-- A random ID. A database of version 1 with tokens in it has had an administrator.
INSERT INTO service_token_store (id, store_id, initialized_at)
SELECT 1, lower(hex(randomblob(16))), (SELECT MIN(listed_at) FROM service_tokens);

UPDATE service_token_schema SET version = 2;
