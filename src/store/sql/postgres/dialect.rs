use sqlx::postgres::PgConnection;

use crate::store::sql::columns::columns;
use crate::store::sql::session::{Dialect, Session};

impl Session for PgConnection {
    const DIALECT: Dialect = Dialect {
        get_and_lock: concat!(
            "SELECT ",
            columns!(),
            " FROM service_tokens WHERE id IN \
             (SELECT value::BIGINT FROM json_array_elements_text($1::JSON)) ORDER BY id FOR UPDATE"
        ),
        insert_attributes: "INSERT INTO service_token_attributes \
             (token_id, listed_at, kind, value) \
             SELECT $1, $2, (value ->> 0)::BIGINT, value ->> 1 FROM json_array_elements($3::JSON)",
        revoke_many: "UPDATE service_tokens SET state = 2, updated_at = revoked.at, \
             revision = revision + 1, reserved_name = NULL FROM \
             (SELECT (value ->> 0)::BIGINT AS id, (value ->> 1)::BIGINT AS at \
              FROM json_array_elements($1::JSON)) AS revoked \
             WHERE service_tokens.id = revoked.id",
        // Locks rows in the order of their IDs, so that two batches do not deadlock.
        touch: "WITH uses AS \
             (SELECT (value ->> 0)::BIGINT AS id, (value ->> 1)::BIGINT AS at \
              FROM json_array_elements($1::JSON)), \
             older AS (SELECT t.id, uses.at FROM service_tokens t JOIN uses ON uses.id = t.id \
              WHERE t.last_used_at IS NULL OR t.last_used_at < uses.at \
              ORDER BY t.id FOR NO KEY UPDATE OF t) \
             UPDATE service_tokens SET last_used_at = older.at FROM older \
             WHERE service_tokens.id = older.id",
        append_events: "INSERT INTO service_token_events \
             (at, actor, action, token_id, changes, client_address) \
             SELECT (value ->> 0)::BIGINT, value ->> 1, value ->> 2, (value ->> 3)::BIGINT, \
             value ->> 4, value ->> 5 \
             FROM json_array_elements($1::JSON) WITH ORDINALITY AS events (value, place) \
             ORDER BY place",
        // Several nodes may prune at once.
        prune_events: "DELETE FROM service_token_events WHERE seq IN \
             (SELECT seq FROM service_token_events WHERE at < $1 ORDER BY at LIMIT $2 \
              FOR UPDATE SKIP LOCKED) RETURNING seq",
        notify: "SELECT pg_notify('service_token_changes', value) \
             FROM json_array_elements_text($1::JSON)",
        prune_notifications: None,
        lock: Some("SELECT pg_advisory_xact_lock($1)"),
        has_privilege: Some(
            "SELECT has_table_privilege('service_tokens', 'UPDATE')::INT::BIGINT AS may_update",
        ),
        replans_kept_statements: false,
        has_statistics: true,
        record_as_json: None,
        allows_nul: false,
        explain: ("EXPLAIN ", "QUERY PLAN"),
        // A read of a table sees what other transactions committed while this one waited.
        has_schema: "SELECT 1::BIGINT FROM pg_catalog.pg_class \
             WHERE oid = to_regclass('service_token_schema')",
        has_tickets: "SELECT 1::BIGINT FROM pg_catalog.pg_class \
             WHERE oid = to_regclass('service_token_stream_tickets')",
        create_tickets: include_str!("../schema/postgres_tickets.sql"),
        migrations: &[
            include_str!("../schema/postgres_1.sql"),
            include_str!("../schema/postgres_2.sql"),
            include_str!("../schema/postgres_3.sql"),
            include_str!("../schema/postgres_4.sql"),
        ],
    };
}
