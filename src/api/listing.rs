use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::stream::{self, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::lifecycle::{LifecycleError, Page, ServiceTokens};
use crate::registry::{Cursor, TokenFilter};
use crate::store::{StoreError, TokenRecord};

/// The maximum number of lists that one router writes at a time. Each holds about two pages in
/// memory.
const MAX_CONCURRENT_LISTS: usize = 4;

/// The maximum time that a request waits for another list to end.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(2);

/// The `Retry-After` of a rejected request.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The number of tokens of a page.
const PAGE_SIZE: usize = 500;

/// The JSON format of a list.
pub(super) trait ListFormat: Send + 'static {
    /// Returns the text before the first token.
    fn prefix(&self) -> &'static str;
    fn token(&self, record: &TokenRecord) -> String;
    /// Returns the text after the last of `total` tokens.
    fn suffix(&self, total: usize) -> String;
}

/// Streams lists of all tokens for clients without pagination.
///
/// The next page is read when the client has received the one before. If the store fails meanwhile,
/// the body ends with an error, and the server aborts the connection or the HTTP/2 stream. So no
/// client takes a part for the whole list.
pub(super) struct ListWriter(Arc<Semaphore>);

impl Default for ListWriter {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_CONCURRENT_LISTS)))
    }
}

impl ListWriter {
    /// Returns the body with the tokens that match `filter`, the oldest first.
    ///
    /// Returns an error if the first page cannot be read, or if [`MAX_CONCURRENT_LISTS`] other lists are being
    /// written and none of them ends within [`PERMIT_TIMEOUT`]. The status is 503 and not 429, because
    /// other clients caused it, and the SDK of `pipeops` repeats a 429 four times within a second.
    pub(super) async fn write(
        &self,
        tokens: ServiceTokens,
        filter: TokenFilter,
        format: impl ListFormat,
        report: impl Fn(LifecycleError) + Clone + Send + Sync + 'static,
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
        // Servers may poll a body again after its end, and `unfold` would panic.
        Ok(Body::from_stream(first.chain(rest).fuse()))
    }

    /// Calls `visit` with each token that matches `filter`.
    ///
    /// Counts as a list. Returns an error as [`write`](Self::write) does, or if a later page cannot be
    /// read.
    pub(super) async fn for_each(
        &self,
        tokens: &ServiceTokens,
        filter: &TokenFilter,
        mut visit: impl FnMut(&TokenRecord),
    ) -> Result<(), LifecycleError> {
        let _permit = self.permit().await?;
        let mut next = None;
        loop {
            let page = Page::with_limit(PAGE_SIZE).after(next);
            let page = tokens.list(filter.clone(), page).await?;
            page.records.iter().for_each(&mut visit);
            next = page.next;
            if next.is_none() {
                return Ok(());
            }
        }
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

/// A list in progress.
struct List<F> {
    tokens: ServiceTokens,
    filter: TokenFilter,
    format: F,
    next: Option<Cursor>,
    total: usize,
    /// Held until the list ends or the client disconnects.
    #[expect(dead_code, reason = "released on drop")]
    permit: OwnedSemaphorePermit,
}

type Chunk = Result<Bytes, io::Error>;

/// Returns the next page, and the list if another page follows.
async fn next_chunk<F: ListFormat>(
    mut list: List<F>,
    report: &impl Fn(LifecycleError),
) -> Option<(Chunk, Option<List<F>>)> {
    let mut text = String::new();
    match list.write_page(&mut text).await {
        Ok(()) => {
            let rest = list.next.is_some().then_some(list);
            Some((Ok(Bytes::from(text)), rest))
        }
        Err(error) => {
            report(error);
            let aborted = io::Error::other("the list of tokens is incomplete");
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
            text.push_str(&self.format.token(record));
        }
        self.next = page.next;
        if self.next.is_none() {
            text.push_str(&self.format.suffix(self.total));
        }
        Ok(())
    }
}
