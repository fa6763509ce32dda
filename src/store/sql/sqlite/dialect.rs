use sqlx::sqlite::SqliteConnection;

use crate::store::sql::columns::columns;
use crate::store::sql::session::{Dialect, Session};

/// The driver allocates and copies each column of each row, even NULL, which took more than a third of
/// a listing. A `hex` of NULL would be an empty text.
const RECORD_AS_JSON: &str = "json_array(t.id, hex(t.digest), \
     CASE WHEN t.previous_digest IS NOT NULL THEN hex(t.previous_digest) END, \
     t.grace_ends_at, t.state, t.name, t.description, t.subject, t.roles, \
     t.scopes, t.labels, t.created_at, t.created_by, t.updated_at, t.rotated_at, t.expires_at, \
     t.not_before, t.revision, t.hint, \
     CASE WHEN t.rotation_key IS NOT NULL THEN hex(t.rotation_key) END, \
     t.owner, t.last_used_at)";

impl Session for SqliteConnection {
    const DIALECT: Dialect = Dialect {
        get_and_lock: concat!(
            "SELECT ",
            columns!(),
            " FROM service_tokens WHERE id IN (SELECT value FROM json_each($1)) ORDER BY id"
        ),
        insert_attributes: "INSERT INTO service_token_attributes \
             (token_id, listed_at, kind, value) \
             SELECT $1, $2, value ->> 0, value ->> 1 FROM json_each($3)",
        revoke_many: "UPDATE service_tokens SET state = 2, updated_at = revoked.at, \
             revision = revision + 1, reserved_name = NULL FROM \
             (SELECT value ->> 0 AS id, value ->> 1 AS at FROM json_each($1)) AS revoked \
             WHERE service_tokens.id = revoked.id",
        touch: "UPDATE service_tokens SET last_used_at = uses.at FROM \
             (SELECT value ->> 0 AS id, value ->> 1 AS at FROM json_each($1)) AS uses \
             WHERE service_tokens.id = uses.id \
             AND (last_used_at IS NULL OR last_used_at < uses.at)",
        append_events: "INSERT INTO service_token_events \
             (at, actor, action, token_id, changes, client_address) \
             SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 \
             FROM json_each($1) ORDER BY key",
        prune_events: "DELETE FROM service_token_events WHERE seq IN \
             (SELECT seq FROM service_token_events WHERE at < $1 ORDER BY at LIMIT $2) \
             RETURNING seq",
        notify: "INSERT INTO service_token_changes (change) \
             SELECT value FROM json_each($1) ORDER BY key",
        // Keeps the last 10,000.
        prune_notifications: Some(
            "DELETE FROM service_token_changes \
             WHERE seq <= (SELECT MAX(seq) FROM service_token_changes) - 10000",
        ),
        lock: None,
        has_privilege: None,
        replans_kept_statements: true,
        has_statistics: false,
        record_as_json: Some(RECORD_AS_JSON),
        allows_nul: true,
        explain: ("EXPLAIN QUERY PLAN ", "detail"),
        has_schema: "SELECT 1 FROM sqlite_master \
             WHERE type = 'table' AND name = 'service_token_schema'",
        has_tickets: "SELECT 1 FROM sqlite_master \
             WHERE type = 'table' AND name = 'service_token_stream_tickets'",
        create_tickets: include_str!("../schema/sqlite_tickets.sql"),
        migrations: &[
            include_str!("../schema/sqlite_1.sql"),
            include_str!("../schema/sqlite_2.sql"),
            include_str!("../schema/sqlite_3.sql"),
            include_str!("../schema/sqlite_4.sql"),
        ],
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_array_has_the_order_of_the_columns() {
        let array = RECORD_AS_JSON.replace("CASE WHEN t.previous_digest IS NOT NULL THEN ", "");
        let array = array.replace("CASE WHEN t.rotation_key IS NOT NULL THEN ", "");
        let names = array
            .replace(" END", "")
            .replace("hex(", "")
            .replace("t.", "");
        let names = names.replace("json_array(", "").replace(')', "");
        assert_eq!(names, columns!());
    }
}
