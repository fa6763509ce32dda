//! Query plans: with enough rows, each filter uses an index. Set `SHOW_PLANS` to print the plans.

use std::time::SystemTime;

use tower_service_token::registry::{ListRequest, TokenFilter};
use tower_service_token::store::TokenStatus;

use crate::database::{Store, TestDatabase, at};

/// Returns a statement that inserts tokens with the IDs from 1 to `count`, and their attributes.
pub(crate) fn rows(count: i64, is_postgres: bool) -> String {
    let (numbers, digest) = if is_postgres {
        (
            format!("SELECT generate_series(1, {count}) AS n"),
            "sha256(n::TEXT::BYTEA)",
        )
    } else {
        (
            format!(
                "WITH RECURSIVE numbers (n) AS \
                 (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count}) \
                 SELECT n FROM numbers"
            ),
            "CAST(printf('%032d', n) AS BLOB)",
        )
    };
    format!(
        "INSERT INTO service_tokens (id, digest, state, name, subject, roles, scopes, labels, \
         created_at, expires_at, last_used_at, revision) \
         SELECT n, {digest}, CASE WHEN n % 50 = 0 THEN 2 WHEN n % 50 = 1 THEN 1 ELSE 0 END, \
         'name ' || (n % 100), 'subject ' || (n % 100), '[\"role\"]', '[]', '{{}}', n * 10, \
         CASE WHEN n % 4 = 0 THEN n * 20 END, CASE WHEN n % 3 = 0 THEN n * 15 END, 0 \
         FROM ({numbers}) AS numbers; \
         INSERT INTO service_token_attributes (kind, value, listed_at, token_id) \
         SELECT 1, 'role ' || (n % 100), n * 10, n FROM ({numbers}) AS numbers; \
         INSERT INTO service_token_attributes (kind, value, listed_at, token_id) \
         SELECT 2, 'scope:' || (n % 100), n * 10, n FROM ({numbers}) AS numbers; \
         INSERT INTO service_token_attributes (kind, value, listed_at, token_id) \
         SELECT 3, '[\"key\",\"' || (n % 100) || '\"]', n * 10, n FROM ({numbers}) AS numbers;"
    )
}

const ROWS: u32 = 20_000;

async fn populated(database: &TestDatabase) -> Store {
    let store = database.open().await;
    database
        .run(&rows(ROWS.into(), database.is_postgres()))
        .await;
    database
        .run("UPDATE service_tokens SET owner = 'owner ' || (id % 100)")
        .await;
    if database.is_postgres() {
        database.run("VACUUM ANALYZE service_tokens").await;
        database
            .run("VACUUM ANALYZE service_token_attributes")
            .await;
    }
    store
}

pub(crate) async fn lookups_use_an_index_for_each_digest(database: TestDatabase) {
    let plan = populated(&database).await.explain(None).await;
    let expected = if database.is_postgres() {
        [
            "Index Scan using service_tokens_digest on",
            "Index Scan using service_tokens_previous_digest on",
        ]
    } else {
        [
            "SEARCH service_tokens USING INDEX sqlite_autoindex_service_tokens_2 (digest=?)",
            "SEARCH service_tokens USING INDEX sqlite_autoindex_service_tokens_3 (previous_digest=?)",
        ]
    };
    for expected in expected {
        assert!(plan.contains(expected), "{plan}");
    }
    print_plan("the lookup", &plan);
}

pub(crate) async fn every_filter_uses_an_index(database: TestDatabase) {
    let store = populated(&database).await;
    for (filter, index) in filters() {
        let name = format!("{filter:?}");
        let first = ListRequest::new(filter, middle()).with_limit(20);
        let page = store.list(&first).await.unwrap();
        assert_eq!(page.records.len(), 20, "{name}: too few rows");
        let second = first.clone().with_cursor(page.next.unwrap()).unwrap();
        for request in [&first, &second] {
            let plan = store.explain(Some(request)).await;
            print_plan(&name, &plan);
            let is_attribute = index == "attributes" && plan.contains("a USING PRIMARY KEY");
            assert!(plan.contains(index) || is_attribute, "{name}: {plan}");
            for line in plan.lines() {
                let is_scan = line.contains("Seq Scan")
                    || (line.trim_start().starts_with("SCAN") && !line.contains("USING"));
                let is_sort = line.contains("TEMP B-TREE") || line.contains("Sort");
                assert!(!is_scan && !is_sort, "{name}: {plan}");
            }
        }
    }
}

pub(crate) async fn lookups_by_number_use_an_index(database: TestDatabase) {
    let store = populated(&database).await;
    for filter in [
        TokenFilter::new().with_number(7),
        TokenFilter::new().with_number(7).without_revoked(),
    ] {
        let request = ListRequest::new(filter, middle()).with_limit(2);
        assert_eq!(store.list(&request).await.unwrap().records.len(), 1);
        let plan = store.explain(Some(&request)).await;
        print_plan("number", &plan);
        assert!(plan.contains("by_number"), "{plan}");
    }
}

fn middle() -> SystemTime {
    at(u64::from(ROWS) * 10)
}

/// Returns each filter with (a part of) the name of the index that it uses.
fn filters() -> Vec<(TokenFilter, &'static str)> {
    let all = TokenFilter::new;
    let with_status = |status| all().with_status(status);
    vec![
        (all(), "by_creation"),
        (all().with_name("name 7"), "by_name"),
        (all().with_subject("subject 7"), "by_subject"),
        (all().with_owner("owner 7"), "by_owner"),
        (all().with_owner("owner 7").without_revoked(), "by_owner"),
        (
            with_status(TokenStatus::Active).with_owner("owner 7"),
            "by_owner",
        ),
        (all().with_role("role 7"), "attributes"),
        (all().with_scope("scope:7"), "attributes"),
        (all().with_label("key", "7"), "attributes"),
        (all().with_label_or_none("key", "7"), "by_creation"),
        // Most tokens are active, so the plan may use any index and skip the others.
        (with_status(TokenStatus::Active), "service_tokens_by_"),
        (with_status(TokenStatus::Disabled), "by_state"),
        (with_status(TokenStatus::Revoked), "by_state"),
        (with_status(TokenStatus::Expired), "expiry"),
        (all().with_expires_before(middle()), "by_expiry"),
        (
            with_status(TokenStatus::Revoked).with_expires_before(middle()),
            "expiry",
        ),
        (all().with_last_used_before(middle()), "by_idleness"),
        (
            with_status(TokenStatus::Active).with_last_used_before(middle()),
            "by_idleness",
        ),
        (
            with_status(TokenStatus::Active).with_name("name 7"),
            "by_name",
        ),
        (
            with_status(TokenStatus::Active).with_role("role 7"),
            "attributes",
        ),
    ]
}

fn print_plan(name: &str, plan: &str) {
    if std::env::var_os("SHOW_PLANS").is_some() {
        println!("--- {name}\n{plan}");
    }
}
