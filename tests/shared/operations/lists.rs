//! Filtered lists and paging.

use std::time::Duration;

use tower_service_token::lifecycle::{NewToken, Page, TokenUpdate};
use tower_service_token::registry::TokenFilter;
use tower_service_token::store::{TokenRecord, TokenStatus};

use super::fixture::{DAY, Fixture, HOUR, Store, fixture, pointers, start};

pub async fn lists_filtered_pages_in_creation_order(store: Store) {
    let fixture = fixture(store);
    for number in 0..25 {
        let new = NewToken::new(format!("token-{number:02}"))
            .with_roles([if number % 2 == 0 { "even" } else { "odd" }])
            .with_label("third", if number % 3 == 0 { "yes" } else { "no" });
        drop(fixture.tokens.create(new).await.unwrap());
        fixture.clock.advance(Duration::from_secs(1));
    }
    let mut names = Vec::new();
    let mut page = Page::with_limit(10);
    let mut sizes = Vec::new();
    loop {
        let found = fixture.tokens.list(TokenFilter::new(), page).await.unwrap();
        sizes.push(found.records.len());
        names.extend(
            found
                .records
                .iter()
                .map(|it: &TokenRecord| it.name().to_owned()),
        );
        let Some(next) = found.next else { break };
        page = page.after(next.to_string().parse().map(Some).unwrap());
    }
    assert_eq!(sizes, [10, 10, 5]);
    let expected: Vec<_> = (0..25).map(|number| format!("token-{number:02}")).collect();
    assert_eq!(names, expected);

    let filter = TokenFilter::new()
        .with_role("even")
        .with_label("third", "yes");
    let names = fixture.names(filter).await;
    assert_eq!(
        names,
        ["token-00", "token-06", "token-12", "token-18", "token-24"]
    );
    // A cursor of a list in another order, and page sizes out of range.
    let first = fixture
        .tokens
        .list(TokenFilter::new(), Page::with_limit(1))
        .await
        .unwrap();
    let expiring = TokenFilter::new().with_expires_before(start());
    let error = fixture
        .tokens
        .list(expiring, Page::with_limit(1).after(first.next))
        .await
        .unwrap_err();
    assert_eq!(pointers(error), ["/cursor"]);
    for limit in [0, 1001] {
        let error = fixture
            .tokens
            .list(TokenFilter::new(), Page::with_limit(limit))
            .await
            .unwrap_err();
        assert_eq!(pointers(error), ["/limit"]);
    }
}

/// Reads a list in pages of 4 tokens.
struct Pages<'a> {
    fixture: &'a Fixture,
    filter: TokenFilter,
    /// The next page, if there is one.
    next: Option<Page>,
}

impl<'a> Pages<'a> {
    fn new(fixture: &'a Fixture, filter: TokenFilter) -> Self {
        let next = Some(Page::with_limit(4));
        Self {
            fixture,
            filter,
            next,
        }
    }

    async fn read(&mut self) -> Option<Vec<TokenRecord>> {
        let page = self.next.take()?;
        let found = self.fixture.tokens.list(self.filter.clone(), page).await;
        let found = found.unwrap();
        self.next = found.next.map(|next| Page::with_limit(4).after(Some(next)));
        Some(found.records)
    }
}

pub async fn paging_under_change_lists_each_remaining_token_once(store: Store) {
    let fixture = fixture(store);
    let mut ids = Vec::new();
    for number in 0..20 {
        let issued = fixture.create(&format!("token-{number:02}")).await;
        ids.push(issued.record().id());
        // Some tokens are created at the same time.
        if number % 3 == 0 {
            fixture.clock.advance(Duration::from_millis(1));
        }
    }
    let tokens = &fixture.tokens;
    let mut pages = Pages::new(&fixture, TokenFilter::new());
    let (mut names, mut count) = (Vec::new(), 0);
    while let Some(records) = pages.read().await {
        count += 1;
        names.extend(records.iter().map(|it| it.name().to_owned()));
        let (first, last) = (records[0].id(), records[records.len() - 1].id());
        // The cursor points to the last token, which changes and then ends.
        let update = TokenUpdate::new().with_roles(["changed"]);
        tokens.update(last, update).await.unwrap();
        drop(tokens.rotate(first, HOUR).await.unwrap());
        tokens.revoke(last).await.unwrap();
        if count == 1 {
            // These tokens are on later pages. Tokens that are created at the same time are ordered
            // by their random IDs, so 7, 8 or 9 may be on the second page, which precedes the
            // purge.
            tokens.disable(ids[6]).await.unwrap();
            tokens.revoke(ids[11]).await.unwrap();
            let update = TokenUpdate::new().with_description("changed");
            tokens.update(ids[12], update).await.unwrap();
        }
        fixture.clock.advance(DAY);
        if count <= 2 {
            drop(fixture.create(&format!("late-{count}")).await);
        }
        if count == 2 {
            // Deletes the tokens that were revoked after the first page.
            tokens.purge(DAY).await.unwrap();
        }
    }
    let late = names.iter().filter(|name| name.starts_with("late-"));
    assert_eq!(late.count(), 2, "{names:?}");
    let expected: Vec<_> = (0..20)
        .filter(|number| *number != 11)
        .map(|number| format!("token-{number:02}"))
        .collect();
    names.retain(|name| name.starts_with("token-"));
    names.sort_unstable();
    assert_eq!(names, expected);
}

pub async fn paging_a_filter_skips_no_token_when_listed_ones_leave_it(store: Store) {
    let fixture = fixture(store);
    for number in 0..12 {
        drop(fixture.create(&format!("token-{number:02}")).await);
        fixture.clock.advance(Duration::from_secs(1));
    }
    let filter = TokenFilter::new().with_status(TokenStatus::Active);
    let mut pages = Pages::new(&fixture, filter.clone());
    let mut names = Vec::new();
    // Revokes each page before it reads the next one, like a script that deletes the tokens that it
    // lists.
    while let Some(records) = pages.read().await {
        for record in records {
            names.push(record.name().to_owned());
            fixture.tokens.revoke(record.id()).await.unwrap();
        }
    }
    let expected: Vec<_> = (0..12).map(|number| format!("token-{number:02}")).collect();
    assert_eq!(names, expected);
    assert_eq!(fixture.names(filter).await, Vec::<String>::new());
}
