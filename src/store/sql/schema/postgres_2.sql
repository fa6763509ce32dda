-- Version 2: client addresses in the audit trail, and the state of the store.

ALTER TABLE service_token_events ADD COLUMN client_address TEXT;

CREATE INDEX service_token_events_by_time ON service_token_events (at);

-- One row: the state of the store itself.
CREATE TABLE service_token_store (
    id             BIGINT PRIMARY KEY CHECK (id = 1),
    store_id       TEXT NOT NULL,
    initialized_at BIGINT, -- NULL until the store has had an administrator
    write_checks   BIGINT NOT NULL DEFAULT 0 -- counts the health checks that wrote
);

-- A random ID. A database of version 1 with tokens in it has had an administrator.
INSERT INTO service_token_store (id, store_id, initialized_at)
SELECT 1, substr(encode(sha256(convert_to(
        concat_ws(' ', random(), random(), random(), clock_timestamp(), pg_backend_pid(), current_database()),
        'UTF8')), 'hex'), 1, 32), (SELECT MIN(listed_at) FROM service_tokens);

UPDATE service_token_schema SET version = 2;
