-- The tickets for streams. The table is not part of the numbered schema versions: a ticket lives for
-- seconds, so another form of the table gets another name instead of a migration. The table
-- service_token_tickets of earlier versions is no longer used.

CREATE TABLE IF NOT EXISTS service_token_stream_tickets (
    digest BYTEA NOT NULL PRIMARY KEY, -- SHA-256 of the ticket
    token_id BIGINT NOT NULL,
    token_digest BYTEA NOT NULL,
    owner TEXT,
    rights BYTEA NOT NULL,
    expires_at BIGINT NOT NULL -- milliseconds since 1970
);

CREATE INDEX IF NOT EXISTS service_token_stream_tickets_by_token
    ON service_token_stream_tickets (token_id, expires_at);

CREATE INDEX IF NOT EXISTS service_token_stream_tickets_by_owner
    ON service_token_stream_tickets (owner, expires_at);

CREATE INDEX IF NOT EXISTS service_token_stream_tickets_by_expiry
    ON service_token_stream_tickets (expires_at);
