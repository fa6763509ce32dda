//! How the databases answer: with enough rows, each filter is served by an index. With
//! `SHOW_PLANS` in the environment the plans are printed.

use tower_service_token::store::{ListRequest, TokenFilter, TokenStatus};

use crate::place::{Place, at};

/// A statement that makes tokens with the ids from 1 to `count`, and their attributes.
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

pub(crate) async fn every_filter_and_the_lookup_use_an_index(place: Place) {
    const MANY: i64 = 20_000;
    let store = place.open().await;
    place.run(&rows(MANY, place.is_postgres())).await;
    if place.is_postgres() {
        place.run("VACUUM ANALYZE service_tokens").await;
        place.run("VACUUM ANALYZE service_token_attributes").await;
    }
    let lookup = store.explain(None).await;
    for index in ["digest", "previous_digest"] {
        let (postgres, sqlite) = (
            format!("Index Scan using service_tokens_{index}"),
            format!("USING INDEX sqlite_autoindex_service_tokens_"),
        );
        let expected = if place.is_postgres() {
            postgres
        } else {
            sqlite
        };
        assert!(lookup.contains(&expected), "{lookup}");
    }
    assert_no_scan("the lookup", &lookup);

    let middle = u64::try_from(MANY).unwrap() * 10;
    let filters = [
        ("no filter", TokenFilter::new(), "by_creation"),
        ("name", TokenFilter::new().with_name("name 7"), "by_name"),
        (
            "subject",
            TokenFilter::new().with_subject("subject 7"),
            "by_subject",
        ),
        ("role", TokenFilter::new().with_role("role 7"), "attributes"),
        (
            "scope",
            TokenFilter::new().with_scope("scope:7"),
            "attributes",
        ),
        (
            "label",
            TokenFilter::new().with_label("key", "7"),
            "attributes",
        ),
        (
            // Most tokens are, so that those that are not may as well be passed over.
            "active",
            TokenFilter::new().with_status(TokenStatus::Active),
            "service_tokens_by_",
        ),
        (
            "disabled",
            TokenFilter::new().with_status(TokenStatus::Disabled),
            "by_state",
        ),
        (
            "revoked",
            TokenFilter::new().with_status(TokenStatus::Revoked),
            "by_state",
        ),
        (
            "expired",
            TokenFilter::new().with_status(TokenStatus::Expired),
            "expiry",
        ),
        (
            "expires before",
            TokenFilter::new().with_expires_before(at(middle)),
            "by_expiry",
        ),
        (
            "revoked, expires before",
            TokenFilter::new()
                .with_status(TokenStatus::Revoked)
                .with_expires_before(at(middle)),
            "expiry",
        ),
        (
            "idle",
            TokenFilter::new().with_last_used_before(at(middle)),
            "by_idleness",
        ),
        (
            "idle and active",
            TokenFilter::new()
                .with_last_used_before(at(middle))
                .with_status(TokenStatus::Active),
            "by_idleness",
        ),
        (
            "name and active",
            TokenFilter::new()
                .with_name("name 7")
                .with_status(TokenStatus::Active),
            "by_name",
        ),
        (
            "role and active",
            TokenFilter::new()
                .with_role("role 7")
                .with_status(TokenStatus::Active),
            "attributes",
        ),
    ];
    for (name, filter, index) in filters {
        let first = ListRequest::new(filter, at(middle)).with_limit(20);
        let page = store.list(&first).await.unwrap();
        assert_eq!(
            page.records.len().min(20),
            20,
            "{name}: too few to plan for"
        );
        let second = first.clone().with_cursor(page.next.unwrap()).unwrap();
        for request in [&first, &second] {
            let plan = store.explain(Some(request)).await;
            let is_attribute = index == "attributes" && plan.contains("a USING PRIMARY KEY");
            assert!(plan.contains(index) || is_attribute, "{name}: {plan}");
            assert_no_scan(name, &plan);
            assert_no_sort(name, &plan);
            if std::env::var_os("SHOW_PLANS").is_some() {
                println!("--- {name}\n{plan}");
            }
        }
    }
}

/// No table is read from one end to the other without an order.
fn assert_no_scan(name: &str, plan: &str) {
    for line in plan.lines() {
        let is_scan = line.contains("Seq Scan")
            || (line.trim_start().starts_with("SCAN") && !line.contains("USING"));
        assert!(!is_scan, "{name}: {plan}");
    }
}

fn assert_no_sort(name: &str, plan: &str) {
    assert!(!plan.contains("TEMP B-TREE"), "{name}: {plan}");
    assert!(!plan.contains("Sort"), "{name}: {plan}");
}
