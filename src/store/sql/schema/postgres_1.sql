-- Version 1 of the tables of tower-service-token. To create them by hand, run the scripts of all
-- versions in order and in one transaction.

-- One row: the version of the tables.
CREATE TABLE IF NOT EXISTS service_token_schema (version BIGINT NOT NULL);
DELETE FROM service_token_schema;
INSERT INTO service_token_schema (version) VALUES (1);

CREATE TABLE service_tokens (
    id              BIGINT PRIMARY KEY,
    digest          BYTEA NOT NULL CONSTRAINT service_tokens_digest UNIQUE,
    previous_digest BYTEA CONSTRAINT service_tokens_previous_digest UNIQUE,
    grace_ends_at   BIGINT,
    state           BIGINT NOT NULL CHECK (state IN (0, 1, 2)), -- active, disabled, revoked
    name            TEXT NOT NULL,
    reserved_name   TEXT CONSTRAINT service_tokens_reserved_name UNIQUE,
    description     TEXT,
    subject         TEXT,
    roles           TEXT NOT NULL,
    scopes          TEXT NOT NULL,
    labels          TEXT NOT NULL,
    created_at      BIGINT,
    created_by      TEXT,
    updated_at      BIGINT,
    rotated_at      BIGINT,
    last_used_at    BIGINT,
    expires_at      BIGINT,
    not_before      BIGINT,
    revision        BIGINT NOT NULL,
    hint            TEXT,
    listed_at       BIGINT NOT NULL GENERATED ALWAYS AS (COALESCE(created_at, 0)) STORED,
    idle_since      BIGINT NOT NULL GENERATED ALWAYS AS (COALESCE(last_used_at, created_at, 0)) STORED,
    CHECK ((previous_digest IS NULL) = (grace_ends_at IS NULL))
);

CREATE INDEX service_tokens_by_creation ON service_tokens (listed_at, id);
CREATE INDEX service_tokens_by_name ON service_tokens (name, listed_at, id);
CREATE INDEX service_tokens_by_subject ON service_tokens (subject, listed_at, id) WHERE subject IS NOT NULL;
CREATE INDEX service_tokens_by_state ON service_tokens (state, listed_at, id);
CREATE INDEX service_tokens_by_expiry ON service_tokens (expires_at, id) WHERE expires_at IS NOT NULL;
CREATE INDEX service_tokens_by_state_and_expiry ON service_tokens (state, expires_at, id) WHERE expires_at IS NOT NULL;
CREATE INDEX service_tokens_by_idleness ON service_tokens (idle_since, id);

-- The roles, scopes and labels of tokens, by kind: 1 is a role, 2 a scope, 3 a label as
-- ["key","value"].
CREATE TABLE service_token_attributes (
    kind      BIGINT NOT NULL,
    value     TEXT NOT NULL,
    listed_at BIGINT NOT NULL,
    token_id  BIGINT NOT NULL,
    PRIMARY KEY (kind, value, listed_at, token_id)
);

CREATE INDEX service_token_attributes_by_token ON service_token_attributes (token_id);

CREATE TABLE service_token_events (
    seq      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       BIGINT NOT NULL,
    actor    TEXT NOT NULL,
    action   TEXT NOT NULL,
    token_id BIGINT NOT NULL,
    changes  TEXT NOT NULL
);

CREATE INDEX service_token_events_by_token ON service_token_events (token_id, seq);
