//! Listings, compared with the result of `ListRequest::select` for the same records.

use tower_service_token::registry::{ListRequest, TokenFilter};
use tower_service_token::store::{TokenRecord, TokenState, TokenStatus};
use tower_service_token::token::TokenId;

use crate::database::{Store, TestDatabase, at, minted, write};

/// Returns records that differ in every field of a filter. Many of them have equal times.
fn records() -> Vec<TokenRecord> {
    (0..240_u64)
        .map(|n| {
            let mut record = minted()
                .with_name(format!("name {}", n % 5))
                .with_roles((0..n % 4).map(|role| format!("role {role}")))
                .with_scopes((0..n % 3).map(|scope| format!("scope:{scope}")))
                .with_state(match n % 7 {
                    0 => TokenState::Revoked,
                    1 => TokenState::Disabled,
                    _ => TokenState::Active,
                });
            if n % 11 != 0 {
                record = record.with_created_at(at(100 + n % 13));
            }
            if n % 2 == 0 {
                record = record.with_subject(if n % 3 == 0 { "a" } else { "b" });
            }
            if n % 5 != 0 {
                record = record.with_label("key", format!("value {}", n % 3));
            }
            if n % 3 != 0 {
                record = record.with_expires_at(at(90 + n % 17));
            }
            if n % 4 == 0 {
                record = record.with_last_used_at(at(95 + n % 19));
            }
            record
        })
        .collect()
}

fn filters() -> Vec<TokenFilter> {
    let none = TokenFilter::new;
    let mut filters = vec![
        none(),
        none().with_name("name 3"),
        none().with_name("unknown"),
        none().with_role("role 1"),
        none().with_role("role 1\0"),
        none().with_scope("scope:1"),
        none().with_subject("b"),
        none().with_label("key", "value 2"),
        none().with_label("key", "value"),
        none().with_expires_before(at(100)),
        none().with_last_used_before(at(104)),
        none()
            .with_role("role 1")
            .with_scope("scope:0")
            .with_label("key", "value 1"),
        none()
            .with_role("role 0")
            .with_name("name 2")
            .with_subject("b"),
        none()
            .with_expires_before(at(103))
            .with_last_used_before(at(103)),
        none().with_role("role 0").with_expires_before(at(103)),
        none().with_scope("scope:0").with_last_used_before(at(105)),
    ];
    let statuses = [
        TokenStatus::Active,
        TokenStatus::Disabled,
        TokenStatus::Revoked,
        TokenStatus::Expired,
    ];
    for status in statuses {
        let of_status = || none().with_status(status);
        filters.extend([
            of_status(),
            of_status().with_role("role 0"),
            of_status().with_name("name 1"),
            of_status().with_expires_before(at(105)),
            of_status().with_last_used_before(at(105)),
        ]);
    }
    filters
}

pub(crate) async fn lists_every_filter_page_by_page(database: TestDatabase) {
    let store = database.open().await;
    let records = records();
    for record in &records {
        store.insert(&write(record)).await.unwrap();
    }
    // Change, delete or touch some records, so that the filter columns must be updated too.
    let mut stored = Vec::new();
    for (n, record) in records.into_iter().enumerate() {
        stored.push(match n % 6 {
            0 => {
                let changed = record
                    .with_roles(["role 1", "role 3"])
                    .with_scopes([] as [&str; 0])
                    .with_created_at(at(104));
                store.update(&write(&changed)).await.unwrap()
            }
            1 => {
                store.delete(&write(&record)).await.unwrap();
                continue;
            }
            2 => {
                store.touch(&[(record.id(), at(109))]).await.unwrap();
                store.get(record.id()).await.unwrap().unwrap()
            }
            _ => record,
        });
    }
    for filter in filters() {
        for limit in [7, 1000] {
            let request = ListRequest::new(filter.clone(), at(100)).with_limit(limit);
            let expected = select_ids(&stored, &request);
            assert_eq!(list_ids(&store, &request).await, expected, "{filter:?}");
        }
    }
    assert_some_are_listed(&store).await;
}

/// Asserts that only the listings without matching records are empty.
async fn assert_some_are_listed(store: &Store) {
    let mut empty = Vec::new();
    for filter in filters() {
        let request = ListRequest::new(filter.clone(), at(100));
        if store.list(&request).await.unwrap().records.is_empty() {
            empty.push(filter);
        }
    }
    assert_eq!(empty.len(), 3, "empty listings: {empty:?}");
}

/// Returns the IDs that the store lists, page by page.
async fn list_ids(store: &Store, request: &ListRequest) -> Vec<Vec<TokenId>> {
    let (mut pages, mut request) = (Vec::new(), request.clone());
    loop {
        let page = store.list(&request).await.unwrap();
        pages.push(page.records.iter().map(TokenRecord::id).collect());
        match page.next {
            Some(next) => request = request.with_cursor(next).unwrap(),
            None => return pages,
        }
    }
}

/// Returns the IDs that `ListRequest::select` selects, page by page.
fn select_ids(records: &[TokenRecord], request: &ListRequest) -> Vec<Vec<TokenId>> {
    let (mut pages, mut request) = (Vec::new(), request.clone());
    loop {
        let page = request.select(records);
        pages.push(page.records.iter().map(TokenRecord::id).collect());
        match page.next {
            Some(next) => request = request.with_cursor(next).unwrap(),
            None => return pages,
        }
    }
}
