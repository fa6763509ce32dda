-- Version 3: the key of the last rotation, and the numbers of ids.

ALTER TABLE service_tokens ADD COLUMN rotation_key BYTEA; -- NULL without an idempotency key

CREATE INDEX service_tokens_by_number ON service_tokens ((id % 10000000000000), listed_at, id);

UPDATE service_token_schema SET version = 3;
