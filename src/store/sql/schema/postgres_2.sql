ALTER TABLE service_token_events ADD COLUMN client_address TEXT;

CREATE INDEX service_token_events_by_time ON service_token_events (at);

-- One row: the state of the store itself.
CREATE TABLE service_token_store (
    id             BIGINT PRIMARY KEY CHECK (id = 1),
    store_id       TEXT NOT NULL,
    initialized_at BIGINT, -- NULL until the store has had an administrator
    write_checks   BIGINT NOT NULL DEFAULT 0 -- counts the health checks that wrote
);
