-- Version 4: owners. The reserved name of a token with an owner is the owner, U+001F and the name.

ALTER TABLE service_tokens ADD COLUMN owner TEXT; -- NULL without an owner

CREATE INDEX service_tokens_by_owner ON service_tokens (owner, listed_at, id) WHERE owner IS NOT NULL;

UPDATE service_token_schema SET version = 4;
