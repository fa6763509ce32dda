use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::stream::{self, StreamExt};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::lifecycle_response::unavailable_rejection;
use crate::lifecycle::{LifecycleError, Page, ServiceTokens};
use crate::middleware::Checker;
use crate::observe::{self, RequestInfo};
use crate::registry::{Cursor, TokenFilter};
use crate::store::{StoreError, TokenRecord};

/// How many lists one router writes at a time. Each holds about two pages in memory.
const MAX_CONCURRENT_LISTS: usize = 4;

/// How long a request waits until another list is written.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(2);

/// After what time a refused request should be repeated.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How many tokens a page has.
const PAGE_SIZE: usize = 500;

/// The JSON of a list.
pub(super) trait ListFormat: Send + 'static {
    /// What comes before the first token.
    fn prefix(&self) -> &'static str;
    fn token(&self, record: &TokenRecord) -> Value;
    /// What comes after the last of `total` tokens.
    fn suffix(&self, total: usize) -> String;
}

/// Writes lists of all tokens for clients that know no pages, page by page.
///
/// A list that is longer than a page is a stream: the next page is read when the client has taken
/// the one before. If the store fails in between, the body ends with an error, for which a server
/// aborts the connection or the HTTP/2 stream, so that no client takes a part for the whole.
pub(super) struct ListWriter(Arc<Semaphore>);

impl Default for ListWriter {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_CONCURRENT_LISTS)))
    }
}

impl ListWriter {
    /// Returns the body with the tokens that match `filter`, the oldest first.
    ///
    /// Returns an error if the first page cannot be read, or if [`MAX_CONCURRENT_LISTS`] others are being
    /// written and none of them ends within [`PERMIT_TIMEOUT`]. That is 503 and not 429: the number of
    /// other clients' lists is no fault of this client's, and the SDK of one dialect repeats a 429
    /// four times within a second.
    pub(super) async fn write(
        &self,
        tokens: ServiceTokens,
        filter: TokenFilter,
        format: impl ListFormat,
        report: FailureReport,
    ) -> Result<Body, LifecycleError> {
        let permit = self.permit().await?;
        let mut list = List {
            tokens,
            filter,
            format,
            next: None,
            total: 0,
            permit,
        };
        let mut first = list.format.prefix().to_owned();
        list.write_page(&mut first).await?;
        if list.next.is_none() {
            return Ok(Body::from(first));
        }
        let rest = stream::unfold(Some(list), move |list| {
            let report = report.clone();
            async move { next_chunk(list?, &report).await }
        });
        let first = stream::once(async { Ok(Bytes::from(first)) });
        Ok(Body::from_stream(first.chain(rest)))
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, LifecycleError> {
        if let Ok(permit) = Arc::clone(&self.0).try_acquire_owned() {
            return Ok(permit);
        }
        let permit = timeout(PERMIT_TIMEOUT, Arc::clone(&self.0).acquire_owned()).await;
        let busy = || StoreError::unavailable("too many lists of all tokens at a time");
        match permit {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(busy().with_retry_after(RETRY_AFTER).into()),
        }
    }
}

/// How a failure is logged that occurs after the status was sent.
#[derive(Clone)]
pub(super) struct FailureReport {
    pub(super) checker: Arc<Checker>,
    pub(super) request: RequestInfo,
}

/// A list of which some pages are written.
struct List<F> {
    tokens: ServiceTokens,
    filter: TokenFilter,
    format: F,
    next: Option<Cursor>,
    total: usize,
    /// Held until the list is written or its client is gone.
    #[expect(dead_code, reason = "frees a place when it is dropped")]
    permit: OwnedSemaphorePermit,
}

type Chunk = Result<Bytes, io::Error>;

/// The next page, and the list if another one follows.
async fn next_chunk<F: ListFormat>(
    mut list: List<F>,
    report: &FailureReport,
) -> Option<(Chunk, Option<List<F>>)> {
    let mut text = String::new();
    match list.write_page(&mut text).await {
        Ok(()) => {
            let rest = list.next.is_some().then_some(list);
            Some((Ok(Bytes::from(text)), rest))
        }
        Err(error) => {
            observe::response_aborted(
                &unavailable_rejection(error, &report.checker),
                &report.request,
            );
            let aborted = io::Error::other("the list of tokens broke off");
            Some((Err(aborted), None))
        }
    }
}

impl<F: ListFormat> List<F> {
    async fn write_page(&mut self, text: &mut String) -> Result<(), LifecycleError> {
        let page = Page::with_limit(PAGE_SIZE).after(self.next);
        let page = self.tokens.list(self.filter.clone(), page).await?;
        for record in &page.records {
            if self.total > 0 {
                text.push(',');
            }
            self.total += 1;
            let token = self.format.token(record);
            write!(text, "{token}").expect("a text takes any text");
        }
        self.next = page.next;
        if self.next.is_none() {
            text.push_str(&self.format.suffix(self.total));
        }
        Ok(())
    }
}
