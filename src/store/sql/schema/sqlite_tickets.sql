-- The tickets for streams. The table is not part of the numbered schema versions: a ticket lives for
-- seconds, so another form of the table gets another name instead of a migration. The table
-- service_token_tickets of earlier versions is no longer used.

CREATE TABLE IF NOT EXISTS service_token_stream_tickets (
    digest BLOB NOT NULL PRIMARY KEY, -- SHA-256 of the ticket
    token_id INTEGER NOT NULL,
    token_digest BLOB NOT NULL,
    owner TEXT,
    rights BLOB NOT NULL,
    expires_at INTEGER NOT NULL -- milliseconds since 1970
);

CREATE INDEX IF NOT EXISTS service_token_stream_tickets_by_token
    ON service_token_stream_tickets (token_id, expires_at);

CREATE INDEX IF NOT EXISTS service_token_stream_tickets_by_owner
    ON service_token_stream_tickets (owner, expires_at);

CREATE INDEX IF NOT EXISTS service_token_stream_tickets_by_expiry
    ON service_token_stream_tickets (expires_at);
