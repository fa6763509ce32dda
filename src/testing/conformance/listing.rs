use std::collections::BTreeSet;

use super::fixture::Fixture;
use super::records::{at, plain_record};
use crate::registry::{Cursor, ListRequest, TokenFilter, TokenRegistry};
use crate::store::{TokenRecord, TokenState, TokenStatus};
use crate::token::TokenId;

const TOKENS: i64 = 60;

/// The time of every listing.
const NOW: i64 = 30;

pub(super) async fn check<R: TokenRegistry>(empty: impl AsyncFn() -> Fixture<R>) {
    let store = empty().await;
    let records: Vec<TokenRecord> = (0..TOKENS).map(record).collect();
    store.insert(records.clone()).await;
    for filter in filters() {
        let matching = records.iter().filter(|it| filter.matches(it, at(NOW)));
        let matching: BTreeSet<TokenId> = matching.map(TokenRecord::id).collect();
        let count = store.0.count(&filter, at(NOW)).await.expect("a count");
        assert_eq!(
            count,
            matching.len() as u64,
            "the count of {filter:?} is not the number of matching tokens"
        );
        for limit in [1, 7, 1000] {
            pages_contain_exactly_the_matching_tokens(&store.0, &filter, limit, &matching).await;
        }
    }
}

/// Returns a record. Each filter matches some of the records, and several have the same times.
fn record(number: i64) -> TokenRecord {
    let record = plain_record(number)
        .with_created_at(at(number / 4))
        .with_name(["ci", "cd", "it's"][index(number, 3)])
        .with_roles(&["deployer", "auditor", "100%"][..index(number, 4)])
        .with_scopes(&["a:b", "a:*"][..index(number, 3)])
        .with_label("team", ["x", "y"][index(number, 2)])
        .with_state(match index(number, 4) {
            1 => TokenState::Disabled,
            3 => TokenState::Revoked,
            _ => TokenState::Active,
        });
    let record = match index(number, 5) {
        0 => record.with_subject("team-a"),
        1 => record.with_subject("team-b"),
        _ => record,
    };
    let record = match index(number, 6) {
        0 | 3 => record.with_owner("user:1"),
        4 => record.with_owner("user:2"),
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
        all().with_subject("team-a"),
        all().with_number(7),
        all().with_number(TOKENS),
        all().with_number(8).with_role("deployer").without_revoked(),
        all().with_expires_before(at(30)),
        all().with_expires_before(at(31)),
        all().with_last_used_before(at(10)),
        all().with_last_used_before(at(195)),
        all().with_role("auditor").with_expires_before(at(1000)),
    ];
    let ci = all().with_name("ci").with_role("deployer");
    filters.push(ci.with_label("team", "x"));
    let used = all().with_scope("a:b").with_last_used_before(at(1000));
    filters.push(used.with_expires_before(at(1000)));
    filters.extend(["ci", "it's", "unknown"].map(|it| all().with_name(it)));
    filters.extend(["deployer", "auditor", "100%"].map(|it| all().with_role(it)));
    filters.extend(["a:b", "a:*", "a:c"].map(|it| all().with_scope(it)));
    let labels = [("team", "y"), ("team", "z"), ("te", "am=y")];
    filters.extend(labels.map(|(key, value)| all().with_label(key, value)));
    filters.extend(filters_by_label_or_none());
    filters.extend(filters_without_revoked());
    filters.extend(filters_by_owner());
    for status in [
        TokenStatus::Active,
        TokenStatus::Disabled,
        TokenStatus::Revoked,
        TokenStatus::Expired,
    ] {
        let all = || TokenFilter::new().with_status(status);
        filters.extend([
            all(),
            all().with_role("deployer"),
            all().with_last_used_before(at(195)),
            all().without_revoked(),
        ]);
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

fn filters_by_owner() -> [TokenFilter; 13] {
    let owned = || TokenFilter::new().with_owner("user:1");
    [
        owned(),
        TokenFilter::new().with_owner("user:3"),
        // Owners are compared as a whole, and none matches a token without one.
        TokenFilter::new().with_owner("user:"),
        TokenFilter::new().with_owner("USER:1"),
        TokenFilter::new().with_owner("%"),
        TokenFilter::new().with_owner("\u{1f}"),
        owned().without_revoked(),
        owned().with_name("ci"),
        owned().with_role("deployer").with_label("team", "x"),
        owned().with_number(6),
        owned().with_status(TokenStatus::Expired),
        owned().with_expires_before(at(1000)),
        owned().with_last_used_before(at(195)),
    ]
}

async fn pages_contain_exactly_the_matching_tokens(
    registry: &impl TokenRegistry,
    filter: &TokenFilter,
    limit: usize,
    matching: &BTreeSet<TokenId>,
) {
    let mut request = ListRequest::new(filter.clone(), at(NOW)).with_limit(limit);
    let mut listed: Vec<TokenRecord> = Vec::new();
    loop {
        let page = registry.list(&request).await.expect("a page");
        assert!(page.records.len() <= limit, "a page exceeds its limit");
        listed.extend(page.records);
        let Some(next) = page.next else { break };
        assert!(
            listed.len() <= matching.len(),
            "a listing of {filter:?} does not end"
        );
        request = request.with_cursor(next).expect("a cursor of this listing");
    }
    let ids: BTreeSet<TokenId> = listed.iter().map(TokenRecord::id).collect();
    assert_eq!(
        ids, *matching,
        "{filter:?} lists other tokens than it matches"
    );
    assert_eq!(listed.len(), ids.len(), "{filter:?} lists a token twice");
    let positions = listed.iter().map(|it| Cursor::at(request.order(), it));
    assert!(positions.is_sorted(), "{filter:?} lists out of order");
}
