use std::collections::BTreeSet;

use super::calls::insert;
use super::records::{at, plain_record};
use crate::registry::{Cursor, ListRequest, TokenFilter, TokenRegistry};
use crate::store::{TokenRecord, TokenState, TokenStatus};
use crate::token::TokenId;

const TOKENS: i64 = 60;

pub(super) async fn check<R: TokenRegistry>(empty: impl AsyncFn() -> R) {
    let registry = empty().await;
    let records: Vec<TokenRecord> = (0..TOKENS).map(record).collect();
    for record in &records {
        insert(&registry, record.clone()).await;
    }
    for filter in filters() {
        count_equals_the_matching_tokens(&registry, &records, &filter).await;
        for limit in [1, 7, 1000] {
            pages_contain_exactly_the_matching_tokens(&registry, &records, &filter, limit).await;
        }
    }
}

/// Creates records of which each filter matches some, and of which several share each time.
fn record(number: i64) -> TokenRecord {
    let record = plain_record(number)
        .with_created_at(at(number / 4))
        .with_name(["ci", "cd", "it's"][index(number, 3)])
        .with_roles(&["deployer", "auditor", "100%"][..index(number, 4)])
        .with_scopes(&["a:b", "a:*"][..index(number, 3)])
        .with_label("team", ["x", "y"][index(number, 2)])
        .with_state(
            [
                TokenState::Active,
                TokenState::Disabled,
                TokenState::Active,
                TokenState::Revoked,
            ][index(number, 4)],
        );
    let record = match index(number, 5) {
        0 => record.with_subject("team-a"),
        1 => record.with_subject("team-b"),
        _ => record,
    };
    let record = match index(number, 3) {
        0 => record.with_expires_at(at(number / 8 * 10)),
        _ => record,
    };
    let record = match index(number, 11) {
        0..3 => record.with_label("zone", "a"),
        3..5 => record.with_label("zone", "b"),
        _ => record,
    };
    match index(number, 7) {
        0..4 => record.with_last_used_at(at(200 - number / 6)),
        _ => record,
    }
}

fn index(number: i64, of: i64) -> usize {
    usize::try_from(number % of).expect("small and positive")
}

fn filters() -> Vec<TokenFilter> {
    let all = TokenFilter::new;
    let mut filters = vec![
        all(),
        all().with_name("ci"),
        all().with_name("it's"),
        all().with_name("nobody"),
        all().with_role("deployer"),
        all().with_role("auditor"),
        all().with_role("100%"),
        all().with_scope("a:b"),
        all().with_scope("a:*"),
        all().with_scope("a:c"),
        all().with_subject("team-a"),
        all().with_label("team", "y"),
        all().with_label("team", "z"),
        all().with_label("te", "am=y"),
        all().with_expires_before(at(30)),
        all().with_expires_before(at(31)),
        all().with_last_used_before(at(10)),
        all().with_last_used_before(at(195)),
        all()
            .with_name("ci")
            .with_role("deployer")
            .with_label("team", "x"),
        all().with_role("auditor").with_expires_before(at(1000)),
        all()
            .with_scope("a:b")
            .with_last_used_before(at(1000))
            .with_expires_before(at(1000)),
    ];
    filters.extend(filters_by_label_or_none());
    filters.extend(filters_without_revoked());
    for status in [
        TokenStatus::Active,
        TokenStatus::Disabled,
        TokenStatus::Revoked,
        TokenStatus::Expired,
    ] {
        filters.push(all().with_status(status));
        filters.push(all().with_status(status).with_role("deployer"));
        filters.push(all().with_status(status).with_last_used_before(at(195)));
        filters.push(all().with_status(status).without_revoked());
    }
    filters
}

fn filters_by_label_or_none() -> [TokenFilter; 6] {
    let of = |key: &str, value: &str| TokenFilter::new().with_label_or_none(key, value);
    [
        of("team", "y"),
        of("team", "z"),
        of("te", "y"),
        of("zone", "a").with_label("team", "x"),
        of("zone", "a").with_role("deployer").without_revoked(),
        of("zone", "b").with_expires_before(at(1000)),
    ]
}

fn filters_without_revoked() -> [TokenFilter; 7] {
    let unrevoked = || TokenFilter::new().without_revoked();
    [
        unrevoked(),
        unrevoked().with_name("cd"),
        unrevoked().with_role("deployer"),
        unrevoked().with_subject("team-a"),
        unrevoked().with_expires_before(at(1000)),
        unrevoked().with_last_used_before(at(195)),
        unrevoked().with_label("team", "x").with_scope("a:b"),
    ]
}

async fn count_equals_the_matching_tokens(
    registry: &impl TokenRegistry,
    records: &[TokenRecord],
    filter: &TokenFilter,
) {
    let now = at(30);
    let matching = records.iter().filter(|it| filter.matches(it, now)).count();
    let counted = registry.count(filter, now).await;
    assert_eq!(
        counted.expect("a store that works"),
        matching as u64,
        "{filter:?} counts other tokens than it matches"
    );
}

async fn pages_contain_exactly_the_matching_tokens(
    registry: &impl TokenRegistry,
    records: &[TokenRecord],
    filter: &TokenFilter,
    limit: usize,
) {
    let now = at(30);
    let first = ListRequest::new(filter.clone(), now).with_limit(limit);
    let (mut listed, mut after): (Vec<TokenRecord>, Option<Cursor>) = (Vec::new(), None);
    loop {
        let request = match after {
            None => first.clone(),
            Some(cursor) => {
                let request = first.clone().with_cursor(cursor);
                request.expect("a cursor of this listing")
            }
        };
        let page = registry.list(&request).await.expect("a store that works");
        assert!(
            page.records.len() <= limit,
            "a page is longer than its limit"
        );
        listed.extend(page.records);
        after = page.next;
        if after.is_none() {
            break;
        }
        assert!(
            listed.len() <= records.len(),
            "a listing of {filter:?} does not end"
        );
    }
    let meant = records.iter().filter(|it| filter.matches(it, now));
    let meant: BTreeSet<TokenId> = meant.map(TokenRecord::id).collect();
    let ids: BTreeSet<TokenId> = listed.iter().map(TokenRecord::id).collect();
    assert_eq!(ids, meant, "{filter:?} lists other tokens than it means");
    assert_eq!(listed.len(), ids.len(), "{filter:?} lists a token twice");
    let order = first.order();
    let places: Vec<Cursor> = listed.iter().map(|it| Cursor::at(order, it)).collect();
    assert!(places.is_sorted(), "{filter:?} lists out of order");
}
