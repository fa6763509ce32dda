use std::time::SystemTime;

use super::{FieldProblem, LifecycleError};
use crate::store::{Cursor, ListRequest, TokenFilter};

/// Which part of a listing.
///
/// ```
/// use tower_service_token::lifecycle::Page;
///
/// let first = Page::default(); // 50 tokens
/// let smaller = Page::with_limit(10);
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Page {
    pub(super) limit: usize,
    pub(super) after: Option<Cursor>,
}

impl Default for Page {
    fn default() -> Self {
        Self::with_limit(50)
    }
}

impl Page {
    /// The first tokens, at most this many: 1 to [`ListRequest::MAX_LIMIT`].
    pub fn with_limit(limit: usize) -> Self {
        Self { limit, after: None }
    }

    /// What comes after the page that ended with this cursor.
    pub fn after(mut self, cursor: impl Into<Option<Cursor>>) -> Self {
        self.after = cursor.into();
        self
    }

    pub(super) fn request(
        self,
        filter: TokenFilter,
        now: SystemTime,
    ) -> Result<ListRequest, LifecycleError> {
        if !(1..=ListRequest::MAX_LIMIT).contains(&self.limit) {
            let detail = format!("from 1 to {}", ListRequest::MAX_LIMIT);
            return Err(FieldProblem::new("/limit", detail).into());
        }
        let request = ListRequest::new(filter, now).with_limit(self.limit);
        match self.after {
            None => Ok(request),
            Some(cursor) => request
                .with_cursor(cursor)
                .map_err(|error| FieldProblem::new("/cursor", error.to_string()).into()),
        }
    }
}
